//! What goes into and comes out of a transition besides the saga and the event.

use crate::retry::Jitter;
use crate::saga::{Effect, Saga};
use crate::time::Timestamp;

/// When an event happens, and the jitter of a back-off that it may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Now.
    pub at: Timestamp,
    /// Spreads retries.
    pub jitter: Jitter,
}

impl Moment {
    /// The moment of a saga's next transition. The jitter follows from saga and revision, so that a replay finds it again.
    pub fn of(saga: &Saga, at: Timestamp) -> Self {
        Self { at, jitter: Jitter::of(saga.id, saga.revision) }
    }
}

/// What an event does to a saga.
#[derive(Clone, PartialEq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made; a box would be one more allocation"
)]
pub enum Transition {
    /// It moved.
    Moved(Moved),
    /// It did not; a normal result, to be counted.
    Ignored(Why),
}

/// A move: the saga afterwards and what is to be done.
#[derive(Clone, PartialEq, Debug)]
pub struct Moved {
    /// The saga afterwards.
    pub saga: Saga,
    /// What is to be done, after the commit.
    pub effects: Vec<Effect>,
}

/// Why an event did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// The saga has ended.
    Ended,
    /// A reply to a command of this saga that is no longer the current one, or a second reply.
    Late,
    /// A reply to a command that this saga never sends.
    Foreign,
    /// A timer or a send failure of an attempt that is no longer the current one, or of a deadline that stands still, or one
    /// that would stop or resume a deadline that stands or runs already.
    Stale,
    /// The verb needs a stuck saga.
    NotStuck,
    /// The verb needs a saga in back-off.
    NotInBackoff,
    /// It compensates already.
    Compensating,
    /// What is out cannot be undone.
    PointOfNoReturn,
    /// The event makes a saga; there is one already.
    Begun,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Ended,
        Self::Late,
        Self::Foreign,
        Self::Stale,
        Self::NotStuck,
        Self::NotInBackoff,
        Self::Compensating,
        Self::PointOfNoReturn,
        Self::Begun,
    ];

    /// For metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Late => "late",
            Self::Foreign => "foreign",
            Self::Stale => "stale",
            Self::NotStuck => "not_stuck",
            Self::NotInBackoff => "not_in_backoff",
            Self::Compensating => "compensating",
            Self::PointOfNoReturn => "point_of_no_return",
            Self::Begun => "begun",
        }
    }
}
