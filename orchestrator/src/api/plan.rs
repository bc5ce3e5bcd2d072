//! What a version of a definition would change: for the sagas that are open, and for those that there have been.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use saga_defs::compare::Course;
use saga_defs::ids::DefinitionRef;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::definitions::named_definition;
use super::document::NamedProblems;
use super::mount::Asked;
use super::problem::{Answer, json};
use crate::store::plan::RecordedRun;
use crate::versions::{ChangeView, Replayed, changes};

/// So many recorded runs are played again unless the client asks for another number.
const DEFAULT_RUNS: u64 = 50;
/// So many recorded runs are played again at most.
const MAX_RUNS: u64 = 500;

/// Sagas of one version that have not ended. They stay on it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct OpenSagas {
    running: u64,
    compensating: u64,
    stuck: u64,
}

/// Another version, held against the one that was asked for.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct VersionPlan {
    version: u32,
    open: OpenSagas,
    /// What is different from this version to the one that was asked for.
    changes: Vec<ChangeView>,
    /// The newest recorded runs of this version, played again on the one that was asked for.
    histories: Replayed,
}

/// What a version means beside all others of its definition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Plan {
    definition: String,
    version: u32,
    /// Sagas that run on the version itself.
    open: OpenSagas,
    /// Every other version that has open sagas or was among the recorded runs, oldest first.
    others: Vec<VersionPlan>,
}

/// Shows which open sagas stay on which version, what the version asked for changes against each other one, and where
/// their newest recorded runs would have gone another way on it.
#[utoipa::path(
    get, path = "/api/definitions/{name}/{version}/plan", tag = "Definitions", operation_id = "planDefinition",
    params(
        ("name" = String, Path, description = "Its name."),
        ("version" = u32, Path, description = "Its version.", minimum = 1),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "How many recorded runs of other versions are played again, newest first; 50 if it is left out. They are looked for among the newest 20000 sagas."),
    ),
    responses((status = 200, description = "What the version means.", body = Plan), NamedProblems),
)]
pub(crate) async fn get_plan(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let limit = query.limit(DEFAULT_RUNS, MAX_RUNS);
    query.done()?;
    let wanted = named_definition(&app, &asked).await?.definition;
    let name = wanted.id.name.clone();
    let mut versions: BTreeMap<u32, VersionPlan> = BTreeMap::new();
    for count in app.api.reads.open_by_version(&name).await? {
        let open = &mut version_of(&mut versions, count.version).open;
        match count.status.as_str() {
            "compensating" => open.compensating += count.sagas,
            "stuck" => open.stuck += count.sagas,
            _ => open.running += count.sagas,
        }
    }
    let mut runs: BTreeMap<u32, Vec<RecordedRun>> = BTreeMap::new();
    for run in app.api.reads.recorded_runs(&name, wanted.id.version, limit).await? {
        version_of(&mut versions, run.version);
        runs.entry(run.version).or_default().push(run);
    }
    let open = versions.remove(&wanted.id.version).map(|own| own.open).unwrap_or_default();
    for (version, plan) in &mut versions {
        let id = DefinitionRef { name: name.clone(), version: *version };
        // Without it nothing can be said; the log of the start says why it cannot be read.
        let Some(other) = app.definition(&id).await? else { continue };
        plan.changes = changes(&other, &wanted);
        for run in runs.remove(version).unwrap_or_default() {
            let course = Course::of(&other, &wanted, run.saga, &run.moves);
            plan.histories.count(run.saga.to_string(), course);
        }
    }
    let (version, others) = (wanted.id.version, versions.into_values().collect());
    Ok(json(StatusCode::OK, &Plan { definition: name.to_string(), version, open, others }))
}

fn version_of(versions: &mut BTreeMap<u32, VersionPlan>, version: u32) -> &mut VersionPlan {
    versions.entry(version).or_insert_with(|| VersionPlan { version, ..VersionPlan::default() })
}
