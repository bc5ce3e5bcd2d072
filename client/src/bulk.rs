//! Acts on many at a pace: redrives of dead letters, and verbs on sagas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::act::Act;
use crate::call::Call;
use crate::dead_letters::DeadLetterFilter;
use crate::error::Error;
use crate::events::{Events, Kind};
use crate::http::Client;
use crate::ids::{BulkActionId, DeadLetterId, GroupId, SagaId};
use crate::page::{Page, Paging};
use crate::sagas::{SagaFilter, moment};
use crate::words::words;

words! {
    /// Where an act on many is.
    pub enum BulkStatus {
        /// It sends, or waits for outcomes before it sends more.
        Running = "running",
        /// Everything was sent.
        Completed = "completed",
        /// It stopped by itself; [`BulkAction::stop_reason`] says why.
        Stopped = "stopped",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
}

words! {
    /// What becomes of one of the selection.
    pub enum BulkOutcome {
        /// Nothing was done about it yet.
        Remaining = "remaining",
        /// It was sent, and has no outcome yet.
        Waiting = "waiting",
        /// It did what it was sent for.
        Succeeded = "succeeded",
        /// It failed again.
        FailedAgain = "failed_again",
        /// It was not sent.
        PassedOver = "passed_over",
        /// A dry run looked at it.
        Examined = "examined",
    }
}

words! {
    /// What is done to many sagas.
    pub enum SagaVerb {
        /// Stop going forward and compensate.
        Cancel = "cancel",
        /// Try the stuck command again.
        Redrive = "redrive",
        /// Take the stuck step or compensation as done.
        Skip = "skip",
        /// Do not wait for the back-off.
        RetryNow = "retry-now",
    }
}

/// Events that say how far an act on many is.
const PROGRESS: Kind<BulkAction> = Kind { name: "progress", is_last: |told| told.finished_at.is_some() };

/// What a dry run found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// How many match.
    pub matched: u32,
    /// How many of these were looked at so far.
    pub examined: u32,
    /// How many would be sent.
    pub would_send: u32,
    /// How many would not, by why, e.g. `saga_ended`.
    pub would_not_send: BTreeMap<String, u32>,
    /// Of letters: how many have a value, as it would be sent, that passes the newest version of its schema.
    pub passes_schema: u32,
    /// Of letters: how many have not.
    pub fails_schema: u32,
}

/// An act on many letters or sagas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkAction {
    /// Its id.
    pub id: BulkActionId,
    /// `redrive`, or what is done to sagas.
    pub action: String,
    /// Where it is.
    pub status: BulkStatus,
    /// Whether nothing is sent.
    pub dry_run: bool,
    /// Why, in the words of who asked for it.
    pub reason: String,
    /// Who asked for it.
    pub actor: String,
    /// What was selected.
    pub filter: Map<String, Value>,
    /// The merge patch for the letters' values.
    pub patch: Option<Map<String, Value>>,
    /// How many are sent in a second, at most.
    pub rate_per_second: u32,
    /// How many are sent in each of the first steps; the rest follows when these went well.
    pub ramp: Vec<u32>,
    /// How many were chosen when it was asked for.
    pub selected: u32,
    /// How many were sent.
    pub sent: u32,
    /// How many of these did what they were sent for: their saga moved on.
    pub succeeded: u32,
    /// How many of these failed again.
    pub failed_again: u32,
    /// How many of these have no outcome yet.
    pub waiting: u32,
    /// How many were not sent, by why.
    pub passed_over: BTreeMap<String, u32>,
    /// How many nothing was done about, so far or for good.
    pub remaining: u32,
    /// The step of the ramp, from 1; the rest is the last one.
    pub step: u32,
    /// What it waits for now.
    pub waits_for: Option<String>,
    /// Why it stopped by itself.
    pub stop_reason: Option<String>,
    /// What a dry run found; none of others.
    pub found: Option<DryRun>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When something last became of it.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// When nothing was left to send and everything sent had its outcome.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// What became of one of the selection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkItem {
    /// The letter, or the saga.
    pub id: Uuid,
    /// Its place in the selection, from 1.
    pub place: u32,
    /// What became of it.
    pub outcome: BulkOutcome,
    /// Why it was passed over, or what the dry run found.
    pub code: Option<String>,
    /// The same, for people.
    pub note: Option<String>,
    /// When.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub updated_at: Option<OffsetDateTime>,
}

/// Why many are acted on, and at which pace.
///
/// ```
/// use saga_client::Course;
///
/// let course = Course::because("the gateway is back").rate_per_second(200).ramp([1, 10, 100]);
/// # let _ = course;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_second: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ramp: Option<Vec<u32>>,
    dry_run: bool,
    #[serde(skip)]
    key: Option<String>,
}

impl Course {
    /// For this reason, which is kept in the audit; 1 to 1000 characters.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    /// At most so many in a second; 50 if it is left out.
    #[must_use]
    pub const fn rate_per_second(mut self, rate: u32) -> Self {
        self.rate_per_second = Some(rate);
        self
    }

    /// So many in each of the first steps, whose outcomes are waited for. Empty: no steps.
    #[must_use]
    pub fn ramp(mut self, steps: impl Into<Vec<u32>>) -> Self {
        self.ramp = Some(steps.into());
        self
    }

    /// The same key acts once. Without one the client draws its own.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same, which does nothing but say what would be; under a key of its own, for it is another request.
    fn dry(&self) -> Self {
        Self { dry_run: true, key: None, ..self.clone() }
    }
}

/// A redrive of many letters that is asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StartRedrive {
    filter: LetterChoice,
    #[serde(flatten)]
    course: Course,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct LetterChoice {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saga_id: Option<SagaId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<GroupId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<DeadLetterId>>,
}

impl StartRedrive {
    /// Of the open letters that match. An empty filter: of all open letters.
    pub fn of(filter: &DeadLetterFilter, course: Course) -> Self {
        let filter = LetterChoice {
            status: filter.status.as_ref().map(|status| status.as_str().to_owned()),
            reason: filter.reason.clone(),
            saga_id: filter.saga_id,
            group: filter.group,
            ids: None,
        };
        Self { filter, course, patch: None }
    }

    /// Only these of them.
    #[must_use]
    pub fn only(mut self, letters: impl Into<Vec<DeadLetterId>>) -> Self {
        self.filter.ids = Some(letters.into());
        self
    }

    /// A JSON merge patch (RFC 7396) for the value of each letter.
    #[must_use]
    pub fn patch(mut self, patch: Map<String, Value>) -> Self {
        self.patch = Some(patch);
        self
    }

    /// The same as a dry run: it does nothing, and says what would be.
    #[must_use]
    pub fn as_dry_run(&self) -> Self {
        Self { course: self.course.dry(), ..self.clone() }
    }
}

/// A verb on many sagas that is asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StartSagaAction {
    action: SagaVerb,
    filter: SagaChoice,
    #[serde(flatten)]
    course: Course,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct SagaChoice {
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    business_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<SagaId>>,
}

impl StartSagaAction {
    /// On the sagas that match. The filter has one condition at least, or [`StartSagaAction::only`]
    /// names the sagas.
    ///
    /// # Errors
    /// A moment of the filter cannot be written.
    pub fn of(verb: SagaVerb, filter: &SagaFilter, course: Course) -> Result<Self, Error> {
        let filter = SagaChoice {
            definition: filter.definition.clone(),
            status: filter.status.as_ref().map(|status| status.as_str().to_owned()),
            step: filter.step.clone(),
            business_key: filter.business_key.clone(),
            started_after: moment(filter.started_after)?,
            started_before: moment(filter.started_before)?,
            ids: None,
        };
        Ok(Self { action: verb, filter, course })
    }

    /// Only these of them.
    #[must_use]
    pub fn only(mut self, sagas: impl Into<Vec<SagaId>>) -> Self {
        self.filter.ids = Some(sagas.into());
        self
    }

    /// The same as a dry run: it does nothing, and says what would be.
    #[must_use]
    pub fn as_dry_run(&self) -> Self {
        Self { course: self.course.dry(), ..self.clone() }
    }
}

/// What can be done with redrives of many letters: [`Client::redrives`].
#[derive(Clone, Debug)]
pub struct Redrives(pub(crate) Client);

impl Redrives {
    /// Sends many letters again. Which ones is settled now; how it goes on is to be asked for.
    ///
    /// # Errors
    /// It is refused, or whether it was begun is not known.
    pub async fn start(&self, redrive: &StartRedrive) -> Result<BulkAction, Error> {
        self.0.json(Call::post("/api/redrives", redrive.course.key.as_deref()).json(redrive)?).await
    }

    /// A page of redrives, newest first.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn list(&self, paging: &Paging) -> Result<Page<BulkAction>, Error> {
        self.0.json(paged(Call::get("/api/redrives"), paging)).await
    }

    /// One redrive.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn get(&self, redrive: BulkActionId) -> Result<BulkAction, Error> {
        self.0.json(Call::get("/api/redrives/{id}").at(redrive)).await
    }

    /// How it goes on: as it is now, then each change of it, until everything has its outcome.
    pub fn watch(&self, redrive: BulkActionId) -> Events<BulkAction> {
        let call = Call::get("/api/redrives/{id}/events").at(redrive);
        Events::new(self.0.clone(), call, PROGRESS, None)
    }

    /// A page of what became of each letter, in order; only of this outcome.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn letters(
        &self,
        redrive: BulkActionId,
        outcome: Option<&BulkOutcome>,
        paging: &Paging,
    ) -> Result<Page<BulkItem>, Error> {
        let call = Call::get("/api/redrives/{id}/letters")
            .at(redrive)
            .query("outcome", outcome)
            .query("limit", paging.limit)
            .query("cursor", paging.cursor.as_ref());
        self.0.json(call).await
    }

    /// Sends nothing more. What was sent is followed to its end.
    ///
    /// # Errors
    /// It has ended already, or whether it was cancelled is not known.
    pub async fn cancel(&self, redrive: BulkActionId, act: &Act) -> Result<BulkAction, Error> {
        let call = Call::post("/api/redrives/{id}/cancel", act.key.as_deref()).at(redrive);
        self.0.json(call.json(act)?).await
    }
}

/// What can be done with verbs on many sagas: [`Client::saga_actions`].
#[derive(Clone, Debug)]
pub struct SagaActions(pub(crate) Client);

impl SagaActions {
    /// Does one verb to many sagas. Which ones is settled now; how it goes on is to be asked for.
    ///
    /// # Errors
    /// It is refused, or whether it was begun is not known.
    pub async fn start(&self, action: &StartSagaAction) -> Result<BulkAction, Error> {
        self.0.json(Call::post("/api/saga-actions", action.course.key.as_deref()).json(action)?).await
    }

    /// A page of actions, newest first.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn list(&self, paging: &Paging) -> Result<Page<BulkAction>, Error> {
        self.0.json(paged(Call::get("/api/saga-actions"), paging)).await
    }

    /// One action.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn get(&self, action: BulkActionId) -> Result<BulkAction, Error> {
        self.0.json(Call::get("/api/saga-actions/{id}").at(action)).await
    }

    /// How it goes on: as it is now, then each change of it, until everything has its outcome.
    pub fn watch(&self, action: BulkActionId) -> Events<BulkAction> {
        let call = Call::get("/api/saga-actions/{id}/events").at(action);
        Events::new(self.0.clone(), call, PROGRESS, None)
    }

    /// A page of what became of each saga, in order; only of this outcome.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn sagas(
        &self,
        action: BulkActionId,
        outcome: Option<&BulkOutcome>,
        paging: &Paging,
    ) -> Result<Page<BulkItem>, Error> {
        let call = Call::get("/api/saga-actions/{id}/sagas")
            .at(action)
            .query("outcome", outcome)
            .query("limit", paging.limit)
            .query("cursor", paging.cursor.as_ref());
        self.0.json(call).await
    }

    /// Does nothing more. What was done is followed to its end.
    ///
    /// # Errors
    /// It has ended already, or whether it was cancelled is not known.
    pub async fn cancel(&self, action: BulkActionId, act: &Act) -> Result<BulkAction, Error> {
        let call = Call::post("/api/saga-actions/{id}/cancel", act.key.as_deref()).at(action);
        self.0.json(call.json(act)?).await
    }
}

fn paged(call: Call, paging: &Paging) -> Call {
    call.query("limit", paging.limit).query("cursor", paging.cursor.as_ref())
}
