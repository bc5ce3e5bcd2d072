//! From a record to a command for a handler, or to the reason why it is none.

use std::collections::HashMap;
use std::sync::Arc;

use messaging::Received;
use messaging::headers::CommandHeaders;
use saga_defs::ids::{CommandId, Direction, SagaId};
use saga_defs::participant::Recorded;
use schemas::Catalog;

use crate::command::Command;
use crate::dead_letter::Reason;
use crate::erased::{AnyCommand, AnyHandler, EncodedReply};
use crate::inbox::Write;
use crate::records::Expected;

/// A command on its way through the participant.
pub(crate) struct Incoming {
    pub(crate) received: Arc<Received>,
    pub(crate) headers: CommandHeaders,
    /// The id of the forward command of the same step.
    pub(crate) forward_id: CommandId,
    /// Which of the participant's handlers it is for.
    pub(crate) handler: usize,
    pub(crate) command: AnyCommand,
}

impl Incoming {
    /// What is likely recorded about it: nothing, if it looks like the first delivery of the first attempt.
    pub(crate) fn expected(&self) -> Expected {
        let headers = &self.headers;
        let looks_new =
            headers.direction == Direction::Forward && headers.attempt.0 == 1 && headers.redrive == 0;
        if looks_new { Expected::None } else { Expected::Unknown }
    }

    /// An inbox row under the command's own id.
    pub(crate) fn record(
        &self,
        recorded: Recorded,
        revision: i32,
        reply: Option<Arc<EncodedReply>>,
    ) -> Write {
        let (command, saga) = (self.headers.command_id, self.headers.saga_id);
        Write { command, saga, recorded, revision, reply }
    }

    /// An inbox row that keeps the forward command from ever running.
    pub(crate) fn tombstone(&self, revision: i32) -> Write {
        let (command, saga) = (self.forward_id, self.headers.saga_id);
        Write { command, saga, recorded: Recorded::Tombstoned, revision, reply: None }
    }
}

/// Why a record is not a command for this participant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotACommand {
    #[error("{0}")]
    Undecodable(String),
    #[error("this participant has no handler for {0}")]
    Unhandled(String),
}

impl NotACommand {
    /// The reason of its dead letter.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Undecodable(_) => Reason::Undecodable,
            Self::Unhandled(_) => Reason::Unhandled,
        }
    }
}

/// Knows which handler a command is for.
pub(crate) struct Intake<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) by_type: &'a HashMap<String, usize>,
    pub(crate) handlers: &'a [AnyHandler],
}

impl Intake<'_> {
    /// Reads a record's headers and body.
    pub(crate) fn take(&self, received: &Arc<Received>) -> Result<Incoming, NotACommand> {
        let undecodable = |why: String| NotACommand::Undecodable(why);
        let headers =
            CommandHeaders::read(&received.headers).map_err(|error| undecodable(error.to_string()))?;
        let expected = CommandId::derive(headers.saga_id, &headers.step, headers.direction);
        if headers.command_id != expected {
            // Under another id the forward command of a compensation would not be found, and nothing would be undone.
            let why = format!(
                "header command-id: found {}, expected {expected}, which follows from saga-id, step and direction",
                headers.command_id
            );
            return Err(undecodable(why));
        }
        let name: &str = &headers.message_type;
        let Some(&handler) = self.by_type.get(name) else {
            return Err(NotACommand::Unhandled(name.to_owned()));
        };
        let value = received.value.as_deref().ok_or_else(|| undecodable("it has no value".to_owned()))?;
        let fields = self.catalog.decode_as(name, value).map_err(|error| undecodable(error.to_string()))?;
        let head = Command {
            id: headers.command_id,
            saga_id: headers.saga_id,
            step: headers.step.clone(),
            direction: headers.direction,
            attempt: headers.attempt,
            redrive: headers.redrive,
            body: (),
        };
        let forward_id = match headers.direction {
            Direction::Forward => headers.command_id,
            Direction::Compensation => head.forward_id(),
        };
        let command = self.handlers[handler].speaks().parse(head, name, fields).map_err(undecodable)?;
        Ok(Incoming { received: received.clone(), headers, forward_id, handler, command })
    }
}

/// Splits a batch into rounds with at most one command per saga each; each saga's commands stay in order.
pub(crate) fn rounds(batch: Vec<Incoming>) -> Vec<Vec<Incoming>> {
    let mut seen: HashMap<SagaId, usize> = HashMap::with_capacity(batch.len());
    let mut rounds: Vec<Vec<Incoming>> = Vec::new();
    for command in batch {
        let round = seen.entry(command.headers.saga_id).or_default();
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        let at = *round;
        *round += 1;
        rounds[at].push(command);
    }
    rounds
}
