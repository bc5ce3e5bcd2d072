//! Topics are made, or found wanting.

use std::time::Duration;

use messaging::topics::{TopicError, TopicSpec, ensure};
use messaging::{KafkaError, KafkaSettings, fetch, topic_id};

use crate::cluster::{Cluster, unique};

#[tokio::test]
async fn topics_as_they_should_be_are_fine() {
    let cluster = Cluster::any(5).await;
    ensure(&cluster.settings, &[TopicSpec::new(cluster.topic.clone(), 5, 1)]).await.unwrap();
    let offsets = fetch::watermarks(&cluster.settings, &cluster.topic).unwrap();
    assert_eq!(
        offsets.iter().map(|w| (w.partition, w.low, w.high)).collect::<Vec<_>>(),
        [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)]
    );
}

#[tokio::test]
async fn another_number_of_partitions_is_named() {
    let cluster = Cluster::any(5).await;
    let error = ensure(&cluster.settings, &[TopicSpec::new(cluster.topic.clone(), 8, 1)]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("topic {} has 5 partitions, expected 8", cluster.topic));
}

#[tokio::test]
async fn on_the_embedded_broker_a_missing_topic_of_other_partitions_is_named_and_not_made() {
    let cluster = Cluster::embedded(1);
    for _ in 0..2 {
        let missing = [TopicSpec::new("missing", 3, 1)];
        let error = ensure(&cluster.settings, &missing).await.unwrap_err();
        assert!(matches!(&error, TopicError::Missing { topic } if &**topic == "missing"), "{error:?}");
    }
}

#[tokio::test]
async fn on_the_embedded_broker_a_topic_of_four_partitions_can_be_made() {
    let cluster = Cluster::embedded(1);
    let (four, five) = (TopicSpec::new("later", 4, 1), TopicSpec::new("later", 5, 1));
    ensure(&cluster.settings, std::slice::from_ref(&four)).await.unwrap();
    ensure(&cluster.settings, &[four]).await.unwrap();
    let error = ensure(&cluster.settings, &[five]).await.unwrap_err();
    assert_eq!(error.to_string(), "topic later has 4 partitions, expected 5");
}

#[tokio::test]
async fn on_kafka_a_missing_topic_is_made() {
    let cluster = Cluster::any(1).await;
    if cluster.settings.is_embedded() {
        return;
    }
    let topics = [TopicSpec::new(unique("made"), 3, 1), TopicSpec::new(unique("made"), 7, 1)];
    let (one, other) = tokio::join!(ensure(&cluster.settings, &topics), ensure(&cluster.settings, &topics));
    one.unwrap();
    other.unwrap();
    assert_eq!(fetch::watermarks(&cluster.settings, &topics[1].name).unwrap().len(), 7);
}

#[tokio::test]
async fn a_property_that_librdkafka_does_not_know_is_named() {
    let mut settings = KafkaSettings::plain("127.0.0.1:1");
    settings.properties.insert("no.such.property".to_owned(), "1".to_owned());
    let error = settings.check().unwrap_err();
    assert!(matches!(error, KafkaError::Client { .. }));
    assert!(format!("{:?}", anyhow_like(&error)).contains("no.such.property"));
}

#[tokio::test]
async fn the_incarnation_is_that_of_the_broker() {
    let cluster = Cluster::any(1).await;
    let incarnation = cluster.settings.incarnation().unwrap();
    assert!(!incarnation.is_empty());
    if cluster.settings.is_embedded() {
        assert_eq!(incarnation, cluster.broker().incarnation());
    }
}

/// An error with all its sources, as `main` prints it.
fn anyhow_like(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_topic_has_an_id_of_its_own_and_a_missing_one_is_not_made() {
    let (one, other) = (Cluster::any(1).await, Cluster::any(2).await);
    let id = |cluster: &Cluster, topic: &str| topic_id(&cluster.settings, topic, Duration::from_secs(10));
    let first = id(&one, &one.topic).unwrap().unwrap();
    assert_eq!(id(&one, &one.topic).unwrap().as_ref(), Some(&first));
    assert_ne!(id(&other, &other.topic).unwrap().unwrap(), first);
    let missing = unique("missing");
    for _ in 0..2 {
        let error = id(&one, &missing).unwrap_err();
        assert!(matches!(&error, KafkaError::Unreachable { .. }), "{error:?}");
    }
}
