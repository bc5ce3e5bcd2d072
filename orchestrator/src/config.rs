//! The service's settings, and the topics that follow from them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use messaging::topics::{TopicError, TopicSpec};
use participant::service::{METRICS_ADDR, Setting, SettingError, Settings, WORKER_SETTINGS, WorkerSettings};
use saga_defs::definition::Definition;
use saga_defs::ids::ShardCount;
use saga_defs::{Shipped, shipped};

use crate::api::ActorHeader;
use crate::check;
use crate::engine::participants::health::Limits;
use crate::engine::{DEAD_LETTERS, EVENTS, INBOX};
use crate::registration::folders::{Folders, FoldersError};

const HTTP_ADDR: &str = "HTTP_ADDR";
const ADVERTISE_URL: &str = "ADVERTISE_URL";
const SHARDS: &str = "SHARDS";
const COMMAND_PARTITIONS: &str = "COMMAND_PARTITIONS";
const SCHEMAS_DIR: &str = "SCHEMAS_DIR";
const SHIPPED_DEFINITIONS: &str = "SHIPPED_DEFINITIONS";
const DEFINITIONS_DIR: &str = "DEFINITIONS_DIR";
const RETENTION_DAYS: &str = "RETENTION_DAYS";
const HOLD_SAGAS: &str = "HOLD_SAGAS";
const HOLD_SILENCE: &str = "HOLD_SILENCE";
const HOLD_PROBE_MAX: &str = "HOLD_PROBE_MAX";
const ALLOW_FORCED_OUTCOMES: &str = "ALLOW_FORCED_OUTCOMES";
const ACTOR_HEADER: &str = "ACTOR_HEADER";

const OWN_SETTINGS: [Setting; 12] = [
    Setting::new(HTTP_ADDR, "Where the API listens, ADDRESS:PORT; port 0 is any free one")
        .or("127.0.0.1:8080"),
    Setting::new(
        ADVERTISE_URL,
        "The base URL under which other orchestrators reach this one [default: http:// and the address it listens on]",
    ),
    Setting::new(SHARDS, "The partitions of saga.inbox; never changes once there is a database").or("8"),
    Setting::new(COMMAND_PARTITIONS, "The partitions of each command topic").or("8"),
    Setting::new(
        SHIPPED_DEFINITIONS,
        "The definitions that ship and are published: all, none, or names with commas, e.g. booking",
    )
    .or("all"),
    Setting::new(DEFINITIONS_DIR, "A folder of further definitions (*.toml)"),
    Setting::new(
        RETENTION_DAYS,
        "After so many days from its end a saga leaves, with its journal and keys; 0: nothing leaves",
    )
    .or("0"),
    Setting::new(
        HOLD_SAGAS,
        "A participant is asked nothing more after so many sagas in a row had no answer or a failure; 0: never by itself",
    )
    .or("10"),
    Setting::new(HOLD_SILENCE, "But not before it has been without a good answer for so long").or("2s"),
    Setting::new(HOLD_PROBE_MAX, "Then it is asked one thing after 1 s, and again after twice as long, up to this")
        .or("10s"),
    Setting::new(
        ALLOW_FORCED_OUTCOMES,
        "true: bookings may force their payment's outcome, for demos and tests",
    )
    .or("false"),
    Setting::new(
        ACTOR_HEADER,
        "The request header that says who acts, for the audit: a proxy that asks for names has to set it [default: nobody is believed, the audit says anonymous]",
    ),
];

/// Every setting of the program.
pub fn all_settings() -> Vec<Setting> {
    // What METRICS_ADDR is to a worker, HTTP_ADDR is here.
    let shared = WORKER_SETTINGS.into_iter().filter(|setting| setting.name != METRICS_ADDR);
    shared.map(in_own_words).chain(OWN_SETTINGS).collect()
}

/// What a setting that every service has means here, where it is not what it means to a worker.
/// Only the folder of further definitions, for sub-commands that need no more.
///
/// # Errors
/// There is no such folder.
pub(crate) fn definitions_dir(settings: &Settings) -> Result<Option<PathBuf>, SettingError> {
    match settings.text(DEFINITIONS_DIR).map(PathBuf::from) {
        Some(folder) if !folder.is_dir() => {
            Err(settings.wrong(DEFINITIONS_DIR, "a folder of definitions (*.toml)"))
        }
        folder => Ok(folder),
    }
}

fn in_own_words(setting: Setting) -> Setting {
    match setting.name {
        "DATABASE_URL" => setting
            .described("The orchestrator's own Postgres database, postgres://USER:PASSWORD@HOST/DATABASE"),
        "TOPIC_PARTITIONS" => {
            setting.described("The partitions of saga.events and saga.dead-letters where they are created")
        }
        "TOPIC_REPLICATION" => {
            setting.described("The copies of every topic that is created; -1 is the broker's default")
        }
        _ => setting,
    }
}

/// What the service is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Database, Kafka, schemas, logs: as every service has them.
    pub base: WorkerSettings,
    /// Where the API listens.
    pub http_addr: SocketAddr,
    /// How others reach it; `None`: as it listens.
    pub advertise_url: Option<String>,
    /// The number of shards.
    pub shards: ShardCount,
    /// Partitions of each command topic.
    pub command_partitions: u16,
    /// Partitions of the other topics.
    pub topic_partitions: u16,
    /// Copies of each topic; -1 is the broker's default.
    pub replication: i32,
    /// Further definitions and schemas.
    pub folders: Folders,
    /// How many days ended sagas are kept; `None`: for ever.
    pub retention_days: Option<u32>,
    /// When a participant is held.
    pub holds: Limits,
    /// Whether bookings may force outcomes.
    pub allow_forced_outcomes: bool,
    /// What says who acts; `None`: nobody is believed.
    pub actor_header: Option<ActorHeader>,
}

impl Config {
    /// From a program's settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        let base = WorkerSettings::read(settings)?;
        let address = |text: &str| text.parse().ok();
        let count = |name| {
            settings.read(name, "a number from 1 to 10000", |text| {
                text.parse::<u16>().ok().filter(|n| (1..=10_000).contains(n))
            })
        };
        let shards = count(SHARDS)?;
        let advertise_url = match settings.text(ADVERTISE_URL) {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => Some(url.to_owned()),
            Some(_) => return Err(settings.wrong(ADVERTISE_URL, "http://HOST:PORT or https://HOST:PORT")),
            None => None,
        };
        Ok(Self {
            http_addr: settings.read(HTTP_ADDR, "ADDRESS:PORT, e.g. 127.0.0.1:8080", address)?,
            advertise_url,
            shards: ShardCount::new(shards).ok_or_else(|| settings.wrong(SHARDS, "at least 1"))?,
            command_partitions: count(COMMAND_PARTITIONS)?,
            topic_partitions: u16::try_from(base.event_topics.partitions).unwrap_or(u16::MAX),
            replication: base.event_topics.replication,
            folders: Folders {
                shipped: settings.read(SHIPPED_DEFINITIONS, &allowed_shipped(), chosen)?,
                definitions: definitions_dir(settings)?,
                schemas: settings.text(SCHEMAS_DIR).map(PathBuf::from),
            },
            retention_days: settings
                .read(RETENTION_DAYS, "a number of days from 0 to 36500", |text| {
                    text.parse::<u32>().ok().filter(|days| *days <= 36_500)
                })
                .map(|days| Some(days).filter(|&days| days > 0))?,
            holds: Limits {
                sagas: settings.read(HOLD_SAGAS, "a number from 0 to 1000", |text| {
                    text.parse().ok().filter(|sagas| *sagas <= 1_000)
                })?,
                silence: settings.read(HOLD_SILENCE, "a time from 0s to 1h, e.g. 2s", up_to_an_hour)?,
                last_probe: settings.read(
                    HOLD_PROBE_MAX,
                    "a time from 1s to 1h, e.g. 10s",
                    between_probes,
                )?,
                ..Limits::default()
            },
            allow_forced_outcomes: settings.switch(ALLOW_FORCED_OUTCOMES)?,
            actor_header: match settings.text(ACTOR_HEADER).map(ActorHeader::parse) {
                Some(None) => {
                    let allowed = "the name of a header, e.g. x-forwarded-user, and not one that has secrets";
                    return Err(settings.wrong(ACTOR_HEADER, allowed));
                }
                header => header.flatten(),
            },
            base,
        })
    }
}

fn up_to_an_hour(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|time| *time <= Duration::from_secs(3_600))
}

/// Without a second between them probes would be all that a participant gets.
fn between_probes(text: &str) -> Option<Duration> {
    up_to_an_hour(text).filter(|time| *time >= Duration::from_secs(1))
}

/// The shipped definitions that the setting names; `None`: it names another one, or nothing at all.
fn chosen(text: &str) -> Option<Vec<Shipped>> {
    match text.trim() {
        "all" => Some(shipped().to_vec()),
        "none" => Some(Vec::new()),
        names => {
            let named: Vec<Shipped> =
                names.split(',').map(|name| Shipped::named(name.trim())).collect::<Option<_>>()?;
            Some(shipped().iter().filter(|one| named.contains(one)).copied().collect())
        }
    }
}

fn allowed_shipped() -> String {
    let names: Vec<&str> = shipped().iter().map(Shipped::name).collect();
    format!("all, none, or names with commas of {}", names.join(", "))
}

/// What is wrong with a folder, as what is wrong with the setting that names it: one line. The problems of the definitions
/// are printed here, before it.
pub fn wrong_folder(folders: &Folders, error: FoldersError) -> anyhow::Error {
    let wrong = |name: &str, folder: &Option<PathBuf>, found: String, allowed: &str| {
        let place = folder.as_deref().map_or("what ships".into(), |folder| folder.display().to_string());
        let (found, allowed) = (format!("{place} ({found})"), allowed.to_owned());
        SettingError { name: name.to_owned(), found, allowed }.into()
    };
    let schemas = "a folder of Avro schemas (*.avsc) that go with what is published";
    match error {
        FoldersError::Definitions(checked) => {
            check::complain(&checked);
            let (files, all) = (checked.iter().filter(|checked| !checked.is_right()).count(), checked.len());
            let found = format!("{files} of {all} definitions wrong, see above");
            let allowed = "definitions that `orchestrator check` finds right; SHIPPED_DEFINITIONS leaves out some that ship";
            let name = if folders.definitions.is_some() { DEFINITIONS_DIR } else { SHIPPED_DEFINITIONS };
            wrong(name, &folders.definitions, found, allowed)
        }
        FoldersError::Schemas(_) => wrong(SCHEMAS_DIR, &folders.schemas, error.to_string(), schemas),
        FoldersError::Unreadable { ref path, ref source } => {
            let found = format!("{}: {source}", path.display());
            wrong(DEFINITIONS_DIR, &folders.definitions, found, "a folder that can be read")
        }
        FoldersError::Contended | FoldersError::Store(_) => error.into(),
    }
}

/// The topics that an orchestrator with these definitions needs.
pub fn topics<'a>(
    definitions: impl IntoIterator<Item = &'a Definition>,
    shards: ShardCount,
    command_partitions: u16,
    topic_partitions: u16,
    replication: i32,
) -> Vec<TopicSpec> {
    let others = i32::from(topic_partitions);
    let mut topics = vec![
        TopicSpec::new(INBOX, i32::from(shards.get()), replication),
        TopicSpec::new(EVENTS, others, replication),
        TopicSpec::new(DEAD_LETTERS, others, replication),
    ];
    let mut participants: Vec<_> =
        definitions.into_iter().flat_map(|definition| definition.participants()).collect();
    participants.sort();
    participants.dedup();
    topics.extend(participants.iter().map(|participant| {
        TopicSpec::new(format!("{participant}.commands"), i32::from(command_partitions), replication)
    }));
    topics
}

/// What the log says while the topics are not there: what is missing, and what to do. `new` are the definitions that are
/// published when they are; only those can still be left out.
pub fn waiting_for_topics(
    error: TopicError,
    specs: &[TopicSpec],
    published: &[Arc<Definition>],
    new: &[Arc<Definition>],
) -> String {
    let topic: &str = match &error {
        TopicError::NotCreated { topic, .. } => topic,
        TopicError::Missing { topic } => topic,
        _ => {
            let error = anyhow::Error::from(error);
            return format!("waiting for the broker (KAFKA_BOOTSTRAP_SERVERS): {error:#}");
        }
    };
    let spec = specs.iter().find(|spec| &*spec.name == topic);
    let partitions = spec.map_or_else(String::new, |spec| format!(" with {} partitions", spec.partitions));
    let needs = |definition: &&Arc<Definition>| {
        let participants = definition.participants();
        participants.iter().any(|participant| topic.strip_suffix(".commands") == Some(&**participant))
    };
    let needing: Vec<_> = new.iter().filter(needs).collect();
    let ships = |definition: &&Arc<Definition>| Shipped::named(&definition.id.name).is_some();
    let avoidable = !needing.is_empty()
        && needing.iter().all(ships)
        && !published.iter().any(|definition| needs(&definition));
    let names: Vec<&str> = needing.iter().map(|definition| &*definition.id.name).collect();
    let or = if avoidable {
        format!(", or leave {} out by {SHIPPED_DEFINITIONS}", names.join(" and "))
    } else {
        String::new()
    };
    format!("waiting: {error}; create it{partitions}{or}")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn names(text: &str) -> Option<Vec<&'static str>> {
        chosen(text).map(|chosen| chosen.iter().map(Shipped::name).collect())
    }

    #[test]
    fn shipped_definitions_are_chosen_by_name() {
        assert_eq!(names("all"), Some(vec!["booking", "erasure", "stock-transfer", "trip"]));
        assert_eq!(names("none"), Some(vec![]));
        assert_eq!(names("trip, booking,trip"), Some(vec!["booking", "trip"]));
        for wrong in ["", "Booking", "booking,", "booking;trip", "all,booking", "none,none"] {
            assert_eq!(names(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn probes_have_a_second_between_them_at_least() {
        let read = ["0s", "999ms", "1s", "1h", "61m", "soon"].map(|text| between_probes(text).is_some());
        assert_eq!(read, [false, false, true, true, false, false]);
        assert_eq!(up_to_an_hour("0s"), Some(Duration::ZERO));
    }

    /// What is said about a missing topic when these are published and those are new.
    fn said(topic: &str, published: &[&str], new: &[&str]) -> String {
        let ships = |names: &[&str]| -> Vec<Arc<Definition>> {
            names.iter().map(|name| Arc::new(Shipped::named(name).unwrap().definition())).collect()
        };
        let (published, new) = (ships(published), ships(new));
        let shards = ShardCount::new(8).unwrap();
        let specs = topics(published.iter().chain(&new).map(|definition| &**definition), shards, 12, 3, -1);
        let error = TopicError::Missing { topic: topic.into() };
        waiting_for_topics(error, &specs, &published, &new)
    }

    #[test]
    fn a_topic_that_is_not_created_is_named_with_what_to_do() {
        assert_snapshot!(said("flights.commands", &["booking"], &["trip"]), @"waiting: topic flights.commands does not exist on the embedded broker, which by itself makes topics of 4 partitions only; create it with 12 partitions, or leave trip out by SHIPPED_DEFINITIONS");
        assert_snapshot!(said("payment.commands", &["booking"], &["trip"]), @"waiting: topic payment.commands does not exist on the embedded broker, which by itself makes topics of 4 partitions only; create it with 12 partitions");
        assert_snapshot!(said("flights.commands", &["trip"], &["booking"]), @"waiting: topic flights.commands does not exist on the embedded broker, which by itself makes topics of 4 partitions only; create it with 12 partitions");
        assert_snapshot!(said("saga.inbox", &[], &["booking"]), @"waiting: topic saga.inbox does not exist on the embedded broker, which by itself makes topics of 4 partitions only; create it with 8 partitions");
    }

    #[test]
    fn only_the_topics_of_what_is_published_are_needed() {
        let booking = Shipped::named("booking").unwrap().definition();
        let specs = topics([&booking], ShardCount::new(8).unwrap(), 12, 3, -1);
        let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
        assert_eq!(
            names,
            ["saga.inbox", "saga.events", "saga.dead-letters", "booking.commands", "payment.commands"]
        );
    }
}
