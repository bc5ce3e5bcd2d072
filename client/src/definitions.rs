//! The definitions that sagas are started by.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::call::Call;
use crate::error::Error;
use crate::http::Client;
use crate::sagas::StepKind;

/// One step of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionStep {
    /// Unique in the definition.
    pub name: String,
    /// What may become of it.
    pub kind: StepKind,
    /// Who performs it.
    pub participant: String,
}

/// A definition in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionItem {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// The Avro record of its input.
    pub input: String,
    /// Its steps, in order.
    pub steps: Vec<DefinitionStep>,
}

/// All definitions, by name and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionList {
    /// The definitions.
    pub items: Vec<DefinitionItem>,
}

/// What the model check of a definition came to: no run that ends wrong was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCheck {
    /// How many different states of saga and world were looked at.
    pub states: u64,
    /// Whether these were all; `false` for a definition that is too large to look at all of them.
    pub complete: bool,
}

/// A definition with its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// What a list shows of it.
    #[serde(flatten)]
    pub item: DefinitionItem,
    /// The TOML it was published as.
    pub source: String,
    /// When it was published.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub registered_at: Option<OffsetDateTime>,
    /// What the model check said of all its runs before it was published; none: there was none.
    pub model_check: Option<ModelCheck>,
}

/// A definition that would be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckedDefinition {
    /// What a list would show of it.
    #[serde(flatten)]
    pub item: DefinitionItem,
    /// Whether this very version is published already.
    pub published: bool,
    /// What the model check said of all its runs; none of one that is published.
    pub model_check: Option<ModelCheck>,
}

/// One change from an older to a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionChange {
    /// What is different, e.g. `step charge-payment: timeout 5s -> 9s`.
    pub change: String,
    /// What it means for sagas that run on the older version; they stay on it.
    pub for_running: String,
    /// What it means for sagas that start on the newer version.
    pub for_new: String,
}

/// A place where recorded runs would have gone another way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergingRuns {
    /// The saga's revision afterwards.
    pub revision: u32,
    /// What happened, e.g. `charge-payment rejected`.
    pub event: String,
    /// What followed, e.g. `undo reserve-booking #1`.
    pub expected: String,
    /// What would have followed; `ignored` and why where nothing would.
    pub got: String,
    /// Which sagas.
    pub runs: Vec<String>,
}

/// What became of recorded runs that were played again on another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayedRuns {
    /// How many went the same way, transition by transition.
    pub same: u64,
    /// How many could not be played: their beginning is not in the journal any more.
    pub unknown: u64,
    /// The places where the others part.
    pub diverging: Vec<DivergingRuns>,
}

/// Sagas of one version that have not ended. They stay on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSagas {
    /// Going forward.
    pub running: u64,
    /// Undoing.
    pub compensating: u64,
    /// Waiting for an operator.
    pub stuck: u64,
}

/// Another version, held against the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionPlan {
    /// Which one.
    pub version: u32,
    /// Its open sagas.
    pub open: OpenSagas,
    /// What is different from this version to the one that was asked for.
    pub changes: Vec<DefinitionChange>,
    /// The newest recorded runs of this version, played again on the one that was asked for.
    pub histories: ReplayedRuns,
}

/// What a version means beside all others of its definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The definition's name.
    pub definition: String,
    /// The version that was asked for.
    pub version: u32,
    /// Sagas that run on it.
    pub open: OpenSagas,
    /// Every other version that has open sagas or was among the recorded runs, oldest first.
    pub others: Vec<VersionPlan>,
}

/// A definition to be published.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewDefinition {
    definition: String,
    schemas: Vec<Value>,
}

impl NewDefinition {
    /// With this text, in TOML.
    pub fn of(source: impl Into<String>) -> Self {
        Self { definition: source.into(), schemas: Vec::new() }
    }

    /// Brings an Avro record: as an object, or as its text. At most 256.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<Value>) -> Self {
        self.schemas.push(schema.into());
        self
    }
}

/// What can be done with definitions: [`Client::definitions`].
#[derive(Clone, Debug)]
pub struct Definitions(pub(crate) Client);

impl Definitions {
    /// All definitions.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn list(&self) -> Result<DefinitionList, Error> {
        self.0.json(Call::get("/api/definitions")).await
    }

    /// One definition with its text.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn get(&self, name: &str, version: u32) -> Result<Definition, Error> {
        self.0.json(Call::get("/api/definitions/{name}/{version}").at(name).at(version)).await
    }

    /// Publishes a definition. Publishing the same again changes nothing.
    ///
    /// # Errors
    /// It is refused, with every reason in [`crate::Problem::errors`]; or whether it was published is not known.
    pub async fn register(&self, definition: &NewDefinition) -> Result<Definition, Error> {
        self.0.json(Call::post("/api/definitions", None).json(definition)?).await
    }

    /// Holds it against everything that is published, as publishing it would, and looks at all its runs. Nothing is
    /// published.
    ///
    /// # Errors
    /// It would be refused ([`crate::ProblemKind::Definition`] and the like), or there is no answer.
    pub async fn check(&self, definition: &NewDefinition) -> Result<CheckedDefinition, Error> {
        self.0.json(Call::post("/api/definitions/check", None).json(definition)?).await
    }

    /// What a version changes, for open sagas and for those that there have been; `runs` recorded ones are played again,
    /// up to 500.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn plan(&self, name: &str, version: u32, runs: Option<u32>) -> Result<Plan, Error> {
        let call =
            Call::get("/api/definitions/{name}/{version}/plan").at(name).at(version).query("limit", runs);
        self.0.json(call).await
    }
}
