//! The headers of each kind of message. Every value is text in UTF-8.

use messaging::headers::name;
use serde_json::{Map, Value, json};

/// What a record is to those who send and read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To a participant.
    Command,
    /// From a participant that has done it.
    Reply,
    /// From a participant that has not.
    Refusal,
    /// From a participant to everyone.
    Event,
    /// From the orchestrator to everyone.
    Announcement,
}

impl Role {
    /// How a message's name ends.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Reply | Self::Refusal => "reply",
            Self::Event | Self::Announcement => "event",
        }
    }

    /// The name of its headers' schema.
    pub(super) const fn headers(self) -> &'static str {
        match self {
            Self::Command => "CommandHeaders",
            Self::Reply => "ReplyHeaders",
            Self::Refusal => "RefusalHeaders",
            Self::Event => "EventHeaders",
            Self::Announcement => "SagaEventHeaders",
        }
    }

    /// What the record's key is.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Command | Self::Reply | Self::Refusal | Self::Announcement => "The saga's id, as text.",
            Self::Event => "What the event is about, e.g. the booking's id, as text.",
        }
    }

    /// What it belongs together with other messages by.
    pub(super) const fn correlation(self) -> &'static str {
        match self {
            Self::Command | Self::Reply | Self::Refusal => "command",
            Self::Event | Self::Announcement => "saga",
        }
    }
}

const UUID: &str = "uuid";
const TIME: &str = "date-time";
/// A number from 1, and one from 0.
const FROM_ONE: &str = "^[1-9][0-9]*$";
const FROM_ZERO: &str = "^[0-9]+$";

/// A header: its name, its schema, whether it is always there.
type Header = (&'static str, Value, bool);

fn plain(name: &'static str, about: &str) -> Header {
    (name, json!({ "type": "string", "description": about }), true)
}

fn of_format(name: &'static str, format: &str, about: &str) -> Header {
    (name, json!({ "type": "string", "format": format, "description": about }), true)
}

fn number(name: &'static str, pattern: &str, about: &str) -> Header {
    (name, json!({ "type": "string", "pattern": pattern, "description": about }), true)
}

fn one_of(name: &'static str, words: &[&str], about: &str) -> Header {
    (name, json!({ "type": "string", "enum": words, "description": about }), true)
}

fn optional((name, schema, _): Header) -> Header {
    (name, schema, false)
}

fn saga_id() -> Header {
    of_format(name::SAGA_ID, UUID, "The saga.")
}

fn message_type() -> Header {
    plain(name::MESSAGE_TYPE, "The Avro full name of the value.")
}

fn traceparent() -> Header {
    optional(plain(name::TRACEPARENT, "The W3C trace context."))
}

fn redrive() -> Header {
    optional(number(name::REDRIVE, FROM_ONE, "How often an operator has redriven the command."))
}

fn of_command() -> Vec<Header> {
    vec![
        saga_id(),
        plain(name::SAGA_DEFINITION, "The definition's name."),
        number(name::SAGA_VERSION, FROM_ONE, "The definition's version."),
        plain(name::STEP, "The step's name."),
        one_of(name::DIRECTION, &["forward", "compensation"], "Doing or undoing the step."),
        of_format(name::COMMAND_ID, UUID, "The idempotency key: the same for all attempts."),
        number(name::ATTEMPT, FROM_ONE, "Which try this is."),
        redrive(),
        plain(name::REPLY_TOPIC, "Where the reply goes."),
        number(name::REPLY_PARTITION, FROM_ZERO, "Where in that topic."),
        of_format(name::DEADLINE, TIME, "When nobody waits for the reply any more."),
        message_type(),
        traceparent(),
    ]
}

fn of_reply(outcomes: &[&str]) -> Vec<Header> {
    let about = "How the command ended: rejected is a business refusal, failed says that nothing happened and to try again.";
    vec![
        saga_id(),
        of_format(name::COMMAND_ID, UUID, "The command that it answers."),
        one_of(name::OUTCOME, outcomes, about),
        optional(number(name::ATTEMPT, FROM_ONE, "The command's, echoed.")),
        redrive(),
        message_type(),
        traceparent(),
    ]
}

fn of_event() -> Vec<Header> {
    let about = "Tells repeats from other events: the command's id, a hyphen, and the event's number.";
    vec![plain("event-id", about), saga_id(), message_type(), traceparent()]
}

fn of_letter() -> Vec<Header> {
    vec![
        number(
            "saga-dlq-original-headers",
            FROM_ZERO,
            "How many headers are the record's own: they come first.",
        ),
        of_format("saga-dlq-id", UUID, "The letter: the same record makes the same letter."),
        plain("saga-dlq-reason", "The kind of failure."),
        plain("saga-dlq-message", "The failure in words."),
        plain("saga-dlq-topic", "Where the record was."),
        number("saga-dlq-partition", "^(-1|[0-9]+)$", "Where in the topic; -1 for none in particular."),
        number("saga-dlq-offset", "^(-1|[0-9]+)$", "Where in the partition; -1 for none in particular."),
        plain("saga-dlq-source", "Who gave up on it: a participant's name, or orchestrator."),
        number("saga-dlq-attempts", FROM_ZERO, "How often it was tried."),
        of_format("saga-dlq-first-failed-at", TIME, "When it failed first."),
        of_format("saga-dlq-last-failed-at", TIME, "When it failed last."),
        optional(of_format("saga-dlq-saga-id", UUID, "The saga, if known.")),
        optional(plain("saga-dlq-step", "The step, if known.")),
    ]
}

/// All of them, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let all: [(&str, Vec<Header>); 6] = [
        ("CommandHeaders", of_command()),
        ("ReplyHeaders", of_reply(&["succeeded"])),
        ("RefusalHeaders", of_reply(&["rejected", "failed"])),
        ("EventHeaders", of_event()),
        ("SagaEventHeaders", vec![saga_id(), message_type()]),
        ("DeadLetterHeaders", of_letter()),
    ];
    all.into_iter().map(|(name, headers)| (name.to_owned(), schema(headers))).collect()
}

fn schema(headers: Vec<Header>) -> Value {
    let required: Vec<&str> =
        headers.iter().filter(|(_, _, always)| *always).map(|(name, ..)| *name).collect();
    let required = json!(required);
    let properties: Map<String, Value> =
        headers.into_iter().map(|(name, schema, _)| (name.to_owned(), schema)).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}
