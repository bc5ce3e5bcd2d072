//! A saga as its row: what is queried stands in columns, the rest in one JSON body.

use std::sync::Arc;

use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{DeadLetterId, DefinitionRef, Revision, SagaId};
use saga_defs::saga::{Reason, Saga, State, StepRecord, Uncounted};
use saga_defs::time::Timestamp;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// What most bodies have room in, and most events: a text that grows is copied.
const BODY_BYTES: usize = 1024;
const EVENT_BYTES: usize = 256;

/// The `body` column of a saga row, as it is read.
#[derive(Deserialize)]
pub struct SagaBody {
    /// Where the saga is.
    pub state: State,
    /// Its steps.
    pub steps: Vec<StepRecord>,
    /// Its data.
    pub data: Arc<Data>,
    /// Why it compensates.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// An operator's values for the current command.
    #[serde(default)]
    pub correction: Option<Arc<Data>>,
    /// Letters whose outcome is to be seen.
    #[serde(default)]
    pub redriven: Vec<DeadLetterId>,
    /// The time that does not count towards its deadline.
    #[serde(default)]
    pub uncounted: Uncounted,
    /// The client's trace.
    #[serde(default)]
    pub traceparent: Option<Arc<str>>,
}

#[derive(Serialize)]
struct BodyView<'a> {
    state: &'a State,
    steps: &'a [StepRecord],
    data: &'a Data,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correction: Option<&'a Data>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    redriven: &'a [DeadLetterId],
    #[serde(skip_serializing_if = "Uncounted::is_nothing")]
    uncounted: Uncounted,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

/// The `body` column of this saga.
pub fn body_of(saga: &Saga) -> String {
    let view = BodyView {
        state: &saga.state,
        steps: &saga.steps,
        data: &saga.data,
        reason: saga.reason.as_ref(),
        correction: saga.correction.as_deref(),
        redriven: &saga.redriven,
        uncounted: saga.uncounted,
        traceparent: saga.traceparent.as_deref(),
    };
    json_in(BODY_BYTES, &view)
}

/// JSON text of our own types, which always have one: no map has keys that are not strings.
pub fn json(value: &impl Serialize) -> String {
    json_in(EVENT_BYTES, value)
}

fn json_in(usual_bytes: usize, value: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(usual_bytes);
    let written = serde_json::to_writer(&mut text, value);
    written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_else(|| "null".to_owned())
}

/// The columns of a saga row.
pub struct SagaRow {
    /// `id`
    pub id: Uuid,
    /// `definition`
    pub definition: String,
    /// `version`
    pub version: i32,
    /// `business_key`
    pub business_key: Option<String>,
    /// `revision`
    pub revision: i32,
    /// `started_at`
    pub started_at: OffsetDateTime,
    /// `updated_at`
    pub updated_at: OffsetDateTime,
    /// `finished_at`
    pub finished_at: Option<OffsetDateTime>,
    /// `body`
    pub body: String,
}

/// A saga row that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the row of saga {saga} cannot be read: its body is not what this version writes")]
pub struct RowError {
    /// Whose row.
    pub saga: SagaId,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

/// The saga of a row.
///
/// # Errors
/// When the body was written by another version, or by hand.
pub fn saga_from_row(row: SagaRow) -> Result<Saga, RowError> {
    let id = SagaId::from_uuid(row.id);
    let body: SagaBody = serde_json::from_str(&row.body).map_err(|source| RowError { saga: id, source })?;
    Ok(Saga {
        id,
        definition: DefinitionRef {
            name: row.definition.into(),
            version: u32::try_from(row.version).unwrap_or_default(),
        },
        business_key: row.business_key.map(Into::into),
        revision: Revision(u32::try_from(row.revision).unwrap_or_default()),
        state: body.state,
        steps: body.steps,
        data: body.data,
        reason: body.reason,
        correction: body.correction,
        redriven: body.redriven,
        uncounted: body.uncounted,
        traceparent: body.traceparent,
        started_at: Timestamp::from_utc(row.started_at),
        updated_at: Timestamp::from_utc(row.updated_at),
        finished_at: row.finished_at.map(Timestamp::from_utc),
    })
}

/// The name of the step a saga is at, for its row's `step` column.
pub fn current_step<'a>(definition: &'a Definition, saga: &Saga) -> Option<&'a Arc<str>> {
    saga.current().and_then(|at| definition.step(at.step)).map(|step| &step.name)
}
