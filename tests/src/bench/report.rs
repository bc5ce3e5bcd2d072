//! The report: for people as Markdown, for programs as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::figures::{Figures, Spread};
use super::load::Pace;
use super::machine::Machine;
use super::verdict::Verdict;

/// Violations that are shown; all are counted.
const SHOWN: usize = 20;

/// Everything that a run of the benchmark has to say.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) version: String,
    pub(crate) machine: Machine,
    pub(crate) broker: String,
    pub(crate) postgres: BTreeMap<String, String>,
    pub(crate) settings: BTreeMap<&'static str, String>,
    pub(crate) verdict: Verdict,
    /// By pace, and for each as often as it was run.
    pub(crate) runs: Vec<(Pace, Vec<Figures>)>,
    /// Requests that failed, by what was said.
    pub(crate) failures: BTreeMap<String, u64>,
    /// What became worse than the gate tolerates.
    pub(crate) worse: Vec<String>,
    /// What the gate says, as Markdown.
    #[serde(skip)]
    pub(crate) gate: String,
}

impl Report {
    /// The spread of a figure of a pace over its repetitions.
    pub(crate) fn spread(runs: &[Figures], group: &str, name: &str) -> Option<Spread> {
        Spread::of(runs.iter().filter_map(|figures| figures.get(group, name)).collect())
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("# Benchmark\n\n");
        self.verdict(&mut text);
        self.surroundings(&mut text);
        self.figures(&mut text);
        text.push_str(&self.gate);
        text
    }

    fn verdict(&self, text: &mut String) {
        let Verdict { looked_at, sagas, completed, compensated, transitions, timed_out, violations, .. } =
            &self.verdict;
        let verdict = if violations.is_empty() { *looked_at } else { "**INVARIANTS DO NOT HOLD**" };
        line(
            text,
            &format!(
                "{verdict}, looked at over all {sagas} sagas of the run: {completed} completed, {compensated} compensated, \
             {transitions} transitions in the journal."
            ),
        );
        for violation in violations.iter().take(SHOWN) {
            line(text, &format!("- {violation}"));
        }
        if violations.len() > SHOWN {
            line(text, &format!("- and {} more", violations.len() - SHOWN));
        }
        if *timed_out > 0 {
            line(
                text,
                &format!(
                    "\n**{timed_out} sagas were compensated because a step took too long**: more was asked for than could be done."
                ),
            );
        }
        for (said, count) in &self.failures {
            line(text, &format!("\n{count} requests failed: {said}"));
        }
        text.push('\n');
    }

    fn surroundings(&self, text: &mut String) {
        let Machine { processors, model, memory_gib, kernel, fsync } = &self.machine;
        let rows = [
            ("command", format!("`{}`", self.command)),
            ("version", self.version.clone()),
            ("machine", format!("{processors} processors ({model}), {memory_gib:.1} GiB, Linux {kernel}")),
            (
                "one page written and forced to the disk",
                format!(
                    "p50 {:.2} ms, p99 {:.2} ms, {:.0}/s one after the other",
                    fsync.p50_ms, fsync.p99_ms, fsync.per_s
                ),
            ),
            ("broker", self.broker.clone()),
            ("Postgres", pairs(self.postgres.iter())),
            ("run", pairs(self.settings.iter())),
        ];
        line(text, "| | |\n| --- | --- |");
        for (name, value) in rows {
            line(text, &format!("| {name} | {value} |"));
        }
        line(
            text,
            "\nIn an open loop latency counts from when a start was due. Bookings that meet an unavailable gateway back off twice, \
                    which is in the latency of all bookings and not in that of normal ones.\n",
        );
    }

    fn figures(&self, text: &mut String) {
        let several = self.runs.iter().any(|(_, runs)| runs.len() > 1);
        if several {
            line(text, "Median (minimum – maximum) of the repetitions.\n");
        }
        let heads: Vec<String> = self.runs.iter().map(|(pace, _)| pace_name(*pace)).collect();
        line(text, &format!("| | {} |", heads.join(" | ")));
        line(text, &format!("| --- |{}", " ---: |".repeat(heads.len())));
        let mut group = "";
        for (of, name, unit) in self.names() {
            if of != group {
                line(text, &format!("| **{of}** |{}", " |".repeat(heads.len())));
                group = of;
            }
            let cells: Vec<String> = self
                .runs
                .iter()
                .map(|(_, runs)| {
                    Self::spread(runs, of, name).map_or_else(String::new, |spread| cell(spread, runs.len()))
                })
                .collect();
            let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
            line(text, &format!("| {name}{unit} | {} |", cells.join(" | ")));
        }
    }

    /// Every figure that any run has, in order.
    fn names(&self) -> Vec<(&'static str, &str, &'static str)> {
        let mut groups: Vec<(&'static str, Vec<(&str, &'static str)>)> = Vec::new();
        for figure in self.runs.iter().flat_map(|(_, runs)| runs).flat_map(|figures| &figures.0) {
            let at = groups.iter().position(|(group, _)| *group == figure.group).unwrap_or_else(|| {
                groups.push((figure.group, Vec::new()));
                groups.len() - 1
            });
            let named = (&*figure.name, figure.unit);
            if !groups[at].1.contains(&named) {
                groups[at].1.push(named);
            }
        }
        let flat = groups
            .into_iter()
            .flat_map(|(group, names)| names.into_iter().map(move |(name, unit)| (group, name, unit)));
        flat.collect()
    }
}

/// As the head of a column.
pub(crate) fn pace_name(pace: Pace) -> String {
    match pace {
        Pace::Rate(rate) => format!("{rate} starts/s"),
        Pace::Open(clients) => format!("{clients} clients"),
    }
}

fn cell(Spread { min, median, max }: Spread, runs: usize) -> String {
    if runs > 1 { format!("{} ({} – {})", short(median), short(min), short(max)) } else { short(median) }
}

/// Three digits that count, thousands apart.
pub(crate) fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((&*text, ""), |(whole, rest)| (whole, rest));
    let digits = whole.trim_start_matches('-');
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if whole.starts_with('-') { "-" } else { "" };
    if rest.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{rest}") }
}

fn pairs<'a, N: std::fmt::Display + 'a>(all: impl Iterator<Item = (N, &'a String)>) -> String {
    all.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

fn line(text: &mut String, what: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(text, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        let shown = [0.0, 0.1234, 9.996, 12.34, 123.4, 1234.5, 1_234_567.0, -2.0].map(short);
        assert_eq!(shown.join(" "), "0 0.12 10.00 12.3 123 1,234 1,234,567 -2.00");
    }
}
