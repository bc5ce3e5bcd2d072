//! Whether every field of every command and compensation has a value of its type.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::Messages;
use super::known::{Known, Value};
use super::types::{Field, Record, Type};
use crate::definition::id_field;
use crate::definition::keys::shown;
use crate::definition::outline::{Kind, Mapping, Outline, StepOutline};
use crate::definition::problem::Problems;
use crate::ids::Direction;
use crate::spelling::{did_you_mean, listed, nearest};

/// The name under which the saga's id always stands in its data.
const SAGA_ID: &str = "sagaId";

/// Reports messages without a schema, and fields without a value that fits.
pub(super) fn check(outline: &Outline, messages: &dyn Messages, problems: &mut Problems<'_>) {
    let mut known = first_data(outline, messages, problems);
    let steps: Vec<StepRecords> =
        outline.steps.iter().map(|step| StepRecords::find(step, messages, problems)).collect();
    let replied = Replied::new(&steps);
    for at in 0..steps.len() {
        let sight = Sight { outline, steps: &steps, replied: &replied, known: &known, at };
        sight.check(problems);
        learn_reply(&outline.steps[at], &steps[at], &mut known, problems);
    }
}

/// What a saga's data holds when it starts.
fn first_data(outline: &Outline, messages: &dyn Messages, problems: &mut Problems<'_>) -> Known {
    let mut known = Known::default();
    let input = find(outline.input.as_ref(), messages, problems);
    known.open = input.is_none() || outline.name.is_none();
    let saga_id: Arc<str> = "as the saga's id".into();
    if let Some(name) = &outline.name {
        known.add(&id_field(name.get_ref()), Type::Uuid, &saga_id);
    }
    if let (Some(input), Some(name)) = (&input, &outline.input) {
        for field in &input.fields {
            known.add(&field.name, field.ty.clone(), &format!("in the input {}", input.full_name).into());
        }
        if input.field(SAGA_ID).is_some() {
            let message = format!("the input {} has a field `{SAGA_ID}`", input.full_name);
            let help = "give the field another name: the saga's own id replaces it".to_owned();
            problems.report(name.span(), message, help);
        }
    }
    known.add(SAGA_ID, Type::Uuid, &saga_id);
    known
}

/// Adds a reply's fields, and reports those that would change the type of a name.
fn learn_reply(step: &StepOutline, records: &StepRecords, known: &mut Known, problems: &mut Problems<'_>) {
    let (Some(name), Some(reply)) = (&step.reply, &records.reply) else {
        known.open = true;
        return;
    };
    for field in &reply.fields {
        if let Some(before) = known.get(&field.name).filter(|before| !before.ty.accepts(&field.ty)) {
            let message = format!(
                "{} gives `{}` as {}, but it is {} {}",
                reply.full_name, field.name, field.ty, before.ty, before.from
            );
            let help = "rename the field in the reply's schema, or give it the same type".to_owned();
            problems.report(name.span(), message, help);
        }
    }
    known.learn(reply, &in_reply(reply));
}

fn in_reply(reply: &Record) -> Arc<str> {
    format!("in the reply {}", reply.full_name).into()
}

/// The record of a message, if it has a schema.
fn find(
    name: Option<&Spanned<Arc<str>>>,
    messages: &dyn Messages,
    problems: &mut Problems<'_>,
) -> Option<Record> {
    let name = name?;
    let record = messages.record(name.get_ref());
    if record.is_none() && !problems.is_full() {
        let known = messages.names();
        let help = did_you_mean(name.get_ref(), known.iter().map(String::as_str), || {
            "add its schema to those that come with the definition, or to SCHEMAS_DIR".to_owned()
        });
        problems.report(name.span(), format!("no schema is named `{}`", shown(name.get_ref())), help);
    }
    record
}

/// The records of a step's messages; `None` where there is no message or no schema.
struct StepRecords {
    command: Option<Record>,
    reply: Option<Record>,
    compensation: Option<Record>,
}

impl StepRecords {
    fn find(step: &StepOutline, messages: &dyn Messages, problems: &mut Problems<'_>) -> Self {
        Self {
            command: find(step.command.as_ref(), messages, problems),
            reply: find(step.reply.as_ref(), messages, problems),
            compensation: find(step.compensation.as_ref(), messages, problems),
        }
    }
}

/// Which replies have which names, so that a name is found without looking through all of them.
struct Replied<'a>(BTreeMap<&'a str, Vec<(usize, &'a Record, &'a Field)>>);

impl<'a> Replied<'a> {
    fn new(steps: &'a [StepRecords]) -> Self {
        let mut all: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (at, reply) in steps.iter().enumerate().filter_map(|(at, step)| Some((at, step.reply.as_ref()?)))
        {
            for field in &reply.fields {
                all.entry(&*field.name).or_default().push((at, reply, field));
            }
        }
        Self(all)
    }

    /// The first reply from that step on that has the name.
    fn first_from(&self, at: usize, name: &str) -> Option<(usize, &'a Record, &'a Field)> {
        self.0.get(name)?.iter().find(|(step, ..)| *step >= at).copied()
    }
}

/// The definition as seen from one step, just before its command is sent.
struct Sight<'a> {
    outline: &'a Outline,
    steps: &'a [StepRecords],
    replied: &'a Replied<'a>,
    known: &'a Known,
    at: usize,
}

/// Who provides a name, but only after it is needed.
enum Later {
    /// The step itself.
    OwnReply,
    /// The step of that name.
    Step(String),
}

fn said_later(later: Option<&Later>, direction: Direction) -> String {
    match (later, direction) {
        (Some(Later::OwnReply), Direction::Compensation) => {
            ": the step's own reply has it, but after a timeout there is none".to_owned()
        }
        (Some(Later::OwnReply), Direction::Forward) => ": only the step's own reply has it".to_owned(),
        (Some(Later::Step(step)), _) => format!(": step `{step}` provides it, which is later"),
        (None, _) => String::new(),
    }
}

/// A field that wants a value.
struct Wanted<'a> {
    message: &'a Record,
    /// Where the definition names the message.
    place: Range<usize>,
    direction: Direction,
    field: &'a Field,
}

impl Sight<'_> {
    fn check(&self, problems: &mut Problems<'_>) {
        let (step, records) = (self.step(), &self.steps[self.at]);
        if let (Some(name), Some(command)) = (&step.command, &records.command) {
            self.fill(command, name.span(), Direction::Forward, problems);
        }
        if let (Some(name), Some(compensation)) = (&step.compensation, &records.compensation) {
            self.fill(compensation, name.span(), Direction::Compensation, problems);
        }
        self.mapped_fields_exist(problems);
    }

    fn step(&self) -> &StepOutline {
        &self.outline.steps[self.at]
    }

    fn fill(&self, message: &Record, place: Range<usize>, direction: Direction, problems: &mut Problems<'_>) {
        let with: BTreeMap<&str, &Mapping> =
            self.step().with.iter().map(|mapping| (mapping.field.get_ref().as_str(), mapping)).collect();
        for field in &message.fields {
            // What is said of the others would be dropped, and finding it takes its time.
            if problems.is_full() {
                return;
            }
            let wanted = Wanted { message, place: place.clone(), direction, field };
            match with.get(&*field.name) {
                Some(mapping) => self.fill_mapped(&wanted, mapping, problems),
                None => self.fill_by_name(&wanted, problems),
            }
        }
    }

    fn fill_by_name(&self, wanted: &Wanted<'_>, problems: &mut Problems<'_>) {
        let Wanted { field, .. } = wanted;
        if let Some(value) = self.value(&field.name, wanted) {
            self.fits(wanted, &field.name, &value, &wanted.place, problems);
        } else if !field.has_default && !self.known.open {
            let later = self.provided_later(&field.name);
            let message = format!(
                "{} needs `{}` ({}), which nothing provides before it is sent{}",
                wanted.message.full_name,
                field.name,
                field.ty,
                said_later(later.as_ref(), wanted.direction)
            );
            problems.report(wanted.place.clone(), message, self.advice_to_provide(wanted, later.as_ref()));
        }
    }

    fn fill_mapped(&self, wanted: &Wanted<'_>, mapping: &Mapping, problems: &mut Problems<'_>) {
        let from = mapping.from.get_ref();
        let place = mapping.from.span();
        if let Some(value) = self.value(from, wanted) {
            self.fits(wanted, from, &value, &place, problems);
            if self.known.get(from).is_none()
                && let Some(instead) = self.value(&wanted.field.name, wanted)
            {
                // As long as the other name is not there, the field is filled by its own.
                self.fits(wanted, &wanted.field.name, &instead, &place, problems);
            }
            return;
        }
        let told = wanted.direction == Direction::Compensation
            && self.steps[self.at]
                .command
                .as_ref()
                .is_some_and(|command| command.field(&wanted.field.name).is_some());
        if !self.known.open && !told {
            let message = format!(
                "nothing provides `{}` before {} is sent{}",
                shown(from),
                wanted.message.full_name,
                said_later(self.provided_later(from).as_ref(), wanted.direction)
            );
            let help = did_you_mean(from, self.known.names(), || {
                format!("use one of {}", listed(self.known.names()))
            });
            problems.report(place, message, help);
        }
    }

    /// What a field can be filled with: what is known, or for a compensation's field with a default also what may have
    /// come by then.
    fn value(&self, name: &str, wanted: &Wanted<'_>) -> Option<Value> {
        if let Some(value) = self.known.get(name) {
            return Some(value.clone());
        }
        if wanted.direction == Direction::Forward || !wanted.field.has_default {
            return None;
        }
        let (at, reply, field) = self.replied.first_from(self.at, name)?;
        let is_undone = |step: &StepOutline| {
            step.kind.as_ref().is_some_and(|kind| *kind.get_ref() == Kind::Compensatable)
        };
        // Once a step that is never undone has replied, nothing else is undone either.
        let may_have_come = self.outline.steps[self.at..=at].iter().all(is_undone);
        may_have_come.then(|| Value { ty: field.ty.clone(), from: in_reply(reply) })
    }

    fn fits(
        &self,
        wanted: &Wanted<'_>,
        name: &str,
        value: &Value,
        place: &Range<usize>,
        problems: &mut Problems<'_>,
    ) {
        if wanted.field.ty.accepts(&value.ty) {
            return;
        }
        let Wanted { field, message, .. } = wanted;
        let other = if *field.name == *name { "it".to_owned() } else { format!("`{}`", shown(name)) };
        let text = format!(
            "`{}` of {} is {}, but {other} is {} {}",
            field.name, message.full_name, field.ty, value.ty, value.from
        );
        let help = if value.ty.is_nullable() && !field.ty.accepts(&Type::Null) {
            format!(
                "let the field of {} be null as well, or see to it that {other} never is",
                message.full_name
            )
        } else {
            format!("give both the same type, or fill `{}` from another name with `with`", field.name)
        };
        problems.report(place.clone(), text, help);
    }

    /// The first reply that has the name, though too late.
    fn provided_later(&self, name: &str) -> Option<Later> {
        let (at, ..) = self.replied.first_from(self.at, name)?;
        if at == self.at {
            return Some(Later::OwnReply);
        }
        let step = self.outline.steps[at].name.as_ref();
        Some(Later::Step(step.map_or("?".to_owned(), |name| shown(name.get_ref()))))
    }

    fn advice_to_provide(&self, wanted: &Wanted<'_>, later: Option<&Later>) -> String {
        let (name, message) = (&wanted.field.name, &wanted.message.full_name);
        let fitting = self
            .known
            .names()
            .filter(|known| self.known.get(known).is_some_and(|value| wanted.field.ty.accepts(&value.ty)));
        if let Some(near) = nearest(name, fitting) {
            return format!("did you mean `with = {{ {name} = \"{near}\" }}`?");
        }
        match later {
            Some(Later::OwnReply) if wanted.direction == Direction::Compensation => {
                format!("give it a default in the schema of {message}, or undo by what the command had")
            }
            Some(Later::Step(step)) => {
                format!("move step `{step}` before this one, or give it a default in the schema of {message}")
            }
            Some(Later::OwnReply) | None => {
                let input = self.outline.input.as_ref().map_or("the input", |input| &**input.get_ref());
                format!(
                    "add it to {input}, fill it with `with = {{ {name} = \"…\" }}`, or give it a default in the schema of {message}"
                )
            }
        }
    }

    /// `with` is for fields that a message of the step has.
    fn mapped_fields_exist(&self, problems: &mut Problems<'_>) {
        let (step, records) = (self.step(), &self.steps[self.at]);
        let compensation_is_known = step.compensation.is_none() || records.compensation.is_some();
        let Some(command) = records.command.as_ref().filter(|_| compensation_is_known) else { return };
        let fields =
            || command.fields.iter().chain(records.compensation.iter().flat_map(|record| &record.fields));
        let names: BTreeSet<&str> = fields().map(|field| &*field.name).collect();
        for mapping in &step.with {
            let name = mapping.field.get_ref();
            if names.contains(name.as_str()) {
                continue;
            }
            if problems.is_full() {
                return;
            }
            let messages = match &records.compensation {
                Some(compensation) => {
                    format!("neither {} nor {} has", command.full_name, compensation.full_name)
                }
                None => format!("{} does not have", command.full_name),
            };
            let message = format!("{messages} a field `{}`", shown(name));
            let help = did_you_mean(name, fields().map(|field| &*field.name), || {
                format!("remove it, or use one of {}", listed(fields().map(|field| &*field.name)))
            });
            problems.report(mapping.field.span(), message, help);
        }
    }
}
