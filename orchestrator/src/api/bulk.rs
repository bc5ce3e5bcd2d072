//! What redrives and saga actions have in common: making, showing, listing and cancelling them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use saga_defs::Data;
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::app::App;
use super::body::Body;
use super::bulk_view::{ActionPage, ActionView, ItemPage, ItemView, OUTCOMES};
use super::fields::Fields;
use super::idempotency::{before, request_key, taken};
use super::mount::Asked;
use super::problem::{Answer, FieldError, Kind, Problem, json};
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use super::strict_json::shown;
use super::verbs::MAX_REASON;
use crate::engine::clock;
use crate::engine::handle::RequestKey;
use crate::store::StoreError;
use crate::store::audit::AuditRow;
use crate::store::bulk::{Bulk, Subject};
use crate::store::bulk_choice::{Choice, MAX_SELECTED, Made, NewAction};
use crate::store::commit::KeyWrite;

/// Ids that a filter may name one by one.
pub(crate) const MAX_IDS: usize = 1_000;
/// How many are sent in a second unless the client asks for another number.
const DEFAULT_RATE: i64 = 50;
const MAX_RATE: i64 = 1_000;
/// The first steps of a redrive unless the client asks for others.
pub(crate) const DEFAULT_RAMP: [u32; 3] = [1, 5, 50];
const MAX_STEPS: usize = 10;
/// Who asks for a dry run gets what it found, if that does not take longer than this.
const DRY_RUN_WAIT: Duration = Duration::from_secs(2);
const DRY_RUN_LOOK: Duration = Duration::from_millis(25);

/// The actions, and how to wake their driver.
#[derive(Clone)]
pub struct Actions {
    /// Their tables.
    pub store: Bulk,
    /// Woken when there is a new one.
    pub wake: Arc<Notify>,
}

/// What was asked for, besides what it is on.
pub(crate) struct Common {
    pub(crate) reason: Option<String>,
    pub(crate) rate: u32,
    pub(crate) ramp: Vec<u32>,
    pub(crate) dry_run: bool,
}

impl Common {
    /// Takes the fields that both have out of a body.
    pub(crate) fn of(fields: &mut Fields, default_ramp: &[u32]) -> Self {
        let rate = fields.optional_integer("ratePerSecond", 1, MAX_RATE).unwrap_or(DEFAULT_RATE);
        let steps = fields.optional_array("ramp", MAX_STEPS);
        let ramp = match steps {
            None => default_ramp.to_vec(),
            Some(steps) => steps
                .iter()
                .enumerate()
                .filter_map(|(at, step)| {
                    let size = step.as_u64().filter(|size| (1..=MAX_SELECTED).contains(size));
                    if size.is_none() {
                        let message = format!("must be a whole number, 1 to {MAX_SELECTED}");
                        fields.complain([FieldError::new(format!("ramp[{at}]"), message)]);
                    }
                    size.and_then(|size| u32::try_from(size).ok())
                })
                .collect(),
        };
        Self {
            reason: fields.text("reason", MAX_REASON),
            rate: u32::try_from(rate).unwrap_or(1),
            ramp,
            dry_run: fields.optional_flag("dryRun").unwrap_or(false),
        }
    }
}

/// An action to make.
pub(crate) struct Wanted {
    pub(crate) common: Common,
    pub(crate) verb: &'static str,
    /// As in the audit.
    pub(crate) audit: &'static str,
    pub(crate) choice: Choice,
    pub(crate) filter: Data,
    pub(crate) patch: Option<Data>,
}

const fn path(subject: Subject) -> &'static str {
    match subject {
        Subject::Letter => "/api/redrives",
        Subject::Saga => "/api/saga-actions",
    }
}

/// Makes an action, once per key.
pub(crate) async fn make(app: &App, asked: &Asked, body: &Body, subject: Subject, wanted: Wanted) -> Answer {
    let key = request_key(&asked.headers, path(subject), "", &body.fields)?;
    if let Some(recorded) = before(&app.api.reads, key.as_ref()).await? {
        return made(app, subject, recorded.saga.as_uuid()).await;
    }
    let (id, at, actor) = (Uuid::now_v7(), clock::now(), app.actor(asked)?);
    let Wanted { common, verb, audit, choice, filter, patch } = wanted;
    let reason = common.reason.unwrap_or_default();
    let what = json!({ "action": id, "dryRun": common.dry_run, "filter": filter });
    let audit = AuditRow::new(at, &actor, audit, &reason).changing(None, what);
    let new = NewAction {
        id,
        verb,
        choice,
        dry_run: common.dry_run,
        actor: actor.to_string(),
        reason,
        filter: Value::Object(filter),
        patch: patch.map(Value::Object),
        rate: common.rate,
        ramp: common.ramp,
        at,
    };
    match app.api.actions.store.make(&new, &audit, key.map(|key| write(key, id, at)).as_ref()).await {
        Ok(Made::Yes(_)) => {
            app.api.actions.wake.notify_one();
            if new.dry_run {
                finished(app, subject, id).await;
            }
            made(app, subject, id).await
        }
        Ok(Made::TooMany) => {
            let text = format!("matches more than {MAX_SELECTED}; name more conditions");
            Err(Problem::field("filter", text))
        }
        Err(error) if is_taken(&error) => {
            let recorded = taken(&app.api.reads, key.as_ref()).await?;
            made(app, subject, recorded.saga.as_uuid()).await
        }
        Err(error) => Err(error.into()),
    }
}

fn write(key: RequestKey, id: Uuid, at: saga_defs::time::Timestamp) -> KeyWrite {
    KeyWrite { key_hash: key.key_hash, request_hash: key.request_hash, saga: id, at }
}

fn is_taken(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused { constraint: Some(name), .. } if name == "request_key_pkey")
}

/// A dry run is over soon, most often.
async fn finished(app: &App, subject: Subject, id: Uuid) {
    let over = async {
        while let Ok(Some(action)) = app.api.actions.store.action(subject, id).await
            && action.finished_at.is_none()
        {
            tokio::time::sleep(DRY_RUN_LOOK).await;
        }
    };
    // Too long: the client asks again.
    let _ = tokio::time::timeout(DRY_RUN_WAIT, over).await;
}

async fn made(app: &App, subject: Subject, id: Uuid) -> Answer {
    let view = find(app, subject, id).await?;
    let mut response = json(StatusCode::ACCEPTED, &view);
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{id}", path(subject))) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// An action.
pub(crate) async fn find(app: &App, subject: Subject, id: Uuid) -> Result<ActionView, Problem> {
    let found = app.api.reads.action(subject, id).await?;
    found.map(ActionView::of).ok_or_else(|| none(&id.to_string()))
}

fn none(text: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no such action with the id `{}`", shown(text)))
}

/// The action that is asked for.
pub(crate) fn id(asked: &Asked) -> Result<Uuid, Problem> {
    asked.id().ok_or_else(|| none(asked.params.first().map_or("", String::as_str)))
}

/// Shows an action.
pub(crate) async fn show(app: &App, asked: &Asked, subject: Subject) -> Answer {
    asked.no_query()?;
    Ok(json(StatusCode::OK, &find(app, subject, id(asked)?).await?))
}

/// Lists actions, newest first.
pub(crate) async fn list(app: &App, asked: &Asked, subject: Subject) -> Answer {
    let mut query = asked.query()?;
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let cursor = query.cursor(Page::Actions);
    query.done()?;
    let mut found = app.api.actions.store.actions(subject, cursor, limit + 1).await?;
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = found.last().map(|action| Page::after_action(action.id));
    let items = found.into_iter().map(ActionView::of).collect();
    Ok(json(StatusCode::OK, &ActionPage { items, next_cursor: last.filter(|_| more) }))
}

/// Lists what became of each of the selection.
pub(crate) async fn items(app: &App, asked: &Asked, subject: Subject) -> Answer {
    let id = id(asked)?;
    let mut query = asked.query()?;
    let outcome = query.word("outcome", &OUTCOMES.map(|(outcome, _)| outcome));
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let cursor = query.place();
    query.done()?;
    find(app, subject, id).await?;
    let state = OUTCOMES.iter().find(|(name, _)| outcome.as_deref() == Some(name)).map(|(_, state)| *state);
    let mut found = app.api.actions.store.items(id, state, cursor, limit + 1).await?;
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = found.last().map(|item| Page::after_item(item.place));
    let items = found.into_iter().map(ItemView::of).collect();
    Ok(json(StatusCode::OK, &ItemPage { items, next_cursor: last.filter(|_| more) }))
}

/// Sends nothing more; what was sent is followed to its end.
pub(crate) async fn cancel(app: &App, asked: &Asked, body: &Body, subject: Subject) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let reason = fields.text("reason", MAX_REASON);
    fields.done()?;
    let id = id(asked)?;
    let key = request_key(&asked.headers, "cancel action", &id.to_string(), &body.fields)?;
    if before(&app.api.reads, key.as_ref()).await?.is_none() {
        let (at, actor) = (clock::now(), app.actor(asked)?);
        let is = |status: &str| json!({ "action": id, "status": status });
        let audit = AuditRow::new(at, &actor, "cancel-action", &reason.unwrap_or_default())
            .changing(is("running"), is("cancelled"));
        let write = key.map(|key| write(key, id, at));
        match app.api.actions.store.cancel(subject, id, &audit, write.as_ref()).await {
            Ok(None) => return Err(none(&id.to_string())),
            // Another request with this key was first.
            Ok(Some(status))
                if status != "running" && before(&app.api.reads, key.as_ref()).await?.is_some() => {}
            Ok(Some(status)) if status != "running" => {
                let text = format!("the action is {status}; only a running one can be cancelled");
                return Err(Problem::new(Kind::WrongState, text).in_state(&status, &["running"]));
            }
            Ok(Some(_)) => {}
            Err(error) if is_taken(&error) => drop(taken(&app.api.reads, key.as_ref()).await?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(json(StatusCode::OK, &find(app, subject, id).await?))
}
