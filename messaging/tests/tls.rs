//! TLS and SASL with SCRAM, at a real broker: `.ci/kafka.sh secure DIR` starts it, and `TEST_KAFKA_SECURE` names what that
//! prints. What is wrong is said, and nothing waits for ever.
#![cfg(all(test, feature = "tls-system"))]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use messaging::topics::{TopicSpec, ensure};
use messaging::{AckedProducer, Headers, KafkaSettings, Record, WarmUpError, fetch, reach};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Enough for a connection and its refusal.
const LIMIT: Duration = Duration::from_secs(6);

/// What is in the folder of the broker.
fn folder() -> PathBuf {
    std::env::var_os("TEST_KAFKA_SECURE")
        .expect(
            "TEST_KAFKA_SECURE is not set: export TEST_KAFKA_SECURE=$(.ci/kafka.sh secure /tmp/secure-kafka)",
        )
        .into()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap().trim().to_owned()
}

/// Settings from a file of properties, as a service reads them.
fn settings(listener: &str, authority: &str, password: &str) -> KafkaSettings {
    let path = std::env::temp_dir().join(format!("kafka-{}.properties", Uuid::new_v4()));
    let authority = folder().join(authority);
    let lines = format!(
        "# as an operator writes it\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=saga\n\
         sasl.password={password}\nssl.ca.location={}\n",
        authority.display()
    );
    std::fs::write(&path, lines).unwrap();
    let properties = KafkaSettings::properties_from(&path);
    std::fs::remove_file(&path).unwrap();
    KafkaSettings { bootstrap_servers: text(listener), properties: properties.unwrap(), incarnation: None }
}

/// Why there is no answer, without ports, addresses and times, and with the password nowhere.
fn refusal(listener: &str, authority: &str, password: &str) -> String {
    let settings = settings(listener, authority, password);
    let error = reach::cluster(&settings, LIMIT).unwrap_err().to_string();
    for said in [&error, &format!("{settings:?}")] {
        assert!(!said.contains(password), "{said}");
    }
    let error = error.replace(&text(listener), "BROKER");
    match error.split_once(" (after ") {
        Some((before, _)) => before.to_owned(),
        None => error,
    }
}

#[tokio::test]
async fn records_go_and_come_over_tls_with_a_password() {
    let settings = settings("right", "ca.pem", &text("password"));
    let topic: Arc<str> = format!("secure-{}", Uuid::new_v4()).into();
    ensure(&settings, &[TopicSpec::new(topic.clone(), 1, 1)]).await.unwrap();
    let producer = AckedProducer::start(&settings, Duration::ZERO).unwrap();
    let record = Record::new(topic.clone(), "key", "a secret", Headers::new());
    producer.publish([record], &CancellationToken::new()).await.unwrap();
    let read = fetch::read_all(&settings, &topic).unwrap();
    assert_eq!(read[0].value.as_deref(), Some(&b"a secret"[..]));
    assert_eq!(reach::cluster(&settings, LIMIT).unwrap().brokers, [text("right")]);
}

/// OpenSSL does not say more than that it is not right: its authority is unknown, it is another host's, or expired. What
/// librdkafka adds to that it does not add each time.
#[test]
fn a_certificate_that_is_not_right_is_refused() {
    for (listener, authority) in
        [("right", "strangers-ca.pem"), ("elsewhere", "ca.pem"), ("expired", "ca.pem")]
    {
        let said = refusal(listener, authority, &text("password"));
        assert!(said.contains("SSL routines::certificate verify failed"), "{listener}, {authority}: {said}");
    }
}

#[test]
fn a_wrong_password_is_named_and_not_told() {
    assert_snapshot!(refusal("right", "ca.pem", "guessed-3271"), @"no answer within 6 s: sasl_ssl://BROKER/bootstrap: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512");
}

#[test]
fn a_client_without_tls_is_told_that_nobody_answers() {
    let settings = KafkaSettings::plain(text("right"));
    let error = reach::cluster(&settings, LIMIT).unwrap_err().to_string();
    assert_snapshot!(error.replace(&text("right"), "BROKER"), @"no answer within 6 s: 1/1 brokers are down");
}

#[tokio::test]
async fn a_producer_that_is_refused_says_so_in_time() {
    let settings = settings("right", "strangers-ca.pem", &text("password"));
    let producer = AckedProducer::start(&settings, Duration::ZERO).unwrap();
    let error = producer.warm_up(&[], Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, WarmUpError::Unreachable { .. }), "{error:?}");
}
