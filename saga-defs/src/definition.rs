//! A saga's recipe: TOML, parsed once into types that cannot be wrong. The format is PRODUCT's "Definitions".

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::ids::{DefinitionRef, StepIndex};
use crate::retry::RetryPolicy;

/// A definition has at most this many steps.
pub const MAX_STEPS: usize = 64;
/// A definition's text has at most this many bytes.
pub const MAX_SOURCE_BYTES: usize = 256 * 1024;
/// A command is tried at most this often.
pub const MAX_ATTEMPTS: u32 = 1_000;
/// A name of a definition, step or participant has at most this many characters.
pub const MAX_NAME_LENGTH: usize = 100;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_DEADLINE: Duration = Duration::from_secs(15 * 60);
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// A versioned recipe. Steps are in the order compensatable\* pivot? retriable\*, and there is at least one.
#[derive(Clone, PartialEq, Debug)]
pub struct Definition {
    /// Name and version.
    pub id: DefinitionRef,
    /// The whole saga; then it is cancelled.
    pub deadline: Duration,
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

/// One thing that is wrong with a definition's text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

/// All that is wrong with a definition's text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the definition is refused: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct DefinitionError {
    /// In order of place; never empty.
    pub problems: Vec<Problem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefinition {
    name: Spanned<String>,
    version: Spanned<u32>,
    deadline: Option<Spanned<String>>,
    input: Spanned<String>,
    #[serde(default)]
    step: Vec<Spanned<RawStep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    name: Spanned<String>,
    participant: Spanned<String>,
    kind: Spanned<String>,
    command: Spanned<String>,
    #[serde(default)]
    with: BTreeMap<String, String>,
    reply: Spanned<String>,
    compensation: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    retry: Option<Spanned<RawRetry>>,
    compensation_retry: Option<Spanned<RawRetry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRetry {
    max_attempts: Option<u32>,
    initial: Option<Spanned<String>>,
    max: Option<Spanned<String>>,
    multiplier: Option<f64>,
    jitter: Option<f64>,
}

impl Definition {
    /// Parses a definition's text.
    ///
    /// # Errors
    /// Every problem found, each with its place and what to do.
    pub fn parse(source: &str) -> Result<Self, DefinitionError> {
        let mut reader = Reader { source, problems: Vec::new() };
        if source.len() > MAX_SOURCE_BYTES {
            reader.problem(0..0, format!("the text is longer than {MAX_SOURCE_BYTES} bytes; shorten it"));
            return Err(DefinitionError { problems: reader.problems });
        }
        let raw = match toml::from_str::<RawDefinition>(source) {
            Ok(raw) => raw,
            Err(error) => {
                reader.problem(error.span().unwrap_or(0..0), error.message().to_owned());
                return Err(DefinitionError { problems: reader.problems });
            }
        };
        let definition = reader.definition(raw);
        reader.order(&definition.steps);
        if reader.problems.is_empty() {
            return Ok(definition);
        }
        reader.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(DefinitionError { problems: reader.problems })
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
        let mut field = String::with_capacity(self.id.name.len() + 2);
        let mut upper = false;
        for c in self.id.name.chars() {
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
}

struct Reader<'a> {
    source: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, at: Range<usize>, message: String) {
        let before = self.source.get(..at.start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        self.problems.push(Problem { line, column, message });
    }

    fn definition(&mut self, raw: RawDefinition) -> Definition {
        if *raw.version.get_ref() == 0 {
            self.problem(raw.version.span(), "versions count from 1".to_owned());
        }
        let name = self.name(&raw.name, "definition");
        let deadline = self.duration(raw.deadline.as_ref(), DEFAULT_DEADLINE);
        if raw.step.is_empty() {
            self.problem(0..0, "a definition needs at least one [[step]]".to_owned());
        }
        if raw.step.len() > MAX_STEPS {
            self.problem(raw.step[MAX_STEPS].span(), format!("a definition has at most {MAX_STEPS} steps"));
        }
        let mut steps: Vec<Step> = Vec::new();
        for spanned in raw.step {
            let step_name = spanned.get_ref().name.clone();
            let step = self.step(spanned.into_inner());
            if steps.iter().any(|other| other.name == step.name) {
                let text = format!("step `{}` is there twice; give each step a name of its own", step.name);
                self.problem(step_name.span(), text);
            }
            steps.push(step);
        }
        Definition {
            id: DefinitionRef { name, version: raw.version.into_inner() },
            deadline,
            input: raw.input.into_inner().into(),
            steps,
            source: self.source.into(),
        }
    }

    fn step(&mut self, raw: RawStep) -> Step {
        let kind = self.kind(&raw.kind, raw.compensation.as_ref());
        if let (Some(retry), false) =
            (&raw.compensation_retry, matches!(kind, StepKind::Compensatable { .. }))
        {
            let text = "only a compensatable step has a compensation_retry; remove it".to_owned();
            self.problem(retry.span(), text);
        }
        Step {
            name: self.name(&raw.name, "step"),
            participant: self.name(&raw.participant, "participant"),
            kind,
            command: raw.command.into_inner().into(),
            with: raw.with,
            reply: raw.reply.into_inner().into(),
            timeout: self.duration(raw.timeout.as_ref(), DEFAULT_TIMEOUT),
            retry: self.retry(raw.retry, RetryPolicy::FORWARD),
            compensation_retry: self.retry(raw.compensation_retry, RetryPolicy::COMPENSATION),
        }
    }

    fn kind(&mut self, kind: &Spanned<String>, compensation: Option<&Spanned<String>>) -> StepKind {
        match (kind.get_ref().as_str(), compensation) {
            ("compensatable", Some(message)) => {
                StepKind::Compensatable { compensation: message.get_ref().as_str().into() }
            }
            ("compensatable", None) => {
                let text = "a compensatable step needs `compensation`, the command that undoes it".to_owned();
                self.problem(kind.span(), text);
                StepKind::Compensatable { compensation: "".into() }
            }
            ("pivot", None) => StepKind::Pivot,
            ("retriable", None) => StepKind::Retriable,
            ("pivot" | "retriable", Some(message)) => {
                let text = format!(
                    "a {} step is never compensated; remove `compensation` or make the step compensatable",
                    kind.get_ref()
                );
                self.problem(message.span(), text);
                StepKind::Pivot
            }
            (other, _) => {
                let text = format!("kind `{other}` is not known; it is compensatable, pivot or retriable");
                self.problem(kind.span(), text);
                StepKind::Pivot
            }
        }
    }

    /// Names become topic names and header values, so they keep to what Kafka allows in a topic.
    fn name(&mut self, name: &Spanned<String>, what: &str) -> Arc<str> {
        let text = name.get_ref();
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if text.is_empty() || text.len() > MAX_NAME_LENGTH || !plain || text.starts_with('.') {
            let message = format!(
                "{what} name `{text}`: use 1 to {MAX_NAME_LENGTH} letters, digits, `-`, `_` and `.`, not beginning with a dot"
            );
            self.problem(name.span(), message);
        }
        text.as_str().into()
    }

    fn duration(&mut self, text: Option<&Spanned<String>>, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        match humantime::parse_duration(text.get_ref()) {
            Ok(length) if length > Duration::ZERO && length <= MAX_DURATION => length,
            Ok(_) => {
                let message = format!("`{}` must be longer than nothing and at most a year", text.get_ref());
                self.problem(text.span(), message);
                default
            }
            Err(_) => {
                let message =
                    format!("`{}` is not a duration; write e.g. 200ms, 5s, 15m, 2h", text.get_ref());
                self.problem(text.span(), message);
                default
            }
        }
    }

    fn retry(&mut self, raw: Option<Spanned<RawRetry>>, default: RetryPolicy) -> RetryPolicy {
        let Some(spanned) = raw else { return default };
        let (span, raw) = (spanned.span(), spanned.into_inner());
        let initial = self.duration(raw.initial.as_ref(), default.initial);
        let policy = RetryPolicy {
            max_attempts: raw.max_attempts.unwrap_or(default.max_attempts),
            initial,
            max: self.duration(raw.max.as_ref(), default.max.max(initial)),
            multiplier: raw.multiplier.unwrap_or(default.multiplier),
            jitter: raw.jitter.unwrap_or(default.jitter),
        };
        let checks = [
            (
                (1..=MAX_ATTEMPTS).contains(&policy.max_attempts),
                format!("max_attempts is 1 to {MAX_ATTEMPTS}"),
            ),
            ((1.0..=100.0).contains(&policy.multiplier), "multiplier is 1.0 to 100.0".to_owned()),
            ((0.0..=1.0).contains(&policy.jitter), "jitter is 0.0 to 1.0".to_owned()),
            (policy.max >= policy.initial, "max is not shorter than initial".to_owned()),
        ];
        for (_, message) in checks.into_iter().filter(|(fine, _)| !fine) {
            self.problem(span.clone(), message);
        }
        policy
    }

    fn order(&mut self, steps: &[Step]) {
        let rank = |step: &Step| match step.kind {
            StepKind::Compensatable { .. } => 0,
            StepKind::Pivot => 1,
            StepKind::Retriable => 2,
        };
        for pair in steps.windows(2) {
            let (first, second) = (&pair[0], &pair[1]);
            let wrong = rank(first) > rank(second) || (rank(first) == 1 && rank(second) == 1);
            if wrong {
                let text = format!(
                    "step `{}` ({}) cannot come after `{}` ({}): the order is compensatable steps, at most one pivot, retriable steps",
                    second.name,
                    second.kind.as_str(),
                    first.name,
                    first.kind.as_str()
                );
                let at = self.source.find(&format!("\"{}\"", second.name)).unwrap_or(0);
                self.problem(at..at, text);
            }
        }
    }
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
