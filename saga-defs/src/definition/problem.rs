//! What is wrong with a definition's text, and where.

use std::collections::BTreeSet;
use std::ops::Range;

use super::outline::Outline;
use super::{Definition, MAX_PROBLEMS};

/// One thing that is wrong with a definition's text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {message}{}", help_suffix(.help.as_deref()))]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The piece of the text it is about, in bytes; may be empty. Both ends lie between characters of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of a text's version, found by whoever knows other texts, e.g. that it is published with other content.
    /// It is at the start of a text that has no version.
    pub fn at_version(source: &str, message: String, help: String) -> Self {
        let outline = Outline::read(source, &mut Problems::new(source));
        Problems::new(source).problem(outline.version.map_or(0..0, |version| version.span()), message, help)
    }
}

fn help_suffix(help: Option<&str>) -> String {
    help.map(|help| format!("; {help}")).unwrap_or_default()
}

/// All that is wrong with a definition's text.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("the definition is refused: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct DefinitionError {
    /// In order of place; never empty; at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// The recipe as read, when the order of kinds is its only fault: good for showing the run that would go wrong,
    /// for nothing else.
    pub misordered: Option<Box<Definition>>,
}

/// Collects problems of one text.
pub(crate) struct Problems<'a> {
    source: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    found: Vec<Problem>,
    /// The lines that are not TOML.
    unreadable: BTreeSet<usize>,
    /// How many of the found are about the order of kinds.
    misorders: usize,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        let after_breaks = source.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(after_breaks).collect();
        Self { source, lines, found: Vec::new(), unreadable: BTreeSet::new(), misorders: 0 }
    }

    /// Whether a further problem would be dropped.
    pub(crate) const fn is_full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    /// Notes a problem: what is wrong with that piece of the text, and what to do.
    pub(crate) fn report(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        if self.is_full() {
            return;
        }
        let problem = self.problem(span, message, help);
        if !self.unreadable.contains(&problem.line) {
            self.found.push(problem);
        }
    }

    fn problem(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Problem {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end).max(start);
        let line = self.lines.partition_point(|begin| *begin <= start);
        let begin = line.checked_sub(1).and_then(|at| self.lines.get(at)).copied().unwrap_or(0);
        let before = self.source.get(begin..start).unwrap_or_default();
        Problem {
            line,
            column: before.chars().count() + 1,
            span: start..end,
            message: message.into(),
            help: help.into(),
        }
    }

    /// As [`Self::report`], of a step that stands in the wrong place.
    pub(crate) fn report_order(&mut self, span: Range<usize>, message: String, help: String) {
        self.misorders += 1;
        self.report(span, message, help);
    }

    /// As [`Self::report`], of something that is not there. Where a text is not TOML anything may seem to be missing, so
    /// then it is not told.
    pub(crate) fn report_missing(&mut self, span: Range<usize>, message: String, help: String) {
        if self.unreadable.is_empty() {
            self.report(span, message, help);
        }
    }

    /// As [`Self::report`], of a place that is not TOML. What is said about the same line afterwards is dropped: it
    /// would only follow from this.
    pub(crate) fn report_unreadable(&mut self, span: Range<usize>, message: String, help: String) {
        self.report(span, message, help);
        self.unreadable.extend(self.found.last().map(|problem| problem.line));
    }

    /// All that was found, in order of place.
    ///
    /// # Errors
    /// If anything was.
    pub(crate) fn into_result(mut self, read: Option<Definition>) -> Result<Definition, DefinitionError> {
        match read {
            Some(definition) if self.found.is_empty() => Ok(definition),
            read => {
                let only_order = self.misorders > 0 && self.misorders == self.found.len();
                self.found.sort_by_key(|problem| (problem.span.start, problem.span.end));
                let misordered = read.filter(|_| only_order).map(Box::new);
                Err(DefinitionError { problems: self.found, misordered })
            }
        }
    }

    fn boundary(&self, mut at: usize) -> usize {
        at = at.min(self.source.len());
        while !self.source.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}
