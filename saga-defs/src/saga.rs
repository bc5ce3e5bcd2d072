//! One saga's state, and what can happen to it. State is an enum that carries its data; nothing here decides.

mod reading;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Data;
use crate::definition::Definition;
use crate::ids::{Attempt, CommandId, DeadLetterId, DefinitionRef, Direction, Revision, SagaId, StepIndex};
use crate::time::Timestamp;

/// One run of a definition.
#[derive(Clone, PartialEq, Debug)]
pub struct Saga {
    /// Who it is.
    pub id: SagaId,
    /// Its recipe; never changes while it runs.
    pub definition: DefinitionRef,
    /// The client's own name for it, for look-ups.
    pub business_key: Option<Arc<str>>,
    /// How many transitions it has made.
    pub revision: Revision,
    /// Where it is.
    pub state: State,
    /// One entry per step of the definition, in its order.
    pub steps: Vec<StepRecord>,
    /// The input's fields and those of every reply so far.
    pub data: Arc<Data>,
    /// Why it compensates; `None` while it goes forward.
    pub reason: Option<Reason>,
    /// An operator's values for the current command's fields, in place of the saga's data.
    pub correction: Option<Arc<Data>>,
    /// Dead letters of this saga that an operator sent again and whose outcome is not known yet.
    pub redriven: Vec<DeadLetterId>,
    /// The time that does not count towards its deadline.
    pub uncounted: Uncounted,
    /// The trace it belongs to (a W3C `traceparent`), if its start came with one.
    pub traceparent: Option<Arc<str>>,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its last transition.
    pub updated_at: Timestamp,
    /// When it completed or was compensated.
    pub finished_at: Option<Timestamp>,
}

/// The time that a saga waited for participants that were held, where its definition says that its deadline stands still then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Uncounted {
    /// Since when the deadline stands still; `None`: it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// For how long it stood still before that, in milliseconds.
    #[serde(default)]
    pub ms: u64,
}

impl Uncounted {
    /// Whether it never stood still.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a saga is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A command is out. Left by its reply, by its timeout, by `cancel` or the deadline.
    Awaiting(Try),
    /// The last attempt failed or timed out, or the next was withheld. Left when `until` comes and the participant is asked, by
    /// `retry-now`, by a late reply, `cancel` or the deadline.
    Backoff {
        /// The attempt that comes next.
        next: Try,
        /// When it comes.
        until: Timestamp,
    },
    /// Nothing more can be done without an operator. Left by `redrive`, `skip`, a late reply, and where nothing is past
    /// undoing by `cancel`.
    Stuck {
        /// The attempt that was the last.
        at: Try,
        /// Why.
        cause: Refusal,
    },
    /// Every step succeeded. Final.
    Completed,
    /// Everything that was or may have been done is undone. Final.
    Compensated,
}

/// One attempt of one command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Try {
    /// Of which step.
    pub step: StepIndex,
    /// Doing or undoing it.
    pub direction: Direction,
    /// Which attempt.
    pub attempt: Attempt,
    /// How often an operator sent the command on its way anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redrive: u32,
    /// Whether an earlier attempt timed out, so that the command may have been carried out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub doubt: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Try {
    /// The first attempt of a command.
    pub const fn first(step: StepIndex, direction: Direction) -> Self {
        Self { step, direction, attempt: Attempt::FIRST, redrive: 0, doubt: false }
    }
}

/// What one step has come to.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// Where the step is.
    #[serde(rename = "s")]
    pub status: StepStatus,
    /// The last attempt made, in the direction last tried; 0 before the first.
    #[serde(rename = "a", default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// When its command was first decided.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it succeeded, was rejected or was undone.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The last refusal or failure.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// Where a step is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    #[default]
    Pending,
    /// Its command is out, or will be tried again.
    Running,
    /// It is done.
    Succeeded,
    /// Business refused it, or it could not be done: nothing happened.
    Rejected,
    /// It may have happened; it will be undone.
    InDoubt,
    /// Its compensation is out, or will be tried again.
    Compensating,
    /// It is undone.
    Compensated,
    /// It waits for an operator.
    Stuck,
}

impl StepStatus {
    /// As in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::InDoubt => "in_doubt",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Stuck => "stuck",
        }
    }
}

/// A saga's status, as the API shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Going forward.
    Running,
    /// Undoing.
    Compensating,
    /// Waiting for an operator.
    Stuck,
    /// Ended: all done.
    Completed,
    /// Ended: all undone.
    Compensated,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Compensating, Self::Stuck, Self::Completed, Self::Compensated];

    /// As in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing can happen any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }
}

/// A participant's or our own "no": a stable code for programs, a message for people.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable, e.g. `payment_declined`.
    pub code: Arc<str>,
    /// For people.
    #[serde(default)]
    pub message: Arc<str>,
}

impl Refusal {
    /// From its two texts.
    pub fn new(code: &str, message: impl AsRef<str>) -> Self {
        Self { code: code.into(), message: message.as_ref().into() }
    }
}

/// Why a saga compensates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// What was said.
    #[serde(flatten)]
    pub refusal: Refusal,
    /// At which step; `None` for a cancel or a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepIndex>,
}

/// Everything that can happen to a saga. Written to the journal; replaying it gives the saga again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// It began, with this input.
    Started {
        /// The input's fields.
        input: Data,
        /// The client's own name for it.
        #[serde(default, rename = "businessKey", skip_serializing_if = "Option::is_none")]
        business_key: Option<Arc<str>>,
        /// The trace it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<Arc<str>>,
    },
    /// A participant answered.
    Replied {
        /// Which command.
        #[serde(rename = "commandId")]
        command_id: CommandId,
        /// Which sending of the command, where that matters and the participant says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        echo: Option<Echo>,
        /// What it said.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// No answer came in time to this attempt.
    TimedOut(Try),
    /// The back-off before this attempt is over.
    RetryDue(Try),
    /// The whole saga took too long.
    DeadlinePassed,
    /// It waits for a participant that is held, with a command that is out or a back-off that is over: its deadline stands
    /// still, as its definition says. (Of a command that is withheld, `Withheld` says it.)
    DeadlineStopped,
    /// It waits for its participant's answer only: its deadline goes on.
    DeadlineResumed,
    /// This attempt's command cannot be built or sent, however often it is tried.
    Unsendable {
        /// Which attempt.
        #[serde(flatten)]
        attempt: Try,
        /// Why.
        cause: Refusal,
    },
    /// This attempt's command was not handed out: its participant is held, as it does not answer. The attempt comes when the
    /// participant is asked again, and counts then.
    Withheld(Try),
    /// The database refused this saga's own rows; it is parked so that its neighbours can go on.
    Quarantined {
        /// What the database said.
        cause: Refusal,
    },
    /// A dead letter of this saga was sent again by an operator.
    LetterRedriven {
        /// Which letter.
        #[serde(rename = "deadLetterId")]
        letter: DeadLetterId,
        /// The operator's reason.
        reason: Arc<str>,
    },
    /// An operator: stop going forward, compensate.
    Cancel {
        /// The operator's reason.
        reason: Arc<str>,
    },
    /// An operator: try the stuck command again, attempts from 1.
    Redrive {
        /// The operator's reason.
        reason: Arc<str>,
        /// Values for the command's fields in place of the saga's data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Data>,
    },
    /// An operator: take the stuck step or compensation as done.
    Skip {
        /// The operator's reason.
        reason: Arc<str>,
    },
    /// An operator: do not wait for the back-off.
    RetryNow {
        /// The operator's reason.
        reason: Arc<str>,
    },
}

/// Which sending of a command a reply answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// The attempt.
    pub attempt: Attempt,
    /// The `redrive`.
    pub redrive: u32,
}

/// A reply's outcome.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Done; the fields join the saga's data.
    Succeeded {
        /// The reply's fields.
        fields: Data,
    },
    /// Business refused; nothing happened.
    Rejected {
        /// What it said.
        refusal: Refusal,
    },
    /// Nothing happened; try again.
    Failed {
        /// What it said.
        refusal: Refusal,
    },
}

/// Everything the core can ask for. Carried out only after the transition is committed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Effect {
    /// Publish this attempt's command. Its timeout runs from the confirmed publication.
    Send(Try),
    /// Tell everyone that the saga began.
    AnnounceStart,
    /// Tell everyone that the saga ended.
    AnnounceEnd {
        /// Completed or compensated.
        status: Status,
    },
    /// Keep (or reopen) the dead letter of this command: the saga is stuck on it.
    DeadLetter {
        /// The attempt that was the last.
        #[serde(flatten)]
        attempt: Try,
        /// Why.
        cause: Refusal,
    },
    /// An operator sent the saga on its way again: this letter's outcome is to be seen.
    RedriveLetter {
        /// Which.
        letter: DeadLetterId,
    },
    /// The same, and a copy of this letter's record is to be published.
    SendLetter {
        /// Which.
        letter: DeadLetterId,
    },
    /// The saga moved on: these letters are resolved.
    ResolveLetters {
        /// Which.
        letters: Vec<DeadLetterId>,
    },
    /// The saga is stuck again: these letters did not help and are open again.
    ReopenLetters {
        /// Which.
        letters: Vec<DeadLetterId>,
    },
}

impl Saga {
    /// The status the API shows.
    pub fn status(&self) -> Status {
        match &self.state {
            State::Completed => Status::Completed,
            State::Compensated => Status::Compensated,
            State::Stuck { .. } => Status::Stuck,
            State::Awaiting(at) | State::Backoff { next: at, .. } => match at.direction {
                Direction::Forward => Status::Running,
                Direction::Compensation => Status::Compensating,
            },
        }
    }

    /// When it is cancelled; `None` if its deadline stands still, and where it has ended or compensates.
    pub fn deadline(&self, definition: &Definition) -> Option<Timestamp> {
        let forward = self.current().is_some_and(|at| at.direction == Direction::Forward);
        let runs = forward && self.uncounted.since.is_none();
        let wait = definition.deadline.saturating_add(Duration::from_millis(self.uncounted.ms));
        runs.then(|| self.started_at.after(wait))
    }

    /// The command it is at: out, waiting to be tried again, or stuck. `None` when it has ended.
    pub const fn current(&self) -> Option<Try> {
        match &self.state {
            State::Awaiting(at) | State::Backoff { next: at, .. } | State::Stuck { at, .. } => Some(*at),
            State::Completed | State::Compensated => None,
        }
    }
}
