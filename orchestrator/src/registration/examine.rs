//! Whether a definition may be published: its text, its messages, its participants, and every run of it.

use saga_defs::check::{self, Participants};
use saga_defs::definition::{Definition, DefinitionError, Problem};
use saga_defs::ids::DefinitionRef;
use saga_model::{Bounds, Verdict};
use schemas::Catalog;
use serde::{Deserialize, Serialize};

/// How far the model check goes before it says that a definition is too large for it.
pub const BOUNDS: Bounds = Bounds::WAITED_FOR;

/// What the model check of an accepted definition came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModelCheck {
    /// Different worlds that were looked at.
    pub states: usize,
    /// Whether these were all. If not, nothing wrong was found as far as the bounds let it look.
    pub complete: bool,
}

/// Why a definition may not be published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Everything that is wrong, in order of place; never empty.
    pub problems: Vec<Problem>,
    /// A run that ends wrong, if that is what is wrong with it.
    pub run: Option<String>,
}

/// Reads a definition and holds it against schemas and participants.
///
/// # Errors
/// Every problem.
pub fn read(
    source: &str,
    catalog: &Catalog,
    participants: &Participants,
) -> Result<Definition, DefinitionError> {
    check::check(source, catalog, participants)
}

/// The problems, and where the order of the kinds is the only one, the run that goes wrong for it. Takes as long as
/// [`model`].
pub fn refusal(error: DefinitionError) -> Refusal {
    let DefinitionError { problems, misordered } = error;
    let run = misordered.and_then(|definition| match saga_model::check(&definition, BOUNDS) {
        Verdict::Wrong { transcript, .. } => Some(transcript),
        Verdict::Holds { .. } | Verdict::TooLarge { .. } => None,
    });
    Refusal { problems, run: run.filter(|run| !run.is_empty()) }
}

/// Looks at every run of a definition. Takes up to the time of [`BOUNDS`], and a core.
///
/// # Errors
/// A run ends wrong.
pub fn model(definition: &Definition) -> Result<ModelCheck, Refusal> {
    match saga_model::check(definition, BOUNDS) {
        Verdict::Holds { states } => Ok(ModelCheck { states, complete: true }),
        Verdict::TooLarge { states, .. } => Ok(ModelCheck { states, complete: false }),
        Verdict::Wrong { property, transcript } => {
            let message = format!("it has a run that breaks a promise: {property}");
            let help = Some("change the steps so that this run ends well".to_owned());
            let problem = Problem { line: 1, column: 1, span: 0..0, message, help };
            let run = Some(transcript).filter(|run| !run.is_empty());
            Err(Refusal { problems: vec![problem], run })
        }
    }
}

/// Its version is published with other content.
pub fn other_content(source: &str, id: &DefinitionRef, next: u32) -> Refusal {
    let message = format!("{id} is published with other content, and a published version never changes");
    at_version(source, message, format!("give it version {next}"))
}

/// Another text beside it has the same version and other content.
pub fn there_twice(source: &str, id: &DefinitionRef) -> Refusal {
    let message = format!("another file has {id} with other content");
    at_version(source, message, "give one of them another version".to_owned())
}

fn at_version(source: &str, message: String, help: String) -> Refusal {
    Refusal { problems: vec![Problem::at_version(source, message, help)], run: None }
}
