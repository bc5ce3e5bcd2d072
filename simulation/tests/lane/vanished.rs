//! A partition that cannot be read on.

use messaging::ConsumerEvent;
use orchestrator::engine::INBOX;

use crate::harness::{Process, all_is_quiet, eventually, world};

fn vanished(generation: u64) -> ConsumerEvent {
    let text = "offset out of range".to_owned();
    ConsumerEvent::OffsetVanished { generation, topic: INBOX.into(), partition: 0, text }
}

#[tokio::test(start_paused = true)]
async fn a_notice_of_an_earlier_assignment_does_not_stop_a_shard() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    process.is_assigned(2).await;
    process.records.send(vanished(1)).await.unwrap();
    all_is_quiet().await;
    assert!(process.handle.health().stopped_shards.is_empty());
    process.start_saga("booking").await;
    process.records.send(vanished(2)).await.unwrap();
    eventually(async || (process.handle.health().stopped_shards.len() == 1).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_not_read_from_the_offset_of_a_topic_that_was_made_again() {
    let world = world();
    let process = Process::start(&world, "http://only");
    assert_eq!(process.is_assigned_of(1, Some("a")).await, Some(0));
    assert_eq!(process.is_assigned_of(2, Some("a")).await, Some(0));
    assert_eq!(process.is_assigned_of(3, None).await, Some(0), "the broker may not tell");
    assert_eq!(process.is_assigned_of(4, Some("b")).await, None);
    let stopped = process.handle.health().stopped_shards;
    assert_eq!(stopped.len(), 1);
    assert!(stopped[0].1.contains("saga.inbox was deleted and made again"), "{stopped:?}");
    assert_eq!(process.is_assigned_of(5, Some("b")).await, None, "until an operator says from where");
}
