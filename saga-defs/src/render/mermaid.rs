//! A definition as a Mermaid flowchart, and a saga's place in it.

use std::fmt::Write as _;

use super::nodes::{LOOKS, Node, steps};
use super::text::plain;
use crate::definition::{Definition, StepKind};
use crate::saga::{Saga, Status, StepStatus};

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
        let title = label(&[plain(&self.definition.id.to_string())]);
        self.line(format_args!("start([{title}])"));
        for (i, step) in steps(self.definition, self.saga).iter().enumerate() {
            self.node("step", i, &step.forward);
            if let Some(undo) = &step.undo {
                self.node("undo", i, undo);
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
            self.line(format_args!("{node}([{}]){class}", label(&[status.as_str().to_owned()])));
        }
    }

    fn node(&mut self, name: &str, i: usize, node: &Node) {
        let class = node.status.map(class).unwrap_or_default();
        self.line(format_args!("{name}{i}[{}]{class}", label(&node.lines)));
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
        for look in LOOKS {
            let thick = if look.thick { ",stroke-width:3px" } else { "" };
            let dashed = if look.dashed { ",stroke-dasharray:5 3" } else { "" };
            self.line(format_args!(
                "classDef {} fill:{},stroke:{},color:{}{thick}{dashed}",
                look.status.as_str(),
                look.fill,
                look.stroke,
                look.text
            ));
        }
    }
}

fn class(status: StepStatus) -> String {
    format!(":::{}", status.as_str())
}

/// A quoted label of some plain lines.
fn label(lines: &[String]) -> String {
    let mut text = String::from("\"");
    let mut first = true;
    for line in lines {
        if !std::mem::take(&mut first) {
            text.push_str("<br/>");
        }
        for c in line.chars() {
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
