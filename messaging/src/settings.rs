//! How this process talks to Kafka: addresses, the file of librdkafka properties, and every setting we rely on.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;

use crate::cause::Cause;
use crate::client_log::Logged;

/// The largest value of a record, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// The largest record with key, headers and framing, in bytes: room for the headers that a dead letter adds. Topics
/// that [`crate::topics::ensure`] makes accept this much.
pub const MAX_RECORD_BYTES: usize = MAX_VALUE_BYTES + 128 * 1024;
/// How many records may wait in a producer for their acknowledgement.
pub const PRODUCER_QUEUE_RECORDS: usize = 100_000;
/// How much may wait in a producer, in KiB.
pub const PRODUCER_QUEUE_KIB: usize = 128 * 1024;
/// After this long without an acknowledgement the outcome of a record is reported as unknown, in milliseconds.
pub const MESSAGE_TIMEOUT_MS: u64 = 30_000;
/// How much a consumer fetches ahead, in KiB.
pub const CONSUMER_QUEUE_KIB: usize = 32 * 1024;
/// How many records per partition a consumer tries to have fetched ahead.
pub const CONSUMER_QUEUE_RECORDS: usize = 10_000;
/// A consumer that does not poll for this long is out of its group, in milliseconds.
pub const MAX_POLL_INTERVAL_MS: u64 = 300_000;
/// How long a broker may stay silent on a request, in milliseconds.
pub const SOCKET_TIMEOUT_MS: u64 = 15_000;
/// How long a blocking question to the cluster (metadata, offsets) may take.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings that differ between the embedded broker and Kafka; the properties file may override them.
struct Profile {
    session_timeout_ms: &'static str,
    heartbeat_interval_ms: &'static str,
    fetch_wait_max_ms: &'static str,
}

/// A rebalance on the embedded broker takes the session timeout less a second. An empty fetch there waits its whole time
/// even when a record comes, while Kafka answers at once.
const EMBEDDED: Profile =
    Profile { session_timeout_ms: "2000", heartbeat_interval_ms: "300", fetch_wait_max_ms: "2" };
const KAFKA: Profile =
    Profile { session_timeout_ms: "6000", heartbeat_interval_ms: "1500", fetch_wait_max_ms: "10" };
/// How long an empty fetch waits for a reader whom nobody waits for, in milliseconds.
const UNHURRIED_FETCH_WAIT_MS: &str = "200";

/// Settings that correctness rests on: a properties file may repeat them, not change them.
const FIXED: [(&str, &str); 9] = [
    ("acks", "all"),
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.idempotence", "true"),
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "range"),
    ("partitioner", "murmur2_random"),
];

/// Settings that the API gives, so the properties file may not.
const OURS: [&str; 4] = ["bootstrap.servers", "group.id", "linger.ms", "log.queue"];

/// Where Kafka is and how to talk to it.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, several with commas.
    pub bootstrap_servers: String,
    /// librdkafka properties, e.g. for TLS and SASL (`KAFKA_PROPERTIES` names the file).
    pub properties: BTreeMap<String, String>,
    /// `Some` means that this is the embedded broker, and names the one start of it (`BROKER_INCARNATION`): its
    /// records are gone after a restart, so an offset is worth nothing without it.
    pub incarnation: Option<String>,
}

/// Without the values of the properties: some of them are secrets.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("properties", &self.properties.keys())
            .field("incarnation", &self.incarnation)
            .finish()
    }
}

impl KafkaSettings {
    /// A real broker without extra properties.
    pub fn plain(bootstrap_servers: impl Into<String>) -> Self {
        Self { bootstrap_servers: bootstrap_servers.into(), properties: BTreeMap::new(), incarnation: None }
    }

    /// Reads a file of librdkafka properties: `name=value` lines, `#` starts a comment line.
    ///
    /// # Errors
    /// The file cannot be read, a line is no property, or it sets what must not be changed.
    pub fn properties_from(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>, KafkaError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| KafkaError::PropertiesFile { path: path.to_owned(), source })?;
        let mut properties = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(KafkaError::PropertiesLine { path: path.to_owned(), line: number + 1 });
            };
            properties.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        refuse_changes(&properties)?;
        Ok(properties)
    }

    /// The same for a consumer whose records nobody waits for: they may be a fifth of a second late, and while there are
    /// none it costs next to nothing, on the embedded broker too.
    #[must_use]
    pub fn unhurried(&self) -> Self {
        let mut settings = self.clone();
        let wait = settings.properties.entry("fetch.wait.max.ms".to_owned());
        wait.or_insert_with(|| UNHURRIED_FETCH_WAIT_MS.to_owned());
        settings
    }

    /// Whether this is the in-process broker of the local stack and the tests.
    pub fn is_embedded(&self) -> bool {
        self.incarnation.is_some()
    }

    /// What an offset is worth something with: the embedded broker's incarnation, else the cluster id. Blocks up to
    /// [`QUESTION_TIMEOUT`] on a real broker.
    ///
    /// # Errors
    /// No broker answers in time.
    pub fn incarnation(&self) -> Result<String, KafkaError> {
        if let Some(incarnation) = &self.incarnation {
            return Ok(incarnation.clone());
        }
        let client = self.admin()?;
        client.inner().fetch_cluster_id(QUESTION_TIMEOUT).ok_or_else(|| KafkaError::Unreachable {
            question: "the cluster id".to_owned(),
            servers: self.bootstrap_servers.clone(),
            source: None,
        })
    }

    /// Checks that a client can be made of these settings, without connecting.
    ///
    /// # Errors
    /// A property is unknown or has a value that is not allowed.
    pub fn check(&self) -> Result<(), KafkaError> {
        self.admin().map(drop)
    }

    pub(crate) fn admin(&self) -> Result<rdkafka::admin::AdminClient<Logged>, KafkaError> {
        let config = self.base("admin")?;
        config.create_with_context(Logged).map_err(|source| KafkaError::client("admin client", source))
    }

    /// A producer's settings.
    pub(crate) fn producer(&self, linger: Duration) -> Result<ClientConfig, KafkaError> {
        let mut defaults = ClientConfig::new();
        defaults
            .set("max.in.flight.requests.per.connection", "5")
            .set("batch.num.messages", "10000")
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS.to_string())
            .set("request.timeout.ms", "10000")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500")
            .set("queue.buffering.max.messages", PRODUCER_QUEUE_RECORDS.to_string())
            .set("queue.buffering.max.kbytes", PRODUCER_QUEUE_KIB.to_string());
        let mut config = self.layered("producer", &defaults)?;
        fix(&mut config, &["acks", "enable.idempotence", "partitioner"]);
        config.set("linger.ms", format!("{:.3}", linger.as_secs_f64() * 1000.0));
        Ok(config)
    }

    /// A consumer's settings.
    pub(crate) fn consumer(&self, group: &str) -> Result<ClientConfig, KafkaError> {
        let profile = if self.is_embedded() { &EMBEDDED } else { &KAFKA };
        let mut defaults = ClientConfig::new();
        defaults
            .set("session.timeout.ms", profile.session_timeout_ms)
            .set("heartbeat.interval.ms", profile.heartbeat_interval_ms)
            .set("fetch.wait.max.ms", profile.fetch_wait_max_ms)
            .set("max.poll.interval.ms", MAX_POLL_INTERVAL_MS.to_string())
            .set("fetch.min.bytes", "1")
            .set("fetch.queue.backoff.ms", "1")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.min.messages", CONSUMER_QUEUE_RECORDS.to_string())
            .set("queued.max.messages.kbytes", CONSUMER_QUEUE_KIB.to_string())
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "false");
        let mut config = self.layered(group, &defaults)?;
        let fixed = ["auto.offset.reset", "check.crcs", "enable.auto.commit", "enable.auto.offset.store"];
        fix(&mut config, &fixed);
        fix(&mut config, &["group.protocol", "partition.assignment.strategy"]);
        config.set("group.id", group);
        Ok(config)
    }

    fn base(&self, role: &str) -> Result<ClientConfig, KafkaError> {
        self.layered(role, &ClientConfig::new())
    }

    /// What every client has, then the role's defaults, then the properties file.
    fn layered(&self, role: &str, defaults: &ClientConfig) -> Result<ClientConfig, KafkaError> {
        refuse_changes(&self.properties)?;
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("client.id", format!("saga-{role}"))
            .set("log.connection.close", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("message.max.bytes", MAX_RECORD_BYTES.to_string());
        for (name, value) in defaults.config_map() {
            config.set(name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        Ok(config)
    }
}

fn fix(config: &mut ClientConfig, names: &[&str]) {
    for (name, value) in FIXED.iter().filter(|(name, _)| names.contains(name)) {
        config.set(*name, *value);
    }
}

fn refuse_changes(properties: &BTreeMap<String, String>) -> Result<(), KafkaError> {
    for (name, found) in properties {
        if OURS.contains(&name.as_str()) {
            let allowed = "it has a setting of its own".to_owned();
            return Err(KafkaError::Property { name: name.clone(), found: found.clone(), allowed });
        }
        let fixed = FIXED.iter().find(|(fixed, _)| fixed == name);
        if let Some((_, value)) = fixed.filter(|(_, value)| value != found) {
            let allowed = format!("only {value}, or leave it out");
            return Err(KafkaError::Property { name: name.clone(), found: found.clone(), allowed });
        }
    }
    Ok(())
}

/// Kafka cannot be talked to as asked.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The properties file cannot be read.
    #[error("Kafka properties file {}: cannot be read", path.display())]
    PropertiesFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of the properties file is no property.
    #[error("Kafka properties file {}, line {line}: expected name=value", path.display())]
    PropertiesLine {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A property that must not be set, or not so.
    #[error("Kafka property {name}: found {found:?}, allowed: {allowed}")]
    Property {
        /// The property.
        name: String,
        /// Its value.
        found: String,
        /// What would do.
        allowed: String,
    },
    /// librdkafka refuses to make the client; the source says which property it does not like.
    #[error("cannot make a Kafka {role}")]
    Client {
        /// Producer, consumer, admin client.
        role: &'static str,
        /// librdkafka's reason.
        #[source]
        source: Cause,
    },
    /// No answer in time.
    #[error("Kafka at {servers} did not answer a question for {question}")]
    Unreachable {
        /// What was asked.
        question: String,
        /// Who was asked.
        servers: String,
        /// librdkafka's reason, if it gave one.
        #[source]
        source: Option<Cause>,
    },
    /// The thread that polls cannot be started.
    #[error("cannot start the thread {name}")]
    Thread {
        /// Its name.
        name: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl KafkaError {
    pub(crate) fn client(role: &'static str, source: ClientError) -> Self {
        Self::Client { role, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(config: &ClientConfig) -> String {
        let lines: Vec<String> =
            config.config_map().iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.join("\n")
    }

    fn embedded() -> KafkaSettings {
        KafkaSettings { incarnation: Some("one".to_owned()), ..KafkaSettings::plain("localhost:9092") }
    }

    #[test]
    fn a_producer_is_idempotent_and_places_records_as_java_does() {
        let config = embedded().producer(Duration::from_micros(2500)).unwrap();
        insta::assert_snapshot!(shown(&config), @"
        acks=all
        batch.num.messages=10000
        bootstrap.servers=localhost:9092
        client.id=saga-producer
        enable.idempotence=true
        linger.ms=2.500
        log.connection.close=false
        max.in.flight.requests.per.connection=5
        message.max.bytes=1179648
        message.timeout.ms=30000
        partitioner=murmur2_random
        queue.buffering.max.kbytes=131072
        queue.buffering.max.messages=100000
        reconnect.backoff.max.ms=1000
        reconnect.backoff.ms=50
        request.timeout.ms=10000
        retry.backoff.max.ms=500
        retry.backoff.ms=50
        socket.keepalive.enable=true
        socket.nagle.disable=true
        socket.timeout.ms=15000
        ");
    }

    #[test]
    fn a_consumer_commits_nothing_by_itself_and_never_jumps() {
        let config = embedded().consumer("booking").unwrap();
        insta::assert_snapshot!(shown(&config), @"
        allow.auto.create.topics=false
        auto.offset.reset=error
        bootstrap.servers=localhost:9092
        check.crcs=true
        client.id=saga-booking
        enable.auto.commit=false
        enable.auto.offset.store=false
        enable.partition.eof=false
        fetch.error.backoff.ms=100
        fetch.min.bytes=1
        fetch.queue.backoff.ms=1
        fetch.wait.max.ms=2
        group.id=booking
        group.protocol=classic
        heartbeat.interval.ms=300
        log.connection.close=false
        max.poll.interval.ms=300000
        message.max.bytes=1179648
        partition.assignment.strategy=range
        queued.max.messages.kbytes=32768
        queued.min.messages=10000
        reconnect.backoff.max.ms=1000
        reconnect.backoff.ms=50
        session.timeout.ms=2000
        socket.keepalive.enable=true
        socket.nagle.disable=true
        socket.timeout.ms=15000
        ");
    }

    #[test]
    fn on_kafka_sessions_are_longer_and_properties_may_say_otherwise() {
        let mut kafka = KafkaSettings::plain("localhost:9092");
        let config = kafka.consumer("booking").unwrap();
        let times = |config: &ClientConfig| {
            ["session.timeout.ms", "heartbeat.interval.ms", "fetch.wait.max.ms"]
                .map(|name| config.get(name).unwrap_or_default().to_owned())
        };
        assert_eq!(times(&config), ["6000", "1500", "10"]);
        kafka.properties.insert("session.timeout.ms".to_owned(), "45000".to_owned());
        kafka.properties.insert("client.id".to_owned(), "us".to_owned());
        let config = kafka.consumer("booking").unwrap();
        assert_eq!(times(&config), ["45000", "1500", "10"]);
        assert_eq!(config.get("client.id"), Some("us"));
        let unhurried = kafka.unhurried();
        assert_eq!(times(&unhurried.consumer("letters").unwrap()), ["45000", "1500", "200"]);
        kafka.properties.insert("fetch.wait.max.ms".to_owned(), "7".to_owned());
        assert_eq!(times(&kafka.unhurried().consumer("letters").unwrap()), ["45000", "1500", "7"]);
    }
}
