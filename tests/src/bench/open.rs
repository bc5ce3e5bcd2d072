//! Very many sagas open at once: what they cost in memory, whether their timers come on time, and how long a take-over
//! takes when the orchestrator that holds them dies or stops.
//!
//! The sagas are of a definition with one step that nobody answers, so nothing but its timeout moves them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use sea_orm::QueryResult;
use serde_json::{Value, json};

use super::booking::{Bookings, Mix};
use super::figures::Figures;
use super::load::{self, Pace, Plan};
use super::machine;
use super::options::Options;
use super::postgres;
use super::stack::{Orchestrator, Stack};
use crate::process::Signal;
use crate::wait::eventually;

/// Clients that start them.
const CLIENTS: usize = 256;
/// Starts a second while a take-over is measured, so that every shard has something to commit.
const TAKE_OVER_RATE: f64 = 200.0;
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(30);
/// Starting them, and waiting for their timers, takes no longer.
const LIMIT: Duration = Duration::from_secs(3_600);

/// What befalls the orchestrator that holds the sagas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    /// kill -9
    Kill,
    /// SIGTERM
    Stop,
}

/// The definition, whose step waits so many seconds.
fn definition(wait_s: u32) -> String {
    format!(
        "name = \"waiting\"\nversion = 1\ninput = \"booking.StartBooking\"\n\n[[step]]\nname = \"wait\"\n\
         participant = \"nobody\"\nkind = \"retriable\"\ncommand = \"nobody.Wait\"\n\
         reply = \"nobody.Waited\"\ntimeout = \"{wait_s}s\"\n\
         retry = {{ max_attempts = 2, initial = \"10m\", max = \"10m\" }}\n"
    )
}

/// Its command, which carries about as much as one of a booking, and the reply that never comes.
fn schemas() -> Vec<Value> {
    let id = |name| json!({"name": name, "type": {"type": "string", "logicalType": "uuid"}, "doc": "An id."});
    let record = |name, fields: Vec<Value>| json!({"type": "record", "namespace": "nobody", "name": name, "doc": "A message.", "fields": fields});
    vec![
        record("Wait", vec![id("sagaId"), id("userId"), id("resourceId")]),
        record("Waited", vec![id("waiterId")]),
    ]
}

/// Opens so many sagas, and measures what is asked for.
pub(crate) async fn open(stack: &Stack, options: &Options, sagas: u64) -> Result<Figures> {
    let (mut figures, group) = (Figures::default(), "open sagas");
    let registered = json!({"definition": definition(options.hold), "schemas": schemas()});
    let api = stack.running().first().context("an orchestrator runs")?.api.clone();
    api.post("/api/definitions", &registered).await?.expect(201)?;
    let resident = || -> Vec<f64> {
        stack.running().into_iter().filter_map(|one| machine::resident_mib(one.service.pid())).collect()
    };
    let memory = || resident().into_iter().fold(0.0_f64, f64::max);
    let (empty, all_empty) = (memory(), resident().iter().sum::<f64>());
    let bookings =
        Bookings::new(options.seed.unwrap_or_default(), options.resources, Mix::Normal, false).waiting();
    let begun = Instant::now();
    let starts = Starts { limit: Some(sagas), ..Starts::of(bookings) };
    let opened = start(options, starts, addresses(&stack.running())).await?;
    figures.add(group, "opened", "", opened as f64);
    figures.add(group, "opened per second", "/s", opened as f64 / begun.elapsed().as_secs_f64());
    let count = "SELECT count(*) AS n FROM saga WHERE status = 'running'";
    let open = postgres::number(&stack.databases.orchestrator, count).await?;
    figures.add(group, "open in the database", "", open as f64);
    figures.add(group, "largest orchestrator before", "MiB", empty);
    figures.add(group, "largest orchestrator with all of them", "MiB", memory());
    let grown = resident().iter().sum::<f64>() - all_empty;
    figures.add(group, "bytes each", "", grown * 1024.0 * 1024.0 / opened.max(1) as f64);
    if let Some(end) = options.take_over {
        take_over(stack, options, end, &mut figures).await?;
        figures.add(group, "orchestrator that took over", "MiB", memory());
    }
    if options.take_over.is_none() {
        lateness(stack, options, opened, &mut figures).await?;
    }
    Ok(figures)
}

/// What is started.
pub(crate) struct Starts {
    pub(crate) pace: Pace,
    pub(crate) bookings: Bookings,
    /// How many, at most.
    pub(crate) limit: Option<u64>,
    /// For how long, at most.
    pub(crate) time: Duration,
}

impl Starts {
    /// As many as there are, as fast as it goes.
    pub(crate) const fn of(bookings: Bookings) -> Self {
        Self { pace: Pace::Open(CLIENTS), bookings, limit: None, time: LIMIT }
    }
}

pub(crate) fn addresses(orchestrators: &[Arc<Orchestrator>]) -> Vec<SocketAddr> {
    orchestrators.iter().map(|orchestrator| orchestrator.address).collect()
}

/// Starts sagas and gives how many were accepted.
pub(crate) async fn start(options: &Options, starts: Starts, apis: Vec<SocketAddr>) -> Result<u64> {
    let Starts { pace, mut bookings, limit, time } = starts;
    let begin = Instant::now();
    let plan = Plan {
        pace,
        arrivals: options.arrivals,
        begin,
        measured: begin,
        end: begin + time,
        seed: options.seed.unwrap_or_default(),
        connections: options.connections as usize,
        apis,
        limit,
        probes: false,
        recent: load::recent()?,
    };
    let tally = tokio::task::spawn_blocking(move || load::run(plan, &mut bookings)).await??;
    for (said, count) in &tally.failures {
        eprintln!("{count} starts failed: {said}");
    }
    Ok(tally.bookings.len() as u64)
}

/// How long after it was due each timeout is in the journal. Due is counted from the start's commit, a little before the
/// command's publication from which the timeout really runs, so the truth is a little better.
async fn lateness(stack: &Stack, options: &Options, opened: u64, figures: &mut Figures) -> Result<()> {
    let database = &stack.databases.orchestrator;
    let fired = "SELECT count(*) AS n FROM journal WHERE revision = 2";
    eventually("every timer fires", LIMIT, async || {
        let fired = postgres::number(database, fired).await?;
        if u64::try_from(fired)? >= opened {
            return Ok(Some(()));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(None)
    })
    .await?;
    let query = "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY late) AS p50, \
                   percentile_cont(0.99) WITHIN GROUP (ORDER BY late) AS p99, max(late) AS most FROM ( \
                   SELECT extract(epoch FROM fired.at - begun.at)::float8 AS late \
                   FROM journal begun JOIN journal fired USING (saga_id) \
                   WHERE begun.revision = 1 AND fired.revision = 2 AND fired.event::json ->> 'type' = 'timed_out') t";
    let rows = postgres::rows(database, query).await?;
    let row = rows.first().context("timers have fired")?;
    let hold = f64::from(options.hold);
    for (name, column) in [("p50", "p50"), ("p99", "p99"), ("max", "most")] {
        let late: f64 = row.try_get("", column)?;
        figures.add("timers late, from the start's commit", name, "ms", (late - hold) * 1000.0);
    }
    Ok(())
}

/// Ends the first orchestrator and looks in the journal how long nothing was committed to its shards.
async fn take_over(stack: &Stack, options: &Options, end: End, figures: &mut Figures) -> Result<()> {
    let all = stack.running();
    ensure!(all.len() > 1, "a take-over needs --orchestrators 2");
    let database = &stack.databases.orchestrator;
    let owned = format!("SELECT count(*) AS n FROM shard WHERE owner = '{}'", all[0].api.base());
    let lost = postgres::number(database, &owned).await?;
    // Clients go on asking both: each commits to its own shards, and requests to the dead one fail.
    let bookings =
        Bookings::new(options.seed.unwrap_or_default() ^ 1, options.resources, Mix::Normal, false).waiting();
    let signal = match end {
        End::Kill => Signal::Kill,
        End::Stop => Signal::Terminate,
    };
    let dying = &all[0];
    let disturb = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let at =
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS at";
        let at: String = postgres::rows(database, at).await?.first().context("a clock")?.try_get("", "at")?;
        dying.service.signal(signal)?;
        anyhow::Ok(at)
    };
    let starts = Starts { pace: Pace::Rate(TAKE_OVER_RATE), bookings, limit: None, time: TAKE_OVER_LIMIT };
    let load = start(options, starts, addresses(&all));
    let (at, _) = tokio::try_join!(disturb, load)?;
    // The claim divides what the old owner has committed from what the new one has.
    let query = format!(
        "SELECT extract(epoch FROM min(j.at) FILTER (WHERE j.at >= s.claimed_at) \
             - max(j.at) FILTER (WHERE j.at < s.claimed_at))::float8 AS gap, \
           extract(epoch FROM min(j.at) FILTER (WHERE j.at >= s.claimed_at) - '{at}'::timestamptz)::float8 AS since \
         FROM shard s JOIN journal j ON j.shard = s.id WHERE s.claimed_at > '{at}'::timestamptz AND \
           j.at > '{at}'::timestamptz - interval '5 s' GROUP BY s.id ORDER BY 1 DESC NULLS FIRST"
    );
    let rows = postgres::rows(database, &query).await?;
    let seconds = |row: &QueryResult, column| {
        row.try_get::<Option<f64>>("", column).map(|time| time.unwrap_or(f64::NAN))
    };
    let group = "take-over";
    figures.add(group, "shards of the one that ended", "", lost as f64);
    figures.add(group, "shards taken over", "", rows.len() as f64);
    if let Some(worst) = rows.first() {
        figures.add(group, "last commit to first new commit, slowest shard", "s", seconds(worst, "gap")?);
        figures.add(group, "signal to first new commit of that shard", "s", seconds(worst, "since")?);
    }
    Ok(())
}
