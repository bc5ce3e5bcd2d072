//! What a handler gets: commands as types of its own.

use std::sync::Arc;

use saga_defs::ids::{Attempt, CommandId, Direction, SagaId};

/// A Rust type that stands for an Avro record of the schema catalogue. Its serde form has the record's field names.
pub trait Message: Send + Sync + 'static {
    /// The Avro full name, e.g. `booking.ReserveBooking`.
    const NAME: &'static str;
}

/// One command as a handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command<T> {
    /// The idempotency key: the same for all attempts, and the key to give to the outside.
    pub id: CommandId,
    /// The saga that wants it.
    pub saga_id: SagaId,
    /// The step's name in the saga's definition.
    pub step: Arc<str>,
    /// Doing the step, or undoing it.
    pub direction: Direction,
    /// The 1-based try that this delivery belongs to.
    pub attempt: Attempt,
    /// How often an operator sent this command on its way anew; 0 at first.
    pub redrive: u32,
    /// The message itself.
    pub body: T,
}

impl Command<()> {
    /// The same command with its message.
    pub(crate) fn with_body<T>(self, body: T) -> Command<T> {
        let Self { id, saga_id, step, direction, attempt, redrive, body: () } = self;
        Command { id, saga_id, step, direction, attempt, redrive, body }
    }
}

impl<T> Command<T> {
    /// The id of the forward command of the same step: for a forward command its own id, for a compensation the id of
    /// the command that it undoes.
    pub fn forward_id(&self) -> CommandId {
        match self.direction {
            Direction::Forward => self.id,
            Direction::Compensation => CommandId::derive(self.saga_id, &self.step, Direction::Forward),
        }
    }
}
