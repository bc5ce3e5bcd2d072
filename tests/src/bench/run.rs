//! One run: the load, and what every process did in the window that is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use messaging::Received;
use messaging::fetch::{read_last, watermarks};
use time::OffsetDateTime;

use super::booking::Bookings;
use super::figures::Figures;
use super::load::{self, Pace, Plan, Recent, Tally};
use super::machine::{self, Usage};
use super::metrics::Metrics;
use super::options::Options;
use super::postgres::{self, Done};
use super::readers;
use super::soak;
use super::stack::Stack;

/// From the decision to run to the first start.
const HEAD_START: Duration = Duration::from_millis(50);
/// The process of an Apache Kafka that runs on this machine, as its command line has it.
const KAFKA_MAIN: &str = "kafka.Kafka";
/// So many of the newest records of a partition tell how large a topic's are.
const SAMPLE: i64 = 200;

/// What a run came to.
pub(crate) struct Run {
    pub(crate) figures: Figures,
    pub(crate) tally: Tally,
}

/// Everything that is looked at when the window begins, and again when it ends.
pub(crate) struct Edge {
    at: OffsetDateTime,
    instant: Instant,
    usage: Usage,
    backends: BTreeMap<u32, String>,
    postgres: Done,
    metrics: Metrics,
}

impl Edge {
    pub(crate) async fn look(stack: &Stack) -> Result<Self> {
        // Processor time and clock first: asking for the rest takes its time.
        let (usage, at, instant) = (Usage::now(), OffsetDateTime::now_utc(), Instant::now());
        let postgres = postgres::done(stack).await?;
        let backends = postgres::backends(stack).await?;
        let metrics = Metrics::now(stack).await?;
        Ok(Self { at, instant, usage, backends, postgres, metrics })
    }
}

/// Runs a load of that pace and says what happened in its window.
pub(crate) async fn run(
    stack: &Stack,
    options: &Options,
    pace: Pace,
    bookings: Bookings,
) -> Result<(Run, Bookings)> {
    let topics_before = records(stack).await?;
    let sagas = "SELECT count(*) AS n FROM saga";
    let sagas_before = postgres::number(&stack.databases.orchestrator, sagas).await?;
    let recent = load::recent()?;
    let plan = plan(stack, options, pace, recent.clone());
    let (measured, end) = (plan.measured, plan.end);
    let watched = async {
        match options.soak {
            Some(_) => soak::watch(stack, measured.into(), end.into(), &recent).await,
            None => Ok(Vec::new()),
        }
    };
    let looked = async {
        match options.readers {
            Some(per_second) => readers::look(stack, per_second, measured.into(), end.into()).await,
            None => Ok(Figures::default()),
        }
    };
    let load = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let mut bookings = bookings;
        load::run(plan, &mut bookings).map(|tally| (tally, bookings))
    })?;
    tokio::time::sleep_until(measured.into()).await;
    for (_, pid) in stack.processes() {
        machine::forget_peak(pid);
    }
    let before = Edge::look(stack).await?;
    let (minutes, pages, ()) = tokio::join!(watched, looked, tokio::time::sleep_until(end.into()));
    let drift = soak::drift(&minutes?);
    let after = Edge::look(stack).await?;
    let memory = memory(stack);
    let joined = tokio::task::spawn_blocking(move || load.join()).await?;
    let (tally, bookings) = joined.map_err(|_| anyhow::anyhow!("the load panicked"))??;
    settled(stack).await?;
    let window = Window { stack, before, after };
    let mut figures = Figures::default();
    let ended = window.ends(&tally, &mut figures).await?;
    figures.add_times("start to end, normal bookings", &tally.normal);
    figures.add_times("start to end, all bookings", &tally.all);
    figures.add_times("start to acceptance", &tally.accepted);
    figures.add_times("starts sent after they were due", &tally.late);
    window.processors(ended, &mut figures);
    figures.0.extend(memory.0);
    window.databases(ended, &mut figures);
    window.engine(&mut figures);
    shards(stack, &mut figures).await?;
    figures.0.extend(pages?.0);
    figures.0.extend(drift.0);
    let begun = postgres::number(&stack.databases.orchestrator, sagas).await? - sagas_before;
    let sizes = sizes(stack).await?;
    let mut bytes = Figures::default();
    for (topic, count) in records(stack).await? {
        let new = count - topics_before.get(&topic).copied().unwrap_or(0);
        let per_saga = new as f64 / begun.max(1) as f64;
        if let Some(size) = sizes.get(&topic) {
            bytes.add("bytes per saga, whole run", topic.clone(), "", per_saga * size);
        }
        figures.add("records per saga, whole run", topic, "", per_saga);
    }
    figures.0.extend(bytes.0);
    Ok((Run { figures, tally }, bookings))
}

/// The load, which begins in a moment.
fn plan(stack: &Stack, options: &Options, pace: Pace, recent: Recent) -> Plan {
    let begin = Instant::now() + HEAD_START;
    let measured = begin + Duration::from_secs(options.warm_up.into());
    Plan {
        pace,
        arrivals: options.arrivals,
        begin,
        measured,
        end: measured + Duration::from_secs(options.seconds.into()),
        seed: options.seed.unwrap_or_default(),
        connections: options.connections as usize,
        apis: stack.running().iter().map(|orchestrator| orchestrator.address).collect(),
        limit: None,
        probes: true,
        recent,
    }
}

/// Waits until no saga is open, or none ends any more.
pub(crate) async fn settled(stack: &Stack) -> Result<()> {
    let open = "SELECT count(*) AS n FROM saga WHERE status IN ('running', 'compensating')";
    let mut last = (i64::MAX, Instant::now());
    loop {
        let open = postgres::number(&stack.databases.orchestrator, open).await?;
        if open == 0 || last.1.elapsed() > Duration::from_secs(60) {
            return Ok(());
        }
        if open != last.0 {
            last = (open, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many records each topic has ever had.
pub(crate) async fn records(stack: &Stack) -> Result<BTreeMap<String, i64>> {
    let (settings, topics) = (stack.kafka.clone(), stack.topics.clone());
    let count = move || {
        let mut counts = BTreeMap::new();
        for topic in topics {
            let all = watermarks(&settings, &topic.name)?;
            counts.insert(topic.name.to_string(), all.iter().map(|partition| partition.high).sum());
        }
        anyhow::Ok(counts)
    };
    tokio::task::spawn_blocking(count).await?.context("the watermarks of the topics")
}

/// How many bytes a record of each topic has on average, by its newest ones: key, value and headers, before the producer
/// puts many into one batch.
async fn sizes(stack: &Stack) -> Result<BTreeMap<String, f64>> {
    let (settings, topics) = (stack.kafka.clone(), stack.topics.clone());
    let sizes = move || {
        let mut sizes = BTreeMap::new();
        for topic in topics {
            let records = read_last(&settings, &topic.name, SAMPLE)?;
            let bytes: usize = records.iter().map(bytes).sum();
            if !records.is_empty() {
                sizes.insert(topic.name.to_string(), bytes as f64 / records.len() as f64);
            }
        }
        anyhow::Ok(sizes)
    };
    tokio::task::spawn_blocking(sizes).await?.context("the newest records of the topics")
}

fn bytes(record: &Received) -> usize {
    let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

/// How many shards each orchestrator has.
async fn shards(stack: &Stack, figures: &mut Figures) -> Result<()> {
    for orchestrator in stack.running() {
        let owned = format!("SELECT count(*) AS n FROM shard WHERE owner = '{}'", orchestrator.api.base());
        let owned = postgres::number(&stack.databases.orchestrator, &owned).await?;
        figures.add("shards", orchestrator.service.name(), "", owned as f64);
    }
    Ok(())
}

fn memory(stack: &Stack) -> Figures {
    let mut figures = Figures::default();
    for (name, pid) in stack.processes() {
        figures.add("peak memory", name, "MiB", machine::peak_mib(pid).unwrap_or(f64::NAN));
    }
    let usage = Usage::now();
    let of_server = |pid| usage.children(pid).chain([pid]).filter_map(machine::share_mib).sum::<f64>();
    let all = stack.servers.iter().map(|server| of_server(server.pid())).sum();
    figures.add("peak memory", "postgres at the end of the window", "MiB", all);
    figures
}

/// What happened between two looks.
pub(crate) struct Window<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) before: Edge,
    pub(crate) after: Edge,
}

impl Window<'_> {
    pub(crate) fn seconds(&self) -> f64 {
        (self.after.instant - self.before.instant).as_secs_f64()
    }

    /// How many sagas ended, as the orchestrators count: costs them nothing.
    pub(crate) fn ended_by_metrics(&self) -> f64 {
        self.after.metrics.growth_of_all(&self.before.metrics, "saga_duration_seconds_count")
    }

    /// How many sagas ended in the window.
    async fn ends(&self, tally: &Tally, figures: &mut Figures) -> Result<f64> {
        let time = |at: OffsetDateTime| at.unix_timestamp_nanos() as f64 / 1e9;
        let query = format!(
            "SELECT status, count(*)::float8 AS n FROM saga \
             WHERE finished_at >= to_timestamp({:.6}) AND finished_at < to_timestamp({:.6}) GROUP BY status",
            time(self.before.at),
            time(self.after.at)
        );
        let mut by_status = BTreeMap::<String, f64>::new();
        for row in postgres::rows(&self.stack.databases.orchestrator, &query).await? {
            by_status.insert(row.try_get("", "status")?, row.try_get("", "n")?);
        }
        let group = "throughput";
        let seconds = self.seconds();
        let ended: f64 = by_status.values().sum();
        figures.add(group, "starts sent", "/s", tally.started as f64 / seconds);
        figures.add(group, "sagas ended", "/s", ended / seconds);
        for (status, count) in by_status {
            figures.add(group, format!("of these {status}"), "/s", count / seconds);
        }
        let slowest = tally.by_second.iter().min().copied().unwrap_or(0);
        figures.add(group, "ends heard of in the slowest second", "", slowest as f64);
        figures.add(
            group,
            "requests that failed, warm-up too",
            "",
            tally.failures.values().sum::<u64>() as f64,
        );
        figures.add(group, "not ended within 30 s", "", tally.not_ended as f64);
        Ok(ended.max(1.0))
    }

    /// Processor time by process, in microseconds per ended saga.
    pub(crate) fn processors(&self, ended: f64, figures: &mut Figures) {
        let group = "processor time per saga";
        let (before, after) = (&self.before.usage, &self.after.usage);
        let mut used: Vec<(String, Duration)> =
            self.stack.processes().into_iter().map(|(name, pid)| (name, after.of(pid, before))).collect();
        if self.stack.broker.is_none() {
            let kafka = machine::processes_named(KAFKA_MAIN);
            used.push(("kafka".to_owned(), kafka.into_iter().map(|pid| after.of(pid, before)).sum()));
        }
        let mut databases = BTreeMap::<String, Duration>::new();
        for name in ["orchestrator", "booking", "payment", "background"] {
            databases.insert(name.to_owned(), Duration::ZERO);
        }
        for server in &self.stack.servers {
            let pid = server.pid();
            *databases.entry("background".to_owned()).or_default() +=
                after.of(pid, before) + after.of_ended_children(pid, before);
            for child in after.children(pid) {
                let known = self.after.backends.get(&child).or(self.before.backends.get(&child));
                let name = known.map_or("background", String::as_str);
                *databases.entry(name.to_owned()).or_default() += after.of(child, before);
            }
        }
        used.extend(databases.into_iter().map(|(name, time)| (format!("postgres, {name}"), time)));
        let load = after.of(std::process::id(), before);
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / ended;
        let all: Duration = used.iter().map(|(_, time)| *time).sum();
        figures.add(group, "all but the load", "µs", micros(all));
        for (name, time) in used {
            figures.add(group, name, "µs", micros(time));
        }
        figures.add(group, "load", "µs", micros(load));
        figures.add(group, "all", "µs", micros(all + load));
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        figures.add("machine", "busy processors", "", after.busy(before) * processors);
    }

    fn databases(&self, ended: f64, figures: &mut Figures) {
        let seconds = self.seconds();
        for (name, after) in &self.after.postgres.wal {
            let before = self.before.postgres.wal.get(name).copied().unwrap_or_default();
            let mut add =
                |what: &str, unit, value| figures.add("WAL", format!("{name}: {what}"), unit, value);
            add("per saga", "bytes", (after.bytes - before.bytes) / ended);
            add("records per saga", "", (after.records - before.records) / ended);
            add("full pages per saga", "", (after.full_pages - before.full_pages) / ended);
            add("fsyncs", "/s", (after.syncs - before.syncs) / seconds);
        }
        for (name, after) in &self.after.postgres.commits {
            let before = self.before.postgres.commits.get(name).copied().unwrap_or_default();
            figures.add("transactions", name.clone(), "/s", (after - before) / seconds);
        }
    }

    fn engine(&self, figures: &mut Figures) {
        let (before, after) = (&self.before.metrics, &self.after.metrics);
        let group = "engine";
        let batches = after.growth(before, "saga_batch_transitions_count");
        let transitions = after.growth(before, "saga_batch_transitions_sum");
        figures.add(group, "batches", "/s", batches / self.seconds());
        figures.add(group, "transitions per batch", "", transitions / batches.max(1.0));
        for (what, name) in
            [("commit", "saga_commit_duration_seconds"), ("arrival to commit", "saga_input_duration_seconds")]
        {
            for (shown, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                if let Some(time) = after.quantile(before, name, "", quantile) {
                    figures.add(group, format!("{what}, {shown}"), "ms", time * 1000.0);
                }
            }
        }
        const STEPS: &str = "saga_step_duration_seconds";
        for labels in
            after.histograms(STEPS).iter().filter(|labels| labels.contains(r#"outcome="succeeded""#))
        {
            let step = labels.split("step=\"").nth(1).and_then(|rest| rest.split('"').next());
            for (shown, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let time = after.quantile(before, STEPS, labels, quantile);
                if let (Some(step), Some(time)) = (step, time) {
                    figures.add("command to reply", format!("{step}, {shown}"), "ms", time * 1000.0);
                }
            }
        }
    }
}
