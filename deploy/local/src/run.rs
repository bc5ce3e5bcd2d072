//! One start of the stack, from the first line to the last.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use saga_defs::ids::SagaId;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::burst::{self, Burst};
use crate::checks;
use crate::client::Client;
use crate::cpu::CpuTimes;
use crate::data_dir::DataDir;
use crate::demo;
use crate::options::Options;
use crate::signals::stop_on_signals;
use crate::stack::{Plan, Reached, Stack};
use crate::summary::{Outcome, cpu_since, tell_report};
use crate::terminal::{Style, Terminal, counted, seconds};

/// After everything has stopped, threads that still wait for something are not waited for.
const THREADS_PATIENCE: Duration = Duration::from_millis(200);

const FAILURE: u8 = 1;
/// As the services have it.
const WRONG_SETTING: u8 = 2;

/// Runs the stack until it is told to stop, or until its bookings have ended if that is wanted.
pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), FAILURE),
    };
    let plan = match Plan::of(options) {
        Ok(plan) => plan,
        Err(error) => return failed(&error, WRONG_SETTING),
    };
    let ended = runtime.block_on(from_start_to_stop(plan, options));
    runtime.shutdown_timeout(THREADS_PATIENCE);
    match ended {
        Ok(Ended::Fine) => ExitCode::SUCCESS,
        Ok(Ended::Unexpectedly) => ExitCode::FAILURE,
        Err(error) => failed(&error, FAILURE),
    }
}

/// Says what went wrong: each cause once, in one line as far as it is ours.
fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    eprintln!("local: {text}");
    ExitCode::from(code)
}

/// How a start came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// As it should, or by a signal.
    Fine,
    /// A saga did not end as it should have, or the tables differ. It has been said.
    Unexpectedly,
}

async fn from_start_to_stop(plan: Plan, options: &Options) -> Result<Ended> {
    let terminal = Terminal::new();
    let stop = stop_on_signals(terminal)?;
    let dir = DataDir::open(options.data_dir.as_deref())?;
    let (deaths, mut died) = mpsc::unbounded_channel();
    let mut stack = Stack::new(deaths);
    let ended = Cell::new(Ended::Fine);
    let served = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        Some(name) = died.recv() => Err(death(name, &dir)),
        served = serve(&mut stack, plan, options, &dir, &ended, terminal) => served,
    };
    let begun = Instant::now();
    stack.stop(terminal).await;
    terminal.say(&terminal.paint(Style::Dim, &format!("stopped ({})", seconds(begun.elapsed()))));
    served.map(|()| ended.get())
}

fn death(name: &str, dir: &DataDir) -> anyhow::Error {
    let log = dir.log(name);
    anyhow::anyhow!(
        "{name} ended by itself, so everything stops; the end of {}:\n{}",
        log.display(),
        dir.end_of_log(name)
    )
}

async fn serve(
    stack: &mut Stack,
    plan: Plan,
    options: &Options,
    dir: &DataDir,
    ended: &Cell<Ended>,
    terminal: Terminal,
) -> Result<()> {
    terminal.say(&terminal.paint(Style::Bold, "Starting the local stack"));
    terminal.say(&format!("     data directory {}", dir.path().display()));
    let reached = stack.start(plan, options, dir, terminal).await?;
    let mut last = None;
    let mut client = Client::new(reached.api);
    for show in demo::SHOWS {
        let (id, fine) = demo::run(&mut client, &reached.booking, show, terminal).await?;
        last = Some(id);
        if !fine {
            ended.set(Ended::Unexpectedly);
        }
    }
    let fine = match options.bookings {
        Some(bookings) => run_burst(bookings, &reached, dir, terminal).await?,
        None if options.exit => check(&reached, terminal).await?,
        None => true,
    };
    if !fine {
        ended.set(Ended::Unexpectedly);
    }
    if options.exit {
        return Ok(());
    }
    invite(&reached, last.context("no booking was shown")?, dir, terminal);
    std::future::pending().await
}

/// Starts the bookings, waits for their ends, sums up. Says whether all is as it should be.
async fn run_burst(bookings: u32, reached: &Reached, dir: &DataDir, terminal: Terminal) -> Result<bool> {
    terminal.head(&format!("A burst of {}", counted(u64::from(bookings), "booking")));
    let file = dir.burst();
    let burst = Burst::open(&file, bookings, terminal)?;
    let (begun, before) = (OffsetDateTime::now_utc(), CpuTimes::now(&reached.processes));
    let accepted =
        burst::run(burst, reached.api, &reached.databases, reached.found.open_bookings, terminal).await?;
    let cpu = cpu_since(&before, &reached.processes);
    Burst::close(&file);
    let outcome = Outcome::of(&reached.databases, &accepted, begun).await?;
    let report = checks::run(&reached.databases, OffsetDateTime::now_utc()).await?;
    outcome.tell(burst, &cpu, &report, terminal);
    Ok(outcome.unexpected.is_empty() && report.differences.is_empty())
}

/// Waits for the ends of all sagas, those of earlier runs too, and compares the tables.
async fn check(reached: &Reached, terminal: Terminal) -> Result<bool> {
    burst::settle(&reached.databases).await?;
    let report = checks::run(&reached.databases, OffsetDateTime::now_utc()).await?;
    terminal.head("The tables of the three services");
    tell_report(&report, terminal);
    Ok(report.differences.is_empty())
}

fn invite(reached: &Reached, last: SagaId, dir: &DataDir, terminal: Terminal) {
    let base = format!("http://{}", reached.api);
    terminal.head("Serving until Ctrl-C");
    terminal.entry("booking API", &format!("{base}/api/bookings"));
    terminal.entry("sagas", &format!("{base}/api/sagas"));
    terminal.entry("OpenAPI", &format!("{base}/openapi.json"));
    terminal.entry("metrics", &format!("{base}/metrics"));
    terminal.entry("Kafka", &reached.kafka.bootstrap_servers);
    if let Some(url) = &reached.postgres {
        terminal.entry("Postgres", &format!("psql '{url}'"));
    }
    terminal.entry("logs", &dir.path().join("logs").display().to_string());
    terminal.head("To try");
    let (user, resource) = (Uuid::new_v4(), Uuid::new_v4());
    let post = format!("curl -s {base}/api/bookings -H 'content-type: application/json' -H 'prefer: wait=5'");
    let body = format!(r#"-d '{{"userId": "{user}", "resourceId": "{resource}"}}'"#);
    terminal.say(&format!("  {post} {body}"));
    terminal.say(&format!("  {post} -H 'x-forced-payment-outcome: unavailable' {body}"));
    terminal.say(&format!("  curl -s {base}/api/sagas/{last}/history"));
}
