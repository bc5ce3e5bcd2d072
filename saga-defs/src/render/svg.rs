//! A definition as an SVG picture, and a saga's place in it. Nothing is fetched: no script, no font, no link.

use std::fmt::Write as _;

use super::nodes::{LOOKS, Look, Node, StepNodes, steps};
use super::text::plain;
use crate::definition::Definition;
use crate::saga::{Saga, Status, StepStatus};

const MARGIN: usize = 16;
const PADDING: usize = 10;
const LINE: usize = 17;
/// About the width of a character of the first line, which is bold.
const CHARACTER: usize = 8;
const GAP_DOWN: usize = 34;
const GAP_ACROSS: usize = 72;
const LEAST_WIDTH: usize = 150;

/// Draws the recipe: the way forward on the left, from top to bottom, what undoes it on the right, from bottom to top. With
/// a saga, each box has the colour of its status; a saga of another definition is drawn as far as it fits.
///
/// Names and messages come from strangers: what could be markup is written as character references.
pub fn svg(definition: &Definition, saga: Option<&Saga>) -> String {
    let steps = steps(definition, saga);
    let start = ended(definition.id.to_string(), None);
    let end = |status: Status, shown: StepStatus| {
        let here = saga.is_some_and(|saga| saga.status() == status);
        ended(status.as_str().to_owned(), here.then_some(shown))
    };
    let done = end(Status::Completed, StepStatus::Succeeded);
    let undone = end(Status::Compensated, StepStatus::Compensated);
    let layout = Layout::of(&steps, [&start, &done, &undone]);
    let mut drawing = Drawing { layout, text: String::new() };
    drawing.open(definition, saga);
    drawing.edges(&steps);
    drawing.node(drawing.layout.left, drawing.layout.start, &start, true);
    for (step, &(y, _)) in steps.iter().zip(&drawing.layout.rows.clone()) {
        drawing.node(drawing.layout.left, y, &step.forward, false);
        if let Some(undo) = &step.undo {
            drawing.node(drawing.layout.right, y, undo, false);
        }
    }
    drawing.node(drawing.layout.left, drawing.layout.end, &done, true);
    drawing.node(drawing.layout.right, drawing.layout.start, &undone, true);
    drawing.text.push_str("</svg>\n");
    drawing.text
}

fn ended(line: String, status: Option<StepStatus>) -> Node {
    Node { lines: vec![plain(&line)], status }
}

/// Where everything is. All boxes have one width; a row is as high as its higher box.
struct Layout {
    left: usize,
    right: usize,
    width: usize,
    start: usize,
    /// Top and height of each step's row.
    rows: Vec<(usize, usize)>,
    end: usize,
}

fn height(node: &Node) -> usize {
    node.lines.len() * LINE + 2 * PADDING - 4
}

impl Layout {
    fn of(steps: &[StepNodes], ends: [&Node; 3]) -> Self {
        let nodes =
            || steps.iter().flat_map(|step| std::iter::once(&step.forward).chain(&step.undo)).chain(ends);
        let longest = nodes().flat_map(|node| &node.lines).map(|line| line.chars().count()).max();
        let width = (longest.unwrap_or(0) * CHARACTER + 2 * PADDING).max(LEAST_WIDTH);
        let mut y = MARGIN + height(ends[0]) + GAP_DOWN;
        let mut rows = Vec::with_capacity(steps.len());
        for step in steps {
            let high = height(&step.forward).max(step.undo.as_ref().map_or(0, height));
            rows.push((y, high));
            y += high + GAP_DOWN;
        }
        Self { left: MARGIN, right: MARGIN + width + GAP_ACROSS, width, start: MARGIN, rows, end: y }
    }
}

struct Drawing {
    layout: Layout,
    text: String,
}

impl Drawing {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn open(&mut self, definition: &Definition, saga: Option<&Saga>) {
        let Layout { right, width, end, .. } = self.layout;
        let (wide, high) = (right + width + MARGIN, end + LINE + 2 * PADDING + MARGIN);
        let title = match saga {
            Some(saga) => format!("{}, {}", definition.id, saga.status().as_str()),
            None => definition.id.to_string(),
        };
        self.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" width=\"{wide}\" height=\"{high}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">"
        ));
        self.line(format_args!("<title>{}</title>", escaped(&plain(&title))));
        self.line(format_args!(
            "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#71717a\"/></marker></defs>"
        ));
        self.line(format_args!("<rect width=\"{wide}\" height=\"{high}\" fill=\"#ffffff\"/>"));
    }

    /// Down on the left, across where a step may be in doubt, up on the right.
    fn edges(&mut self, steps: &[StepNodes]) {
        let Layout { left, right, width, start, end, .. } = self.layout;
        let rows = self.layout.rows.clone();
        let (down, up) = (left + width / 2, right + width / 2);
        let mut from = start + LINE + 2 * PADDING - 4;
        let mut last_undo = from;
        for (step, &(y, _)) in steps.iter().zip(&rows) {
            self.edge(down, from, down, y, false);
            from = y + height(&step.forward);
            if let Some(undo) = &step.undo {
                self.edge(up, y, up, last_undo, false);
                last_undo = y + height(undo);
                let middle = y + height(&step.forward).min(height(undo)) / 2;
                self.edge(left + width, middle, right, middle, true);
            }
        }
        self.edge(down, from, down, end, false);
    }

    fn edge(&mut self, x1: usize, y1: usize, x2: usize, y2: usize, dashed: bool) {
        let dash = if dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        self.line(format_args!(
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"#71717a\"{dash} marker-end=\"url(#tip)\"/>"
        ));
    }

    fn node(&mut self, x: usize, y: usize, node: &Node, end: bool) {
        let (width, high) = (self.layout.width, height(node));
        let look = node.status.and_then(|status| LOOKS.into_iter().find(|look| look.status == status));
        let (fill, stroke, color) = look
            .map_or(("#ffffff", "#a1a1aa", "#3f3f46"), |Look { fill, stroke, text, .. }| {
                (fill, stroke, text)
            });
        let thick = if look.is_some_and(|look| look.thick) { " stroke-width=\"3\"" } else { "" };
        let dash = if look.is_some_and(|look| look.dashed) { " stroke-dasharray=\"5 3\"" } else { "" };
        let class = node.status.map_or("none", StepStatus::as_str);
        let round = if end { high / 2 } else { 6 };
        self.line(format_args!(
            "<g class=\"{class}\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{high}\" rx=\"{round}\" fill=\"{fill}\" stroke=\"{stroke}\"{thick}{dash}/>"
        ));
        let middle = x + width / 2;
        for (n, line) in node.lines.iter().enumerate() {
            let (at, bold) = (y + PADDING + 11 + n * LINE, if n == 0 { " font-weight=\"600\"" } else { "" });
            self.line(format_args!(
                "<text x=\"{middle}\" y=\"{at}\" text-anchor=\"middle\" fill=\"{color}\"{bold}>{}</text>",
                escaped(line)
            ));
        }
        self.line(format_args!("</g>"));
    }
}

/// With everything that means something to XML written as a character reference.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '"' | '\'' => {
                // Writing to a string cannot fail.
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            c if is_xml(c) => safe.push(c),
            _ => safe.push('?'),
        }
    }
    safe
}

/// Whether XML may have this character at all.
const fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}
