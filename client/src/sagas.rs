//! Sagas of any definition.

use std::time::Duration;

use reqwest::header::IF_MATCH;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use crate::act::Act;
use crate::call::Call;
use crate::error::Error;
use crate::events::{Events, Kind, SagaEvent};
use crate::http::Client;
use crate::ids::SagaId;
use crate::page::{Page, Pages, Paging};
use crate::why::{Causes, Why};
use crate::words::words;

/// The name of the events that are transitions.
const TRANSITION: &str = "transition";
/// Entries of the pages that [`Sagas::pages`] asks for.
const PAGE: u32 = 200;
/// Longer than anybody waits, and no clock ends before.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Between two looks at a saga where there is nothing to listen to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

words! {
    /// Where a saga is.
    pub enum SagaStatus {
        /// Going forward.
        Running = "running",
        /// Undoing.
        Compensating = "compensating",
        /// Waiting for an operator.
        Stuck = "stuck",
        /// Ended: all done.
        Completed = "completed",
        /// Ended: all undone.
        Compensated = "compensated",
    }
}

impl SagaStatus {
    /// Whether the saga has ended and never moves again.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }

    /// Whether the saga moves no further by itself: it has ended, or waits for an operator.
    pub const fn is_settled(&self) -> bool {
        self.is_final() || matches!(self, Self::Stuck)
    }
}

words! {
    /// Where a step is.
    pub enum StepStatus {
        /// Not begun.
        Pending = "pending",
        /// Its command is out, or will be tried again.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Refused: nothing happened.
        Rejected = "rejected",
        /// It may have happened; it will be undone.
        InDoubt = "in_doubt",
        /// Its compensation is out, or will be tried again.
        Compensating = "compensating",
        /// Undone.
        Compensated = "compensated",
        /// Waiting for an operator.
        Stuck = "stuck",
    }
}

words! {
    /// What may become of a step.
    pub enum StepKind {
        /// It can be undone.
        Compensatable = "compensatable",
        /// The last one that may be refused; never undone.
        Pivot = "pivot",
        /// It only goes forward.
        Retriable = "retriable",
    }
}

/// Why a saga compensates or waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, for programs, e.g. `payment_declined`.
    pub code: String,
    /// For people.
    pub message: String,
    /// At which step; none for a cancel or a deadline.
    pub step: Option<String>,
}

/// The last refusal or failure of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// One step of a saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Unique in the definition.
    pub name: String,
    /// What may become of it.
    pub kind: StepKind,
    /// Who performs it.
    pub participant: String,
    /// Where it is.
    pub status: StepStatus,
    /// The last attempt in the direction last tried; 0 before the first.
    pub attempt: u32,
    /// The idempotency key of the command last sent.
    pub command_id: Option<Uuid>,
    /// When its first command was sent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it came to an end.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// Its last refusal or failure.
    pub error: Option<StepError>,
}

/// One saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saga {
    /// Its id.
    pub saga_id: SagaId,
    /// Its definition's name.
    pub definition: String,
    /// Its definition's version.
    pub version: u32,
    /// Whoever started it calls it so.
    pub business_key: Option<String>,
    /// Where it is.
    pub status: SagaStatus,
    /// Why it compensates, or why it is stuck; none while it goes forward.
    pub reason: Option<Reason>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// The input's fields and those of every reply.
    pub data: Map<String, Value>,
    /// How many transitions it has made.
    pub revision: u32,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it last moved.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// When it ended.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// The next timeout, retry or deadline.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub next_wake_at: Option<OffsetDateTime>,
}

/// One transition of a saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryItem {
    /// The saga's revision afterwards.
    pub revision: u32,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What happened: its `type`, and what belongs to it.
    pub event: Map<String, Value>,
    /// What was to be done about it, each with its `type`.
    pub effects: Vec<Map<String, Value>>,
    /// The saga's status afterwards.
    pub status: SagaStatus,
}

/// A saga that is asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartSaga {
    definition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    business_key: Option<String>,
    input: Value,
    #[serde(skip)]
    key: Option<String>,
    #[serde(skip)]
    wait: Option<Duration>,
}

impl StartSaga {
    /// Of the newest version of this definition, with an empty input.
    pub fn of(definition: impl Into<String>) -> Self {
        Self {
            definition: definition.into(),
            version: None,
            business_key: None,
            input: Value::Object(Map::new()),
            key: None,
            wait: None,
        }
    }

    /// Of this version.
    #[must_use]
    pub const fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// The fields of the definition's input record: an object.
    #[must_use]
    pub fn input(mut self, input: impl Into<Value>) -> Self {
        self.input = input.into();
        self
    }

    /// Your own name for the saga, to find it again; up to 255 characters.
    #[must_use]
    pub fn business_key(mut self, key: impl Into<String>) -> Self {
        self.business_key = Some(key.into());
        self
    }

    /// The same key with the same request starts one saga. Without one the client draws its own, which is known to
    /// nobody afterwards.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The service answers when the saga has ended, at most so much later; whole seconds, up to 30.
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// Which sagas; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SagaFilter {
    /// Of this definition.
    pub definition: Option<String>,
    /// In this status.
    pub status: Option<SagaStatus>,
    /// At this step.
    pub step: Option<String>,
    /// Of this business key.
    pub business_key: Option<String>,
    /// Started later than this.
    pub started_after: Option<OffsetDateTime>,
    /// Started earlier than this.
    pub started_before: Option<OffsetDateTime>,
}

/// What can be done with sagas: [`Client::sagas`].
#[derive(Clone, Debug)]
pub struct Sagas(pub(crate) Client);

impl Sagas {
    /// Starts a saga. It is durable when this returns.
    ///
    /// # Errors
    /// It is refused, or whether it was started is not known.
    pub async fn start(&self, saga: &StartSaga) -> Result<Saga, Error> {
        let call = Call::post("/api/sagas", saga.key.as_deref()).prefer_wait(saga.wait).json(saga)?;
        self.0.json(call).await
    }

    /// A page of sagas, newest first.
    ///
    /// # Errors
    /// The filter is refused, or there is no answer.
    pub async fn list(&self, filter: &SagaFilter, paging: &Paging) -> Result<Page<Saga>, Error> {
        let call = Call::get("/api/sagas")
            .query("definition", filter.definition.as_ref())
            .query("status", filter.status.as_ref())
            .query("step", filter.step.as_ref())
            .query("businessKey", filter.business_key.as_ref())
            .query("startedAfter", moment(filter.started_after)?)
            .query("startedBefore", moment(filter.started_before)?)
            .query("limit", paging.limit)
            .query("cursor", paging.cursor.as_ref());
        self.0.json(call).await
    }

    /// All sagas, newest first, page by page.
    pub fn pages(&self, filter: &SagaFilter) -> Pages<Saga> {
        let (sagas, filter) = (self.clone(), filter.clone());
        Pages::new(PAGE, move |paging| {
            let (sagas, filter) = (sagas.clone(), filter.clone());
            Box::pin(async move { sagas.list(&filter, &paging).await })
        })
    }

    /// One saga.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn get(&self, saga: SagaId) -> Result<Saga, Error> {
        self.0.json(Call::get("/api/sagas/{sagaId}").at(saga)).await
    }

    /// Waits until a saga has ended or is stuck, at most for `limit`; the saga as it was last seen. It listens to the saga's
    /// events, and where there are none to listen to, because the service has no room or is older or a proxy lets no
    /// stream through, it looks every second.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn settled(&self, saga: SagaId, limit: Duration) -> Result<Saga, Error> {
        let until = Instant::now() + limit.min(LONGEST_WAIT);
        let seen = self.get(saga).await?;
        if seen.status.is_settled() {
            return Ok(seen);
        }
        let mut events = self.watch(saga, Some(seen.revision));
        let settles = async {
            while let Some(told) = events.next().await? {
                if told.status.is_settled() {
                    break;
                }
            }
            Ok(())
        };
        match timeout_at(until, settles).await {
            Ok(Err(error @ Error::Unreachable { .. })) => Err(error),
            Ok(Err(_)) => self.looked_at(saga, until).await,
            Ok(Ok(())) | Err(_) => self.get(saga).await,
        }
    }

    /// Looks at it again and again until it has ended or is stuck, or the time is over.
    async fn looked_at(&self, saga: SagaId, until: Instant) -> Result<Saga, Error> {
        loop {
            let (seen, now) = (self.get(saga).await?, Instant::now());
            if seen.status.is_settled() || now >= until {
                return Ok(seen);
            }
            // Nobody tells when it moves.
            sleep_until(until.min(now + LOOK_EVERY)).await;
        }
    }

    /// A page of a saga's transitions, in order.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn history(&self, saga: SagaId, paging: &Paging) -> Result<Page<HistoryItem>, Error> {
        let call = Call::get("/api/sagas/{sagaId}/history")
            .at(saga)
            .query("limit", paging.limit)
            .query("cursor", paging.cursor.as_ref());
        self.0.json(call).await
    }

    /// What it waits for: which reply, since when, which attempt, what happens next and when, where the command lies.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn why(&self, saga: SagaId) -> Result<Why, Error> {
        self.0.json(Call::get("/api/sagas/{sagaId}/why").at(saga)).await
    }

    /// What everything open waits for, counted by cause.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn causes(&self) -> Result<Causes, Error> {
        self.0.json(Call::get("/api/why")).await
    }

    /// Every transition of a saga as it is committed, until it has ended; only those after this revision, if one is given.
    pub fn watch(&self, saga: SagaId, after: Option<u32>) -> Events<SagaEvent> {
        let call = Call::get("/api/sagas/{sagaId}/events").at(saga);
        let kind = Kind { name: TRANSITION, is_last: |told: &SagaEvent| told.status.is_final() };
        Events::new(self.0.clone(), call, kind, after.map(|revision| revision.to_string()))
    }

    /// Every transition of every saga as it is committed: of this definition, into this status. From now on, or after the
    /// event of this id ([`Events::last_event_id`]).
    pub fn watch_all(
        &self,
        definition: Option<&str>,
        status: Option<&SagaStatus>,
        last_event_id: Option<String>,
    ) -> Events<SagaEvent> {
        let call = Call::get("/api/sagas/events").query("definition", definition).query("status", status);
        Events::new(self.0.clone(), call, Kind { name: TRANSITION, is_last: |_| false }, last_event_id)
    }

    /// The same as a picture (SVG), with each step in the colour of its status.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn svg(&self, saga: SagaId) -> Result<String, Error> {
        let call = Call::get("/api/sagas/{sagaId}/diagram").at(saga).query("format", Some("svg"));
        self.0.text(call).await
    }

    /// The definition as a Mermaid flowchart, with the saga's place in it.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn mermaid(&self, saga: SagaId) -> Result<String, Error> {
        let call = Call::get("/api/sagas/{sagaId}/diagram").at(saga).query("format", Some("mermaid"));
        self.0.text(call).await
    }

    /// Stops going forward and compensates.
    ///
    /// # Errors
    /// It is not possible in the saga's state, or whether it was done is not known.
    pub async fn cancel(&self, saga: SagaId, act: &Act) -> Result<Saga, Error> {
        self.act("/api/sagas/{sagaId}/cancel", saga, act).await
    }

    /// A stuck saga tries its command again, attempts from 1.
    ///
    /// # Errors
    /// As [`Sagas::cancel`].
    pub async fn redrive(&self, saga: SagaId, act: &Act) -> Result<Saga, Error> {
        self.act("/api/sagas/{sagaId}/redrive", saga, act).await
    }

    /// Takes the stuck step or compensation as done.
    ///
    /// # Errors
    /// As [`Sagas::cancel`].
    pub async fn skip(&self, saga: SagaId, act: &Act) -> Result<Saga, Error> {
        self.act("/api/sagas/{sagaId}/skip", saga, act).await
    }

    /// Does not wait for the back-off.
    ///
    /// # Errors
    /// As [`Sagas::cancel`].
    pub async fn retry_now(&self, saga: SagaId, act: &Act) -> Result<Saga, Error> {
        self.act("/api/sagas/{sagaId}/retry-now", saga, act).await
    }

    async fn act(&self, route: &'static str, saga: SagaId, act: &Act) -> Result<Saga, Error> {
        let mut call = Call::post(route, act.key.as_deref()).at(saga).json(act)?;
        if let Some(revision) = act.revision {
            call = call.header(IF_MATCH, format!("\"{revision}\""));
        }
        self.0.json(call).await
    }
}

/// A moment as the query takes it.
pub(crate) fn moment(at: Option<OffsetDateTime>) -> Result<Option<String>, Error> {
    let text = at.map(|at| at.format(&Rfc3339)).transpose();
    text.map_err(|error| Error::Invalid(format!("a moment cannot be written: {error}")))
}
