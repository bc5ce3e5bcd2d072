//! A saga for people: what it is, and its steps as a timeline.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::Style;
use saga_client::{Saga, Step, StepStatus};
use time::OffsetDateTime;

use super::list::next;
use super::reason;
use crate::output::{Output, json};
use crate::style::{DIM, Mood, STRONG, padded, painted};
use crate::words::{age, between, length, moment, plain, plain_lines};

/// The longest and the shortest bar, in columns; with less room there is none.
const BAR: (usize, usize) = (40, 10);

/// Draws a saga.
pub(crate) fn timeline(saga: &Saga, output: Output) -> String {
    let mut text = head(saga);
    let end = saga.finished_at.unwrap_or_else(OffsetDateTime::now_utc);
    let span = Span { began: saga.started_at, length: between(saga.started_at, end) };
    let lines: Vec<Cells> = saga.steps.iter().map(|step| Cells::of(step, span)).collect();
    let widths = Widths::of(&lines);
    let room = output.width().map_or(0, |width| usize::from(width).saturating_sub(widths.sum()));
    let bar = if room < BAR.1 { 0 } else { room.min(BAR.0) };
    text.push('\n');
    for (step, cells) in saga.steps.iter().zip(&lines) {
        text.push_str(&cells.line(&widths));
        if bar > 0 {
            text.push_str(&drawn(step, span, end, bar));
        }
        while text.ends_with(' ') {
            text.pop();
        }
        text.push('\n');
        if let Some(error) = &step.error {
            let said = format!("{}: {}", plain(&error.code), plain(&error.message));
            let _ = writeln!(text, "      {}", painted(Mood::Bad.style(), &said));
        }
        if output.is_wide()
            && let Some(command) = step.command_id
        {
            let _ = writeln!(text, "      {}", painted(DIM, &format!("command {command}")));
        }
    }
    if output.is_wide()
        && let Ok(data) = json(&saga.data)
    {
        let _ = write!(text, "\n{}\n{}\n", painted(STRONG, "data"), plain_lines(&data));
    }
    text
}

fn head(saga: &Saga) -> String {
    let status = painted(Mood::from(&saga.status).style(), saga.status.as_str());
    let mut text = format!(
        "{}  {} v{}  {status}\n",
        painted(STRONG, &saga.saga_id.to_string()),
        plain(&saga.definition),
        saga.version
    );
    let mut pair = |name: &str, value: &str| {
        let _ = writeln!(text, "  {}{value}", painted(DIM, &format!("{name:<14}")));
    };
    if saga.reason.is_some() {
        pair("reason", &reason(saga));
    }
    if let Some(key) = &saga.business_key {
        pair("business key", &plain(key));
    }
    pair("started", &format!("{}, {} ago", moment(saga.started_at), age(saga.started_at)));
    match saga.finished_at {
        Some(at) => pair("ended", &format!("{}, after {}", moment(at), length(between(saga.started_at, at)))),
        None => pair("last moved", &format!("{}, {} ago", moment(saga.updated_at), age(saga.updated_at))),
    }
    if let Some(next) = next(saga) {
        pair("next timer", &next);
    }
    pair("revision", &saga.revision.to_string());
    text
}

/// The time that a timeline covers.
#[derive(Clone, Copy)]
struct Span {
    began: OffsetDateTime,
    length: Duration,
}

impl Span {
    /// The column that a moment falls into.
    fn column(self, at: OffsetDateTime, columns: usize) -> usize {
        let (part, whole) = (between(self.began, at).as_micros(), self.length.as_micros().max(1));
        usize::try_from(part * columns as u128 / whole).unwrap_or(columns).min(columns)
    }
}

/// What a step's line says.
struct Cells {
    mark: &'static str,
    mood: Mood,
    name: String,
    by: String,
    status: String,
    times: String,
}

impl Cells {
    fn of(step: &Step, span: Span) -> Self {
        let times = match (step.started_at, step.finished_at) {
            (None, _) => String::new(),
            (Some(from), to) => {
                let after = length(between(span.began, from));
                let took = to.map(|to| format!(", took {}", length(between(from, to)))).unwrap_or_default();
                format!("after {after}{took}")
            }
        };
        let attempt = if step.attempt > 0 { format!(" #{}", step.attempt) } else { String::new() };
        Self {
            mark: mark(&step.status),
            mood: Mood::from(&step.status),
            name: plain(&step.name),
            by: format!("{} by {}", step.kind, plain(&step.participant)),
            status: format!("{}{attempt}", step.status),
            times,
        }
    }

    fn line(&self, widths: &Widths) -> String {
        let style: Style = self.mood.style();
        format!(
            "  {}  {:name$}  {}  {}  {:times$}  ",
            painted(style, self.mark),
            self.name,
            padded(DIM, &self.by, widths.by),
            padded(style, &self.status, widths.status),
            self.times,
            name = widths.name,
            times = widths.times,
        )
    }
}

/// Columns of each part, so that lines align.
struct Widths {
    name: usize,
    by: usize,
    status: usize,
    times: usize,
}

impl Widths {
    fn of(lines: &[Cells]) -> Self {
        let widest =
            |part: fn(&Cells) -> &str| lines.iter().map(|line| part(line).chars().count()).max().unwrap_or(0);
        Self {
            name: widest(|line| &line.name),
            by: widest(|line| &line.by),
            status: widest(|line| &line.status),
            times: widest(|line| &line.times),
        }
    }

    /// All of a line but its bar.
    const fn sum(&self) -> usize {
        5 + self.name + 2 + self.by + 2 + self.status + 2 + self.times + 2
    }
}

const fn mark(status: &StepStatus) -> &'static str {
    match status {
        StepStatus::Running => "▶",
        StepStatus::Succeeded => "✔",
        StepStatus::Rejected => "✘",
        StepStatus::InDoubt => "?",
        StepStatus::Compensating | StepStatus::Compensated => "↶",
        StepStatus::Stuck => "!",
        _ => "·",
    }
}

/// When the step was under way, within the whole.
fn drawn(step: &Step, span: Span, end: OffsetDateTime, columns: usize) -> String {
    let Some(from) = step.started_at else { return String::new() };
    let first = span.column(from, columns).min(columns - 1);
    let last = span.column(step.finished_at.unwrap_or(end), columns).max(first + 1);
    let bar = painted(Mood::from(&step.status).style(), &"━".repeat(last - first));
    format!("{}{bar}", " ".repeat(first))
}
