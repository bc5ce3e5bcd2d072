//! The saga API: starting, listing and showing sagas of any definition.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{CommandId, Direction, SagaId, StepIndex};
use saga_defs::render::{mermaid, svg};
use saga_defs::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::app::{App, etag, saga_response};
use super::body::Body;
use super::document::{BodyProblems, NamedProblems, Problems, not_modified};
use super::fields::Fields;
use super::idempotency::request_key;
use super::mount::Asked;
use super::preferences::{FORCED_OUTCOMES, forced_not_allowed, traceparent, wait};
use super::problem::{Answer, FieldError, Problem, json, with_body};
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use super::start::{Face, Start, input_errors, start, with_defaults};
use super::strict_json::shown;
use super::wire::{SagaView, StatusView, step_name};
use crate::store::entities::journal;
use crate::store::queries::{SagaFilter, StoredSaga};

/// Characters of a business key: it is indexed.
const MAX_BUSINESS_KEY: usize = 255;
/// Transitions of one page of a history, unless the client asks for fewer. A saga seldom has more than a few dozen.
const HISTORY_LIMIT: u64 = 5_000;
/// A name in a request longer than this is none of ours.
const MAX_NAME: usize = 200;

/// A saga that is asked for.
#[derive(ToSchema)]
#[schema(as = StartSaga, rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct StartSagaRequest {
    /// The definition's name.
    definition: String,
    /// Its version; the newest if it is left out.
    #[schema(minimum = 1)]
    version: Option<i64>,
    /// The client's own name for the saga, to find it again.
    #[schema(max_length = 255)]
    business_key: Option<String>,
    /// The fields of the definition's input record.
    #[schema(value_type = Object)]
    input: Data,
}

/// Some sagas, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SagaPage {
    items: Vec<SagaView>,
    /// Ask again with it for the next page; absent on the last one. Where conditions are given, a page may have fewer
    /// entries than asked for, or none, and not be the last: it looks at so many sagas at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One transition.
#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryItem {
    /// The saga's revision afterwards.
    revision: i32,
    #[schema(format = DateTime)]
    pub(crate) at: String,
    /// What happened: an object with a `type`.
    #[schema(value_type = Object)]
    pub(crate) event: Value,
    /// What was to be done about it: each an object with a `type`.
    #[schema(value_type = Vec<Object>)]
    pub(crate) effects: Value,
    /// The saga's status afterwards.
    #[schema(value_type = StatusView)]
    status: String,
}

/// A saga's transitions in order.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryPage {
    items: Vec<HistoryItem>,
    /// Ask again with it for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Starts a saga.
#[utoipa::path(
    post, path = "/api/sagas", tag = "Sagas", operation_id = "startSaga",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the first answer again."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer when the saga has ended, at most N (up to 30) seconds later."),
    ),
    request_body = StartSagaRequest,
    responses((status = 201, description = "It is durable.", body = SagaView), BodyProblems),
)]
pub(crate) async fn start_saga(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    asked.no_query()?;
    let key = request_key(&asked.headers, "POST /api/sagas", "", &body.fields)?;
    let mut fields = Fields::new(body.fields);
    let name = fields.text("definition", MAX_NAME);
    let version = fields.optional_integer("version", 1, i64::from(u32::MAX));
    let business_key = fields.optional_text("businessKey", MAX_BUSINESS_KEY);
    let input = fields.object("input");
    let mut definition = None;
    if let Some(name) = &name {
        match named(&app, name, version).await? {
            Ok(found) => definition = Some(found),
            Err(error) => fields.complain([error]),
        }
    }
    if let (Some(definition), Some(input)) = (&definition, &input) {
        forced_allowed(&app, input, "input")?;
        fields.complain(input_errors(&app.api.definitions.catalog(), definition, input, "input"));
    }
    fields.done()?;
    let (Some(definition), Some(input)) = (definition, input) else {
        return Err(Problem::field("", "the request is not complete"));
    };
    let request = Start {
        face: Face::Saga,
        input: with_defaults(&app.api.definitions.catalog(), &definition, input),
        definition,
        business_key: business_key.map(Into::into),
        traceparent: traceparent(&asked),
        key,
        wait: wait(&asked.headers),
    };
    start(&app, request).await
}

/// A definition that is known, also one that another process published a moment ago.
async fn named(
    app: &App,
    name: &str,
    version: Option<i64>,
) -> Result<Result<Arc<Definition>, FieldError>, Problem> {
    let found = known(app, name, version);
    if found.is_ok() {
        return Ok(found);
    }
    app.api.registrar.refresh().await?;
    Ok(known(app, name, version))
}

fn known(app: &App, name: &str, version: Option<i64>) -> Result<Arc<Definition>, FieldError> {
    let definitions = &app.api.definitions;
    let newest = definitions
        .newest(name)
        .ok_or_else(|| FieldError::new("definition", format!("no definition is named `{}`", shown(name))))?;
    let Some(version) = version else { return Ok(newest) };
    let found = u32::try_from(version).ok().and_then(|version| definitions.get(name, version));
    found.ok_or_else(|| {
        let text = format!("`{}` has no version {version}; the newest is {}", shown(name), newest.id.version);
        FieldError::new("version", text)
    })
}

/// Refuses a forced outcome in a saga's or command's fields where it is not allowed, or not known.
pub(crate) fn forced_allowed(app: &App, fields: &Data, prefix: &str) -> Result<(), Problem> {
    const FIELD: &str = "forcedPaymentOutcome";
    let place = format!("{prefix}.{FIELD}");
    match fields.get(FIELD) {
        None | Some(Value::Null) => Ok(()),
        Some(_) if !app.api.allow_forced_outcomes => Err(forced_not_allowed(&place)),
        Some(Value::String(text)) if !FORCED_OUTCOMES.contains(&text.as_str()) => {
            let known = FORCED_OUTCOMES.join(", ");
            Err(Problem::field(place, format!("must be one of {known}; found `{}`", shown(text))))
        }
        Some(_) => Ok(()),
    }
}

/// Lists sagas, newest first.
#[utoipa::path(
    get, path = "/api/sagas", tag = "Sagas", operation_id = "listSagas",
    params(
        ("definition" = Option<String>, Query, description = "Of this definition."),
        ("status" = Option<StatusView>, Query, description = "In this status."),
        ("step" = Option<String>, Query, description = "At this step."),
        ("businessKey" = Option<String>, Query, description = "Of this business key."),
        ("startedAfter" = Option<String>, Query, format = DateTime, description = "Started later than this."),
        ("startedBefore" = Option<String>, Query, format = DateTime, description = "Started earlier than this."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = SagaPage), Problems),
)]
pub(crate) async fn list_sagas(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let filter = SagaFilter {
        definition: query.text("definition"),
        status: query.status("status"),
        step: query.text("step"),
        business_key: query.text("businessKey"),
        started_after: query.time("startedAfter"),
        started_before: query.time("startedBefore"),
    };
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let cursor = query.cursor(Page::Sagas);
    query.done()?;
    let found = app.api.reads.sagas(&filter, cursor, limit).await?;
    let next_cursor = found.next.map(Page::after_saga);
    let page = SagaPage { items: views(&app, &found.sagas).await?, next_cursor };
    Ok(json(StatusCode::OK, &page))
}

/// Each definition is looked up once.
async fn views(app: &App, found: &[StoredSaga]) -> Result<Vec<SagaView>, Problem> {
    let mut known = HashMap::new();
    let mut views = Vec::with_capacity(found.len());
    for StoredSaga { saga, wake_at } in found {
        if !known.contains_key(&saga.definition) {
            known.insert(saga.definition.clone(), app.definition(&saga.definition).await?);
        }
        let definition = known.get(&saga.definition).and_then(Option::as_deref);
        views.push(SagaView::of(saga, definition, *wake_at));
    }
    Ok(views)
}

/// Shows a saga.
#[utoipa::path(
    get, path = "/api/sagas/{sagaId}", tag = "Sagas", operation_id = "getSaga",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an earlier answer."),
    ),
    responses(
        (status = 200, description = "The saga as it is now; its ETag is its revision.", body = SagaView),
        (status = 304, description = "It has not moved."),
        NamedProblems,
    ),
)]
pub(crate) async fn get_saga(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let stored = find(&app, &asked).await?;
    let tag = etag(u64::from(stored.saga.revision.0));
    if not_modified(&asked.headers, &tag) {
        let mut response = with_body(StatusCode::NOT_MODIFIED, "application/json", bytes::Bytes::new());
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().insert(header::ETAG, tag);
        return Ok(response);
    }
    Ok(saga_response(StatusCode::OK, &stored.saga, &app.stored_view(&stored).await?))
}

/// The saga that the path names.
pub(crate) async fn find(app: &App, asked: &Asked) -> Result<StoredSaga, Problem> {
    let id = saga_id(asked)?;
    app.api.reads.saga(id).await?.ok_or_else(|| Problem::no_saga(id))
}

/// The id that the path names. A text that is no id names no saga.
pub(crate) fn saga_id(asked: &Asked) -> Result<SagaId, Problem> {
    asked.id().ok_or_else(|| {
        let text = shown(asked.params.first().map_or("", String::as_str));
        Problem::new(super::problem::Kind::NotFound, format!("`{text}` is not a saga's id"))
    })
}

/// Shows every transition of a saga, in order.
#[utoipa::path(
    get, path = "/api/sagas/{sagaId}/history", tag = "Sagas", operation_id = "getSagaHistory",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 5000, description = "Entries of a page; 5000 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "The transitions.", body = HistoryPage), NamedProblems),
)]
pub(crate) async fn get_history(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let limit = query.limit(HISTORY_LIMIT, HISTORY_LIMIT);
    let after = query.revision_cursor();
    query.done()?;
    let stored = find(&app, &asked).await?;
    let id = stored.saga.id;
    let definition = app.definition(&stored.saga.definition).await?;
    let mut rows = app.api.reads.history(id, after, limit + 1).await?;
    let more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = rows.last().map(|row| Page::after_revision(row.revision));
    let told = |row: journal::Model| {
        let told = item(id, definition.as_deref(), row.revision, row.at, &row.event, &row.effects);
        HistoryItem { status: row.status, ..told }
    };
    let items = rows.into_iter().map(told).collect();
    Ok(json(StatusCode::OK, &HistoryPage { items, next_cursor: last.filter(|_| more) }))
}

/// A transition for people; without its status.
pub(crate) fn item(
    saga: SagaId,
    definition: Option<&Definition>,
    revision: i32,
    at: OffsetDateTime,
    event: &str,
    effects: &str,
) -> HistoryItem {
    let mut event = parsed(event);
    readable(saga, definition, &mut event);
    let mut effects = parsed(effects);
    for effect in effects.as_array_mut().into_iter().flatten() {
        readable(saga, definition, effect);
    }
    let at = Timestamp::from_utc(at).to_string();
    HistoryItem { revision, at, event, effects, status: String::new() }
}

/// JSON of a row; what somebody has made unreadable is shown as the text that it is.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Steps by name instead of number, and the command's id beside them.
fn readable(saga: SagaId, definition: Option<&Definition>, entry: &mut Value) {
    let Some(entry) = entry.as_object_mut() else { return };
    let Some(number) = entry.get("step").and_then(Value::as_u64) else { return };
    let name = step_name(definition, StepIndex(u16::try_from(number).unwrap_or(u16::MAX)));
    let direction: Option<Direction> =
        entry.get("direction").and_then(Value::as_str).and_then(|text| text.parse().ok());
    if let (Some(direction), Some(_)) = (direction, definition) {
        let command = CommandId::derive(saga, &name, direction);
        entry.insert("commandId".to_owned(), command.to_string().into());
    }
    entry.insert("step".to_owned(), name.into());
}

/// Draws a saga: its definition, and where it is.
#[utoipa::path(
    get, path = "/api/sagas/{sagaId}/diagram", tag = "Sagas", operation_id = "getSagaDiagram",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("format" = Option<String>, Query, description = "`mermaid`, which is also what comes if it is left out, or `svg`: a picture that fetches nothing."),
    ),
    responses(
        (status = 200, description = "A Mermaid flowchart, or an SVG picture with each step in the colour of its status.", content(
            (String = "text/plain"),
            (String = "image/svg+xml"),
        )),
        (status = 422, description = "Another format.", body = super::problem::ProblemView, content_type = "application/problem+json"),
        NamedProblems,
    ),
)]
pub(crate) async fn get_diagram(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let format = query.word("format", &["mermaid", "svg"]);
    query.done()?;
    let stored = find(&app, &asked).await?;
    let definition = app.definition(&stored.saga.definition).await?.ok_or_else(|| {
        let text = format!("the definition {} is not known here", stored.saga.definition);
        Problem::new(super::problem::Kind::NotFound, text).of(stored.saga.id)
    })?;
    if format.as_deref() != Some("svg") {
        let text = mermaid(&definition, Some(&stored.saga));
        return Ok(with_body(StatusCode::OK, "text/plain; charset=utf-8", text.into()));
    }
    let picture = svg(&definition, Some(&stored.saga));
    let mut response = with_body(StatusCode::OK, "image/svg+xml", picture.into());
    // Looked at by itself it is a document of this origin: it may do nothing but be seen.
    let nothing = HeaderValue::from_static("default-src 'none'; sandbox");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, nothing);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
