//! Settings: what a properties file may say, and what it may not.
#![expect(clippy::unwrap_used, reason = "what a test did not expect fails it")]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::PathBuf;

use messaging::KafkaSettings;

/// A file that is gone when the test is over.
struct File(PathBuf);

impl File {
    fn with(text: &str) -> Self {
        let name = format!("kafka-{}-{:?}.properties", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn complaint(text: &str) -> String {
    let file = File::with(text);
    let error = KafkaSettings::properties_from(&file.0).unwrap_err();
    error.to_string().replace(&file.0.display().to_string(), "FILE")
}

#[test]
fn a_properties_file_is_lines_of_name_and_value() {
    let file = File::with("# TLS\n\n  security.protocol = ssl \nssl.key.password=a=b\nacks=all\n");
    let properties = KafkaSettings::properties_from(&file.0).unwrap();
    let expected = [("acks", "all"), ("security.protocol", "ssl"), ("ssl.key.password", "a=b")];
    let expected: BTreeMap<_, _> = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    assert_eq!(properties, expected);
}

#[test]
fn what_correctness_rests_on_cannot_be_changed() {
    insta::assert_snapshot!(complaint("acks=1"), @r#"Kafka property acks: found "1", allowed: only all, or leave it out"#);
    insta::assert_snapshot!(complaint("enable.auto.commit=true"), @r#"Kafka property enable.auto.commit: found "true", allowed: only false, or leave it out"#);
    insta::assert_snapshot!(complaint("bootstrap.servers=elsewhere:9092"), @r#"Kafka property bootstrap.servers: found "elsewhere:9092", allowed: it has a setting of its own"#);
    insta::assert_snapshot!(complaint("client.id=fine\nno value"), @"Kafka properties file FILE, line 2: expected name=value");
    let missing = KafkaSettings::properties_from("/no/such/file").unwrap_err();
    assert_eq!(missing.to_string(), "Kafka properties file /no/such/file: cannot be read");
}

#[test]
fn librdkafkas_own_complaint_comes_with_the_error() {
    let mut settings = KafkaSettings::plain("127.0.0.1:9");
    settings.check().unwrap();
    settings.properties.insert("session.timeout.ms".to_owned(), "soon".to_owned());
    let error = settings.check().unwrap_err();
    insta::assert_snapshot!(format!("{error}: {}", error.source().unwrap()), @r#"cannot make a Kafka admin client: Client config error: Invalid value for configuration property "session.timeout.ms" session.timeout.ms soon"#);
}

#[test]
fn secrets_are_not_shown() {
    let mut settings = KafkaSettings::plain("127.0.0.1:9");
    settings.properties.insert("sasl.password".to_owned(), "hunter2".to_owned());
    let shown = format!("{settings:?}");
    assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
}

/// Whether librdkafka takes these.
fn takes(properties: &[(&str, &str)]) -> bool {
    let mut settings = KafkaSettings::plain("127.0.0.1:9");
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    settings.properties.extend(properties.iter().map(own));
    settings.check().is_ok()
}

/// What the feature `tls` is there for. A build without it says so at the start, and not when it first connects.
#[test]
fn tls_and_scram_are_there_when_they_are_built_in() {
    let who = [("sasl.username", "orchestrator"), ("sasl.password", "hunter2")];
    let sasl = |protocol, mechanism| {
        takes(&[&who[..], &[("security.protocol", protocol), ("sasl.mechanism", mechanism)]].concat())
    };
    assert!(sasl("SASL_PLAINTEXT", "PLAIN"), "needs nothing");
    for built_in in [
        takes(&[("security.protocol", "SSL")]),
        sasl("SASL_SSL", "PLAIN"),
        sasl("SASL_SSL", "SCRAM-SHA-512"),
        sasl("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    ] {
        assert_eq!(built_in, cfg!(feature = "tls-system"));
    }
    assert_eq!(takes(&[("compression.type", "zstd")]), cfg!(feature = "tls"));
}
