//! Dead letters: listing, showing, sending again, putting aside.

use std::sync::Arc;

use http::StatusCode;
use saga_defs::Data;
use saga_defs::ids::DeadLetterId;
use schemas::Catalog;
use utoipa::ToSchema;

use super::app::App;
use super::body::Body;
use super::document::{NamedProblems, Problems, VerbProblems};
use super::fields::Fields;
use super::idempotency::{before, request_key, taken};
use super::letter_view::{LetterItem, LetterPage, LetterView};
use super::mount::Asked;
use super::problem::{Answer, FieldError, Kind, Problem, json};
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use super::sagas::forced_allowed;
use super::strict_json::shown;
use super::verbs::{MAX_REASON, VerbRequest, refused};
use crate::dead_letters::edit::{self, Edit, NoEdit};
use crate::engine::handle::{ActError, ActOnLetter, LetterVerb};
use crate::store::entities::dead_letter::{Model, Shown};
use crate::store::letter_list::LetterFilter;

/// What an idempotency key of a redrive is about.
pub(crate) const REDRIVE_ROUTE: &str = "redrive dead letter";

/// What a letter can be.
pub(crate) const STATUSES: [&str; 4] = ["open", "redriven", "resolved", "discarded"];

/// Lists dead letters, newest first.
#[utoipa::path(
    get, path = "/api/dead-letters", tag = "Dead letters", operation_id = "listDeadLetters",
    params(
        ("status" = Option<String>, Query, description = "open, redriven, resolved or discarded."),
        ("reason" = Option<String>, Query, description = "Of this reason."),
        ("sagaId" = Option<String>, Query, format = Uuid, description = "Of this saga."),
        ("group" = Option<String>, Query, format = Uuid, description = "Of this group."),
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
        group: query.uuid("group"),
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
    let shown = find(&app, &asked).await?;
    let catalog = app.api.definitions.catalog_for(shown.row.record_value.as_deref()).await;
    Ok(json(StatusCode::OK, &LetterView::of(shown, &catalog)))
}

async fn find(app: &App, asked: &Asked) -> Result<Shown, Problem> {
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
    let letter = find(&app, &asked).await?.row;
    let verb = match value {
        None => LetterVerb::Redrive { edit: None },
        Some(value) => {
            forced_allowed(&app, &value, "value")?;
            let catalog = app.api.definitions.catalog_for(letter.record_value.as_deref()).await;
            LetterVerb::Redrive { edit: Some(edited(&catalog, &letter, value)?) }
        }
    };
    act(&app, &asked, &body, &letter, verb, reason).await
}

/// An edited value, checked against the schema of the record it replaces.
fn edited(catalog: &Catalog, letter: &Model, value: Data) -> Result<Edit, Problem> {
    let (named, bytes) = (letter.message_type.as_deref(), letter.record_value.as_deref());
    edit::replaced(catalog, named, bytes, value).map_err(|no| match no {
        NoEdit::UnknownType => {
            Problem::field("value", "cannot be given: which message the record was is not known")
        }
        NoEdit::Unreadable(why) => Problem::field("value", why),
        NoEdit::Refused(wrong) => {
            Problem::validation(wrong.iter().map(|problem| FieldError::below("value", problem)).collect())
        }
    })
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
    let letter = find(&app, &asked).await?.row;
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
        LetterVerb::Redrive { .. } => REDRIVE_ROUTE,
        LetterVerb::Discard => "discard dead letter",
    };
    let key = request_key(&asked.headers, route, &letter.id.to_string(), &body.fields)?;
    let saga = letter.saga_id.map(saga_defs::ids::SagaId::from_uuid);
    if before(&app.api.reads, key.as_ref()).await?.is_none() {
        let request = ActOnLetter {
            letter: DeadLetterId::from_uuid(letter.id),
            verb,
            reason: reason.unwrap_or_default().into(),
            actor: app.actor(asked)?,
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
    let shown = find(app, asked).await?;
    let catalog = app.api.definitions.catalog_for(shown.row.record_value.as_deref()).await;
    Ok(json(StatusCode::OK, &LetterView::of(shown, &catalog)))
}
