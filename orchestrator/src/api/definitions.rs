//! The definitions that sagas can be started by.

use std::sync::Arc;

use http::StatusCode;
use saga_defs::definition::Definition;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::document::{NamedProblems, Problems};
use super::mount::Asked;
use super::problem::{Answer, Kind, Problem, json};

/// One step of a recipe.
#[derive(Serialize, ToSchema)]
pub(crate) struct DefinitionStep {
    name: String,
    /// `compensatable`, `pivot` or `retriable`.
    kind: &'static str,
    participant: String,
}

/// A recipe in a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct DefinitionItem {
    name: String,
    version: u32,
    /// The Avro record of its input.
    input: String,
    steps: Vec<DefinitionStep>,
}

impl DefinitionItem {
    fn of(definition: &Definition) -> Self {
        let step = |step: &saga_defs::definition::Step| DefinitionStep {
            name: step.name.to_string(),
            kind: step.kind.as_str(),
            participant: step.participant.to_string(),
        };
        Self {
            name: definition.id.name.to_string(),
            version: definition.id.version,
            input: definition.input.to_string(),
            steps: definition.steps.iter().map(step).collect(),
        }
    }
}

/// All recipes, by name and version.
#[derive(Serialize, ToSchema)]
pub(crate) struct DefinitionList {
    items: Vec<DefinitionItem>,
}

/// A recipe with its text.
#[derive(Serialize, ToSchema)]
#[schema(as = Definition)]
pub(crate) struct DefinitionView {
    #[serde(flatten)]
    item: DefinitionItem,
    /// The TOML it was published as.
    source: String,
}

/// Lists the definitions.
#[utoipa::path(
    get, path = "/api/definitions", tag = "Definitions", operation_id = "listDefinitions",
    responses((status = 200, description = "All of them.", body = DefinitionList), Problems),
)]
pub(crate) async fn list_definitions(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let items = app.api.definitions.all().iter().map(|definition| DefinitionItem::of(definition)).collect();
    Ok(json(StatusCode::OK, &DefinitionList { items }))
}

/// Shows a definition.
#[utoipa::path(
    get, path = "/api/definitions/{name}/{version}", tag = "Definitions", operation_id = "getDefinition",
    params(
        ("name" = String, Path, description = "Its name."),
        ("version" = u32, Path, description = "Its version.", minimum = 1),
    ),
    responses((status = 200, description = "The definition and its text.", body = DefinitionView), NamedProblems),
)]
pub(crate) async fn get_definition(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let none = || Problem::new(Kind::NotFound, "there is no such definition");
    let [name, version] = asked.params.as_slice() else { return Err(none()) };
    let version = version.parse().map_err(|_| none())?;
    let id = saga_defs::ids::DefinitionRef { name: name.as_str().into(), version };
    let found = app.definition(&id).await?.ok_or_else(none)?;
    let view = DefinitionView { item: DefinitionItem::of(&found), source: found.source.to_string() };
    Ok(json(StatusCode::OK, &view))
}
