//! Sagas and bookings as they are sent. Wire types, apart from the inner ones and converted by hand: every key is always
//! there, `null` where there is nothing.

use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{CommandId, Direction, StepIndex};
use saga_defs::saga::{Refusal, Saga, State, Status, StepRecord, StepStatus};
use saga_defs::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// Where a saga is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SagaStatus)]
pub(crate) enum StatusView {
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

impl From<Status> for StatusView {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Compensating => Self::Compensating,
            Status::Stuck => Self::Stuck,
            Status::Completed => Self::Completed,
            Status::Compensated => Self::Compensated,
        }
    }
}

/// Where a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = StepStatus)]
pub(crate) enum StepStatusView {
    /// Not begun.
    Pending,
    /// Its command is out, or will be tried again.
    Running,
    /// Done.
    Succeeded,
    /// Refused: nothing happened.
    Rejected,
    /// It may have happened; it will be undone.
    InDoubt,
    /// Its compensation is out, or will be tried again.
    Compensating,
    /// Undone.
    Compensated,
    /// Waiting for an operator.
    Stuck,
}

impl From<StepStatus> for StepStatusView {
    fn from(status: StepStatus) -> Self {
        match status {
            StepStatus::Pending => Self::Pending,
            StepStatus::Running => Self::Running,
            StepStatus::Succeeded => Self::Succeeded,
            StepStatus::Rejected => Self::Rejected,
            StepStatus::InDoubt => Self::InDoubt,
            StepStatus::Compensating => Self::Compensating,
            StepStatus::Compensated => Self::Compensated,
            StepStatus::Stuck => Self::Stuck,
        }
    }
}

/// Why a saga compensates or waits.
#[derive(Serialize, ToSchema)]
#[schema(as = Reason)]
pub(crate) struct ReasonView {
    /// Stable, for programs, e.g. `payment_declined`.
    code: String,
    /// For people.
    message: String,
    /// At which step; null for a cancel or a deadline.
    #[schema(required)]
    step: Option<String>,
}

/// The last refusal or failure of a step.
#[derive(Serialize, ToSchema)]
#[schema(as = StepError)]
pub(crate) struct ErrorView {
    /// Stable, for programs.
    code: String,
    /// For people.
    message: String,
}

impl From<&Refusal> for ErrorView {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.code.to_string(), message: refusal.message.to_string() }
    }
}

/// One step of a saga.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Step)]
pub(crate) struct StepView {
    /// Unique in the definition.
    name: String,
    /// `compensatable`, `pivot` or `retriable`.
    kind: &'static str,
    /// Who performs it.
    participant: String,
    status: StepStatusView,
    /// The last attempt in the direction last tried; 0 before the first.
    attempt: u32,
    /// The idempotency key of the command last sent; null before the first.
    #[schema(required, format = Uuid)]
    command_id: Option<String>,
    #[schema(required, format = DateTime)]
    started_at: Option<String>,
    #[schema(required, format = DateTime)]
    finished_at: Option<String>,
    #[schema(required)]
    error: Option<ErrorView>,
}

/// One saga.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Saga)]
pub(crate) struct SagaView {
    #[schema(format = Uuid)]
    saga_id: String,
    /// Its definition's name.
    definition: String,
    version: u32,
    /// The client's own name for it.
    #[schema(required)]
    business_key: Option<String>,
    status: StatusView,
    /// Why it compensates, or why it is stuck; null while it goes forward.
    #[schema(required)]
    reason: Option<ReasonView>,
    steps: Vec<StepView>,
    /// The input's fields and those of every reply.
    #[schema(value_type = Object)]
    data: Data,
    /// How many transitions it has made.
    revision: u32,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(required, format = DateTime)]
    finished_at: Option<String>,
    /// The next timeout, retry or deadline.
    #[schema(required, format = DateTime)]
    next_wake_at: Option<String>,
}

impl SagaView {
    /// A saga as it is sent. Without its definition (which only happens if that was removed by hand) the steps' names
    /// are not known.
    pub(crate) fn of(saga: &Saga, definition: Option<&Definition>, wake_at: Option<Timestamp>) -> Self {
        let step = |(index, record): (usize, &StepRecord)| {
            step_view(saga, definition, StepIndex(u16::try_from(index).unwrap_or(u16::MAX)), record)
        };
        Self {
            saga_id: saga.id.to_string(),
            definition: saga.definition.name.to_string(),
            version: saga.definition.version,
            business_key: saga.business_key.as_deref().map(str::to_owned),
            status: saga.status().into(),
            reason: reason_view(saga, definition),
            steps: saga.steps.iter().enumerate().map(step).collect(),
            data: (*saga.data).clone(),
            revision: saga.revision.0,
            started_at: saga.started_at.to_string(),
            updated_at: saga.updated_at.to_string(),
            finished_at: saga.finished_at.map(|at| at.to_string()),
            next_wake_at: wake_at.map(|at| at.to_string()),
        }
    }
}

/// The name of a step; `#n` when its definition is not known.
pub(crate) fn step_name(definition: Option<&Definition>, step: StepIndex) -> String {
    match definition.and_then(|definition| definition.step(step)) {
        Some(step) => step.name.to_string(),
        None => format!("#{}", step.0),
    }
}

/// Why a saga compensates; for one that is stuck going forward, why it is stuck.
fn reason_view(saga: &Saga, definition: Option<&Definition>) -> Option<ReasonView> {
    let (refusal, step) = match (&saga.reason, &saga.state) {
        (Some(reason), _) => (&reason.refusal, reason.step),
        (None, State::Stuck { at, cause }) => (cause, Some(at.step)),
        (None, _) => return None,
    };
    Some(ReasonView {
        code: refusal.code.to_string(),
        message: refusal.message.to_string(),
        step: step.map(|step| step_name(definition, step)),
    })
}

fn step_view(
    saga: &Saga,
    definition: Option<&Definition>,
    index: StepIndex,
    record: &StepRecord,
) -> StepView {
    let name = step_name(definition, index);
    let step = definition.and_then(|definition| definition.step(index));
    let command_id =
        direction(saga, index, record).map(|way| CommandId::derive(saga.id, &name, way).to_string());
    StepView {
        kind: step.map_or("unknown", |step| step.kind.as_str()),
        participant: step.map_or_else(String::new, |step| step.participant.to_string()),
        status: record.status.into(),
        attempt: record.attempt,
        command_id: command_id.filter(|_| step.is_some()),
        started_at: record.started_at.map(|at| at.to_string()),
        finished_at: record.finished_at.map(|at| at.to_string()),
        error: record.error.as_ref().map(ErrorView::from),
        name,
    }
}

/// Which way a step's last command went; `None` before the first.
fn direction(saga: &Saga, index: StepIndex, record: &StepRecord) -> Option<Direction> {
    match record.status {
        StepStatus::Pending => None,
        StepStatus::Compensating | StepStatus::Compensated => Some(Direction::Compensation),
        StepStatus::Stuck => saga.current().filter(|at| at.step == index).map(|at| at.direction),
        StepStatus::Running | StepStatus::Succeeded | StepStatus::Rejected | StepStatus::InDoubt => {
            Some(Direction::Forward)
        }
    }
}

/// Where a booking is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = BookingStatus)]
pub(crate) enum BookingStatusView {
    /// Accepted, not decided yet.
    Created,
    /// Paid and confirmed.
    Paid,
    /// Not to be: everything is undone.
    Cancelled,
}

impl From<Status> for BookingStatusView {
    fn from(status: Status) -> Self {
        match status {
            Status::Completed => Self::Paid,
            Status::Compensated => Self::Cancelled,
            Status::Running | Status::Compensating | Status::Stuck => Self::Created,
        }
    }
}

/// One booking: a saga of the definition `booking`, as a shop sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Booking)]
pub(crate) struct BookingView {
    /// The saga's id.
    #[schema(format = Uuid)]
    booking_id: String,
    #[schema(format = Uuid)]
    user_id: String,
    #[schema(format = Uuid)]
    resource_id: String,
    status: BookingStatusView,
    /// Why it was cancelled, e.g. `payment_declined`, `sold_out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl BookingView {
    pub(crate) fn of(saga: &Saga) -> Self {
        let field = |name: &str| {
            saga.data.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
        };
        let status = BookingStatusView::from(saga.status());
        let cancelled = status == BookingStatusView::Cancelled;
        let code = saga.reason.as_ref().map(|reason| reason.refusal.code.to_string());
        Self {
            booking_id: saga.id.to_string(),
            user_id: field("userId"),
            resource_id: field("resourceId"),
            status,
            reason: code.filter(|_| cancelled),
        }
    }
}
