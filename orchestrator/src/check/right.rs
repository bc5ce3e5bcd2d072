//! What `orchestrator check` shows of a definition that may be published: what a person who reviews it wants to see.

use anstyle::Style;
use saga_defs::definition::{Definition, Step, StepKind};
use saga_defs::rehearsal::rehearsals;
use saga_defs::render::flow;

use crate::registration::examine::ModelCheck;

const HEAD: [&str; 7] = ["step", "kind", "participant", "command", "compensation", "timeout", "attempts"];
const STRONG: Style = Style::new().bold();

/// The summary, the diagram, what the model check said, and the baseline runs.
pub(super) fn shown(name: &str, definition: &Definition, model_check: Option<ModelCheck>) -> String {
    let mut text = headline(name, definition);
    let deadline = humantime::format_duration(definition.deadline);
    let stands = if definition.deadline_stands_while_held {
        ", which stands still while a participant is held"
    } else {
        ""
    };
    text.push_str(&format!("\n  input {}, deadline {deadline}{stands}\n\n", definition.input));
    text.push_str(&indented(&table(definition)));
    text.push('\n');
    text.push_str(&indented(&flow(definition)));
    text.push_str(&format!("\n  {}\n", said(model_check)));
    text.push_str(&format!("\n  {STRONG}How its runs go{STRONG:#}\n\n"));
    for rehearsal in rehearsals(definition) {
        text.push_str(&indented(&rehearsal.to_string()));
        text.push('\n');
    }
    text
}

/// The one line of it.
pub(super) fn headline(name: &str, definition: &Definition) -> String {
    let id = &definition.id;
    format!("{STRONG}{name}: {} version {} is right{STRONG:#}\n", id.name, id.version)
}

fn said(model_check: Option<ModelCheck>) -> String {
    match model_check {
        Some(ModelCheck { states, complete: true }) => {
            format!("Every run ends as it should: {states} states of saga and world were looked at.")
        }
        Some(ModelCheck { states, complete: false }) => format!(
            "It is too large to look at every run: nothing wrong was found in {states} states of saga and world."
        ),
        None => "Its runs were not looked at.".to_owned(),
    }
}

fn table(definition: &Definition) -> String {
    let rows: Vec<[String; 7]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(definition.steps.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(step: &Step) -> [String; 7] {
    let (compensation, attempts) = match &step.kind {
        StepKind::Compensatable { compensation } => {
            let (forward, back) = (step.retry.max_attempts, step.compensation_retry.max_attempts);
            (compensation.to_string(), format!("{forward}, to undo {back}"))
        }
        StepKind::Pivot | StepKind::Retriable => ("-".to_owned(), step.retry.max_attempts.to_string()),
    };
    [
        step.name.to_string(),
        step.kind.as_str().to_owned(),
        step.participant.to_string(),
        step.command.to_string(),
        compensation,
        humantime::format_duration(step.timeout).to_string(),
        attempts,
    ]
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}
