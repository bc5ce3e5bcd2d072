//! Words that answers have in more than one place, as the document lists them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::participants::board::State;
use crate::why::For;

/// What a saga waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WaitsFor)]
pub(crate) enum WaitsForView {
    /// A participant's reply.
    Reply,
    /// The end of a back-off.
    Retry,
    /// A participant that is asked nothing at the moment.
    Participant,
    /// An operator.
    Operator,
    /// Nothing: it has ended.
    Nothing,
}

impl From<For> for WaitsForView {
    fn from(what: For) -> Self {
        match what {
            For::Reply => Self::Reply,
            For::Retry => Self::Retry,
            For::Participant => Self::Participant,
            For::Operator => Self::Operator,
            For::Nothing => Self::Nothing,
        }
    }
}

/// What will happen to a saga by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UpcomingKind)]
pub(crate) enum UpcomingKindView {
    /// The reply did not come in time.
    Timeout,
    /// The command is sent again.
    Retry,
    /// The whole saga took too long.
    Deadline,
}

impl UpcomingKindView {
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "timeout" => Self::Timeout,
            "deadline" => Self::Deadline,
            _ => Self::Retry,
        }
    }
}

/// How a participant is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ParticipantState)]
pub(crate) enum ParticipantStateView {
    /// It is asked.
    Answering,
    /// It does not answer, and is sent a probe now and then.
    Held,
    /// An operator said that it is asked nothing.
    Paused,
    /// It comes back, and is asked a little more each second.
    Ramping,
}

impl From<State> for ParticipantStateView {
    fn from(state: State) -> Self {
        match state {
            State::Answering => Self::Answering,
            State::Held => Self::Held,
            State::Paused => Self::Paused,
            State::Ramping => Self::Ramping,
        }
    }
}
