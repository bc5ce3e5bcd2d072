//! The rules that the model runs: the real ones, or all of them but one.

use saga_defs::definition::Definition;
use saga_defs::machine::{self, Moment, Transition};
use saga_defs::participant::{self, Admission, Incoming, Recorded};
use saga_defs::saga::{Event, Saga};

use crate::world::Sent;

/// How the orchestrator and the participants decide. What is not overridden is the code of the service itself: a test
/// overrides one rule, and the model has to show what goes wrong without it.
pub trait Rules: Send + Sync + 'static {
    /// How a saga moves.
    fn transition(&self, definition: &Definition, saga: &Saga, event: &Event, moment: Moment) -> Transition {
        machine::transition(definition, saga, event, moment)
    }

    /// What a participant does with a command.
    fn admit(&self, own: Option<Recorded>, forward: Option<Recorded>, command: Incoming) -> Admission {
        participant::admit(own, forward, command)
    }

    /// Whether a compensation that succeeded leaves a tombstone for its forward command.
    fn leaves_tombstone(&self, forward: Option<Recorded>) -> bool {
        participant::leaves_tombstone(forward)
    }

    /// Under which of a command's ids the participant records this sending: there is one for all sendings, 0.
    fn identity(&self, _sent: Sent) -> Identity {
        Identity(0)
    }
}

/// One of the ids that one step's command has: below [`Identity::COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity(pub usize);

impl Identity {
    /// There is one; the second is for rules under which attempts have ids of their own.
    pub const COUNT: usize = 2;
}

/// The rules of the service.
#[derive(Clone, Copy, Debug)]
pub struct Real;

impl Rules for Real {}
