//! A definition as text: every key, in one order, with nothing left to defaults.

use std::fmt::{self, Write as _};
use std::time::Duration;

use toml::Value;

use super::{Definition, Step, StepKind};
use crate::retry::RetryPolicy;

impl Definition {
    /// The recipe as TOML: all keys, also those that have their defaults, always in the same order. Reading it gives
    /// the [same recipe](Self::same_recipe), and printing that gives the same text.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        write(&mut text, self).expect("a string takes everything");
        text
    }
}

fn write(out: &mut String, definition: &Definition) -> fmt::Result {
    writeln!(out, "name = {}", quoted(&definition.id.name))?;
    writeln!(out, "version = {}", definition.id.version)?;
    writeln!(out, "deadline = {}", duration(definition.deadline))?;
    writeln!(out, "deadline_stands_while_held = {}", definition.deadline_stands_while_held)?;
    writeln!(out, "input = {}", quoted(&definition.input))?;
    definition.steps.iter().try_for_each(|step| write_step(out, step))
}

fn write_step(out: &mut String, step: &Step) -> fmt::Result {
    writeln!(out, "\n[[step]]")?;
    writeln!(out, "name = {}", quoted(&step.name))?;
    writeln!(out, "participant = {}", quoted(&step.participant))?;
    writeln!(out, "kind = {}", quoted(step.kind.as_str()))?;
    writeln!(out, "command = {}", quoted(&step.command))?;
    if !step.with.is_empty() {
        let entries = step.with.iter().map(|(field, from)| (field.clone(), Value::from(from.as_str())));
        writeln!(out, "with = {}", Value::Table(entries.collect()))?;
    }
    writeln!(out, "reply = {}", quoted(&step.reply))?;
    if let StepKind::Compensatable { compensation } = &step.kind {
        writeln!(out, "compensation = {}", quoted(compensation))?;
    }
    writeln!(out, "timeout = {}", duration(step.timeout))?;
    writeln!(out, "retry = {}", retry(&step.retry))?;
    if let StepKind::Compensatable { .. } = step.kind {
        writeln!(out, "compensation_retry = {}", retry(&step.compensation_retry))?;
    }
    Ok(())
}

fn retry(policy: &RetryPolicy) -> String {
    format!(
        "{{ max_attempts = {}, initial = {}, max = {}, multiplier = {:?}, jitter = {:?} }}",
        policy.max_attempts,
        duration(policy.initial),
        duration(policy.max),
        policy.multiplier,
        policy.jitter
    )
}

fn duration(length: Duration) -> Value {
    quoted(&humantime::format_duration(length).to_string())
}

fn quoted(text: &str) -> Value {
    Value::from(text)
}
