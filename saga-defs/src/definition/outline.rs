//! The text as far as it can be read, with places: what further checks work on, also when something is wrong.

use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::keys::{Found, Keys, Place, shown};
use super::problem::Problems;
use super::{
    DEFAULT_DEADLINE, DEFAULT_TIMEOUT, Definition, DefinitionError, MAX_SOURCE_BYTES, MAX_STEPS, MAX_VERSION,
    Step, StepKind, order, values,
};
use crate::ids::DefinitionRef;
use crate::retry::RetryPolicy;
use crate::spelling::did_you_mean;

/// A definition, as far as it was read. What is `None` is missing or wrong, and was reported.
#[derive(Default)]
pub(crate) struct Outline {
    pub(crate) name: Option<Spanned<Arc<str>>>,
    pub(crate) version: Option<Spanned<u32>>,
    deadline: Duration,
    deadline_stands_while_held: bool,
    pub(crate) input: Option<Spanned<Arc<str>>>,
    pub(crate) steps: Vec<StepOutline>,
}

/// A step, as far as it was read.
pub(crate) struct StepOutline {
    pub(crate) name: Option<Spanned<Arc<str>>>,
    pub(crate) participant: Option<Spanned<Arc<str>>>,
    pub(crate) kind: Option<Spanned<Kind>>,
    pub(crate) command: Option<Spanned<Arc<str>>>,
    pub(crate) with: Vec<Mapping>,
    pub(crate) reply: Option<Spanned<Arc<str>>>,
    pub(crate) compensation: Option<Spanned<Arc<str>>>,
    timeout: Duration,
    retry: RetryPolicy,
    compensation_retry: RetryPolicy,
}

/// One entry of `with`.
pub(crate) struct Mapping {
    /// The field that is filled.
    pub(crate) field: Spanned<String>,
    /// The name in the data that it is filled from.
    pub(crate) from: Spanned<String>,
}

/// A step's kind, as its text has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Compensatable,
    Pivot,
    Retriable,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Compensatable, Self::Pivot, Self::Retriable];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Compensatable => "compensatable",
            Self::Pivot => "pivot",
            Self::Retriable => "retriable",
        }
    }
}

impl Outline {
    /// Reads what can be read, and reports everything that is wrong with it.
    pub(crate) fn read(source: &str, problems: &mut Problems<'_>) -> Self {
        if source.len() > MAX_SOURCE_BYTES {
            let message = format!("the text has {} bytes", source.len());
            problems.report(0..0, message, format!("shorten it to at most {MAX_SOURCE_BYTES}"));
            return Self::default();
        }
        let (table, errors) = DeTable::parse_recoverable(source);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let (message, help) = not_toml(error.message(), source.get(span.clone()).unwrap_or_default());
            problems.report_unreadable(span, message, help);
        }
        Self::of(&table, problems)
    }

    fn of(table: &Spanned<DeTable<'_>>, problems: &mut Problems<'_>) -> Self {
        let keys = Keys::new(Place::Definition, table.get_ref(), 0..0, problems);
        let name = values::name(&keys, "name", "definition", problems);
        let version = keys
            .required("version", problems, |keys, key, problems| keys.whole(key, 1..=MAX_VERSION, problems));
        let deadline = values::duration(&keys, "deadline", DEFAULT_DEADLINE, problems);
        let deadline_stands_while_held =
            keys.truth("deadline_stands_while_held", problems).unwrap_or_default();
        let input = keys.required("input", problems, values::message);
        let tables = keys
            .required("step", problems, |keys, key, problems| keys.tables(key, problems))
            .unwrap_or_default();
        if let Some(beyond) = tables.get(MAX_STEPS) {
            let message = format!("the definition has {} steps", tables.len());
            problems.report(beyond.span(), message, format!("leave at most {MAX_STEPS}"));
        }
        let steps =
            tables.into_iter().take(MAX_STEPS).map(|table| StepOutline::of(table, problems)).collect();
        let outline = Self { name, version, deadline, deadline_stands_while_held, input, steps };
        outline.unique_names(problems);
        order::check(&outline.steps, problems);
        outline
    }

    fn unique_names(&self, problems: &mut Problems<'_>) {
        let names: Vec<_> = self.steps.iter().filter_map(|step| step.name.as_ref()).collect();
        for (i, name) in names.iter().enumerate() {
            if names[..i].iter().any(|other| other.get_ref() == name.get_ref()) {
                let message = format!("step `{}` is there twice", shown(name.get_ref()));
                problems.report(name.span(), message, "give each step a name of its own".to_owned());
            }
        }
    }

    /// What came of it.
    ///
    /// # Errors
    /// Everything that was reported.
    pub(crate) fn finish(self, source: &str, problems: Problems<'_>) -> Result<Definition, DefinitionError> {
        problems.into_result(self.definition(source))
    }

    fn definition(self, source: &str) -> Option<Definition> {
        Some(Definition {
            id: DefinitionRef { name: self.name?.into_inner(), version: self.version?.into_inner() },
            deadline: self.deadline,
            deadline_stands_while_held: self.deadline_stands_while_held,
            input: self.input?.into_inner(),
            steps: self.steps.into_iter().map(StepOutline::step).collect::<Option<_>>()?,
            source: source.into(),
        })
    }
}

impl StepOutline {
    fn of(table: Spanned<&DeTable<'_>>, problems: &mut Problems<'_>) -> Self {
        let keys = Keys::new(Place::Step, table.get_ref(), table.span(), problems);
        let step = Self {
            name: values::name(&keys, "name", "step", problems),
            participant: values::name(&keys, "participant", "participant", problems),
            kind: keys.required("kind", problems, kind),
            command: keys.required("command", problems, values::message),
            with: with(&keys, problems),
            reply: keys.required("reply", problems, values::message),
            compensation: values::message(&keys, "compensation", problems),
            timeout: values::duration(&keys, "timeout", DEFAULT_TIMEOUT, problems),
            retry: values::retry(&keys, "retry", RetryPolicy::FORWARD, problems),
            compensation_retry: values::retry(
                &keys,
                "compensation_retry",
                RetryPolicy::COMPENSATION,
                problems,
            ),
        };
        if let Some(kind) = &step.kind {
            step.fits(kind, &keys, problems);
        }
        step
    }

    /// Only a compensatable step has a compensation, and it has one.
    fn fits(&self, kind: &Spanned<Kind>, keys: &Keys<'_>, problems: &mut Problems<'_>) {
        let compensatable = *kind.get_ref() == Kind::Compensatable;
        if compensatable && !keys.has("compensation") {
            let message = "a compensatable step needs `compensation`, the command that undoes it".to_owned();
            problems.report_missing(kind.span(), message, keys.advice_to_add("compensation"));
        }
        for key in ["compensation", "compensation_retry"] {
            if let Some(span) = keys.key_span(key).filter(|_| !compensatable) {
                let message = format!("a {} step is never compensated", kind.get_ref().as_str());
                let help = format!("remove `{key}`, or make the step compensatable");
                problems.report(span, message, help);
            }
        }
    }

    fn step(self) -> Option<Step> {
        let kind = match self.kind?.into_inner() {
            Kind::Compensatable => StepKind::Compensatable { compensation: self.compensation?.into_inner() },
            Kind::Pivot => StepKind::Pivot,
            Kind::Retriable => StepKind::Retriable,
        };
        Some(Step {
            name: self.name?.into_inner(),
            participant: self.participant?.into_inner(),
            kind,
            command: self.command?.into_inner(),
            with: self.with.into_iter().map(|one| (one.field.into_inner(), one.from.into_inner())).collect(),
            reply: self.reply?.into_inner(),
            timeout: self.timeout,
            retry: self.retry,
            compensation_retry: self.compensation_retry,
        })
    }
}

/// What the TOML parser says, in our words, and what to do.
fn not_toml(reason: &str, piece: &str) -> (String, String) {
    if reason.trim() == "duplicate key" {
        return (format!("`{}` is there twice", shown(piece)), "keep one of the two".to_owned());
    }
    let message = format!("this is not TOML: {}", reason.trim().replace('\n', ", "));
    (message, "write one `key = value` a line, with texts in quotes".to_owned())
}

fn kind(keys: &Keys<'_>, key: &'static str, problems: &mut Problems<'_>) -> Option<Spanned<Kind>> {
    let text = keys.text(key, problems)?;
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == *text.get_ref()) {
        return Some(Spanned::new(text.span(), kind));
    }
    let help = did_you_mean(text.get_ref(), Kind::ALL.map(Kind::as_str), || {
        "make it compensatable, pivot or retriable".to_owned()
    });
    problems.report(text.span(), format!("there is no kind `{}`", shown(text.get_ref())), help);
    None
}

fn with(keys: &Keys<'_>, problems: &mut Problems<'_>) -> Vec<Mapping> {
    let Some(table) = keys.table("with", problems) else { return Vec::new() };
    let mut mappings = Vec::new();
    for (field, from) in table.get_ref().iter() {
        let field = Spanned::new(field.span(), field.get_ref().clone().into_owned());
        match from.get_ref() {
            toml::de::DeValue::String(name) => {
                let from = Spanned::new(from.span(), name.clone().into_owned());
                mappings.push(Mapping { field, from });
            }
            other => {
                let message = format!(
                    "`{}` is filled from a name of the saga's data, not from {}",
                    shown(field.get_ref()),
                    Found(other)
                );
                let help = format!("write e.g. `with = {{ {} = \"sagaId\" }}`", shown(field.get_ref()));
                problems.report(from.span(), message, help);
            }
        }
    }
    mappings
}
