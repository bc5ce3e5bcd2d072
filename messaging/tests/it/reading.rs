//! The consumer alone: what is written is read, from where it should be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging::embedded::{Fault, Request};
use messaging::look::Look;
use messaging::{ConsumerEvent, ConsumerLimits, Headers, KafkaError, Producer, Record, StartAt, fetch};

use crate::cluster::{Cluster, DEADLINE, LIMITS, Member, Sink, Tale, by_partition, eventually};

#[tokio::test]
async fn a_record_is_read_as_it_was_written() {
    let cluster = Cluster::any(1).await;
    let headers: Headers = [
        ("twice", Some(&b"first"[..])),
        ("bytes", Some(&[0xff, 0x00, 0xfe])),
        ("twice", Some(b"second")),
        ("absent", None),
        ("empty", Some(b"")),
        ("gr\u{fc}n", Some(b"name beyond ASCII")),
    ]
    .into_iter()
    .collect();
    let all = [
        (Some(vec![0xff, 0x00]), Some(vec![0x00, 0xff]), headers, Some(1_700_000_000_123)),
        (None, None, Headers::new(), Some(1)),
        (Some(Vec::new()), Some(Vec::new()), Headers::new(), None),
    ];
    let sink = Arc::new(Sink::default());
    let producer = Producer::start(&cluster.settings, Duration::ZERO, sink.clone()).unwrap();
    for (token, (key, value, headers, timestamp_ms)) in all.iter().cloned().enumerate() {
        let topic = cluster.topic.clone();
        let record = Record { topic, partition: Some(0), key, value, headers, timestamp_ms };
        producer.send(&record, token as u64).unwrap();
    }
    let mut member = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    let read = member.records(3).await;
    for (offset, (read, (key, value, headers, timestamp_ms))) in read.iter().zip(&all).enumerate() {
        assert_eq!((&read.topic, read.partition, read.offset), (&cluster.topic, 0, offset as i64));
        assert_eq!((&read.key, &read.value, &read.headers), (key, value, headers));
        match timestamp_ms {
            Some(expected) => assert_eq!(read.timestamp_ms, Some(*expected)),
            None => assert!(read.timestamp_ms.is_some_and(|now| now > 1_700_000_000_123)),
        }
    }
    assert_eq!(fetch::read_all(&cluster.settings, &cluster.topic).unwrap(), read);
}

#[tokio::test]
async fn what_is_there_comes_in_batches_and_not_one_by_one() {
    let cluster = Cluster::any(1).await;
    cluster.fill(1, 1000).await;
    let limits = ConsumerLimits { batch_records: 100, queued_batches: 100 };
    let mut member = cluster.join(limits, |_| StartAt::Offset(0));
    let (mut batches, mut records) = (0, Vec::new());
    while records.len() < 1000 {
        let ConsumerEvent::Records(polled) = member.next().await else { panic!() };
        assert!((1..=100).contains(&polled.records.len()));
        batches += 1;
        records.extend(polled.records);
    }
    assert!(batches < 100, "{batches}");
    let expected: Vec<_> = (0..1000).map(|value| (i64::from(value), value.to_string())).collect();
    assert_eq!(by_partition(&records)[&0], expected);
}

#[tokio::test]
async fn reading_goes_on_after_the_committed_offset() {
    let cluster = Cluster::any(2).await;
    cluster.fill(2, 10).await;
    let mut first = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    first.records(20).await;
    first.consumer.commit(&[(cluster.topic.clone(), 0, 7)]);
    first.consumer.flush_commits(DEADLINE).await.unwrap();
    first.stop().await;
    let places = [(cluster.topic.clone(), 0), (cluster.topic.clone(), 1)];
    let committed = fetch::committed(&cluster.settings, &cluster.group, &places).unwrap();
    assert_eq!(committed, [Some(7), None]);

    let mut second = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    let read = by_partition(&second.records(13).await);
    assert_eq!((read[&0][0].0, read[&0].len()), (7, 3));
    assert_eq!((read[&1][0].0, read[&1].len()), (0, 10));

    second.consumer.commit(&[(cluster.topic.clone(), 1, 10)]);
    eventually("the asynchronous commit arrives", || {
        fetch::committed(&cluster.settings, &cluster.group, &places).unwrap() == [Some(7), Some(10)]
    })
    .await;
}

#[tokio::test]
async fn offsets_are_committed_before_partitions_are_let_go_and_none_goes_back() {
    let cluster = Cluster::any(1).await;
    cluster.fill(1, 10).await;
    let places = [(cluster.topic.clone(), 0)];
    let committed = || fetch::committed(&cluster.settings, &cluster.group, &places).unwrap();
    let commit = |member: &Member, next| member.consumer.commit(&[(cluster.topic.clone(), 0, next)]);

    let mut first = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    first.records(10).await;
    commit(&first, 3);
    commit(&first, 4);
    first.stop().await;
    assert_eq!(committed(), [Some(4)]);

    let mut second = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    second.records(6).await;
    commit(&second, 7);
    commit(&second, 9);
    second.consumer.flush_commits(DEADLINE).await.unwrap();
    second.stop().await;
    assert_eq!(committed(), [Some(9)]);
}

#[tokio::test]
async fn a_skipped_partition_is_not_read() {
    let cluster = Cluster::any(2).await;
    cluster.fill(2, 10).await;
    let start = |partition| if partition == 0 { StartAt::Skip } else { StartAt::Offset(8) };
    let mut member = cluster.join(LIMITS, start);
    let read = by_partition(&member.records(2).await);
    assert_eq!(read.into_keys().collect::<Vec<_>>(), [1]);
    assert_eq!(member.told.now(), Some((1, vec![0, 1])));
    let told = member.told.clone();
    member.stop().await;
    assert_eq!(told.all(), [Tale::Assigned(1, vec![0, 1]), Tale::Revoked(1, vec![0, 1])]);
}

#[tokio::test]
async fn a_damaged_batch_stops_its_partition_alone_and_is_not_passed_over() {
    let cluster = Cluster::embedded(2);
    cluster.fill(2, 5).await;
    cluster.broker().append_damaged(&cluster.topic, 0).unwrap();
    cluster.fill(2, 5).await;
    let mut member = cluster.join(LIMITS, |_| StartAt::Offset(0));
    let (mut stopped, mut read) = (Vec::new(), Vec::new());
    while stopped.is_empty() || read.len() < 15 {
        match member.next().await {
            ConsumerEvent::Records(polled) => read.extend(polled.records),
            ConsumerEvent::OffsetVanished { partition, text, .. } => stopped.push((partition, text)),
            ConsumerEvent::Failed(text) => panic!("{text}"),
        }
    }
    let [(0, text)] = &*stopped else { panic!("{stopped:?}") };
    assert!(text.contains("failed CRC32C check"), "{text}");
    let read = by_partition(&read);
    assert_eq!((read[&0].len(), read[&1].len()), (5, 10));

    // Later records of it are not handed out either, and a new assignment reads it from where it is told.
    cluster.fill(2, 1).await;
    assert_eq!(member.records(1).await[0].partition, 1);
    member.consumer.rejoin();
    eventually("it is stopped again", || member.told.now().is_some_and(|(generation, _)| generation == 2))
        .await;
    loop {
        match member.next().await {
            ConsumerEvent::OffsetVanished { generation: 2, partition: 0, .. } => break,
            ConsumerEvent::Records(_) => {}
            event => panic!("{event:?}"),
        }
    }
    member.stop().await;
}

#[tokio::test]
async fn an_offset_that_vanished_stops_its_partition_alone() {
    let cluster = Cluster::any(2).await;
    cluster.fill(2, 10).await;
    let start = |partition| StartAt::Offset(if partition == 0 { 1000 } else { 3 });
    let mut member = cluster.join(LIMITS, start);
    let (mut vanished, mut read) = (Vec::new(), Vec::new());
    while vanished.is_empty() || read.len() < 7 {
        match member.next().await {
            ConsumerEvent::Records(polled) => read.extend(polled.records),
            ConsumerEvent::OffsetVanished { generation: 1, topic, partition, text } => {
                vanished.push((topic, partition, text))
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(vanished.len(), 1);
    let (topic, partition, text) = &vanished[0];
    assert_eq!((topic, *partition), (&cluster.topic, 0));
    assert!(text.contains("out of range"), "{text}");
    assert_eq!(by_partition(&read).into_keys().collect::<Vec<_>>(), [1]);
    cluster.fill(2, 5).await;
    let read = by_partition(&member.records(5).await);
    assert_eq!(read.into_keys().collect::<Vec<_>>(), [1]);
}

/// Longer than a consumer waits for room in its queue.
const PAUSED_AFTER: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_full_queue_pauses_and_nothing_is_lost_or_moved() {
    const EACH: usize = 4000;
    let cluster = Cluster::any(2).await;
    cluster.fill(2, EACH).await;
    let limits = ConsumerLimits { batch_records: 50, queued_batches: 2 };
    let mut member = cluster.join(limits, |_| StartAt::Offset(0));
    let mut records = Vec::new();
    for _ in 0..3 {
        eventually("the queue is full", || member.events.len() == 2).await;
        let full = Instant::now();
        eventually("it has paused and polls on", || {
            full.elapsed() > PAUSED_AFTER && member.consumer.last_poll_age() < PAUSED_AFTER
        })
        .await;
        records.extend(member.records(1).await);
    }
    records.extend(member.records(2 * EACH - records.len()).await);
    let expected: Vec<_> = (0..EACH).map(|value| (value as i64, value.to_string())).collect();
    let read = by_partition(&records);
    assert!(read[&0] == expected && read[&1] == expected);
}

#[tokio::test]
async fn a_broker_that_goes_away_is_told_and_survived() {
    let cluster = Cluster::embedded(1);
    cluster.fill(1, 5).await;
    let mut member = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    let first = member.records(5).await;
    assert_eq!(first.len(), 5);
    cluster.broker().down().unwrap();
    let ConsumerEvent::Failed(text) = member.next().await else { panic!() };
    assert!(!text.is_empty());
    cluster.broker().up().unwrap();
    cluster.fill(1, 1).await;
    loop {
        match member.next().await {
            // Thrown out of the group meanwhile, it may have to start from the beginning: nothing was committed.
            ConsumerEvent::Records(polled) if polled.records.iter().any(|record| record.offset == 5) => break,
            ConsumerEvent::Records(_) | ConsumerEvent::Failed(_) => {}
            event => panic!("{event:?}"),
        }
    }
}

#[tokio::test]
async fn refused_fetches_are_tried_again() {
    let cluster = Cluster::embedded(1);
    cluster.fill(1, 50).await;
    let faults = [Fault::Disconnect, Fault::NotLeader, Fault::TimedOut];
    cluster.broker().fail_requests(Request::Fetch, &faults).unwrap();
    cluster.broker().fail_requests(Request::OffsetFetch, &[Fault::NoCoordinator, Fault::Disconnect]).unwrap();
    let mut member = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    let mut offsets = Vec::new();
    while offsets.len() < 50 {
        if let ConsumerEvent::Records(polled) = member.next().await {
            offsets.extend(polled.records.iter().map(|record| record.offset));
        }
    }
    assert_eq!(offsets, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_receiver_ends_the_reading() {
    let cluster = Cluster::embedded(1);
    let mut member = cluster.join(LIMITS, |_| StartAt::Offset(0));
    eventually("the group is joined", || member.told.now().is_some()).await;
    member.events.close();
    drop(member.events);
    eventually("the partitions are given up", || member.told.now().is_none()).await;
    member.consumer.stop();
}

#[tokio::test]
async fn without_a_broker_it_stops_all_the_same() {
    let cluster = Cluster::embedded(1);
    cluster.fill(1, 1).await;
    let mut member = cluster.join(LIMITS, |_| StartAt::CommittedOrEarliest);
    member.records(1).await;
    cluster.broker().down().unwrap();
    let ConsumerEvent::Failed(_) = member.next().await else { panic!() };
    tokio::time::timeout(DEADLINE, member.stop()).await.unwrap();
}

#[tokio::test]
async fn a_look_without_time_does_not_say_that_a_record_is_not_there() {
    let cluster = Cluster::any(1).await;
    cluster.fill(1, 10).await;
    let (settings, topic) = (cluster.settings.clone(), cluster.topic.clone());
    let look = move |limit, wanted: i64| {
        let look = Look::at(&settings, "anybody", &topic, 0, limit).unwrap();
        look.find(0, 10, |record| record.offset == wanted)
    };
    let (found, nowhere, late) =
        tokio::task::spawn_blocking(move || (look(DEADLINE, 7), look(DEADLINE, 10), look(Duration::ZERO, 7)))
            .await
            .unwrap();
    assert_eq!((found.unwrap(), nowhere.unwrap()), (Some(7), None));
    assert!(matches!(late, Err(KafkaError::Unreachable { .. })), "{late:?}");
}
