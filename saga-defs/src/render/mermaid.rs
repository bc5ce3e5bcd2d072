//! A definition as a Mermaid flowchart, and a saga's place in it.

use std::fmt::Write as _;

use crate::definition::{Definition, Step, StepKind};
use crate::ids::{Attempt, Direction};
use crate::saga::{Refusal, Saga, State, Status, StepRecord, StepStatus, Try};

use super::text::plain;

/// Draws the recipe: forward path, compensations, ends. With a saga, each step carries its status as its class and in its
/// label; a saga of another definition is drawn as far as it fits.
///
/// Names and messages stand in quoted labels with everything but letters, digits and a few harmless characters written
/// as character codes, so that none of them can end its label or become markup.
pub fn mermaid(definition: &Definition, saga: Option<&Saga>) -> String {
    let mut drawing = Drawing { definition, saga, text: String::from("flowchart TD\n") };
    drawing.nodes();
    drawing.edges();
    if saga.is_some() {
        drawing.classes();
    }
    drawing.text
}

struct Drawing<'a> {
    definition: &'a Definition,
    saga: Option<&'a Saga>,
    text: String,
}

impl Drawing<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "    {line}");
    }

    fn nodes(&mut self) {
        let title = label(&[&self.definition.id.to_string()]);
        self.line(format_args!("start([{title}])"));
        for (i, step) in self.definition.steps.iter().enumerate() {
            let record = self.saga.and_then(|saga| saga.steps.get(i));
            let (forward, class) = self.forward(i, step, record);
            self.line(format_args!("step{i}[{forward}]{class}"));
            if let StepKind::Compensatable { compensation } = &step.kind {
                let (undo, class) = self.undo(i, step, compensation, record);
                self.line(format_args!("undo{i}[{undo}]{class}"));
            }
        }
        for (node, status) in [("all_done", Status::Completed), ("all_undone", Status::Compensated)] {
            let here = self.saga.is_some_and(|saga| saga.status() == status);
            let class = if here && status == Status::Completed {
                ":::succeeded"
            } else if here {
                ":::compensated"
            } else {
                ""
            };
            // A saga that never needs to undo anything on its own still may be cancelled; so both ends are always there.
            self.line(format_args!("{node}([{}]){class}", label(&[status.as_str()])));
        }
    }

    fn forward(&self, i: usize, step: &Step, record: Option<&StepRecord>) -> (String, String) {
        let about = format!("{} by {}", step.kind.as_str(), step.participant);
        let Some(record) = record else { return (label(&[&step.name, &about]), String::new()) };
        let undoing = self.direction_at(i) == Some(Direction::Compensation);
        let status = match record.status {
            // It is the compensation that is stuck; the step itself may have happened.
            StepStatus::Stuck if undoing => StepStatus::Compensating,
            other => other,
        };
        let mut said = status.as_str().to_owned();
        if !undoing && status != StepStatus::Pending && status != StepStatus::Compensated {
            let _ = write!(said, ", attempt {}", record.attempt);
        }
        let error =
            if undoing && !self.just_turned() { String::new() } else { error_of(record.error.as_ref()) };
        (label(&[&step.name, &about, &said, &error]), class(status))
    }

    fn undo(&self, i: usize, step: &Step, command: &str, record: Option<&StepRecord>) -> (String, String) {
        let name = format!("undo {}", step.name);
        let shown = record.filter(|record| {
            self.direction_at(i) == Some(Direction::Compensation) || record.status == StepStatus::Compensated
        });
        let Some(record) = shown else { return (label(&[&name, command]), String::new()) };
        let said = format!("{}, attempt {}", record.status.as_str(), record.attempt);
        let error = if self.just_turned() { String::new() } else { error_of(record.error.as_ref()) };
        (label(&[&name, command, &said, &error]), class(record.status))
    }

    /// The direction in which this step is under way.
    fn direction_at(&self, i: usize) -> Option<Direction> {
        let at = self.saga?.current()?;
        (at.step.at() == i).then_some(at.direction)
    }

    /// Whether the current command is the first attempt to undo its step: the step's error is then still that of doing it.
    fn just_turned(&self) -> bool {
        let first = |at: &Try| at.direction == Direction::Compensation && at.attempt == Attempt::FIRST;
        self.saga.is_some_and(|saga| matches!(&saga.state, State::Awaiting(at) if first(at)))
    }

    fn edges(&mut self) {
        self.line(format_args!("start --> step0"));
        for (i, step) in self.definition.steps.iter().enumerate() {
            let done = match self.definition.steps.get(i + 1) {
                Some(_) => format!("step{}", i + 1),
                None => "all_done".to_owned(),
            };
            let undone = if i == 0 { "all_undone".to_owned() } else { format!("undo{}", i - 1) };
            self.line(format_args!("step{i} -->|succeeded| {done}"));
            match step.kind {
                StepKind::Compensatable { .. } => {
                    self.line(format_args!("step{i} -.->|rejected| {undone}"));
                    self.line(format_args!("step{i} -.->|in doubt| undo{i}"));
                    self.line(format_args!("undo{i} --> {undone}"));
                }
                StepKind::Pivot => self.line(format_args!("step{i} -.->|rejected| {undone}")),
                StepKind::Retriable => {}
            }
        }
    }

    fn classes(&mut self) {
        for (status, style) in [
            (StepStatus::Pending, "fill:#f4f4f5,stroke:#a1a1aa,color:#52525b"),
            (StepStatus::Running, "fill:#dbeafe,stroke:#2563eb,color:#1e3a8a,stroke-width:3px"),
            (StepStatus::Succeeded, "fill:#dcfce7,stroke:#16a34a,color:#14532d"),
            (StepStatus::Rejected, "fill:#fee2e2,stroke:#dc2626,color:#7f1d1d"),
            (StepStatus::InDoubt, "fill:#fef3c7,stroke:#d97706,color:#78350f,stroke-dasharray:5 3"),
            (StepStatus::Compensating, "fill:#ffedd5,stroke:#ea580c,color:#7c2d12,stroke-width:3px"),
            (StepStatus::Compensated, "fill:#e0e7ff,stroke:#4f46e5,color:#312e81"),
            (StepStatus::Stuck, "fill:#7f1d1d,stroke:#450a0a,color:#ffffff,stroke-width:3px"),
        ] {
            self.line(format_args!("classDef {} {style}", status.as_str()));
        }
    }
}

fn class(status: StepStatus) -> String {
    format!(":::{}", status.as_str())
}

fn error_of(error: Option<&Refusal>) -> String {
    error.map(|refusal| plain(&refusal.code)).unwrap_or_default()
}

/// A quoted label of some lines; empty ones are left out.
fn label(lines: &[&str]) -> String {
    let mut text = String::from("\"");
    let mut first = true;
    for line in lines.iter().filter(|line| !line.is_empty()) {
        if !std::mem::take(&mut first) {
            text.push_str("<br/>");
        }
        for c in plain(line).chars() {
            match c {
                c if c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | ',') => text.push(c),
                c => {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "#{};", u32::from(c));
                }
            }
        }
    }
    text.push('"');
    text
}
