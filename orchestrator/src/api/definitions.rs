//! The definitions that sagas can be started by.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use messaging::topics::TopicError;
use saga_defs::definition::Definition;
use saga_defs::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::candidate::place;
use super::document::{BodyProblems, NamedProblems, Problems};
use super::mount::Asked;
use super::problem::{Answer, FieldError, Kind, Problem, chain, json};
use crate::definitions::Entry;
use crate::registration::brought::WrongSchema;
use crate::registration::examine::{ModelCheck, Refusal};
use crate::registration::{Candidate, RegisterError};

/// What clients are told to wait when the broker is away, or others publish or are checked.
const RETRY: Duration = Duration::from_secs(2);

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
#[serde(rename_all = "camelCase")]
#[schema(as = Definition)]
pub(crate) struct DefinitionView {
    #[serde(flatten)]
    item: DefinitionItem,
    /// The TOML it was published as.
    source: String,
    /// When it was published.
    #[schema(format = DateTime)]
    registered_at: Option<String>,
    /// What the model check said of all its runs before it was published; `null`: there was none.
    model_check: Option<ModelCheckView>,
}

/// What the model check of a definition came to: no run that ends wrong was found.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelCheck)]
pub(crate) struct ModelCheckView {
    /// How many different states of saga and world were looked at.
    states: usize,
    /// Whether these were all; `false` for a definition that is too large to look at all of them.
    complete: bool,
}

impl From<ModelCheck> for ModelCheckView {
    fn from(said: ModelCheck) -> Self {
        Self { states: said.states, complete: said.complete }
    }
}

impl DefinitionView {
    fn of(entry: &Entry) -> Self {
        Self {
            item: DefinitionItem::of(&entry.definition),
            source: entry.definition.source.to_string(),
            registered_at: entry.registered_at.map(|at| Timestamp::from_utc(at).to_string()),
            model_check: entry.model_check.map(ModelCheckView::from),
        }
    }
}

/// A definition that would be published.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CheckedDefinition)]
pub(crate) struct CheckedView {
    #[serde(flatten)]
    item: DefinitionItem,
    /// Whether this very version is published already.
    published: bool,
    /// What the model check said of all its runs; null of one that is published.
    #[schema(required)]
    model_check: Option<ModelCheckView>,
}

/// A definition that brings schemas of its own.
#[derive(ToSchema)]
#[schema(as = RegisterDefinition)]
#[expect(dead_code, reason = "it is read field by field; this is its form for the document")]
pub(crate) struct RegisterRequest {
    /// The definition, as TOML.
    definition: String,
    /// Avro records, each as an object or as a text, at most 256. One that is known with the same content is left as it
    /// is, one with other content becomes the next version of its record, which the
    /// definition must use, and which must break none that is published.
    #[schema(required = false, value_type = Vec<Object>)]
    schemas: Vec<serde_json::Value>,
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
    let found = named_definition(&app, &asked).await?;
    Ok(json(StatusCode::OK, &DefinitionView::of(&found)))
}

/// The definition that a path names.
pub(crate) async fn named_definition(app: &App, asked: &Asked) -> Result<Entry, Problem> {
    let none = || Problem::new(Kind::NotFound, "there is no such definition");
    let [name, version] = asked.params.as_slice() else { return Err(none()) };
    let version = version.parse().map_err(|_| none())?;
    let id = saga_defs::ids::DefinitionRef { name: name.as_str().into(), version };
    app.api.registrar.find(&id).await?.ok_or_else(none)
}

/// Publishes a definition, with schemas of its own if it brings any. Publishing the same again changes nothing.
#[utoipa::path(
    post, path = "/api/definitions", tag = "Definitions", operation_id = "registerDefinition",
    request_body(content(
        (String = "application/toml"),
        (RegisterRequest = "application/json"),
    )),
    responses(
        (
            status = 201, body = DefinitionView,
            description = "It is published. This process starts sagas of it from now on, the others within 2 seconds.",
            headers(("Location" = String, description = "The definition.")),
        ),
        BodyProblems,
    ),
)]
pub(crate) async fn register_definition(app: Arc<App>, asked: Asked, candidate: Candidate) -> Answer {
    asked.no_query()?;
    let actor = app.actor(&asked)?;
    let entry = app.api.registrar.register(&candidate, &actor).await.map_err(refused)?;
    let mut response = json(StatusCode::CREATED, &DefinitionView::of(&entry));
    let id = &entry.definition.id;
    if let Ok(place) = HeaderValue::from_str(&format!("/api/definitions/{}/{}", id.name, id.version)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Holds a definition against everything that is published, as publishing it would, and looks at all its runs. Nothing is
/// published.
#[utoipa::path(
    post, path = "/api/definitions/check", tag = "Definitions", operation_id = "checkDefinition",
    request_body(content(
        (String = "application/toml"),
        (RegisterRequest = "application/json"),
    )),
    responses((status = 200, body = CheckedView, description = "It would be published."), BodyProblems),
)]
pub(crate) async fn check_definition(app: Arc<App>, asked: Asked, candidate: Candidate) -> Answer {
    asked.no_query()?;
    let examined = app.api.registrar.examine(&candidate).await.map_err(refused)?;
    let view = CheckedView {
        item: DefinitionItem::of(&examined.definition),
        published: examined.is_published,
        model_check: examined.model_check.map(ModelCheckView::from),
    };
    Ok(json(StatusCode::OK, &view))
}

fn refused(error: RegisterError) -> Problem {
    let text = error.to_string();
    match error {
        RegisterError::Refused { schemas, definition } => {
            let of_schema = |wrong: &WrongSchema| FieldError::new(place(wrong.position), wrong.fault.told());
            let mut errors: Vec<FieldError> = schemas.iter().map(of_schema).collect();
            errors.extend(definition.iter().flat_map(of_text));
            Problem::fields(Kind::Definition, errors).showing(definition.and_then(|refusal| refusal.run))
        }
        RegisterError::OtherContent(refusal) => Problem::fields(Kind::Published, of_text(&refusal).collect()),
        RegisterError::Topic(TopicError::Partitions { .. } | TopicError::Missing { .. }) => {
            Problem::new(Kind::Refused, format!("the commands of a participant cannot be sent: {text}"))
        }
        RegisterError::Topic(TopicError::NotCreated { .. }) => {
            Problem::new(Kind::Refused, format!("{text}; create it, then register the definition again"))
        }
        RegisterError::Topic(error) => {
            let error = chain(&error);
            tracing::warn!(error, "a definition could not be registered: the broker is away");
            let text = "the broker cannot be asked for the topics of the participants at the moment";
            Problem::new(Kind::Unavailable, text).retry_after(RETRY)
        }
        RegisterError::Registry(error) if error.passes() => {
            tracing::warn!(%error, "a definition could not be registered");
            let text = "the schema registry cannot be asked for the ids of the schemas at the moment";
            Problem::new(Kind::Unavailable, text).retry_after(RETRY)
        }
        RegisterError::Registry(_) => Problem::new(Kind::Refused, text),
        RegisterError::Contended | RegisterError::Crowded(_) => {
            Problem::new(Kind::Busy, text).retry_after(RETRY)
        }
        RegisterError::Store(error) => error.into(),
    }
}

fn of_text(refusal: &Refusal) -> impl Iterator<Item = FieldError> {
    refusal.problems.iter().map(|problem| FieldError::of_text("definition", problem))
}
