//! Redrives: many dead letters sent again, at a pace, with an eye on the outcome.

use std::sync::Arc;

use saga_defs::Data;
use saga_defs::ids::SagaId;
use utoipa::ToSchema;
use uuid::Uuid;

use super::app::App;
use super::body::Body;
use super::bulk::{Common, DEFAULT_RAMP, MAX_IDS, Wanted, cancel, items, list, make, show};
use super::bulk_view::{ActionPage, ActionView, ItemPage};
use super::document::{BodyProblems, NamedProblems, Problems, VerbProblems};
use super::fields::Fields;
use super::mount::Asked;
use super::problem::Answer;
use super::sagas::forced_allowed;
use super::verbs::VerbRequest;
use crate::store::bulk::Subject;
use crate::store::bulk_choice::Choice;
use crate::store::letter_list::LetterFilter;

/// Characters of a reason in a filter.
const MAX_WORD: usize = 255;

/// Which letters: open ones of which every condition holds.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RedriveFilter)]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct RedriveFilter {
    /// `open`, which is also meant where it is left out.
    status: Option<String>,
    /// Of this reason.
    reason: Option<String>,
    /// Of this saga.
    saga_id: Option<Uuid>,
    /// Of this group.
    group: Option<Uuid>,
    /// Only these.
    ids: Option<Vec<Uuid>>,
}

/// What is asked with a redrive of many letters.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StartRedrive)]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct RedriveManyRequest {
    #[schema(inline)]
    filter: RedriveFilter,
    /// How many are sent in a second, at most; 50 if it is left out.
    #[schema(minimum = 1, maximum = 1000)]
    rate_per_second: Option<u32>,
    /// How many are sent in each of the first steps, and their outcomes waited for: 1, 5, 50 if it is left out. Empty: no
    /// steps.
    ramp: Option<Vec<u32>>,
    /// Send nothing: say what would be.
    dry_run: Option<bool>,
    /// A JSON merge patch (RFC 7396) for the value of each letter; what comes out must be what its schema takes.
    #[schema(value_type = Option<Object>)]
    patch: Option<Data>,
    /// Why, for the audit and the letters' lineage.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Sends many letters again. Which ones is settled now; how it goes on is to be asked for.
#[utoipa::path(
    post, path = "/api/redrives", tag = "Redrives", operation_id = "startRedrive",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key acts once.")),
    request_body = RedriveManyRequest,
    responses((status = 202, description = "It is under way, or a dry run is over.", body = ActionView), BodyProblems),
)]
pub(crate) async fn start_redrive(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let common = Common::of(&mut fields, &DEFAULT_RAMP);
    let patch = fields.optional_object("patch");
    let filter = fields.object("filter").unwrap_or_default();
    let mut conditions = Fields::new(filter.clone());
    conditions.optional_word("status", &["open"]);
    let wanted = LetterFilter {
        status: None,
        reason: conditions.optional_text("reason", MAX_WORD),
        saga: conditions.optional_uuid("sagaId").map(SagaId::from_uuid),
        group: conditions.optional_uuid("group"),
    };
    let ids = conditions.optional_uuids("ids", MAX_IDS);
    fields.complain_below("filter", conditions);
    fields.done()?;
    if let Some(patch) = &patch {
        forced_allowed(&app, patch, "patch")?;
    }
    let choice = Choice::Letters { filter: wanted, ids };
    let wanted = Wanted { common, verb: "redrive", audit: "redrive-dead-letters", choice, filter, patch };
    make(&app, &asked, &body, Subject::Letter, wanted).await
}

/// Lists redrives, newest first.
#[utoipa::path(
    get, path = "/api/redrives", tag = "Redrives", operation_id = "listRedrives",
    params(
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = ActionPage), Problems),
)]
pub(crate) async fn list_redrives(app: Arc<App>, asked: Asked) -> Answer {
    list(&app, &asked, Subject::Letter).await
}

/// Shows what has come of a redrive.
#[utoipa::path(
    get, path = "/api/redrives/{id}", tag = "Redrives", operation_id = "getRedrive",
    params(("id" = String, Path, description = "The redrive's id.", format = Uuid)),
    responses((status = 200, description = "The redrive as it is now.", body = ActionView), NamedProblems),
)]
pub(crate) async fn get_redrive(app: Arc<App>, asked: Asked) -> Answer {
    show(&app, &asked, Subject::Letter).await
}

/// Lists what became of each letter.
#[utoipa::path(
    get, path = "/api/redrives/{id}/letters", tag = "Redrives", operation_id = "listRedrivenLetters",
    params(
        ("id" = String, Path, description = "The redrive's id.", format = Uuid),
        ("outcome" = Option<String>, Query, description = "remaining, waiting, succeeded, failed_again, passed_over or examined."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = ItemPage), NamedProblems),
)]
pub(crate) async fn list_redriven(app: Arc<App>, asked: Asked) -> Answer {
    items(&app, &asked, Subject::Letter).await
}

/// Sends nothing more. What was sent is followed to its end.
#[utoipa::path(
    post, path = "/api/redrives/{id}/cancel", tag = "Redrives", operation_id = "cancelRedrive",
    params(
        ("id" = String, Path, description = "The redrive's id.", format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is done; the redrive as it is now.", body = ActionView), VerbProblems),
)]
pub(crate) async fn cancel_redrive(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    cancel(&app, &asked, &body, Subject::Letter).await
}
