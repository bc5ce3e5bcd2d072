//! What sagas wait for.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ids::{DeadLetterId, SagaId};
use crate::participants::ParticipantState;
use crate::sagas::SagaStatus;
use crate::words::words;

words! {
    /// What a saga waits for.
    pub enum WaitsFor {
        /// A participant's reply.
        Reply = "reply",
        /// The end of a back-off.
        Retry = "retry",
        /// A participant that is asked nothing at the moment.
        Participant = "participant",
        /// An operator.
        Operator = "operator",
        /// Nothing: it has ended.
        Nothing = "nothing",
    }
}

words! {
    /// What will happen to a saga by itself.
    pub enum UpcomingKind {
        /// The reply did not come in time.
        Timeout = "timeout",
        /// The command is sent again.
        Retry = "retry",
        /// The whole saga took too long.
        Deadline = "deadline",
    }
}

/// Where a command lies that is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandPlace {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset; none where that is not known.
    pub offset: Option<i64>,
    /// Whether the broker has it; none: nobody can say.
    pub published: Option<bool>,
    /// Why something here is not known.
    pub because: Option<String>,
}

/// How far a participant is in its commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantGroup {
    /// The consumer group.
    pub group: String,
    /// Whether it has passed the command, so that the reply is on its way, or lost; none: that cannot be said.
    pub passed: Option<bool>,
    /// The next offset that it reads.
    pub committed_offset: Option<i64>,
    /// The offset of the next record to come.
    pub end_offset: Option<i64>,
    /// How many records come before the command.
    pub ahead: Option<i64>,
    /// Why something here is not known.
    pub because: Option<String>,
}

/// The command that a saga is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AwaitedCommand {
    /// Of which step.
    pub step: String,
    /// Who performs it.
    pub participant: String,
    /// `forward` or `compensation`.
    pub direction: String,
    /// Its idempotency key.
    pub command_id: Uuid,
    /// The Avro record that is sent.
    pub message_type: String,
    /// The Avro record that a success answers with; none for a compensation, which may be answered with any.
    pub reply_type: Option<String>,
    /// Which attempt; while it waits to try again, the one that comes.
    pub attempt: u32,
    /// How many there are at most.
    pub max_attempts: u32,
    /// How often an operator sent it on its way anew.
    pub redrives: u32,
    /// Whether an earlier attempt timed out, so that it may have been carried out.
    pub in_doubt: bool,
    /// Where it lies; none where it is not out.
    pub place: Option<CommandPlace>,
    /// How far the participant is; none where it is not out.
    pub group: Option<ParticipantGroup>,
    /// The dead letter that it became.
    pub dead_letter_id: Option<DeadLetterId>,
}

/// Something that will happen by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upcoming {
    /// What.
    pub what: UpcomingKind,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What follows, e.g. `back off 200ms` or `undo reserve-booking #1`.
    pub then: String,
}

/// A command that is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemainingStep {
    /// Of which step.
    pub step: String,
    /// Who performs it.
    pub participant: String,
    /// `forward` or `compensation`.
    pub direction: String,
}

/// Something that an operator may do, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PossibleVerb {
    /// `cancel`, `redrive`, `skip` or `retry-now`.
    pub verb: String,
    /// Whether it is possible now.
    pub possible: bool,
    /// What follows; where it is not possible, why.
    pub then: String,
}

/// An error, and at which step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// At which step.
    pub step: String,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A participant that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldParticipant {
    /// Which.
    pub participant: String,
    /// How it is.
    pub state: ParticipantState,
    /// Why: `silence`, `failures` or `operator`.
    pub cause: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// How many sagas wait for it.
    pub waiting: u64,
    /// When one command is let through to it next.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub next_probe_at: Option<OffsetDateTime>,
}

/// What a saga waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The saga.
    pub saga_id: SagaId,
    /// Its definition's name.
    pub definition: String,
    /// Its definition's version.
    pub version: u32,
    /// Where it is.
    pub status: SagaStatus,
    /// How many transitions it has made.
    pub revision: u32,
    /// Everything below in a sentence.
    pub summary: String,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// The participant of its command, where that is asked nothing at the moment.
    pub held: Option<HeldParticipant>,
    /// The command that it is at; none when it has ended.
    pub command: Option<AwaitedCommand>,
    /// What happens next by itself; none: nothing, or it is not known when.
    pub next: Option<Upcoming>,
    /// All that will happen by itself if nothing comes before, in order.
    pub upcoming: Vec<Upcoming>,
    /// What was said last: of the current step, or why it compensates or is stuck.
    pub last_error: Option<LastError>,
    /// The commands that come after the current one, if nothing goes wrong.
    pub remaining: Vec<RemainingStep>,
    /// What an operator may do now.
    pub verbs: Vec<PossibleVerb>,
    /// When this was so.
    #[serde(with = "time::serde::rfc3339")]
    pub as_of: OffsetDateTime,
}

/// Open sagas that wait for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// Of this definition.
    pub definition: String,
    /// At this step.
    pub step: String,
    /// Who performs it.
    pub participant: String,
    /// `forward` or `compensation`.
    pub direction: String,
    /// What they wait for.
    pub waits_for: WaitsFor,
    /// Where they are.
    pub status: SagaStatus,
    /// What was said last, as a stable code; none: nothing went wrong so far.
    pub error: Option<String>,
    /// How many sagas.
    pub sagas: u64,
    /// Since when the oldest of them has not moved.
    #[serde(with = "time::serde::rfc3339")]
    pub oldest: OffsetDateTime,
    /// That one.
    pub oldest_saga_id: SagaId,
}

/// What everything open waits for, most sagas first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Causes {
    /// The causes.
    pub causes: Vec<Cause>,
    /// Open sagas that were counted.
    pub counted: u64,
    /// Whether all open sagas were.
    pub complete: bool,
    /// What was not counted; none: nothing.
    pub not_counted: Option<String>,
    /// When this was so.
    #[serde(with = "time::serde::rfc3339")]
    pub as_of: OffsetDateTime,
}
