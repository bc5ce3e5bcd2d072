//! What everything open waits for, counted by cause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::StatusCode;
use saga_defs::ids::{DefinitionRef, StepIndex};
use saga_defs::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::document::Problems;
use super::mount::Asked;
use super::problem::{Answer, Problem, json};
use super::wire::{StatusView, step_name};
use super::words::WaitsForView;
use crate::engine::clock;
use crate::participants::Participant;
use crate::store::why::{Cause, LOOKED_AT};

/// Causes that are shown.
const MAX_CAUSES: usize = 100;

/// Open sagas that wait for the same.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Cause)]
pub(crate) struct CauseView {
    definition: String,
    step: String,
    participant: String,
    /// `forward` or `compensation`.
    direction: String,
    /// Who would try again waits for the participant while that is held or paused.
    waits_for: WaitsForView,
    #[schema(value_type = StatusView)]
    status: String,
    /// What was said last, as a stable code; null: nothing went wrong so far.
    #[schema(required)]
    error: Option<String>,
    /// How many sagas.
    sagas: i64,
    /// Since when the oldest of them has not moved.
    #[schema(format = DateTime)]
    oldest: String,
    /// That one.
    #[schema(format = Uuid)]
    oldest_saga_id: String,
}

/// What everything open waits for, most sagas first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Causes)]
pub(crate) struct CausesView {
    causes: Vec<CauseView>,
    /// Open sagas that were counted.
    counted: i64,
    /// Whether all open sagas were.
    complete: bool,
    /// What was not counted; null: nothing.
    #[schema(required)]
    not_counted: Option<String>,
    #[schema(format = DateTime)]
    as_of: String,
}

/// Says what everything open waits for: causes with how many sagas each, most first.
#[utoipa::path(
    get, path = "/api/why", tag = "Operators", operation_id = "whyAll",
    responses((status = 200, description = "The causes.", body = CausesView), Problems),
)]
pub(crate) async fn why_all(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let found = app.api.reads.causes().await?;
    let counted = found.causes.iter().map(|cause| cause.sagas).sum();
    let held = held(&app).await?;
    let mut together: BTreeMap<[String; 6], CauseView> = BTreeMap::new();
    for cause in found.causes {
        let mut cause = cause_view(&app, cause).await?;
        if cause.waits_for == WaitsForView::Retry && held.contains(&*cause.participant) {
            cause.waits_for = WaitsForView::Participant;
        }
        let key = key(&cause);
        match together.get_mut(&key) {
            // Another version of the definition.
            Some(same) => {
                same.sagas += cause.sagas;
                if cause.oldest < same.oldest {
                    (same.oldest, same.oldest_saga_id) = (cause.oldest, cause.oldest_saga_id);
                }
            }
            None => drop(together.insert(key, cause)),
        }
    }
    let mut causes: Vec<CauseView> = together.into_values().collect();
    causes.sort_by(|a, b| b.sagas.cmp(&a.sagas).then_with(|| a.oldest.cmp(&b.oldest)));
    let mut not_counted = Vec::new();
    if !found.all_waiting {
        let most = LOOKED_AT;
        not_counted.push(format!(
            "of the sagas that wait, only those among the {most} oldest and the {most} newest"
        ));
    }
    if !found.all_letters {
        let most = LOOKED_AT;
        not_counted.push(format!(
            "of the stuck ones, only those of the {most} newest open dead letters, and of the {most} newest that were put aside"
        ));
    }
    if causes.len() > MAX_CAUSES {
        not_counted
            .push(format!("only the {MAX_CAUSES} causes with the most sagas are shown, of {}", causes.len()));
        causes.truncate(MAX_CAUSES);
    }
    let view = CausesView {
        causes,
        counted,
        complete: not_counted.is_empty(),
        not_counted: (!not_counted.is_empty()).then(|| not_counted.join("; ")),
        as_of: clock::now().to_string(),
    };
    Ok(json(StatusCode::OK, &view))
}

/// Participants that some process asks nothing at the moment, or not yet everything.
async fn held(app: &App) -> Result<BTreeSet<Arc<str>>, Problem> {
    let all = app.api.participants.all([]).await?;
    Ok(all.into_iter().filter(Participant::is_held).map(|participant| participant.line.participant).collect())
}

/// What makes two causes the same, whatever the definition's version.
fn key(cause: &CauseView) -> [String; 6] {
    [
        cause.definition.clone(),
        cause.step.clone(),
        cause.direction.clone(),
        format!("{:?}", cause.waits_for),
        cause.status.clone(),
        cause.error.clone().unwrap_or_default(),
    ]
}

async fn cause_view(app: &App, cause: Cause) -> Result<CauseView, Problem> {
    let id = DefinitionRef {
        name: cause.definition.as_str().into(),
        version: u32::try_from(cause.version).unwrap_or_default(),
    };
    let definition = app.definition(&id).await?;
    let step = StepIndex(u16::try_from(cause.step).unwrap_or(u16::MAX));
    let participant = definition.as_deref().and_then(|found| found.step(step));
    Ok(CauseView {
        step: step_name(definition.as_deref(), step),
        participant: participant.map_or_else(|| "unknown".to_owned(), |step| step.participant.to_string()),
        definition: cause.definition,
        direction: cause.direction,
        waits_for: match &*cause.waits_for {
            "retry" => WaitsForView::Retry,
            "operator" => WaitsForView::Operator,
            _ => WaitsForView::Reply,
        },
        status: cause.status,
        error: cause.code,
        sagas: cause.sagas,
        oldest: Timestamp::from_utc(cause.oldest).to_string(),
        oldest_saga_id: cause.example.to_string(),
    })
}
