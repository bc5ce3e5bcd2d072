//! What an operator may do to a saga. Each verb acts once per idempotency key, wherever the saga is owned.

use std::sync::Arc;

use http::{StatusCode, header};
use saga_defs::Data;
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{Direction, SagaId};
use saga_defs::machine::Why;
use saga_defs::saga::{Saga, State, Status};
use utoipa::ToSchema;

use super::app::{App, etag, saga_response};
use super::body::Body;
use super::document::{MatchProblems, VerbProblems};
use super::fields::Fields;
use super::idempotency::{before, request_key, taken};
use super::mount::Asked;
use super::problem::{Answer, FieldError, Kind, Problem};
use super::sagas::{find, forced_allowed, saga_id};
use super::wire::SagaView;
use crate::engine::handle::{Act, ActError, Expected, RequestKey, Verb};

/// Characters of an operator's reason.
pub(crate) const MAX_REASON: usize = 1_000;

/// What is asked with a verb.
#[derive(ToSchema)]
#[schema(as = Verb)]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct VerbRequest {
    /// Why, for the audit and the saga's history.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// What is asked with `redrive`.
#[derive(ToSchema)]
#[schema(as = Redrive)]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct RedriveRequest {
    /// Why, for the audit and the saga's history.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// Values for fields of the command, in place of those from the saga's data.
    #[schema(value_type = Option<Object>)]
    input: Option<Data>,
}

/// Stops going forward and compensates.
#[utoipa::path(
    post, path = "/api/sagas/{sagaId}/cancel", tag = "Operators", operation_id = "cancelSaga",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the saga as it was seen: act only if it has not moved since."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is done; the saga as it is now.", body = SagaView), MatchProblems, VerbProblems),
)]
pub(crate) async fn cancel(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    plain(&app, &asked, &body, Verb::Cancel).await
}

/// Takes the stuck step or compensation as done.
#[utoipa::path(
    post, path = "/api/sagas/{sagaId}/skip", tag = "Operators", operation_id = "skipStep",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the saga as it was seen: act only if it has not moved since."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is done; the saga as it is now.", body = SagaView), MatchProblems, VerbProblems),
)]
pub(crate) async fn skip(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    plain(&app, &asked, &body, Verb::Skip).await
}

/// Does not wait for the back-off.
#[utoipa::path(
    post, path = "/api/sagas/{sagaId}/retry-now", tag = "Operators", operation_id = "retryNow",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the saga as it was seen: act only if it has not moved since."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is done; the saga as it is now.", body = SagaView), MatchProblems, VerbProblems),
)]
pub(crate) async fn retry_now(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    plain(&app, &asked, &body, Verb::RetryNow).await
}

/// A verb that says nothing but its reason.
async fn plain(app: &App, asked: &Asked, body: &Body, verb: Verb) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let reason = fields.text("reason", MAX_REASON);
    fields.done()?;
    let saga = saga_id(asked)?;
    let key = verb_key(asked, &verb, saga, body)?;
    if before(&app.api.reads, key.as_ref()).await?.is_some() {
        return now(app, asked).await;
    }
    let expected = if_match(asked)?;
    let (actor, reason) = (app.actor(asked)?, reason.unwrap_or_default().into());
    act(app, asked, body, Act { saga, verb, reason, actor, expected, key }).await
}

/// A stuck saga tries its command again, attempts from 1.
#[utoipa::path(
    post, path = "/api/sagas/{sagaId}/redrive", tag = "Operators", operation_id = "redriveSaga",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
        ("If-Match" = Option<String>, Header, description = "The ETag of the saga as it was seen: act only if it has not moved since."),
    ),
    request_body = RedriveRequest,
    responses((status = 200, description = "It is done; the saga as it is now.", body = SagaView), MatchProblems, VerbProblems),
)]
pub(crate) async fn redrive(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let reason = fields.text("reason", MAX_REASON);
    let input = fields.optional_object("input");
    fields.done()?;
    let saga = saga_id(&asked)?;
    let verb = Verb::Redrive { input };
    let key = verb_key(&asked, &verb, saga, &body)?;
    if before(&app.api.reads, key.as_ref()).await?.is_some() {
        return now(&app, &asked).await;
    }
    if let Verb::Redrive { input: Some(input) } = &verb {
        check_input(&app, &asked, input).await?;
    }
    let expected = if_match(&asked)?;
    let (actor, reason) = (app.actor(&asked)?, reason.unwrap_or_default().into());
    act(&app, &asked, &body, Act { saga, verb, reason, actor, expected, key }).await
}

/// The revisions that the client has seen, as it says in `If-Match`. Only what is no list of entity tags cannot be read: a
/// tag that is not one of ours never matches.
fn if_match(asked: &Asked) -> Result<Option<Expected>, Problem> {
    let wrong = || {
        let text =
            "If-Match must be the ETag of the saga as it was seen, such as \"7\", several with commas, or *";
        Problem::new(Kind::BadHeader, text)
    };
    let mut revisions = Vec::new();
    let mut given = false;
    for value in asked.headers.get_all(header::IF_MATCH) {
        for tag in value.to_str().map_err(|_| wrong())?.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(None);
            }
            given = true;
            // A weak tag never matches here (RFC 9110, 13.1.1).
            let (weak, tag) = tag.strip_prefix("W/").map_or((false, tag), |tag| (true, tag));
            let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(wrong)?;
            if inner.contains('"') {
                return Err(wrong());
            }
            revisions.extend(inner.parse::<u32>().ok().filter(|_| !weak));
        }
    }
    Ok(given.then_some(Expected(revisions)))
}

fn verb_key(asked: &Asked, verb: &Verb, saga: SagaId, body: &Body) -> Result<Option<RequestKey>, Problem> {
    request_key(&asked.headers, verb.as_str(), &saga.to_string(), &body.fields)
}

/// Values for the fields of the command that the saga is stuck on: only those it has, of their types.
async fn check_input(app: &App, asked: &Asked, input: &Data) -> Result<(), Problem> {
    forced_allowed(app, input, "input")?;
    let stored = find(app, asked).await?;
    let saga = &stored.saga;
    let definition = app.definition(&saga.definition).await?;
    let State::Stuck { at, .. } = &saga.state else {
        let why = if saga.status().is_final() { Why::Ended } else { Why::NotStuck };
        return Err(not_allowed(&Verb::Redrive { input: None }, saga.id, why, saga.status()));
    };
    let Some(message) = definition.as_deref().and_then(|found| command(found, saga, at.direction)) else {
        return Ok(());
    };
    let wrong: Vec<FieldError> = app
        .api
        .definitions
        .catalog()
        .validate(&message, input)
        .iter()
        // What is absent comes from the saga's data.
        .filter(|problem| input.contains_key(root(&problem.field)))
        .map(|problem| FieldError::below("input", problem))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Problem::validation(wrong).of(saga.id)) }
}

/// The field that a path such as `lines[2].price` begins with.
fn root(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// The Avro record of the command that the saga is at.
fn command(definition: &Definition, saga: &Saga, direction: Direction) -> Option<Arc<str>> {
    let step = definition.step(saga.current()?.step)?;
    match (direction, &step.kind) {
        (Direction::Forward, _) => Some(step.command.clone()),
        (Direction::Compensation, StepKind::Compensatable { compensation }) => Some(compensation.clone()),
        (Direction::Compensation, StepKind::Pivot | StepKind::Retriable) => None,
    }
}

async fn act(app: &App, asked: &Asked, body: &Body, act: Act) -> Answer {
    let (saga, verb, key) = (act.saga, act.verb.clone(), act.key);
    match app.api.engine.act(act).await {
        Ok(moved) => {
            let view = app.view(&moved).await?;
            Ok(saga_response(StatusCode::OK, &moved, &view))
        }
        Err(ActError::KeyTaken) => {
            taken(&app.api.reads, key.as_ref()).await?;
            now(app, asked).await
        }
        Err(ActError::NotHere { owner }) => app.forwarder.relay(owner.as_deref(), asked, body).await,
        Err(ActError::NotFound) => Err(Problem::no_saga(saga)),
        Err(ActError::MovedOn { revision }) => {
            let text = format!(
                "the saga has moved on: it is at revision {}, and If-Match names another; look at it again",
                revision.0
            );
            Err(Problem::new(Kind::MovedOn, text).of(saga).etag(etag(u64::from(revision.0))))
        }
        Err(ActError::NotAllowed { why, status }) => Err(not_allowed(&verb, saga, why, status)),
        Err(other) => Err(refused(other).of(saga)),
    }
}

/// The answer to a repetition: the saga as it is now.
async fn now(app: &App, asked: &Asked) -> Answer {
    let stored = find(app, asked).await?;
    Ok(saga_response(StatusCode::OK, &stored.saga, &app.stored_view(&stored).await?))
}

/// What a verb's failure means for the client, where that is the same for sagas and dead letters.
pub(crate) fn refused(error: ActError) -> Problem {
    match error {
        ActError::NotFound => Problem::new(Kind::NotFound, "there is no such thing"),
        ActError::LetterNotOpen { status } => {
            let text = format!("the dead letter is {status}; only an open one can be redriven or discarded");
            Problem::new(Kind::WrongState, text).in_state(&status, &["open"])
        }
        ActError::NotAllowed { status, .. } => {
            let text = format!("not possible: the saga is {}", status.as_str());
            Problem::new(Kind::WrongState, text).in_state(status.as_str(), &[])
        }
        ActError::Refused { message } => Problem::new(Kind::Refused, message),
        ActError::Busy { retry_after } => {
            let text = "the orchestrator cannot do it at the moment; ask again with the same Idempotency-Key";
            Problem::new(Kind::Busy, text).retry_after(retry_after)
        }
        ActError::Defect => Problem::defect(),
        ActError::Stopping => Problem::stopping(),
        ActError::NotHere { .. } | ActError::KeyTaken | ActError::MovedOn { .. } => {
            Problem::new(Kind::Internal, "the request could not be brought to an end")
        }
    }
}

/// `409`, and when it would be possible.
fn not_allowed(verb: &Verb, saga: SagaId, why: Why, status: Status) -> Problem {
    let (allowed, when): (&'static [&'static str], &str) = match verb {
        Verb::Cancel => (
            &["running", "stuck"],
            "while the saga goes forward (running, or stuck on a step) and nothing is out that cannot be undone",
        ),
        Verb::Redrive { .. } | Verb::Skip => (&["stuck"], "only while the saga is stuck"),
        Verb::RetryNow => {
            (&["running", "compensating"], "while the saga is running or compensating and waits to try again")
        }
    };
    let because = match why {
        Why::Ended => "it has ended",
        Why::NotStuck => "it is not stuck",
        Why::NotInBackoff => "it does not wait to try again",
        Why::Compensating => "it compensates already",
        Why::PointOfNoReturn => "it is past the point of no return",
        Why::Late | Why::Foreign | Why::Stale | Why::Begun => "its state does not allow it",
    };
    let (name, status) = (verb.as_str(), status.as_str());
    let text = format!("{name} is not possible: the saga is {status} and {because}. It is possible {when}.");
    Problem::new(Kind::WrongState, text).of(saga).in_state(status, allowed)
}
