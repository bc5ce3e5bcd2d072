//! What stands in the boxes of a diagram, whatever it is drawn with.

use std::fmt::Write as _;

use super::text::plain;
use crate::definition::{Definition, Step, StepKind};
use crate::ids::{Attempt, Direction};
use crate::saga::{Refusal, Saga, State, StepRecord, StepStatus, Try};

/// One box: its lines, none of them empty, and where it is if a saga is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) lines: Vec<String>,
    pub(super) status: Option<StepStatus>,
}

/// A step: the box of doing it, and that of undoing it if it can be undone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StepNodes {
    pub(super) forward: Node,
    pub(super) undo: Option<Node>,
}

/// The boxes of all steps. A saga of another definition is shown as far as it fits.
pub(super) fn steps(definition: &Definition, saga: Option<&Saga>) -> Vec<StepNodes> {
    let place = Place { saga };
    let nodes = |(i, step): (usize, &Step)| {
        let record = saga.and_then(|saga| saga.steps.get(i));
        let undo = match &step.kind {
            StepKind::Compensatable { compensation } => Some(place.undo(i, step, compensation, record)),
            StepKind::Pivot | StepKind::Retriable => None,
        };
        StepNodes { forward: place.forward(i, step, record), undo }
    };
    definition.steps.iter().enumerate().map(nodes).collect()
}

/// Where the saga is.
struct Place<'a> {
    saga: Option<&'a Saga>,
}

impl Place<'_> {
    fn forward(&self, i: usize, step: &Step, record: Option<&StepRecord>) -> Node {
        let about = format!("{} by {}", step.kind.as_str(), step.participant);
        let Some(record) = record else { return node(&[&step.name, &about], None) };
        let undoing = self.direction_at(i) == Some(Direction::Compensation);
        let status = match record.status {
            // It is the compensation that is stuck; the step itself may have happened.
            StepStatus::Stuck if undoing => StepStatus::Compensating,
            other => other,
        };
        let mut said = status.as_str().to_owned();
        if !undoing && status != StepStatus::Pending && status != StepStatus::Compensated {
            // Writing to a string cannot fail.
            let _ = write!(said, ", attempt {}", record.attempt);
        }
        let error =
            if undoing && !self.just_turned() { String::new() } else { error_of(record.error.as_ref()) };
        node(&[&step.name, &about, &said, &error], Some(status))
    }

    fn undo(&self, i: usize, step: &Step, command: &str, record: Option<&StepRecord>) -> Node {
        let name = format!("undo {}", step.name);
        let shown = record.filter(|record| {
            self.direction_at(i) == Some(Direction::Compensation) || record.status == StepStatus::Compensated
        });
        let Some(record) = shown else { return node(&[&name, command], None) };
        let said = format!("{}, attempt {}", record.status.as_str(), record.attempt);
        let error = if self.just_turned() { String::new() } else { error_of(record.error.as_ref()) };
        node(&[&name, command, &said, &error], Some(record.status))
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
}

fn error_of(error: Option<&Refusal>) -> String {
    error.map(|refusal| refusal.code.to_string()).unwrap_or_default()
}

fn node(lines: &[&str], status: Option<StepStatus>) -> Node {
    let lines = lines.iter().map(|line| plain(line)).filter(|line| !line.is_empty()).collect();
    Node { lines, status }
}

/// How a status is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) status: StepStatus,
    pub(super) fill: &'static str,
    pub(super) stroke: &'static str,
    pub(super) text: &'static str,
    /// Somebody is at it, or should be.
    pub(super) thick: bool,
    pub(super) dashed: bool,
}

const fn look(status: StepStatus, fill: &'static str, stroke: &'static str, text: &'static str) -> Look {
    Look { status, fill, stroke, text, thick: false, dashed: false }
}

/// All of them.
pub(super) const LOOKS: [Look; 8] = [
    look(StepStatus::Pending, "#f4f4f5", "#a1a1aa", "#52525b"),
    Look { thick: true, ..look(StepStatus::Running, "#dbeafe", "#2563eb", "#1e3a8a") },
    look(StepStatus::Succeeded, "#dcfce7", "#16a34a", "#14532d"),
    look(StepStatus::Rejected, "#fee2e2", "#dc2626", "#7f1d1d"),
    Look { dashed: true, ..look(StepStatus::InDoubt, "#fef3c7", "#d97706", "#78350f") },
    Look { thick: true, ..look(StepStatus::Compensating, "#ffedd5", "#ea580c", "#7c2d12") },
    look(StepStatus::Compensated, "#e0e7ff", "#4f46e5", "#312e81"),
    Look { thick: true, ..look(StepStatus::Stuck, "#7f1d1d", "#450a0a", "#ffffff") },
];
