//! Dead letters: listing, showing, sending again, putting aside.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use saga_defs::Data;
use saga_defs::ids::DeadLetterId;
use saga_defs::time::Timestamp;
use schemas::Catalog;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::app::{ANONYMOUS, App};
use super::body::Body;
use super::document::{NamedProblems, Problems, VerbProblems};
use super::fields::Fields;
use super::idempotency::{before, request_key, taken};
use super::mount::Asked;
use super::problem::{Answer, FieldError, Kind, Problem, json};
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use super::sagas::forced_allowed;
use super::strict_json::shown;
use super::verbs::{MAX_REASON, VerbRequest, refused};
use crate::engine::handle::{ActError, ActOnLetter, LetterVerb};
use crate::store::entities::dead_letter::{Model, Summary};
use crate::store::queries::LetterFilter;

const STATUSES: [&str; 4] = ["open", "redriven", "resolved", "discarded"];

/// A dead letter in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterItem)]
pub(crate) struct LetterItem {
    #[schema(format = Uuid)]
    id: String,
    /// `open`, `redriven` (sent again, the outcome is to be seen), `resolved` or `discarded`.
    status: String,
    /// Why, for programs.
    reason: String,
    /// Why, for people.
    message: String,
    /// Who gave up on it: a participant, or `orchestrator`.
    source: String,
    /// Where the record lay.
    topic: String,
    #[schema(required)]
    partition: Option<i32>,
    #[schema(required)]
    offset: Option<i64>,
    /// The Avro record name that its header gives.
    #[schema(required)]
    message_type: Option<String>,
    #[schema(required, format = Uuid)]
    saga_id: Option<String>,
    #[schema(required)]
    step: Option<String>,
    #[schema(required)]
    direction: Option<String>,
    attempts: i32,
    #[schema(format = DateTime)]
    first_failed_at: String,
    #[schema(format = DateTime)]
    last_failed_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// The letter of which its record is a copy that was sent again.
    #[schema(required, format = Uuid)]
    redrive_of: Option<String>,
}

impl LetterItem {
    fn of(row: Summary) -> Self {
        Self {
            id: row.id.to_string(),
            status: row.status,
            reason: row.reason,
            message: row.message,
            source: row.source,
            topic: row.topic,
            partition: row.partition,
            offset: row.record_offset,
            message_type: row.message_type,
            saga_id: text(row.saga_id),
            step: row.step,
            direction: row.direction,
            attempts: row.attempts,
            first_failed_at: moment(row.first_failed_at),
            last_failed_at: moment(row.last_failed_at),
            updated_at: moment(row.updated_at),
            redrive_of: text(row.redrive_of),
        }
    }
}

/// Some dead letters, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterPage)]
pub(crate) struct LetterPage {
    items: Vec<LetterItem>,
    /// Ask again with it for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A header of the record.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordHeader)]
pub(crate) struct HeaderView {
    name: String,
    /// Its bytes in base64.
    #[schema(required)]
    value: Option<String>,
    /// The same as text, where it is UTF-8.
    #[schema(required)]
    text: Option<String>,
}

/// What the record's value says.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DecodedMessage)]
pub(crate) struct DecodedView {
    /// The Avro record that wrote it.
    message_type: String,
    #[schema(value_type = Object)]
    value: Data,
}

/// A dead letter with everything in it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetter)]
pub(crate) struct LetterView {
    #[serde(flatten)]
    item: LetterItem,
    /// The record's key in base64.
    #[schema(required)]
    key: Option<String>,
    /// The same as text, where it is UTF-8.
    #[schema(required)]
    key_text: Option<String>,
    /// The record's value in base64.
    #[schema(required)]
    value: Option<String>,
    /// The record's headers, in order.
    headers: Vec<HeaderView>,
    /// The record's timestamp.
    #[schema(required, format = DateTime)]
    timestamp: Option<String>,
    /// What the value says; null where it does not decode.
    #[schema(required)]
    decoded: Option<DecodedView>,
    /// Why the value does not decode; null where it does.
    #[schema(required)]
    decode_error: Option<String>,
    /// What became of it, oldest first: each with `at`, `what` and `reason`.
    #[schema(value_type = Vec<Object>)]
    lineage: Value,
}

impl LetterView {
    fn of(row: Model, catalog: &Catalog) -> Self {
        let (decoded, decode_error) = match row.record_value.as_deref() {
            None => (None, Some("the record has no value".to_owned())),
            Some(bytes) => match catalog.decode(bytes) {
                Ok(found) => {
                    let message_type = found.message_type.to_string();
                    (Some(DecodedView { message_type, value: found.fields }), None)
                }
                Err(error) => (None, Some(error.to_string())),
            },
        };
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        Self {
            key: row.record_key.as_deref().map(encode),
            key_text: row.record_key.clone().and_then(|bytes| String::from_utf8(bytes).ok()),
            value: row.record_value.as_deref().map(encode),
            headers: headers(&row.record_headers),
            timestamp: row.record_timestamp.map(moment),
            decoded,
            decode_error,
            lineage: row.lineage.clone(),
            item: LetterItem::of(summary(row)),
        }
    }
}

fn summary(row: Model) -> Summary {
    Summary {
        id: row.id,
        status: row.status,
        reason: row.reason,
        message: row.message,
        source: row.source,
        topic: row.topic,
        partition: row.partition,
        record_offset: row.record_offset,
        message_type: row.message_type,
        saga_id: row.saga_id,
        step: row.step,
        direction: row.direction,
        attempts: row.attempts,
        redrive_of: row.redrive_of,
        first_failed_at: row.first_failed_at,
        last_failed_at: row.last_failed_at,
        updated_at: row.updated_at,
    }
}

fn headers(column: &Value) -> Vec<HeaderView> {
    let view = |entry: &Value| {
        let name = entry.get(0)?.as_str()?.to_owned();
        let value = entry.get(1).and_then(Value::as_str).map(str::to_owned);
        let bytes = value.as_deref().and_then(|text| STANDARD.decode(text).ok());
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Some(HeaderView { name, value, text })
    };
    column.as_array().into_iter().flatten().filter_map(view).collect()
}

fn text(id: Option<Uuid>) -> Option<String> {
    id.map(|id| id.to_string())
}

fn moment(at: OffsetDateTime) -> String {
    Timestamp::from_utc(at).to_string()
}

/// Lists dead letters, newest first.
#[utoipa::path(
    get, path = "/api/dead-letters", tag = "Dead letters", operation_id = "listDeadLetters",
    params(
        ("status" = Option<String>, Query, description = "open, redriven, resolved or discarded."),
        ("reason" = Option<String>, Query, description = "Of this reason."),
        ("sagaId" = Option<String>, Query, format = Uuid, description = "Of this saga."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = LetterPage), Problems),
)]
pub(crate) async fn list_letters(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let filter = LetterFilter {
        status: query.word("status", &STATUSES),
        reason: query.text("reason"),
        saga: query.saga_id("sagaId"),
    };
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let cursor = query.cursor(Page::Letters);
    query.done()?;
    let mut found = app.api.reads.letters(&filter, cursor, limit + 1).await?;
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = found.last().map(|row| Page::after_letter(DeadLetterId::from_uuid(row.id)));
    let items = found.into_iter().map(LetterItem::of).collect();
    Ok(json(StatusCode::OK, &LetterPage { items, next_cursor: last.filter(|_| more) }))
}

/// Shows a dead letter.
#[utoipa::path(
    get, path = "/api/dead-letters/{id}", tag = "Dead letters", operation_id = "getDeadLetter",
    params(("id" = String, Path, description = "The dead letter's id.", format = Uuid)),
    responses((status = 200, description = "Everything in it.", body = LetterView), NamedProblems),
)]
pub(crate) async fn get_letter(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let row = find(&app, &asked).await?;
    Ok(json(StatusCode::OK, &LetterView::of(row, &app.api.definitions.catalog())))
}

async fn find(app: &App, asked: &Asked) -> Result<Model, Problem> {
    let none = || {
        let text = shown(asked.params.first().map_or("", String::as_str));
        Problem::new(Kind::NotFound, format!("no dead letter has the id `{text}`"))
    };
    let id = asked.id().ok_or_else(none)?;
    app.api.reads.letter(id).await?.ok_or_else(none)
}

/// What is asked with a dead letter's `redrive`.
#[derive(ToSchema)]
#[schema(as = RedriveDeadLetter)]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct RedriveLetterRequest {
    /// Why, for the audit and the letter's lineage.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// The message's fields in place of the original ones, all of them.
    #[schema(value_type = Option<Object>)]
    value: Option<Data>,
}

/// Sends exactly one copy, original or edited.
#[utoipa::path(
    post, path = "/api/dead-letters/{id}/redrive", tag = "Dead letters", operation_id = "redriveDeadLetter",
    params(
        ("id" = String, Path, description = "The dead letter's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
    ),
    request_body = RedriveLetterRequest,
    responses((status = 200, description = "It is on its way; the letter as it is now.", body = LetterView), VerbProblems),
)]
pub(crate) async fn redrive_letter(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let reason = fields.text("reason", MAX_REASON);
    let value = fields.optional_object("value");
    fields.done()?;
    let letter = find(&app, &asked).await?;
    let verb = match value {
        None => LetterVerb::Redrive { value: None, input: None },
        Some(value) => {
            forced_allowed(&app, &value, "value")?;
            let encoded = edited(&app.api.definitions.catalog(), &letter, &value)?;
            LetterVerb::Redrive { value: Some(encoded), input: Some(value) }
        }
    };
    act(&app, &asked, &body, &letter, verb, reason).await
}

/// An edited value, checked against the schema of the record it replaces.
fn edited(catalog: &Catalog, letter: &Model, value: &Data) -> Result<Vec<u8>, Problem> {
    let decoded = letter.record_value.as_deref().and_then(|bytes| catalog.decode(bytes).ok());
    let decoded = decoded.map(|found| found.message_type.to_string());
    let known = |name: &String| catalog.record(name).is_some();
    let Some(message_type) = letter.message_type.clone().filter(known).or(decoded) else {
        return Err(Problem::field("value", "cannot be given: which message the record was is not known"));
    };
    let wrong = catalog.validate(&message_type, value);
    if !wrong.is_empty() {
        let errors = wrong.iter().map(|problem| FieldError::below("value", problem)).collect();
        return Err(Problem::validation(errors));
    }
    catalog.encode(&message_type, value).map_err(|error| Problem::field("value", error.to_string()))
}

/// Puts a dead letter aside.
#[utoipa::path(
    post, path = "/api/dead-letters/{id}/discard", tag = "Dead letters", operation_id = "discardDeadLetter",
    params(
        ("id" = String, Path, description = "The dead letter's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is done; the letter as it is now.", body = LetterView), VerbProblems),
)]
pub(crate) async fn discard_letter(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let reason = fields.text("reason", MAX_REASON);
    fields.done()?;
    let letter = find(&app, &asked).await?;
    act(&app, &asked, &body, &letter, LetterVerb::Discard, reason).await
}

async fn act(
    app: &App,
    asked: &Asked,
    body: &Body,
    letter: &Model,
    verb: LetterVerb,
    reason: Option<String>,
) -> Answer {
    let route = match verb {
        LetterVerb::Redrive { .. } => "redrive dead letter",
        LetterVerb::Discard => "discard dead letter",
    };
    let key = request_key(&asked.headers, route, &letter.id.to_string(), &body.fields)?;
    let saga = letter.saga_id.map(saga_defs::ids::SagaId::from_uuid);
    if before(&app.api.reads, key.as_ref()).await?.is_none() {
        let request = ActOnLetter {
            letter: DeadLetterId::from_uuid(letter.id),
            verb,
            reason: reason.unwrap_or_default().into(),
            actor: ANONYMOUS.into(),
            key,
        };
        match app.api.engine.act_on_letter(request).await {
            Ok(()) => {}
            Err(ActError::KeyTaken) => {
                taken(&app.api.reads, key.as_ref()).await?;
            }
            Err(ActError::NotHere { owner }) => {
                return app.forwarder.relay(owner.as_deref(), asked, body).await;
            }
            Err(other) => {
                let problem = refused(other);
                return Err(match saga {
                    Some(saga) => problem.of(saga),
                    None => problem,
                });
            }
        }
    }
    let row = find(app, asked).await?;
    Ok(json(StatusCode::OK, &LetterView::of(row, &app.api.definitions.catalog())))
}
