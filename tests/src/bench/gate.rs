//! The gate: a short run whose costs are held against recorded ones, so that a change that makes sagas dearer is seen.
//!
//! What is compared hardly drifts: WAL bytes, and processor time per saga in a closed loop, where both processors are
//! full and batches as large as the clients make them. Processor time is compared in units of a piece of work that is
//! timed beside it, so that a slower machine, or a slower hour of the same one, is not taken for a slower program.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::figures::{Figures, Spread};
use super::options::Options;
use super::report::short;
use crate::random::Random;

/// What is compared.
const CPU: &str = "processor time per saga";
const WAL: &str = "WAL";
/// The figure with which processor times are made comparable.
pub(crate) const MACHINE: &str = "machine";
pub(crate) const WORK: &str = "piece of work, timed while nothing runs";
/// Figures of processor time that are compared, and those of WAL.
const COMPARED: [(&str, &str); 10] = [
    (CPU, "orchestrator"),
    (CPU, "booking-worker"),
    (CPU, "payment-worker"),
    (CPU, "postgres, orchestrator"),
    (CPU, "postgres, booking"),
    (CPU, "postgres, payment"),
    (CPU, "all but the load"),
    (WAL, "orchestrator: per saga"),
    (WAL, "booking: per saga"),
    (WAL, "payment: per saga"),
];
/// The least tolerance, whatever the repeats said: five repeats do not see everything.
const LEAST_TOLERANCE: f64 = 0.08;
/// The tolerance in units of what the repeats were apart.
const SPREADS: f64 = 2.0;
/// Fewer repeats than this say nothing about noise.
const REPEATS: usize = 5;
/// What the file has at its end for tests/tests/allocations.rs, and keeps.
const KEPT: &str = "# Allocations";
/// How the file is made anew.
const AGAIN: &str = "for n in 1 2 3 4 5; do cargo run --release -p tests --bin bench -- --gate --report target/gate/$n; done\n\
                     cargo run --release -p tests --bin bench -- --record target/gate/1 --record target/gate/2 \
                     --record target/gate/3 --record target/gate/4 --record target/gate/5";

/// The load of the gate, in about a minute.
pub(crate) fn load(options: &mut Options) {
    options.rate = None;
    options.sweep = Vec::new();
    options.open = Some(500);
    options.mix = super::booking::Mix::Normal;
    options.own_clusters = true;
    options.repeat = 1;
    options.warm_up = 10;
    options.seconds = 30;
}

/// Where the recorded figures are.
pub(crate) fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("performance-gate.toml")
}

/// A recorded figure.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Recorded {
    group: String,
    name: String,
    value: f64,
    /// How much more is still noise: 0.1 is ten percent.
    tolerance: f64,
}

#[derive(Debug, Deserialize)]
struct File {
    /// Milliseconds that the piece of work took when the figures were recorded.
    work_ms: f64,
    figure: Vec<Recorded>,
}

/// How long the piece of work takes, in milliseconds: the best of several, since anything else that runs only adds.
/// Draws numbers, sorts them and looks them up: what keeps a processor and its caches busy.
pub(crate) fn work_ms() -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        let mut random = Random::seeded(1);
        let mut numbers: Vec<u64> = (0..200_000).map(|_| random.next()).collect();
        numbers.sort_unstable();
        let found = (0..200_000).filter(|_| numbers.binary_search(&random.next()).is_ok()).count();
        std::hint::black_box(found);
        best = best.min(begun.elapsed());
    }
    best.as_secs_f64() * 1000.0
}

/// Holds a run against the recorded figures: a line for each that is worse than its noise explains, and text for people.
pub(crate) fn compare(figures: &Figures) -> Result<(Vec<String>, String)> {
    let path = file();
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
    ensure!(!file.figure.is_empty(), "nothing is recorded yet in {}:\n{AGAIN}", path.display());
    held(&file, figures)
}

fn held(file: &File, figures: &Figures) -> Result<(Vec<String>, String)> {
    let work = figures.get(MACHINE, WORK).context("the piece of work was not timed")?;
    let slower = work / file.work_ms;
    let mut text = format!(
        "\n## Gate\n\nThe piece of work takes {} ms here and took {} ms where the figures were recorded: \
         processor times are compared after division by {slower:.2}.\n\n\
         | | now | recorded | tolerated | |\n| --- | ---: | ---: | ---: | --- |\n",
        short(work),
        short(file.work_ms)
    );
    let mut worse = Vec::new();
    for Recorded { group, name, value, tolerance } in &file.figure {
        let now = figures.get(group, name).with_context(|| format!("there is no figure {group}, {name}"))?;
        let now = if group == CPU { now / slower } else { now };
        let (most, least) = (value * (1.0 + tolerance), value * (1.0 - tolerance));
        let (now_shown, then_shown, most_shown) = (short(now), short(*value), short(most));
        let verdict = if now > most {
            let more = (now / value - 1.0) * 100.0;
            worse.push(format!(
                "{group}, {name}: {now_shown}, which is {more:.0} % more than the recorded {then_shown}; \
                 {:.0} % is tolerated as noise",
                tolerance * 100.0
            ));
            "**worse**"
        } else if now < least {
            "better: record it, or it will be lost unseen"
        } else {
            ""
        };
        let _ = writeln!(text, "| {group}, {name} | {now_shown} | {then_shown} | {most_shown} | {verdict} |");
    }
    if !worse.is_empty() {
        let _ = write!(
            text,
            "\n**Sagas have become dearer.** Make them cheaper again; or, if it is worth it, record anew:\n\n```sh\n{AGAIN}\n```\n"
        );
    }
    Ok((worse, text))
}

/// Writes the file anew, from the reports of at least [`REPEATS`] runs of the gate.
pub(crate) fn record(folders: &[PathBuf]) -> Result<()> {
    ensure!(
        folders.len() >= REPEATS,
        "{REPEATS} reports are needed to know the noise, these are {}",
        folders.len()
    );
    let runs: Vec<Figures> = folders.iter().map(|folder| read(folder)).collect::<Result<_>>()?;
    let before = fs::read_to_string(file()).unwrap_or_default();
    let kept = before.find(KEPT).map_or("", |at| &before[at..]);
    let text = format!("{}\n{kept}", written(&runs)?);
    fs::write(file(), text).with_context(|| format!("write {}", file().display()))
}

fn written(runs: &[Figures]) -> Result<String> {
    let works: Vec<f64> = runs.iter().filter_map(|run| run.get(MACHINE, WORK)).collect();
    let work = Spread::of(works).context("the piece of work was not timed")?.median;
    let mut text = format!(
        "# What a saga cost when this was recorded, from {} runs, and how much more is still noise ({SPREADS} times what the\n\
         # runs were apart, at least {LEAST_TOLERANCE}). Held against each change by `bench --gate`; made anew by:\n",
        runs.len()
    );
    for line in AGAIN.lines() {
        let _ = writeln!(text, "#   {line}");
    }
    let _ = writeln!(
        text,
        "\n# Milliseconds that the piece of work took, by which processor times (µs) are made comparable.\nwork_ms = {work:.3}"
    );
    for (group, name) in COMPARED {
        let value = |run: &Figures| {
            let value = run.get(group, name)?;
            Some(if group == CPU { value * work / run.get(MACHINE, WORK)? } else { value })
        };
        let values: Vec<f64> = runs.iter().filter_map(value).collect();
        ensure!(values.len() == runs.len(), "a report is without {group}, {name}");
        let Spread { min, median, max } = Spread::of(values).context("no runs")?;
        let tolerance = (SPREADS * (max - min) / median).max(LEAST_TOLERANCE);
        let _ = write!(
            text,
            "\n[[figure]]\ngroup = \"{group}\"\nname = \"{name}\"\nvalue = {median:.1} # {min:.1} to {max:.1}\ntolerance = {tolerance:.2}\n"
        );
    }
    Ok(text)
}

/// The figures of the first run in a report.
fn read(folder: &Path) -> Result<Figures> {
    let path = folder.join("report.json");
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let report: serde_json::Value = serde_json::from_slice(&text)?;
    ensure!(
        report["verdict"]["violations"] == serde_json::json!([]),
        "{}: invariants do not hold",
        path.display()
    );
    let mut figures = Figures::default();
    for figure in report["runs"][0][1][0].as_array().into_iter().flatten() {
        let known = COMPARED.into_iter().chain([(MACHINE, WORK)]);
        let named =
            known.into_iter().find(|(group, name)| figure["group"] == *group && figure["name"] == *name);
        if let (Some((group, name)), Some(value)) = (named, figure["value"].as_f64()) {
            figures.add(group, name, "", value);
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cpu: f64, wal: f64, work: f64) -> Figures {
        let mut figures = Figures::default();
        figures.add(MACHINE, WORK, "ms", work);
        for (group, name) in COMPARED {
            figures.add(group, name, "", if group == CPU { cpu } else { wal });
        }
        figures
    }

    fn file(runs: &[Figures]) -> File {
        toml::from_str(&written(runs).unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_can_be_held_against_a_run() {
        let runs: Vec<Figures> = [200.0, 202.0, 198.0, 201.0, 199.0].map(|cpu| run(cpu, 3000.0, 10.0)).into();
        let file = file(&runs);
        assert_eq!(file.figure.len(), COMPARED.len());
        assert_eq!((file.figure[0].value, file.figure[0].tolerance), (200.0, LEAST_TOLERANCE));
        let worse = |cpu, wal, work| held(&file, &run(cpu, wal, work)).unwrap().0.len();
        assert_eq!(worse(200.0, 3000.0, 10.0), 0);
        assert_eq!(worse(215.0, 3000.0, 10.0), 0, "within the noise");
        assert_eq!(worse(217.0, 3000.0, 10.0), 7, "all that is processor time");
        assert_eq!(worse(200.0, 3300.0, 10.0), 3, "all that is WAL");
        assert_eq!(worse(300.0, 3000.0, 15.0), 0, "the machine is slower, not the program");
        let (worse, text) = held(&file, &run(230.0, 3000.0, 10.0)).unwrap();
        assert_eq!(
            worse[0],
            "processor time per saga, orchestrator: 230, which is 15 % more than the recorded 200; 8 % is tolerated as noise"
        );
        assert!(text.contains("--record target/gate/1"), "{text}");
        assert!(held(&file, &run(100.0, 3000.0, 10.0)).unwrap().1.contains("better: record it"));
    }

    #[test]
    fn tolerance_follows_from_the_repeats() {
        let runs: Vec<Figures> = [180.0, 200.0, 220.0, 200.0, 200.0].map(|cpu| run(cpu, 3000.0, 10.0)).into();
        assert_eq!(file(&runs).figure[0].tolerance, 0.4);
    }
}
