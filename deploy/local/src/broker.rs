//! The embedded broker: a process of its own, so that its work is not mixed up with ours, in time and in memory.
//!
//! Its records are gone when it ends. So it draws an incarnation at its start, which goes to every service: an offset is
//! worth something only together with it.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use messaging::KafkaSettings;
use messaging::embedded::Broker;
use messaging::topics::{EMBEDDED_PARTITIONS, TopicSpec};
use saga_defs::definition::Definition;
use saga_defs::ids::ShardCount;

/// Partitions of `saga.inbox`. Written into the database at the first start, so it never changes.
pub const SHARDS: u16 = 8;
/// Partitions of each command topic on a real Kafka.
const COMMAND_PARTITIONS: u16 = 8;
/// Partitions of every other topic.
pub const TOPIC_PARTITIONS: u16 = 8;
/// Copies of a topic: as the broker likes.
const REPLICATION: i32 = -1;

/// Partitions of each command topic. The embedded broker makes the topics of definitions that are registered while it
/// runs, and gives them its own number.
pub const fn command_partitions(embedded: bool) -> u16 {
    if embedded { EMBEDDED_PARTITIONS } else { COMMAND_PARTITIONS }
}

/// Every topic that the services need for these definitions.
pub fn topics<'a>(
    definitions: impl IntoIterator<Item = &'a Definition>,
    embedded: bool,
) -> Result<Vec<TopicSpec>> {
    let shards = ShardCount::new(SHARDS).context("no shards")?;
    let commands = command_partitions(embedded);
    let mut topics = orchestrator::topics(definitions, shards, commands, TOPIC_PARTITIONS, REPLICATION);
    let events = [
        booking_worker::CREATED,
        booking_worker::CONFIRMED,
        booking_worker::CANCELLED,
        payment_worker::COMPLETED,
        payment_worker::FAILED,
        payment_worker::REFUNDED,
    ];
    topics.extend(events.map(|name| TopicSpec::new(name, i32::from(TOPIC_PARTITIONS), REPLICATION)));
    Ok(topics)
}

/// The arguments with which the broker's process is started.
pub fn arguments(topics: &[TopicSpec]) -> Vec<OsString> {
    let names = topics.iter().map(|topic| format!("{}:{}", topic.name, topic.partitions).into());
    [OsString::from("broker")].into_iter().chain(names).collect()
}

/// The broker's process: starts it, says where it is, and lives until it is killed.
pub fn main(arguments: &[OsString]) -> ExitCode {
    match start(arguments) {
        Ok(_broker) => loop {
            std::thread::park();
        },
        Err(error) => {
            eprintln!("broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[OsString]) -> Result<Broker> {
    let topics: Option<Vec<TopicSpec>> = arguments.iter().map(|argument| topic(argument.to_str()?)).collect();
    let broker = Broker::start(&topics.context("NAME:PARTITIONS is needed for each topic")?)?;
    let mut out = std::io::stdout();
    writeln!(out, "{} {}", broker.address(), broker.incarnation())?;
    out.flush()?;
    Ok(broker)
}

fn topic(argument: &str) -> Option<TopicSpec> {
    let (name, partitions) = argument.rsplit_once(':')?;
    Some(TopicSpec::new(name, partitions.parse().ok()?, REPLICATION))
}

/// What the broker's process says of itself.
pub fn settings(line: &str) -> Result<KafkaSettings> {
    let (address, incarnation) = line.split_once(' ').context("the broker did not say where it is")?;
    Ok(KafkaSettings { incarnation: Some(incarnation.to_owned()), ..KafkaSettings::plain(address) })
}
