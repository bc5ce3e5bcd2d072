//! The acknowledged producer: everything arrives at least once, and in order, whatever happens to the broker.

use std::sync::Arc;
use std::time::Duration;

use messaging::embedded::{Fault, Request};
use messaging::settings::MAX_VALUE_BYTES;
use messaging::{AckedProducer, Placed, PublishError, Record, fetch};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, DEADLINE, by_partition, eventually};

const PARTITIONS: i32 = 3;

fn producer(cluster: &Cluster) -> AckedProducer {
    AckedProducer::start(&cluster.settings, Duration::from_millis(1)).unwrap()
}

/// Values 0.. to the partitions in turn.
fn records(cluster: &Cluster, values: std::ops::Range<usize>) -> Vec<Record> {
    values.map(|value| cluster.record(value as i32 % PARTITIONS, value.to_string())).collect()
}

async fn publish(producer: &AckedProducer, records: Vec<Record>) -> Result<Vec<Placed>, PublishError> {
    let never = CancellationToken::new();
    tokio::time::timeout(DEADLINE, producer.publish(records, &never)).await.expect("published in time")
}

/// In each partition the values 0..count that belong there, each at least once; what was sent again follows in order
/// up to the last.
fn check_all_there_in_order(cluster: &Cluster, count: usize) {
    let read = fetch::read_all(&cluster.settings, &cluster.topic).unwrap();
    for (partition, values) in by_partition(&read) {
        let values: Vec<usize> = values.into_iter().map(|(_, value)| value.parse().unwrap()).collect();
        let expected: Vec<usize> =
            (0..count).filter(|value| *value as i32 % PARTITIONS == partition).collect();
        let mut last_seen: Vec<usize> = Vec::new();
        for value in values.iter().rev() {
            if !last_seen.contains(value) {
                last_seen.push(*value);
            }
        }
        last_seen.reverse();
        assert_eq!(last_seen, expected, "partition {partition} has {values:?}");
    }
}

#[tokio::test]
async fn the_places_come_back_in_the_order_of_the_records() {
    let cluster = Cluster::any(PARTITIONS).await;
    let placed = publish(&producer(&cluster), records(&cluster, 0..300)).await.unwrap();
    let expected: Vec<Placed> = (0..300)
        .map(|value| Placed { partition: value % PARTITIONS, offset: i64::from(value) / 3 })
        .collect();
    assert_eq!(placed, expected);
    check_all_there_in_order(&cluster, 300);
    assert_eq!(publish(&producer(&cluster), Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn a_broker_that_goes_down_and_up_costs_time_only() {
    let cluster = Cluster::embedded(PARTITIONS);
    let producer = Arc::new(producer(&cluster));
    publish(&producer, records(&cluster, 0..30)).await.unwrap();
    cluster.broker().down().unwrap();
    let publishing = {
        let (producer, records) = (producer.clone(), records(&cluster, 30..90));
        tokio::spawn(async move { publish(&producer, records).await })
    };
    eventually("the records are on their way", || producer.in_flight() == 60).await;
    cluster.broker().up().unwrap();
    assert_eq!(publishing.await.unwrap().unwrap().len(), 60);
    check_all_there_in_order(&cluster, 90);
}

#[tokio::test]
async fn records_of_unknown_fate_are_sent_again_in_order() {
    let cluster = Cluster::embedded(PARTITIONS).with("message.timeout.ms", "400");
    let producer = Arc::new(producer(&cluster));
    publish(&producer, records(&cluster, 0..30)).await.unwrap();
    cluster.broker().down().unwrap();
    let publishing = {
        let (producer, records) = (producer.clone(), records(&cluster, 30..90));
        tokio::spawn(async move { publish(&producer, records).await })
    };
    eventually("the records are on their way", || producer.in_flight() == 60).await;
    eventually("the client gave them up", || producer.in_flight() == 0).await;
    cluster.broker().up().unwrap();
    assert_eq!(publishing.await.unwrap().unwrap().len(), 60);
    check_all_there_in_order(&cluster, 90);
}

#[tokio::test]
async fn broken_connections_and_refused_requests_are_survived() {
    let cluster = Cluster::embedded(PARTITIONS);
    let producer = producer(&cluster);
    publish(&producer, records(&cluster, 0..30)).await.unwrap();
    let faults = [Fault::Disconnect, Fault::NotLeader, Fault::TimedOut, Fault::Disconnect, Fault::Disconnect];
    cluster.broker().fail_requests(Request::Produce, &faults).unwrap();
    publish(&producer, records(&cluster, 30..90)).await.unwrap();
    check_all_there_in_order(&cluster, 90);
}

#[tokio::test]
async fn a_fatal_error_rebuilds_the_producer_and_sends_again() {
    let cluster = Cluster::embedded(PARTITIONS);
    let producer = Arc::new(producer(&cluster));
    publish(&producer, records(&cluster, 0..30)).await.unwrap();
    cluster.broker().fail_requests(Request::Produce, &[Fault::OutOfOrderSequence]).unwrap();
    // Two at once meet the same failure.
    let other = {
        let (producer, record) = (producer.clone(), cluster.record(0, "0"));
        tokio::spawn(async move { publish(&producer, vec![record]).await })
    };
    publish(&producer, records(&cluster, 30..90)).await.unwrap();
    other.await.unwrap().unwrap();
    let read = fetch::read_all(&cluster.settings, &cluster.topic).unwrap();
    assert!(read.len() >= 91, "{}", read.len());
}

#[tokio::test]
async fn a_record_that_is_too_large_is_named_and_nothing_is_sent() {
    let cluster = Cluster::any(PARTITIONS).await;
    let producer = producer(&cluster);
    let mut all = records(&cluster, 0..5);
    all[3].value = Some(vec![b'x'; MAX_VALUE_BYTES + 1]);
    let error = publish(&producer, all).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { index: 3, .. }), "{error:?}");
    assert!(fetch::read_all(&cluster.settings, &cluster.topic).unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_the_broker_finds_too_large_is_named() {
    let cluster = Cluster::embedded(PARTITIONS);
    let producer = producer(&cluster);
    cluster.broker().fail_requests(Request::Produce, &[Fault::TooLarge]).unwrap();
    let error = publish(&producer, vec![cluster.record(0, "large")]).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { index: 0, .. }), "{error:?}");
    publish(&producer, vec![cluster.record(0, "small")]).await.unwrap();
}

#[tokio::test]
async fn more_than_the_queue_holds_waits_for_room() {
    let cluster = Cluster::any(PARTITIONS).await.with("queue.buffering.max.messages", "20");
    let placed = publish(&producer(&cluster), records(&cluster, 0..500)).await.unwrap();
    assert_eq!(placed.len(), 500);
    check_all_there_in_order(&cluster, 500);
}

#[tokio::test]
async fn told_to_stop_it_stops() {
    let cluster = Cluster::embedded(PARTITIONS);
    let producer = producer(&cluster);
    cluster.broker().down().unwrap();
    let stop = CancellationToken::new();
    let publishing = producer.publish(records(&cluster, 0..3), &stop);
    let stopping = async {
        eventually("the records are on their way", || producer.in_flight() == 3).await;
        stop.cancel();
    };
    let (published, ()) = tokio::join!(publishing, stopping);
    assert!(matches!(published, Err(PublishError::Stopped)));
}
