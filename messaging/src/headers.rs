//! The headers of commands and replies, typed. Reading is strict: an error names the header, what was found and what
//! is allowed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use saga_defs::ids::{Attempt, CommandId, DefinitionRef, Direction, SagaId};
use saga_defs::saga::Echo;
use saga_defs::time::Timestamp;

pub use crate::dead_letter::{
    DeadLetterHeaders, NOWHERE, original_of_dead_letter, redrive_of, redriven_copy,
};
use crate::record::Headers;
use crate::telemetry::TraceParent;

/// At most so many headers are read.
pub const MAX_HEADERS: usize = 64;
/// At most so many bytes of headers are read, names and values together.
pub const MAX_HEADERS_BYTES: usize = 32 * 1024;
/// How much of a wrong value an error shows, in characters.
const SHOWN_CHARS: usize = 80;
/// The longest name of a step, a definition or a message type, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The longest name of a topic that Kafka allows, in bytes.
const MAX_TOPIC_BYTES: usize = 249;

/// The names of the headers.
pub mod name {
    /// The saga: a UUID. On commands and replies.
    pub const SAGA_ID: &str = "saga-id";
    /// The definition's name. On commands.
    pub const SAGA_DEFINITION: &str = "saga-definition";
    /// The definition's version. On commands.
    pub const SAGA_VERSION: &str = "saga-version";
    /// The step's name. On commands.
    pub const STEP: &str = "step";
    /// `forward` or `compensation`. On commands.
    pub const DIRECTION: &str = "direction";
    /// The idempotency key: a UUID. On commands and replies.
    pub const COMMAND_ID: &str = "command-id";
    /// Which try this is, from 1. On commands.
    pub const ATTEMPT: &str = "attempt";
    /// How often an operator has redriven the command; absent means 0. On commands.
    pub const REDRIVE: &str = "redrive";
    /// Where the reply goes. On commands.
    pub const REPLY_TOPIC: &str = "reply-topic";
    /// Where in the reply topic the reply goes. On commands.
    pub const REPLY_PARTITION: &str = "reply-partition";
    /// When nobody waits for the reply any more: RFC 3339. On commands.
    pub const DEADLINE: &str = "deadline";
    /// The Avro full name of the value. On all messages.
    pub const MESSAGE_TYPE: &str = "message-type";
    /// The W3C trace context. On all messages.
    pub const TRACEPARENT: &str = "traceparent";
    /// `succeeded`, `rejected` or `failed`. On replies.
    pub const OUTCOME: &str = "outcome";
}

/// A header is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is not there, or has no value.
    #[error("header {name} is missing; allowed: {allowed}")]
    Missing {
        /// The header.
        name: &'static str,
        /// What would do.
        allowed: &'static str,
    },
    /// It has a wrong value.
    #[error("header {name}: found {found:?}; allowed: {allowed}")]
    Invalid {
        /// The header.
        name: &'static str,
        /// The beginning of its value.
        found: String,
        /// What would do.
        allowed: &'static str,
    },
    /// It is there more than once, so it is not clear what is meant.
    #[error("header {name} is there {found} times; allowed: once")]
    Repeated {
        /// The header.
        name: &'static str,
        /// How often.
        found: usize,
    },
    /// Too many headers.
    #[error("found {found} headers; allowed: {MAX_HEADERS}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// Too large headers.
    #[error("found {found} bytes of headers; allowed: {MAX_HEADERS_BYTES}")]
    TooLarge {
        /// How many bytes.
        found: usize,
    },
}

/// The headers of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandHeaders {
    /// The saga that sends it.
    pub saga_id: SagaId,
    /// The saga's recipe.
    pub definition: DefinitionRef,
    /// The step.
    pub step: Arc<str>,
    /// Doing or undoing the step.
    pub direction: Direction,
    /// The idempotency key.
    pub command_id: CommandId,
    /// Which try this is.
    pub attempt: Attempt,
    /// How often an operator has redriven it.
    pub redrive: u32,
    /// Where the reply goes.
    pub reply_topic: Arc<str>,
    /// Where in the reply topic the reply goes.
    pub reply_partition: i32,
    /// When nobody waits for the reply any more.
    pub deadline: Timestamp,
    /// The Avro full name of the value.
    pub message_type: Arc<str>,
    /// The trace, if there is one; an invalid one counts as none, as the W3C says.
    pub traceparent: Option<TraceParent>,
}

impl CommandHeaders {
    /// As headers of a record.
    pub fn write(&self) -> Headers {
        let mut headers = Headers::with_capacity(14);
        headers.push_text(name::SAGA_ID, self.saga_id);
        headers.push(name::SAGA_DEFINITION, &*self.definition.name);
        headers.push_text(name::SAGA_VERSION, self.definition.version);
        headers.push(name::STEP, &*self.step);
        headers.push(name::DIRECTION, self.direction.as_str());
        headers.push_text(name::COMMAND_ID, self.command_id);
        headers.push_text(name::ATTEMPT, self.attempt);
        if self.redrive > 0 {
            headers.push_text(name::REDRIVE, self.redrive);
        }
        headers.push(name::REPLY_TOPIC, &*self.reply_topic);
        headers.push_text(name::REPLY_PARTITION, self.reply_partition);
        headers.push_text(name::DEADLINE, self.deadline);
        headers.push(name::MESSAGE_TYPE, &*self.message_type);
        push_traceparent(&mut headers, self.traceparent);
        headers
    }

    /// From the headers of a record; others may be there as well.
    ///
    /// # Errors
    /// The first header that is not as it has to be.
    pub fn read(headers: &Headers) -> Result<Self, HeaderError> {
        let reader = Reader::once_each(headers)?;
        Ok(Self {
            saga_id: reader.parsed(name::SAGA_ID, UUID)?,
            definition: DefinitionRef {
                name: reader.name(name::SAGA_DEFINITION)?,
                version: reader.at_least_one(name::SAGA_VERSION)?,
            },
            step: reader.name(name::STEP)?,
            direction: reader.parsed(name::DIRECTION, "forward or compensation")?,
            command_id: reader.parsed(name::COMMAND_ID, UUID)?,
            attempt: Attempt(reader.at_least_one(name::ATTEMPT)?),
            redrive: reader.parsed_or(name::REDRIVE, "a number, or no such header", 0)?,
            reply_topic: reader.topic(name::REPLY_TOPIC)?,
            reply_partition: reader.at_least_zero(name::REPLY_PARTITION)?,
            deadline: reader.time(name::DEADLINE)?,
            message_type: reader.name(name::MESSAGE_TYPE)?,
            traceparent: read_traceparent(headers),
        })
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutcomeKind {
    /// Done.
    Succeeded,
    /// A business refusal: trying again is of no use.
    Rejected,
    /// Nothing happened: try again.
    Failed,
}

impl OutcomeKind {
    /// As in the `outcome` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an outcome: expected succeeded, rejected or failed")]
pub struct NotAnOutcome;

impl FromStr for OutcomeKind {
    type Err = NotAnOutcome;

    fn from_str(text: &str) -> Result<Self, NotAnOutcome> {
        [Self::Succeeded, Self::Rejected, Self::Failed]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(NotAnOutcome)
    }
}

/// The headers of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHeaders {
    /// The saga that waits for it.
    pub saga_id: SagaId,
    /// The command that it answers.
    pub command_id: CommandId,
    /// How the command ended.
    pub outcome: OutcomeKind,
    /// Which sending of the command it answers, if the participant says so.
    pub echo: Option<Echo>,
    /// The Avro full name of the value.
    pub message_type: Arc<str>,
    /// The trace, if there is one; an invalid one counts as none, as the W3C says.
    pub traceparent: Option<TraceParent>,
}

impl ReplyHeaders {
    /// As headers of a record.
    pub fn write(&self) -> Headers {
        let mut headers = Headers::with_capacity(7);
        headers.push_text(name::SAGA_ID, self.saga_id);
        headers.push_text(name::COMMAND_ID, self.command_id);
        headers.push(name::OUTCOME, self.outcome.as_str());
        if let Some(Echo { attempt, redrive }) = self.echo {
            headers.push_text(name::ATTEMPT, attempt);
            if redrive > 0 {
                headers.push_text(name::REDRIVE, redrive);
            }
        }
        headers.push(name::MESSAGE_TYPE, &*self.message_type);
        push_traceparent(&mut headers, self.traceparent);
        headers
    }

    /// From the headers of a record; others may be there as well.
    ///
    /// # Errors
    /// The first header that is not as it has to be.
    pub fn read(headers: &Headers) -> Result<Self, HeaderError> {
        let reader = Reader::once_each(headers)?;
        Ok(Self {
            saga_id: reader.parsed(name::SAGA_ID, UUID)?,
            command_id: reader.parsed(name::COMMAND_ID, UUID)?,
            outcome: reader.parsed(name::OUTCOME, "succeeded, rejected or failed")?,
            echo: match reader.optional(name::ATTEMPT, "a number from 1, or no such header")? {
                None => None,
                Some(_) => Some(Echo {
                    attempt: Attempt(reader.at_least_one(name::ATTEMPT)?),
                    redrive: reader.parsed_or(name::REDRIVE, "a number, or no such header", 0)?,
                }),
            },
            message_type: reader.name(name::MESSAGE_TYPE)?,
            traceparent: read_traceparent(headers),
        })
    }
}

/// Adds the trace to the headers of any message, if there is one.
pub fn push_traceparent(headers: &mut Headers, traceparent: Option<TraceParent>) {
    if let Some(traceparent) = traceparent {
        headers.push_text(name::TRACEPARENT, traceparent);
    }
}

/// The trace of any message. An invalid one counts as none, as the W3C says.
pub fn read_traceparent(headers: &Headers) -> Option<TraceParent> {
    headers.text(name::TRACEPARENT).and_then(|text| TraceParent::parse(text).ok())
}

pub(crate) const UUID: &str = "a UUID with hyphens";

/// Takes headers apart, with an error for each that is wrong.
pub(crate) struct Reader<'a> {
    headers: &'a Headers,
    repeats: bool,
}

impl<'a> Reader<'a> {
    /// Each header that is asked for may be there once. Refuses a flood of headers.
    pub(crate) fn once_each(headers: &'a Headers) -> Result<Self, HeaderError> {
        if headers.len() > MAX_HEADERS {
            return Err(HeaderError::TooMany { found: headers.len() });
        }
        let found = headers.size_bytes();
        if found > MAX_HEADERS_BYTES {
            return Err(HeaderError::TooLarge { found });
        }
        Ok(Self { headers, repeats: false })
    }

    /// The last of each name counts: those before it were copied.
    pub(crate) const fn last_of_each(headers: &'a Headers) -> Self {
        Self { headers, repeats: true }
    }

    pub(crate) fn optional(
        &self,
        name: &'static str,
        allowed: &'static str,
    ) -> Result<Option<&'a str>, HeaderError> {
        let (found, value) = self.headers.find(name);
        if found > 1 && !self.repeats {
            return Err(HeaderError::Repeated { name, found });
        }
        let Some(value) = value else {
            return Ok(None);
        };
        std::str::from_utf8(value)
            .map(Some)
            .map_err(|_| invalid(name, &String::from_utf8_lossy(value), allowed))
    }

    pub(crate) fn text(&self, name: &'static str, allowed: &'static str) -> Result<&'a str, HeaderError> {
        self.optional(name, allowed)?.ok_or(HeaderError::Missing { name, allowed })
    }

    pub(crate) fn parsed<T: FromStr>(
        &self,
        name: &'static str,
        allowed: &'static str,
    ) -> Result<T, HeaderError> {
        let text = self.text(name, allowed)?;
        text.parse().map_err(|_| invalid(name, text, allowed))
    }

    pub(crate) fn parsed_or<T: FromStr>(
        &self,
        name: &'static str,
        allowed: &'static str,
        absent: T,
    ) -> Result<T, HeaderError> {
        let text = self.optional(name, allowed)?;
        text.map_or(Ok(absent), |text| text.parse().map_err(|_| invalid(name, text, allowed)))
    }

    pub(crate) fn name(&self, name: &'static str) -> Result<Arc<str>, HeaderError> {
        let allowed = "a name of 1 to 255 bytes";
        let text = self.text(name, allowed)?;
        let fits = (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        if fits { Ok(text.into()) } else { Err(invalid(name, text, allowed)) }
    }

    pub(crate) fn topic(&self, name: &'static str) -> Result<Arc<str>, HeaderError> {
        let allowed = "a topic name: 1 to 249 letters, digits, dots, underscores and hyphens";
        let text = self.text(name, allowed)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=MAX_TOPIC_BYTES).contains(&text.len()) && text.bytes().all(legal);
        if fits && text != "." && text != ".." { Ok(text.into()) } else { Err(invalid(name, text, allowed)) }
    }

    pub(crate) fn at_least_one(&self, name: &'static str) -> Result<u32, HeaderError> {
        let allowed = "a number from 1";
        match self.parsed(name, allowed)? {
            0 => Err(invalid(name, "0", allowed)),
            number => Ok(number),
        }
    }

    pub(crate) fn at_least_zero<T: FromStr + PartialOrd + From<u8>>(
        &self,
        name: &'static str,
    ) -> Result<T, HeaderError> {
        self.at_least(name, T::from(0), "a number from 0")
    }

    pub(crate) fn at_least<T: FromStr + PartialOrd>(
        &self,
        name: &'static str,
        least: T,
        allowed: &'static str,
    ) -> Result<T, HeaderError> {
        let text = self.text(name, allowed)?;
        let number = text.parse::<T>().ok().filter(|number| *number >= least);
        number.ok_or_else(|| invalid(name, text, allowed))
    }

    pub(crate) fn time(&self, name: &'static str) -> Result<Timestamp, HeaderError> {
        let allowed = "a time as in RFC 3339";
        let text = self.text(name, allowed)?;
        Timestamp::parse(text).ok_or_else(|| invalid(name, text, allowed))
    }
}

fn invalid(name: &'static str, found: &str, allowed: &'static str) -> HeaderError {
    HeaderError::Invalid { name, found: found.chars().take(SHOWN_CHARS).collect(), allowed }
}
