//! A record that nobody could handle, on its way to the dead letters and back.

use std::sync::Arc;
use std::time::Duration;

use messaging::headers::{DeadLetterHeaders, redrive_of, redriven_copy};
use messaging::{AckedProducer, Headers, Received, Record, fetch};
use saga_defs::ids::{DeadLetterId, SagaId};
use saga_defs::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

/// Everything that a record of somebody else may carry, names of our own included.
fn odd_headers() -> Headers {
    [
        ("twice", Some(&b"first"[..])),
        ("bytes", Some(&[0xff, 0x00, 0xfe])),
        ("twice", Some(b"second")),
        ("absent", None),
        ("empty", Some(b"")),
        ("", Some(b"a name without letters")),
        ("saga-dlq-id", Some(b"a letter about a letter")),
        ("__connect.errors.topic", Some(b"from a sink of Kafka Connect")),
    ]
    .into_iter()
    .collect()
}

fn letter(of: &Received) -> DeadLetterHeaders {
    let at = Timestamp::from_unix_millis(1_700_000_000_000);
    DeadLetterHeaders {
        id: DeadLetterId::of_record("cluster", &of.topic, of.partition, of.offset, at),
        reason: "undecodable".into(),
        message: "line one\nline two, not ASCII: \u{fc}".to_owned(),
        topic: of.topic.clone(),
        partition: of.partition,
        offset: of.offset,
        source: "booking".into(),
        attempts: 3,
        first_failed_at: at,
        last_failed_at: at.after(Duration::from_secs(1)),
        saga_id: Some(SagaId::new(at, [1; 10])),
        step: Some("reserve-booking".into()),
        redrive_of: None,
    }
}

/// Publishes and reads back the newest record.
async fn through_kafka(cluster: &Cluster, producer: &AckedProducer, record: Record) -> Received {
    producer.publish(vec![record], &CancellationToken::new()).await.unwrap();
    fetch::read_all(&cluster.settings, &cluster.topic).unwrap().pop().unwrap()
}

fn copy(cluster: &Cluster, of: &Received, headers: Headers) -> Record {
    Record {
        topic: cluster.topic.clone(),
        partition: Some(0),
        key: of.key.clone(),
        value: of.value.clone(),
        headers,
        timestamp_ms: of.timestamp_ms,
    }
}

async fn check_there_and_back(key: Option<Vec<u8>>, value: Option<Vec<u8>>, headers: Headers) {
    let cluster = Cluster::any(1).await;
    let producer = AckedProducer::start(&cluster.settings, Duration::ZERO).unwrap();
    let topic = Arc::clone(&cluster.topic);
    let timestamp_ms = Some(1_600_000_000_001);
    let record = Record { topic, partition: Some(0), key, value, headers, timestamp_ms };
    let original = through_kafka(&cluster, &producer, record.clone()).await;
    assert_eq!(original.headers, record.headers);

    let letter = letter(&original);
    let exported = copy(&cluster, &original, letter.write(&original.headers));
    let exported = through_kafka(&cluster, &producer, exported).await;
    assert_eq!(DeadLetterHeaders::read(&exported.headers).as_ref(), Ok(&letter));
    assert_eq!(DeadLetterHeaders::original(&exported.headers), record.headers);
    assert_eq!((&exported.key, &exported.value), (&record.key, &record.value));
    assert_eq!(exported.timestamp_ms, record.timestamp_ms);
    assert_eq!(exported.headers.text("__connect.errors.exception.message"), Some(&*letter.message));

    let redriven = copy(&cluster, &exported, redriven_copy(&record.headers, letter.id));
    let redriven = through_kafka(&cluster, &producer, redriven).await;
    assert_eq!(redrive_of(&redriven.headers), Some(letter.id));

    // It fails again: the new letter knows the first.
    let again = DeadLetterHeaders { attempts: 1, ..self::letter(&redriven) };
    let again = DeadLetterHeaders::read(&again.write(&redriven.headers)).unwrap();
    assert_eq!((again.redrive_of, again.offset), (Some(letter.id), redriven.offset));
    assert_ne!(again.id, letter.id);
}

#[tokio::test]
async fn an_odd_record_comes_back_byte_for_byte() {
    check_there_and_back(Some(vec![0xff, 0x00]), Some(vec![0xc3, 0x28, 0x00]), odd_headers()).await;
}

#[tokio::test]
async fn a_record_of_nothing_comes_back_as_nothing() {
    check_there_and_back(None, None, Headers::new()).await;
}

#[tokio::test]
async fn empty_is_not_absent() {
    check_there_and_back(Some(Vec::new()), Some(Vec::new()), Headers::new()).await;
}
