//! How a campaign is shown: as Markdown and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::faults::{Fault, Needs};
use super::figures::{Outcome, middle_and_most};
use super::options::Options;

/// So many violations of a run are named.
const NAMED: usize = 20;

/// See the module.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    version: &'static str,
    /// What was checked out, if Git knows.
    commit: Option<String>,
    build: &'static str,
    broker: &'static str,
    orchestrators: u8,
    workers_of_each_kind: u8,
    bookings_per_second: u32,
    minutes_of_harm: f64,
    pub(crate) runs: Vec<Outcome>,
    /// Faults that could not be run here, and why.
    left_out: Vec<(String, &'static str)>,
}

impl Report {
    pub(crate) fn new(options: &Options, broker: &'static str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            broker,
            orchestrators: options.orchestrators,
            workers_of_each_kind: options.workers,
            bookings_per_second: options.rate,
            minutes_of_harm: options.minutes,
            runs: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// A fault for which something is missing.
    pub(crate) fn skipped(&mut self, fault: Fault) {
        let why = match fault.needs() {
            Needs::Nothing => "",
            Needs::OwnKafka => "needs an Apache Kafka of its own: --broker apache",
            Needs::Embedded => "needs a broker that fails on demand: --broker embedded",
        };
        self.left_out.push((fault.name().to_owned(), why));
    }

    /// Whether everything held.
    pub(crate) fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.violations.is_empty())
    }

    /// Writes both forms.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        fs::write(folder.join("report.md"), self.markdown())?;
        Ok(fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?)
    }

    /// For people.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("# Fault campaign\n\n");
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "Version {}, commit {} ({} build), {} orchestrators, {} workers of each kind, {} bookings asked for in a second, \
             broker: {}. Harm was done for {} minutes in each run.\n",
            self.version,
            self.commit.as_deref().unwrap_or("unknown"),
            self.build,
            self.orchestrators,
            self.workers_of_each_kind,
            self.bookings_per_second,
            self.broker,
            self.minutes_of_harm
        );
        text.push_str(
            "| run | seed | strikes | sagas | of these compensated | started per s during harm | starts repeated | duplicates absorbed | dead letters \
             | take-over p50 / max, ms | first end after healing p50 / max, ms | longest standstill, ms | memory, MiB | verdict |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for run in &self.runs {
            row(&mut text, run);
        }
        for run in &self.runs {
            details(&mut text, run);
        }
        for (fault, why) in &self.left_out {
            let _ = writeln!(text, "\n{fault} was left out: it {why}.");
        }
        for run in self.runs.iter().filter(|run| !run.violations.is_empty()) {
            let _ = writeln!(text, "\n## What does not hold: {}, seed {}\n", run.name, run.seed);
            for violation in run.violations.iter().take(NAMED) {
                let _ = writeln!(text, "- {violation}");
            }
            let more = run.violations.len().saturating_sub(NAMED);
            if more > 0 {
                let _ = writeln!(text, "- and {more} more, see report.json");
            }
        }
        text
    }
}

/// What is checked out, with a word if files differ from it.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a run's line has no room for.
fn details(text: &mut String, run: &Outcome) {
    let excused: Vec<String> =
        run.excused.iter().map(|(code, count)| format!("{count} with the reason {code}")).collect();
    let excused = if excused.is_empty() { "none".to_owned() } else { excused.join(", ") };
    let _ = writeln!(
        text,
        "\n## {}, seed {}\n\nProgress was judged in {} s of calm, {} of these times between strikes. Bookings that ended \
         otherwise than asked for, as the harm excuses: {excused}. Shards that nobody took over: {}.\n\n\
         | fault | strikes | lasted p50 / max, ms | take-over p50 / max, ms | first end after healing p50 / max, ms |\n\
         | --- | --- | --- | --- | --- |",
        run.name, run.seed, run.judged_s, run.rests, run.never_taken
    );
    for fault in &run.by_fault {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            fault.fault,
            fault.strikes,
            times(&fault.lasted_ms),
            times(&fault.takeovers_ms),
            times(&fault.recoveries_ms)
        );
    }
}

fn times(times: &[u64]) -> String {
    middle_and_most(times).map_or_else(|| "-".to_owned(), |(middle, most)| format!("{middle} / {most}"))
}

fn row(text: &mut String, run: &Outcome) {
    let (takeover, recovery) = (times(&run.takeovers_ms), times(&run.recoveries_ms));
    let verdict = match run.violations.len() {
        0 => "holds".to_owned(),
        count => format!("**{count} violations**"),
    };
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {:.1} | {} | {} | {} | {takeover} | {recovery} | {} | {} | {verdict} |",
        run.name,
        run.seed,
        run.injections.len(),
        run.completed + run.compensated,
        run.compensated,
        run.started_per_s_during_harm,
        run.repeated_starts,
        run.duplicates.values().sum::<u64>(),
        run.dead_letters,
        run.standstill_ms,
        run.most_resident_mib,
    );
}
