//! What goes over Kafka as an AsyncAPI 3.0 document: made of what is published and its Avro schemas, and of nothing else.
//! The application that it describes is the orchestrator: it sends commands and receives replies.
//!
//! Two attributes of an `.avsc` say what no definition does: `topic`, where a participant publishes the record as an event
//! of its own, and `answers`, which compensation the record is the reply to.

pub(crate) mod command;
mod headers;
mod page;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use saga_defs::definition::{Definition, Step, StepKind};
use saga_defs::ids::Direction;
use schemas::{Catalog, is_topic};
use serde_json::{Map, Value, json};

use crate::dead_letters::ingest;
use crate::engine::{DEAD_LETTERS, EVENTS, GROUP, INBOX};
use headers::Role;
pub use page::page;

/// The dialect of the payloads' schemas.
const AVRO: &str = "application/vnd.apache.avro;version=1.9.0";
/// Each value says which schema wrote it: Avro's single-object encoding.
const CONTENT_TYPE: &str = "avro/binary";
/// Of the Kafka bindings.
const BINDING: &str = "0.5.0";
/// The value of a reply that is not `succeeded`.
const REFUSAL: &str = "saga.Refusal";
/// The reply to a compensation of those who have nothing to add.
const UNDONE: &str = "saga.Undone";
/// What the orchestrator itself tells everyone.
const TOLD: [&str; 2] = ["saga.SagaStarted", "saga.SagaEnded"];
/// The name of the one message that is no Avro record of its own.
const LETTER: &str = "dead-letter";

/// How many partitions topics have, where that is known. `None`: on paper.
#[derive(Clone, Copy, Debug, Default)]
pub struct Partitions {
    /// Of `saga.inbox`.
    pub inbox: Option<u16>,
    /// Of each command topic.
    pub commands: Option<u16>,
}

/// The document for these definitions, whose messages the catalog has: one that it lacks is left out.
pub fn document<'a>(
    definitions: impl IntoIterator<Item = &'a Definition>,
    catalog: &Catalog,
    partitions: Partitions,
) -> Value {
    let mut draft = Draft::new(catalog);
    draft.own_channels(partitions);
    for definition in definitions {
        for (order, step) in definition.steps.iter().enumerate() {
            draft.step(definition, order + 1, step, partitions);
        }
    }
    draft.events_of_others();
    draft.finish()
}

/// A topic while the document is made.
struct Channel {
    description: String,
    partitions: Option<u16>,
    messages: BTreeSet<String>,
}

struct Draft<'a> {
    catalog: &'a Catalog,
    channels: BTreeMap<String, Channel>,
    operations: BTreeMap<String, Value>,
    messages: BTreeMap<String, Value>,
    payloads: BTreeMap<String, Value>,
}

impl<'a> Draft<'a> {
    const fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            channels: BTreeMap::new(),
            operations: BTreeMap::new(),
            messages: BTreeMap::new(),
            payloads: BTreeMap::new(),
        }
    }

    fn channel(&mut self, topic: &str, partitions: Option<u16>, description: impl Into<String>) {
        self.channels.entry(topic.to_owned()).or_insert_with(|| Channel {
            description: description.into(),
            partitions,
            messages: BTreeSet::new(),
        });
    }

    /// The topics that are there whatever is published, and what the orchestrator does with them.
    fn own_channels(&mut self, partitions: Partitions) {
        self.channel(
            INBOX,
            partitions.inbox,
            "Replies of all participants. Its partitions are the shards: a reply goes to the one that the command's \
             header `reply-partition` names, which is the one that Java's default partitioner (murmur2) finds for the \
             key; one that came to another is passed on.",
        );
        self.channel(EVENTS, None, "The start and the end of every saga, for read models.");
        self.channel(
            DEAD_LETTERS,
            None,
            "Records that nobody could handle, with their bytes as they were. Participants put theirs here and the \
             orchestrator takes them into its database; what it gives up on itself it exports here.",
        );
        for told in TOLD {
            self.carry(EVENTS, Role::Announcement, told);
        }
        self.messages.insert(LETTER.to_owned(), letter());
        if let Some(channel) = self.channels.get_mut(DEAD_LETTERS) {
            channel.messages.insert(LETTER.to_owned());
        }
        self.carry(INBOX, Role::Refusal, REFUSAL);
        self.carry(INBOX, Role::Reply, UNDONE);
    }

    /// One step: its command and, if it can be undone, the command that does it.
    fn step(&mut self, definition: &Definition, order: usize, step: &Step, partitions: Partitions) {
        let topic = format!("{}.commands", step.participant);
        let about = format!(
            "What the participant {} is asked to do. All commands of one saga are on one partition, in order; the \
             participant's group is `{}-participant`.",
            step.participant, step.participant
        );
        self.channel(&topic, partitions.commands, about);
        let catalog = self.catalog;
        let mut ask = |direction, command: &str, replies: &[&str]| {
            let Some(sent) = self.carry(&topic, Role::Command, command) else { return };
            let mut answers: Vec<String> =
                replies.iter().filter_map(|reply| self.carry(INBOX, Role::Reply, reply)).collect();
            answers.extend(self.carry(INBOX, Role::Refusal, REFUSAL));
            let (name, operation) = asking(definition, order, step, direction, &topic, &sent, &answers);
            self.operations.insert(name, operation);
        };
        ask(Direction::Forward, &step.command, &[&step.reply]);
        if let StepKind::Compensatable { compensation } = &step.kind {
            let replies = catalog
                .message_types()
                .filter(|name| attribute(catalog, name, "answers") == Some(compensation));
            let replies: Vec<&str> = replies.chain([UNDONE]).collect();
            ask(Direction::Compensation, compensation, &replies);
        }
    }

    /// What participants publish for everyone else. Nobody here sends or reads it, so there is no operation on it.
    fn events_of_others(&mut self) {
        let catalog = self.catalog;
        for name in catalog.message_types() {
            let Some(topic) = attribute(catalog, name, "topic").filter(|topic| is_topic(topic)) else {
                continue;
            };
            // Not to be taken for what the orchestrator itself writes or reads.
            if topic.starts_with("saga.") || topic.ends_with(".commands") {
                continue;
            }
            self.channel(
                topic,
                None,
                "A domain event for everyone else, published by its participant with the reply.",
            );
            self.carry(topic, Role::Event, name);
        }
    }

    /// Puts a message on a channel and returns its name; `None` if there is no such record.
    fn carry(&mut self, topic: &str, role: Role, record: &str) -> Option<String> {
        let (version, source) = self.catalog.source(record)?;
        let name = format!("{record}.{}", role.as_str());
        self.payloads
            .entry(record.to_owned())
            .or_insert_with(|| json!({ "schemaFormat": AVRO, "schema": source }));
        self.messages.entry(name.clone()).or_insert_with(|| message(record, version, source, role));
        self.channels.get_mut(topic)?.messages.insert(name.clone());
        Some(name)
    }

    fn finish(mut self) -> Value {
        self.own_operations();
        let channels: Map<String, Value> =
            self.channels.iter().map(|(topic, channel)| (topic.clone(), channel.shown(topic))).collect();
        let mut schemas: Map<String, Value> = self.payloads.into_iter().collect();
        schemas.extend(headers::schemas());
        json!({
            "asyncapi": "3.0.0",
            "info": {
                "title": "Saga orchestrator: messages",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "What the orchestrator sends and receives over Kafka. Every value is Avro: in the \
                    single-object encoding, or in a schema registry's format where one is set; readers take both.",
                "license": { "name": "Apache-2.0" },
            },
            "defaultContentType": CONTENT_TYPE,
            "channels": channels,
            "operations": self.operations,
            "components": {
                "schemas": schemas,
                "messages": self.messages,
                "correlationIds": {
                    "command": {
                        "description": "A command and all replies to all of its attempts have one id.",
                        "location": "$message.header#/command-id",
                    },
                    "saga": {
                        "description": "Every message of a saga has its id.",
                        "location": "$message.header#/saga-id",
                    },
                },
            },
        })
    }

    fn own_operations(&mut self) {
        let mut add = |name: &str, action: &str, topic: &str, summary: &str, group: Option<&str>| {
            let messages = self.channels.get(topic).map(|channel| references(topic, &channel.messages));
            let mut operation = json!({
                "action": action,
                "channel": { "$ref": channel_reference(topic) },
                "summary": summary,
                "messages": messages.unwrap_or_default(),
            });
            if let Some(group) = group {
                let group = json!({ "type": "string", "enum": [group] });
                operation["bindings"] = json!({ "kafka": { "groupId": group, "bindingVersion": BINDING } });
            }
            self.operations.insert(name.to_owned(), operation);
        };
        add("announce-sagas", "send", EVENTS, "Tells everyone that a saga began, or ended.", None);
        add("receive-replies", "receive", INBOX, "Takes the replies of participants.", Some(GROUP));
        add(
            "export-dead-letters",
            "send",
            DEAD_LETTERS,
            "Shows others what the orchestrator gave up on.",
            None,
        );
        add(
            "take-dead-letters",
            "receive",
            DEAD_LETTERS,
            "Takes what participants could not handle into the database.",
            Some(ingest::GROUP),
        );
    }
}

impl Channel {
    fn shown(&self, topic: &str) -> Value {
        let mut kafka = json!({ "topic": topic, "bindingVersion": BINDING });
        if let Some(partitions) = self.partitions {
            kafka["partitions"] = json!(partitions);
        }
        let messages = self.messages.iter();
        let messages: Map<String, Value> = messages
            .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
            .collect();
        json!({
            "address": topic,
            "description": self.description,
            "messages": messages,
            "bindings": { "kafka": kafka },
        })
    }
}

/// One command with what may be answered to it, as an operation with its name.
fn asking(
    definition: &Definition,
    order: usize,
    step: &Step,
    direction: Direction,
    topic: &str,
    sent: &str,
    answers: &[String],
) -> (String, Value) {
    let (verb, summary) = match direction {
        Direction::Forward => ("do", format!("Has the step {} done.", step.name)),
        Direction::Compensation => ("undo", format!("Has the step {} undone.", step.name)),
    };
    let id = &definition.id;
    let operation = json!({
        "action": "send",
        "channel": { "$ref": channel_reference(topic) },
        "title": format!("{id}, {verb} {}", step.name),
        "summary": summary,
        "tags": [{ "name": &*id.name }],
        "messages": references(topic, [sent]),
        "reply": {
            "channel": { "$ref": channel_reference(INBOX) },
            "messages": references(INBOX, answers),
        },
        "x-saga": {
            "definition": &*id.name,
            "version": id.version,
            "step": &*step.name,
            "order": order,
            "kind": step.kind.as_str(),
            "participant": &*step.participant,
            "direction": direction.as_str(),
            "timeoutMs": u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX),
        },
    });
    (format!("{verb}.{}.v{}.{}", id.name, id.version, step.name), operation)
}

/// A message of this record in this role.
fn message(record: &str, version: u32, source: &Value, role: Role) -> Value {
    let key = json!({ "type": "string", "format": "uuid", "description": role.key() });
    let correlation = role.correlation();
    let mut message = json!({
        "name": record,
        "title": format!("{record}, {}", role.as_str()),
        "summary": source["doc"].as_str().unwrap_or(record),
        "description": format!("Version {version} of the record {record} is what is written."),
        "contentType": CONTENT_TYPE,
        "headers": { "$ref": format!("#/components/schemas/{}", role.headers()) },
        "payload": { "$ref": format!("#/components/schemas/{record}") },
        "correlationId": { "$ref": format!("#/components/correlationIds/{correlation}") },
        "bindings": { "kafka": { "key": key, "schemaIdLocation": "payload", "bindingVersion": BINDING } },
    });
    if role == Role::Event {
        // Whatever its participant chose.
        message["bindings"]["kafka"]["key"] = json!({ "type": "string", "description": role.key() });
    }
    message
}

/// Any record that nobody could handle.
fn letter() -> Value {
    json!({
        "name": LETTER,
        "title": "dead letter",
        "summary": "A record that nobody could handle: its key, value and headers byte for byte, and the cause in headers.",
        "contentType": "application/octet-stream",
        "headers": { "$ref": "#/components/schemas/DeadLetterHeaders" },
        "bindings": { "kafka": { "key": { "description": "That of the record." }, "bindingVersion": BINDING } },
    })
}

fn channel_reference(topic: &str) -> String {
    format!("#/channels/{topic}")
}

fn references<T: AsRef<str>>(topic: &str, messages: impl IntoIterator<Item = T>) -> Vec<Value> {
    let one = |name: T| json!({ "$ref": format!("#/channels/{topic}/messages/{}", name.as_ref()) });
    messages.into_iter().map(one).collect()
}

/// What its author says of a record beside its fields.
fn attribute<'a>(catalog: &'a Catalog, record: &str, name: &str) -> Option<&'a str> {
    catalog.source(record)?.1.get(name)?.as_str()
}
