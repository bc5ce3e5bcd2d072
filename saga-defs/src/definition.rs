//! A saga's recipe: TOML, parsed once into types that cannot be wrong. The format is PRODUCT's "Definitions".

pub(crate) mod keys;
mod order;
pub(crate) mod outline;
mod print;
pub(crate) mod problem;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{DefinitionRef, StepIndex};
use crate::retry::RetryPolicy;

use outline::Outline;
use problem::Problems;
pub use problem::{DefinitionError, Problem};

/// A definition has at most this many steps.
pub const MAX_STEPS: usize = 64;
/// A definition's text has at most this many bytes.
pub const MAX_SOURCE_BYTES: usize = 256 * 1024;
/// A command is tried at most this often.
pub const MAX_ATTEMPTS: u32 = 1_000;
/// A name of a definition, step or participant has at most this many characters.
pub const MAX_NAME_LENGTH: usize = 100;
/// The highest version: the database keeps it in a signed integer of 32 bits.
pub const MAX_VERSION: u32 = i32::MAX as u32;
/// No duration of a definition is longer.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);
/// No more problems than this are reported at once.
pub const MAX_PROBLEMS: usize = 100;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// A versioned recipe. Steps are in the order compensatable\* pivot? retriable\*, and there is at least one.
#[derive(Clone, PartialEq, Debug)]
pub struct Definition {
    /// Name and version.
    pub id: DefinitionRef,
    /// The whole saga; then it is cancelled.
    pub deadline: Duration,
    /// Whether its deadline stands still while a saga waits for a participant that is held.
    pub deadline_stands_while_held: bool,
    /// The Avro record whose fields are the saga's first data.
    pub input: Arc<str>,
    /// The steps.
    pub steps: Vec<Step>,
    /// The text it was parsed from.
    pub source: Arc<str>,
}

/// One entry of the recipe.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Unique in its definition.
    pub name: Arc<str>,
    /// Who performs it; its topic is `<participant>.commands`.
    pub participant: Arc<str>,
    /// What may happen to it.
    pub kind: StepKind,
    /// The Avro record of the command; its fields are filled by name from the saga's data.
    pub command: Arc<str>,
    /// Command or compensation fields filled from another name of the data.
    pub with: BTreeMap<String, String>,
    /// The Avro record of the reply; its fields are added to the saga's data.
    pub reply: Arc<str>,
    /// How long to wait for an answer to one attempt.
    pub timeout: Duration,
    /// Retries of the command.
    pub retry: RetryPolicy,
    /// Retries of the compensation.
    pub compensation_retry: RetryPolicy,
}

/// What may happen to a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepKind {
    /// It can be undone.
    Compensatable {
        /// The Avro record of the command that undoes it.
        compensation: Arc<str>,
    },
    /// The last step that business rules may refuse; never compensated.
    Pivot,
    /// It comes after the point of no return and is tried until it succeeds.
    Retriable,
}

impl StepKind {
    /// As in the definition's text.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Compensatable { .. } => "compensatable",
            Self::Pivot => "pivot",
            Self::Retriable => "retriable",
        }
    }
}

impl Definition {
    /// Parses a definition's text. Whether its messages have schemas and fit together is [`crate::check::check`]'s.
    ///
    /// # Errors
    /// Every problem found, each with its place and what to do.
    pub fn parse(source: &str) -> Result<Self, DefinitionError> {
        let mut problems = Problems::new(source);
        let outline = Outline::read(source, &mut problems);
        outline.finish(source, problems)
    }

    /// Whether both say the same: everything but the texts they were parsed from, which may differ in comments,
    /// spacing and in what is left to defaults.
    pub fn same_recipe(&self, other: &Self) -> bool {
        let Self { id, deadline, deadline_stands_while_held, input, steps, source: _ } = self;
        *id == other.id
            && *deadline == other.deadline
            && *deadline_stands_while_held == other.deadline_stands_while_held
            && *input == other.input
            && *steps == other.steps
    }

    /// The step at this position; `None` past the end.
    pub fn step(&self, index: StepIndex) -> Option<&Step> {
        self.steps.get(index.at())
    }

    /// The names of the participants, each once, in order.
    pub fn participants(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.steps.iter().map(|step| step.participant.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The name under which the saga's own id stands in its data besides `sagaId`: the definition's name in camel case
    /// and `Id`, e.g. `bookingId`.
    pub fn id_field(&self) -> String {
        id_field(&self.id.name)
    }
}

/// See [`Definition::id_field`].
pub(crate) fn id_field(definition: &str) -> String {
    let mut field = String::with_capacity(definition.len() + 2);
    let mut upper = false;
    for c in definition.chars() {
        match c {
            '-' | '_' | '.' => upper = true,
            c if upper => {
                field.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => field.push(c),
        }
    }
    field.push_str("Id");
    field
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
