//! What a check came to: counts, the differences as far as they are kept, and how both are shown.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::difference::{Difference, Kind};
use crate::store::snapshot::ChainEnd;

/// So many differences are kept and shown unless `--limit` says otherwise; the rest are counted.
pub const DEFAULT_LIMIT: usize = 100;

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Sagas.
    pub sagas: u64,
    /// Of these: replayed from their first transition to their last.
    pub replayed: u64,
    /// Of these: their beginning was dropped with its day, or cannot be read; only what is left was checked.
    pub not_replayable: u64,
    /// Rows of the journal.
    pub transitions: u64,
    /// Rows of the audit.
    pub audit_rows: u64,
    /// Where the chains of the audit end. Kept elsewhere, they show later whether a chain was made anew.
    pub audit_ends: Vec<ChainEnd>,
    /// How long it took.
    pub took: Duration,
    /// How many differences of which kind.
    pub counts: BTreeMap<Kind, u64>,
    /// The first of them.
    pub kept: Vec<Difference>,
    limit: usize,
}

impl Report {
    /// An empty report that keeps so many differences.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Takes a difference in.
    pub fn found(&mut self, difference: Difference) {
        *self.counts.entry(difference.kind).or_default() += 1;
        if self.kept.len() < self.limit {
            self.kept.push(difference);
        }
    }

    /// How many differences there are.
    pub fn differences(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Transitions a second.
    pub fn rate(&self) -> f64 {
        self.transitions as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// For people, ending with a line break: the differences, then the summary. In colour; who prints may strip it.
    pub fn text(&self) -> String {
        let paint = |code: &str, text: &str| format!("\x1b[{code}m{text}\x1b[0m");
        let mut out = String::new();
        for difference in &self.kept {
            put(&mut out, format_args!("{} {difference}\n", paint("31", "differs:")));
        }
        let hidden = self.differences().saturating_sub(self.kept.len() as u64);
        if hidden > 0 {
            put(&mut out, format_args!("… and {hidden} more; --limit shows more\n"));
        }
        put(
            &mut out,
            format_args!(
                "{} sagas, {} transitions in {:.1} s ({:.0}/s)\n",
                self.sagas,
                self.transitions,
                self.took.as_secs_f64(),
                self.rate()
            ),
        );
        if self.not_replayable > 0 {
            let text = format!(
                "{} sagas not replayed: their journal's beginning was dropped or differs; what is left of it was checked\n",
                self.not_replayable
            );
            out.push_str(&text);
        }
        if self.counts.is_empty() {
            put(&mut out, format_args!("{}\n", paint("32", "no differences")));
        } else {
            let kinds: Vec<String> =
                self.counts.iter().map(|(kind, count)| format!("{} {count}", kind.code())).collect();
            let total = format!("{} differences", self.differences());
            put(&mut out, format_args!("{}: {}\n", paint("31", &total), kinds.join(", ")));
        }
        out
    }

    /// For programs: one JSON object and a line break.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct View<'a> {
            sagas: u64,
            replayed: u64,
            not_replayable: u64,
            transitions: u64,
            audit_rows: u64,
            audit_ends: Vec<EndView>,
            seconds: f64,
            differences: u64,
            by_kind: &'a BTreeMap<Kind, u64>,
            items: &'a [Difference],
        }
        #[derive(Serialize)]
        struct EndView {
            chain: i32,
            seq: i64,
            hash: String,
        }
        let end = |end: &ChainEnd| EndView {
            chain: end.chain,
            seq: end.seq,
            hash: end.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let view = View {
            sagas: self.sagas,
            replayed: self.replayed,
            not_replayable: self.not_replayable,
            transitions: self.transitions,
            audit_rows: self.audit_rows,
            audit_ends: self.audit_ends.iter().map(end).collect(),
            seconds: self.took.as_secs_f64(),
            differences: self.differences(),
            by_kind: &self.counts,
            items: &self.kept,
        };
        let mut text = crate::store::body::json(&view);
        text.push('\n');
        text
    }
}

/// Writing to a text cannot fail.
fn put(out: &mut String, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}
