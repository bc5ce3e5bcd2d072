//! The benchmark: the whole stack as real processes, a load from outside, figures by process, and in the end the
//! invariants over every saga. `mod.rs` is its whole story; [`load`] is what clients do, [`run`] what is measured
//! meanwhile, [`verdict`] what must hold, [`report`] how it is shown.

mod booking;
mod client;
mod ended;
mod figures;
mod gate;
mod load;
mod machine;
mod metrics;
mod open;
mod options;
mod plot;
mod postgres;
mod readers;
mod report;
mod run;
mod soak;
mod stack;
mod timer;
mod verdict;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use uuid::Uuid;

use booking::Bookings;
use figures::Figures;
use load::Pace;
use options::Options;
use report::{Report, pace_name};
use stack::Stack;
use verdict::{Heard, Verdict};

use crate::process::PARENT;

// What is measured is what is shipped.
const _: () = assert!(cfg!(debug_assertions) || !participant::crash::ENABLED);

/// Runs the program with a command line, whose first part is the program's own name. Under a service's name it is that
/// service: Cargo builds only the program that it runs.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if std::env::var_os(PARENT).is_some() {
        return crate::services::main(arguments.into_iter().skip(1).collect());
    }
    let mut options = match Options::try_parse_from(&arguments) {
        Ok(options) => options,
        Err(error) => {
            // Nobody may be reading: no reason for another error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("bench: NOT A RELEASE BUILD. Its figures say nothing; add --release to the command.");
    }
    if !options.record.is_empty() {
        return gate::record(&options.record).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS);
    }
    if options.gate {
        gate::load(&mut options);
    }
    if let Some(minutes) = options.soak {
        options.seconds = minutes * 60;
    }
    options.seed.get_or_insert_with(|| Uuid::new_v4().as_u64_pair().0);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(bench(&options, &command(&arguments))) {
        Ok(report) => {
            print!("{}", report.markdown());
            for worse in &report.worse {
                eprintln!("bench: DEARER: {worse}");
            }
            let fine = report.verdict.violations.is_empty() && report.worse.is_empty();
            if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("bench: {error:#}");
    ExitCode::FAILURE
}

fn command(arguments: &[OsString]) -> String {
    let rest: Vec<_> = arguments.iter().skip(1).map(|argument| argument.to_string_lossy()).collect();
    format!("cargo run --release -p tests --bin bench -- {}", rest.join(" "))
}

async fn bench(options: &Options, command: &str) -> Result<Report> {
    let work = gate::work_ms();
    let stack = Stack::start(options).await?;
    let machine = machine::Machine::look(&stack.folder.path)?;
    let pins = if options.pin_horizon { soak::pin_horizon(&stack).await? } else { Vec::new() };
    let mut report = Report {
        command: command.to_owned(),
        version: version(),
        machine,
        broker: match &options.kafka {
            Some(servers) => format!("Apache Kafka at {servers}"),
            None => "embedded, a process of its own".to_owned(),
        },
        postgres: postgres::settings(&stack).await?,
        settings: settings(options),
        verdict: Verdict::default(),
        runs: Vec::new(),
        failures: BTreeMap::new(),
        worse: Vec::new(),
        gate: String::new(),
    };
    match options.open_sagas {
        Some(sagas) => open_sagas(&stack, options, sagas, &mut report).await?,
        None => bookings(&stack, options, work, &mut report).await?,
    }
    drop(pins);
    stack.stop().await?;
    if let Some(folder) = &options.report {
        write(&report, folder)?;
    }
    // The report is there already when the gate cannot be read: it is what the gate is made of.
    if options.gate
        && let Some(figures) = report.runs.first().and_then(|(_, runs)| runs.first())
    {
        (report.worse, report.gate) = gate::compare(figures)?;
    }
    Ok(report)
}

/// Every pace as often as it is wanted, then the invariants.
async fn bookings(stack: &Stack, options: &Options, work: f64, report: &mut Report) -> Result<()> {
    if let Some(sagas) = options.ended {
        ended::make(stack, options, sagas).await?;
    }
    let mut bookings =
        Bookings::new(options.seed.unwrap_or_default(), options.resources, options.mix, options.keys);
    report.runs = options.paces().into_iter().map(|pace| (pace, Vec::new())).collect();
    let mut heard = Heard { accepted: Vec::new(), failures: 0, slowest_second: u64::MAX };
    for repetition in 1..=options.repeat {
        for (pace, of_pace) in &mut report.runs {
            let (mut run, rest) = run::run(stack, options, *pace, bookings).await?;
            bookings = rest;
            run.figures.add(gate::MACHINE, gate::WORK, "ms", work);
            tell(repetition, *pace, &run.figures);
            for (said, count) in run.tally.failures {
                heard.failures += count;
                *report.failures.entry(said).or_default() += count;
            }
            heard.accepted.extend(run.tally.bookings);
            let slowest = run.tally.by_second.iter().min().copied().unwrap_or(0);
            heard.slowest_second = heard.slowest_second.min(slowest);
            of_pace.push(run.figures);
        }
    }
    if options.ended.is_some() {
        ended::remove(stack).await?;
        // The booking that they are copies of.
        heard.failures += 1;
    }
    report.verdict = verdict::reach(stack, heard).await?;
    Ok(())
}

async fn open_sagas(stack: &Stack, options: &Options, sagas: u64, report: &mut Report) -> Result<()> {
    let figures = open::open(stack, options, sagas).await?;
    report.runs.push((Pace::Open(usize::try_from(sagas)?), vec![figures]));
    report.verdict =
        Verdict { looked_at: "The journal replays to what the tables say", sagas, ..Verdict::default() };
    verdict::verified(stack, &mut report.verdict).await
}

/// What has been found so far, while the rest is still to come.
fn tell(repetition: u32, pace: Pace, figures: &Figures) {
    let get = |group, name| figures.get(group, name).map_or_else(|| "-".to_owned(), report::short);
    let latency = "start to end, normal bookings";
    eprintln!(
        "{} ({repetition}): {} ended/s, p50 {} ms, p99 {} ms, {} µs of processor time per saga",
        pace_name(pace),
        get("throughput", "sagas ended"),
        get(latency, "p50"),
        get(latency, "p99"),
        get("processor time per saga", "all but the load"),
    );
}

fn settings(options: &Options) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("measured s", options.seconds.to_string()),
        ("warm-up s", options.warm_up.to_string()),
        ("repetitions", options.repeat.to_string()),
        ("mix", word(&options.mix)),
        ("arrivals", word(&options.arrivals)),
        ("seed", options.seed.unwrap_or_default().to_string()),
        ("idempotency keys", options.keys.to_string()),
        ("resources", options.resources.to_string()),
        ("orchestrators", options.orchestrators.to_string()),
        ("Postgres clusters", if options.own_clusters { "3" } else { "1" }.to_owned()),
        ("sagas that had ended before", options.ended.unwrap_or_default().to_string()),
        ("pages a second", options.readers.unwrap_or_default().to_string()),
        ("connections of clients at most", options.connections.to_string()),
        (
            "settings of services",
            options
                .environment
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
        ),
    ])
}

/// A choice as it is written on the command line.
fn word(choice: &impl clap::ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The commit that was built, where git can tell.
fn version() -> String {
    let git = std::process::Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=10"])
        .output();
    let commit = git.ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let profile = if cfg!(debug_assertions) { ", NOT A RELEASE BUILD" } else { "" };
    format!("{} {}{profile}", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default())
}

fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(folder.join("report.md"), report.markdown())?;
    fs::write(folder.join("report.json"), serde_json::to_vec_pretty(report)?)?;
    plot::draw(report, &folder.join("latency.svg"))
}
