//! The settings that every worker has.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use messaging::KafkaSettings;
use schemas::Catalog;
use sea_orm::sqlx::postgres::PgConnectOptions;
use secrecy::SecretString;

use crate::runtime::EventTopics;
use crate::service::logging::LogFormat;
use crate::service::registry::{REGISTRY_SETTINGS, SCHEMA_REGISTRY_URL, registry};
use crate::service::settings::{Setting, SettingError, Settings};

pub(crate) const DATABASE_URL: &str = "DATABASE_URL";
pub(crate) const KAFKA_BOOTSTRAP_SERVERS: &str = "KAFKA_BOOTSTRAP_SERVERS";
const KAFKA_PROPERTIES: &str = "KAFKA_PROPERTIES";
const BROKER_INCARNATION: &str = "BROKER_INCARNATION";
const SCHEMAS_DIR: &str = "SCHEMAS_DIR";
const LOG_FORMAT: &str = "LOG_FORMAT";
const TOPIC_PARTITIONS: &str = "TOPIC_PARTITIONS";
const TOPIC_REPLICATION: &str = "TOPIC_REPLICATION";
/// The setting that says where a worker shows how it is. A program that has not this setting shows it nowhere.
pub const METRICS_ADDR: &str = "METRICS_ADDR";

/// The settings that [`WorkerSettings::read`] reads.
pub const WORKER_SETTINGS: [Setting; 14] = [
    Setting::new(DATABASE_URL, "This worker's own Postgres database, postgres://USER:PASSWORD@HOST/DATABASE")
        .secret_but(shown_database),
    Setting::new(KAFKA_BOOTSTRAP_SERVERS, "Kafka, HOST:PORT, several with commas").or("127.0.0.1:9092"),
    Setting::new(KAFKA_PROPERTIES, "A file of librdkafka properties, for TLS and SASL"),
    Setting::new(
        BROKER_INCARNATION,
        "Set by the local stack: Kafka is its embedded broker, and this its start",
    ),
    Setting::new(SCHEMAS_DIR, "A folder of further Avro schemas (*.avsc)"),
    REGISTRY_SETTINGS[0],
    REGISTRY_SETTINGS[1],
    REGISTRY_SETTINGS[2],
    REGISTRY_SETTINGS[3],
    REGISTRY_SETTINGS[4],
    Setting::new(LOG_FORMAT, "auto (text on a terminal, else json), text or json").or("auto"),
    Setting::new(TOPIC_PARTITIONS, "The partitions of domain event topics that are created").or("8"),
    Setting::new(TOPIC_REPLICATION, "Their copies; -1 is the broker's default").or("-1"),
    Setting::new(
        METRICS_ADDR,
        "Where /metrics, /livez and /readyz are, ADDRESS:PORT, or none; port 0 is any free one, which is printed",
    )
    .or("127.0.0.1:0"),
];

/// What every worker must know.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The worker's own database.
    pub database_url: SecretString,
    /// Kafka.
    pub kafka: KafkaSettings,
    /// The schemas of all messages; with the schema registry, if there is one.
    pub catalog: Arc<Catalog>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How missing topics of domain events are created.
    pub event_topics: EventTopics,
    /// Where the worker shows how it is; `None`: nowhere.
    pub metrics_addr: Option<SocketAddr>,
}

impl WorkerSettings {
    /// The defaults, for this database and this Kafka.
    pub fn new(database_url: impl Into<String>, kafka: KafkaSettings) -> Self {
        Self {
            database_url: SecretString::from(database_url.into()),
            kafka,
            catalog: Catalog::shipped(),
            log_format: LogFormat::default(),
            event_topics: EventTopics::default(),
            metrics_addr: None,
        }
    }

    /// From a program's settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        let format = settings.read(LOG_FORMAT, "auto, text or json", LogFormat::parse)?;
        let partitions = settings.read(TOPIC_PARTITIONS, "a number from 1 to 10000", |text| {
            text.parse().ok().filter(|n| (1..=10_000).contains(n))
        })?;
        let replication = settings.read(TOPIC_REPLICATION, "-1, or a number from 1 to 100", |text| {
            text.parse().ok().filter(|n| *n == -1 || (1..=100).contains(n))
        })?;
        Ok(Self {
            database_url: database_url(settings)?,
            kafka: kafka(settings)?,
            catalog: catalog(settings)?,
            log_format: format,
            event_topics: EventTopics { partitions, replication },
            metrics_addr: metrics_addr(settings)?,
        })
    }

    /// Only the address of the database, for sub-commands that need no more.
    ///
    /// # Errors
    /// It is missing or wrong.
    pub fn read_database_url(settings: &Settings) -> Result<SecretString, SettingError> {
        database_url(settings)
    }

    /// Only the schemas and their registry, for sub-commands that need no more.
    ///
    /// # Errors
    /// One of their settings is wrong, or there is no registry.
    pub fn read_registered_catalog(settings: &Settings) -> Result<Arc<Catalog>, SettingError> {
        let catalog = catalog(settings)?;
        match catalog.registry() {
            Some(_) => Ok(catalog),
            None => Err(settings.wrong(SCHEMA_REGISTRY_URL, "http://HOST:PORT or https://HOST:PORT")),
        }
    }
}

fn metrics_addr(settings: &Settings) -> Result<Option<SocketAddr>, SettingError> {
    match settings.text(METRICS_ADDR) {
        None | Some("none") => Ok(None),
        Some(address) => {
            let wrong = || settings.wrong(METRICS_ADDR, "none, or ADDRESS:PORT, e.g. 127.0.0.1:9100");
            address.parse().map(Some).map_err(|_| wrong())
        }
    }
}

/// A database's address as it is understood, which leaves its password behind.
fn shown_database(url: &str) -> Option<String> {
    let options: PgConnectOptions = url.parse().ok().filter(|_| is_postgres(url))?;
    let host = match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let (user, database) = (options.get_username(), options.get_database().unwrap_or_default());
    Some(format!("postgres://{user}:***@{host}/{database} (sslmode {:?})", options.get_ssl_mode()))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

fn database_url(settings: &Settings) -> Result<SecretString, SettingError> {
    settings.read(DATABASE_URL, "postgres://USER:PASSWORD@HOST/DATABASE", |text| {
        let understood = is_postgres(text) && text.parse::<PgConnectOptions>().is_ok();
        understood.then(|| SecretString::from(text))
    })
}

fn kafka(settings: &Settings) -> Result<KafkaSettings, SettingError> {
    let servers = settings.read(KAFKA_BOOTSTRAP_SERVERS, "HOST:PORT, several with commas", |text| {
        let is_server = |server: &str| {
            server
                .trim()
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        text.split(',').all(is_server).then(|| text.to_owned())
    })?;
    let mut kafka = KafkaSettings::plain(servers);
    if let Some(path) = settings.text(KAFKA_PROPERTIES) {
        kafka.properties = KafkaSettings::properties_from(path).map_err(|error| {
            settings.wrong(KAFKA_PROPERTIES, format!("a file of librdkafka properties ({error})"))
        })?;
    }
    kafka.incarnation = settings.text(BROKER_INCARNATION).map(str::to_owned);
    kafka.check().map_err(|error| {
        settings
            .wrong(KAFKA_PROPERTIES, format!("properties that librdkafka takes ({})", with_causes(&error)))
    })?;
    Ok(kafka)
}

fn catalog(settings: &Settings) -> Result<Arc<Catalog>, SettingError> {
    let plain = plain_catalog(settings)?;
    Ok(match registry(settings)? {
        Some(registry) => Arc::new(plain.with_registry(registry)),
        None => plain,
    })
}

fn plain_catalog(settings: &Settings) -> Result<Arc<Catalog>, SettingError> {
    let shipped = Catalog::shipped();
    let Some(dir) = settings.text(SCHEMAS_DIR) else { return Ok(shipped) };
    let wrong = |why: String| settings.wrong(SCHEMAS_DIR, format!("a folder of Avro schemas ({why})"));
    let sources = Catalog::read_dir(Path::new(dir)).map_err(|error| wrong(with_causes(&error)))?;
    let catalog = shipped.with_sources(sources).map_err(|errors| {
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        wrong(all.join("; "))
    })?;
    Ok(Arc::new(catalog))
}

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}
