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
