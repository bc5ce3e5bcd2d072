//! A definition from top to bottom, for a terminal.

use std::fmt::Write;

use super::text::plain;
use crate::definition::{Definition, StepKind};

/// Draws a definition's way from start to end, a step a line, each with what undoes it or why nothing does.
pub fn flow(definition: &Definition) -> String {
    let names: Vec<String> = definition.steps.iter().map(|step| plain(&step.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::from("start\n");
    let mut may_turn_back = true;
    for (step, name) in definition.steps.iter().zip(names) {
        let about = match &step.kind {
            StepKind::Compensatable { compensation } => format!("<- {}", plain(compensation)),
            StepKind::Pivot => "the last that may be refused; no way back after it".to_owned(),
            StepKind::Retriable if may_turn_back => {
                "tried until it succeeds; no way back from here on".to_owned()
            }
            StepKind::Retriable => "tried until it succeeds".to_owned(),
        };
        may_turn_back &= matches!(step.kind, StepKind::Compensatable { .. });
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  |\n  v\n{name:width$}  {about}");
    }
    text.push_str("  |\n  v\ncompleted\n");
    text
}
