//! Starting a saga, the same for both APIs: once per idempotency key, durable before the answer, and at the client's
//! wish answered when it has ended.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{Revision, SagaId};
use saga_defs::machine;
use saga_defs::saga::{Event, Saga};
use schemas::Catalog;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use warp::reply::Response;

use super::app::{App, etag};
use super::idempotency;
use super::preferences::Wait;
use super::problem::{Answer, FieldError, Kind, Problem, json};
use super::wire::BookingView;
use crate::engine::handle::{RequestKey, StartError, StartSaga, Waited};
use crate::store::queries::RecordedKey;

/// How often a saga that another process owns is looked at while a client waits for its end.
const POLL: Duration = Duration::from_millis(100);

/// Which of the two APIs asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Face {
    Booking,
    Saga,
}

/// A start that has been checked.
pub(crate) struct Start {
    pub(crate) face: Face,
    pub(crate) definition: Arc<Definition>,
    /// With every default filled in.
    pub(crate) input: Data,
    pub(crate) business_key: Option<Arc<str>>,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) key: Option<RequestKey>,
    pub(crate) wait: Option<Wait>,
}

/// Starts the saga, or repeats the answer that its key was given.
pub(crate) async fn start(app: &App, start: Start) -> Answer {
    let Start { face, definition, input, business_key, traceparent, key, wait } = start;
    let request = StartSaga { definition, input, business_key, traceparent, key };
    match app.api.engine.start(request).await {
        Ok(saga) => answer(app, face, key, wait, saga).await,
        Err(StartError::KeyTaken) => {
            let recorded = idempotency::taken(&app.api.reads, key.as_ref()).await?;
            repeat(app, face, key, wait, recorded).await
        }
        Err(StartError::Busy { retry_after }) => {
            // What was started before is answered all the same.
            if let Some(recorded) = idempotency::before(&app.api.reads, key.as_ref()).await? {
                return repeat(app, face, key, wait, recorded).await;
            }
            let text = "the orchestrator takes no starts at the moment: it has too much to do, or its database or \
                        its shards are away";
            Err(Problem::new(Kind::Busy, text).retry_after(retry_after))
        }
        Err(StartError::Refused { message }) => Err(Problem::new(Kind::Refused, message)),
        Err(StartError::Defect) => Err(Problem::defect()),
        Err(StartError::Stopping) => Err(Problem::stopping()),
    }
}

async fn answer(app: &App, face: Face, key: Option<RequestKey>, wait: Option<Wait>, begun: Saga) -> Answer {
    let id = begun.id;
    // An answer that is not the beginning cannot be worked out again, so it is kept.
    let mut keep = begun.revision != Revision(1);
    let mut saga = begun;
    if let Some(wait) = wait {
        saga = reached(app, saga, wait).await;
        keep = true;
    }
    let mut shown = body(app, face, &saga).await?;
    if let Some(key) = key.filter(|_| keep) {
        shown = kept(app, &key, shown).await;
    }
    let mut response = created(face, id, &shown);
    if let Some(wait) = wait {
        applied(&mut response, wait);
    }
    Ok(response)
}

/// The key has acted: its first answer again.
async fn repeat(
    app: &App,
    face: Face,
    key: Option<RequestKey>,
    wait: Option<Wait>,
    recorded: RecordedKey,
) -> Answer {
    let id = recorded.saga;
    if let Some(shown) = recorded.answer {
        let mut response = created(face, id, &shown);
        if let Some(wait) = wait {
            applied(&mut response, wait);
        }
        return Ok(response);
    }
    let begun = first(app, id).await?;
    answer(app, face, key, wait, begun).await
}

/// A saga as it was when its start was answered. Where its history is no longer kept: as it is now.
async fn first(app: &App, id: SagaId) -> Result<Saga, Problem> {
    let now = app.api.reads.saga(id).await?.ok_or_else(|| Problem::no_saga(id))?;
    let definition = app.definition(&now.saga.definition).await?;
    let began = app.api.reads.first_event(id).await?;
    match (definition, began) {
        (Some(definition), Some((at, Event::Started { input, business_key, traceparent }))) => {
            Ok(machine::start(&definition, id, &input, business_key, traceparent, at).saga)
        }
        _ => Ok(now.saga),
    }
}

/// Waits for the end; gives the saga as it is then, or as far as it came in the time.
async fn reached(app: &App, begun: Saga, wait: Wait) -> Saga {
    let id = begun.id;
    let waited = tokio::select! {
        waited = app.api.engine.wait_for_end(id, wait.left()) => waited,
        () = app.stop.cancelled() => Waited::NotYet,
    };
    match waited {
        Waited::Ended(saga) => *saga,
        Waited::NotYet => now(app, id).await.unwrap_or(begun),
        Waited::Unknown => watched(app, id, wait).await.unwrap_or(begun),
    }
}

/// Looks at the saga's row until it has ended or the time is over.
async fn watched(app: &App, id: SagaId, wait: Wait) -> Option<Saga> {
    loop {
        let seen = now(app, id).await;
        let ended = seen.as_ref().is_some_and(|seen| seen.status().is_final());
        if ended || app.stop.is_cancelled() || wait.left().is_zero() {
            return seen;
        }
        let next = (Instant::now() + POLL).min(wait.until);
        tokio::select! {
            () = sleep_until(next) => {}
            () = app.stop.cancelled() => {}
        }
    }
}

async fn now(app: &App, id: SagaId) -> Option<Saga> {
    app.api.reads.saga(id).await.ok()?.map(|stored| stored.saga)
}

/// Keeps the answer under its key; if another one is kept already, that one counts. If the database is away, this
/// answer is as good as any: the saga is what it is.
async fn kept(app: &App, key: &RequestKey, shown: Value) -> Value {
    match app.api.reads.record_answer(&key.key_hash, shown.clone()).await {
        Ok(true) => shown,
        Ok(false) => match app.api.reads.request_key(&key.key_hash).await {
            Ok(Some(RecordedKey { answer: Some(first), .. })) => first,
            Ok(_) | Err(_) => shown,
        },
        Err(_) => shown,
    }
}

async fn body(app: &App, face: Face, saga: &Saga) -> Result<Value, Problem> {
    let value = match face {
        Face::Booking => serde_json::to_value(BookingView::of(saga)),
        Face::Saga => serde_json::to_value(app.view(saga).await?),
    };
    value.map_err(|error| {
        tracing::error!(%error, "a saga could not be written as JSON");
        Problem::new(Kind::Internal, "the answer could not be written").of(saga.id)
    })
}

fn created(face: Face, id: SagaId, shown: &Value) -> Response {
    let mut response = json(StatusCode::CREATED, shown);
    let place = match face {
        Face::Booking => format!("/api/bookings/{id}"),
        Face::Saga => format!("/api/sagas/{id}"),
    };
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    if let (Face::Saga, Some(revision)) = (face, shown.get("revision").and_then(Value::as_u64)) {
        response.headers_mut().insert(header::ETAG, etag(revision));
    }
    response
}

fn applied(response: &mut Response, wait: Wait) {
    if let Ok(value) = HeaderValue::from_str(&format!("wait={}", wait.seconds)) {
        response.headers_mut().insert("preference-applied", value);
    }
}

/// Everything that is wrong with an input, each field below `prefix`.
pub(crate) fn input_errors(
    catalog: &Catalog,
    definition: &Definition,
    input: &Data,
    prefix: &str,
) -> Vec<FieldError> {
    let below = |problem| match prefix {
        "" => FieldError::plain(problem),
        prefix => FieldError::below(prefix, problem),
    };
    catalog.validate(&definition.input, input).iter().map(below).collect()
}

/// Adds the defaults of fields that the input leaves out: later steps take them from the saga's data.
pub(crate) fn with_defaults(catalog: &Catalog, definition: &Definition, mut input: Data) -> Data {
    for field in catalog.record(&definition.input).into_iter().flat_map(|shape| shape.fields()) {
        if let Some(default) = field.default().filter(|_| !input.contains_key(field.name())) {
            input.insert(field.name().to_owned(), default.clone());
        }
    }
    input
}
