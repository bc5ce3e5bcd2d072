//! One verb on many sagas, at a pace.

use std::sync::Arc;

use saga_defs::saga::Status;
use utoipa::ToSchema;
use uuid::Uuid;

use super::app::App;
use super::body::Body;
use super::bulk::{Common, DEFAULT_RAMP, MAX_IDS, Wanted, cancel, items, list, make, show};
use super::bulk_view::{ActionPage, ActionView, ItemPage};
use super::document::{BodyProblems, NamedProblems, Problems, VerbProblems};
use super::fields::Fields;
use super::mount::Asked;
use super::problem::{Answer, Problem};
use super::verbs::VerbRequest;
use crate::store::bulk::Subject;
use crate::store::bulk_choice::Choice;
use crate::store::queries::SagaFilter;

/// Characters of a name or a business key in a filter.
const MAX_WORD: usize = 255;

/// A verb: its name, the name in the audit, and the statuses in which it may be possible.
type VerbOnMany = (&'static str, &'static str, &'static [&'static str]);

const VERBS: [VerbOnMany; 4] = [
    ("cancel", "cancel-sagas", &["running", "stuck"]),
    ("redrive", "redrive-sagas", &["stuck"]),
    ("skip", "skip-sagas", &["stuck"]),
    ("retry-now", "retry-sagas-now", &["running", "compensating"]),
];

/// Which sagas: those of which every condition holds. One condition at least.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SagaActionFilter)]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct SagaActionFilter {
    /// Of this definition.
    definition: Option<String>,
    /// In this status; left out: in those in which the action may be possible.
    status: Option<String>,
    /// At this step.
    step: Option<String>,
    /// Of this business key.
    business_key: Option<String>,
    /// Started later than this.
    #[schema(format = DateTime)]
    started_after: Option<String>,
    /// Started earlier than this.
    #[schema(format = DateTime)]
    started_before: Option<String>,
    /// Only these.
    ids: Option<Vec<Uuid>>,
}

/// What is asked with an action on many sagas.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StartSagaAction)]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct SagaActionRequest {
    #[schema(inline)]
    filter: SagaActionFilter,
    /// `cancel`, `redrive`, `skip` or `retry-now`.
    action: String,
    /// On how many in a second, at most; 50 if it is left out.
    #[schema(minimum = 1, maximum = 1000)]
    rate_per_second: Option<u32>,
    /// How many in each of the first steps: of a redrive 1, 5, 50 if it is left out, of others none.
    ramp: Option<Vec<u32>>,
    /// Do nothing: say what would be.
    dry_run: Option<bool>,
    /// Why, for the audit and the sagas' history.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Does one verb to many sagas. Which ones is settled now; how it goes on is to be asked for.
#[utoipa::path(
    post, path = "/api/saga-actions", tag = "Saga actions", operation_id = "startSagaAction",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key acts once.")),
    request_body = SagaActionRequest,
    responses((status = 202, description = "It is under way, or a dry run is over.", body = ActionView), BodyProblems),
)]
pub(crate) async fn start_saga_action(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let word = fields.word("action", &VERBS.map(|(verb, _, _)| verb));
    let verb = VERBS.iter().find(|(verb, _, _)| word.as_deref() == Some(verb));
    let ramp: &[u32] = if word.as_deref() == Some("redrive") { &DEFAULT_RAMP } else { &[] };
    let common = Common::of(&mut fields, ramp);
    let filter = fields.object("filter").unwrap_or_default();
    // A condition that is null is none.
    let named = filter.values().any(|value| !value.is_null());
    let mut conditions = Fields::new(filter.clone());
    let status = conditions.optional_word("status", &Status::ALL.map(Status::as_str));
    let status = status.and_then(|text| Status::parse(&text));
    let wanted = SagaFilter {
        definition: conditions.optional_text("definition", MAX_WORD),
        status,
        step: conditions.optional_text("step", MAX_WORD),
        business_key: conditions.optional_text("businessKey", MAX_WORD),
        started_after: conditions.optional_time("startedAfter"),
        started_before: conditions.optional_time("startedBefore"),
    };
    let ids = conditions.optional_uuids("ids", MAX_IDS);
    fields.complain_below("filter", conditions);
    fields.done()?;
    let Some((verb, audit, statuses)) = verb.copied() else {
        return Err(Problem::field("action", "is missing"));
    };
    if !named {
        return Err(Problem::field("filter", "names no condition; one at least is expected"));
    }
    let statuses = status.map_or_else(|| statuses.to_vec(), |status| vec![status.as_str()]);
    let choice = Choice::Sagas { filter: wanted, ids, statuses };
    let wanted = Wanted { common, verb, audit, choice, filter, patch: None };
    make(&app, &asked, &body, Subject::Saga, wanted).await
}

/// Lists actions on many sagas, newest first.
#[utoipa::path(
    get, path = "/api/saga-actions", tag = "Saga actions", operation_id = "listSagaActions",
    params(
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = ActionPage), Problems),
)]
pub(crate) async fn list_saga_actions(app: Arc<App>, asked: Asked) -> Answer {
    list(&app, &asked, Subject::Saga).await
}

/// Shows what has come of an action.
#[utoipa::path(
    get, path = "/api/saga-actions/{id}", tag = "Saga actions", operation_id = "getSagaAction",
    params(("id" = String, Path, description = "The action's id.", format = Uuid)),
    responses((status = 200, description = "The action as it is now.", body = ActionView), NamedProblems),
)]
pub(crate) async fn get_saga_action(app: Arc<App>, asked: Asked) -> Answer {
    show(&app, &asked, Subject::Saga).await
}

/// Lists what became of each saga.
#[utoipa::path(
    get, path = "/api/saga-actions/{id}/sagas", tag = "Saga actions", operation_id = "listSagasOfAction",
    params(
        ("id" = String, Path, description = "The action's id.", format = Uuid),
        ("outcome" = Option<String>, Query, description = "remaining, waiting, succeeded, failed_again, passed_over or examined."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = ItemPage), NamedProblems),
)]
pub(crate) async fn list_acted_on(app: Arc<App>, asked: Asked) -> Answer {
    items(&app, &asked, Subject::Saga).await
}

/// Does nothing more. What was done is followed to its end.
#[utoipa::path(
    post, path = "/api/saga-actions/{id}/cancel", tag = "Saga actions", operation_id = "cancelSagaAction",
    params(
        ("id" = String, Path, description = "The action's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is done; the action as it is now.", body = ActionView), VerbProblems),
)]
pub(crate) async fn cancel_saga_action(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    cancel(&app, &asked, &body, Subject::Saga).await
}
