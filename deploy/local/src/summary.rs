//! What became of a burst.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::burst::{Accepted, Burst, Kind};
use crate::checks::Report;
use crate::cpu::CpuTimes;
use crate::databases::{Databases, rows};
use crate::terminal::{Style, Terminal, counted, grouped, short};

/// How many sagas are asked for at once.
const PAGE: i64 = 20_000;
/// How many differences are shown; the others are counted.
const SHOWN: usize = 20;

/// How the burst's sagas went.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    completed: u64,
    compensated: u64,
    /// Each in one line.
    pub(crate) unexpected: Vec<String>,
    /// From start to end, of the sagas that were started in this run.
    times: Vec<Duration>,
    /// The same of those in which no failure was forced that is retried.
    plain_times: Vec<Duration>,
    completed_here: u64,
    span: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl Outcome {
    /// Looks at the rows of all accepted bookings. `begun` is when this run began with them.
    pub(crate) async fn of(
        databases: &Databases,
        accepted: &[Accepted],
        begun: OffsetDateTime,
    ) -> Result<Self> {
        let mut outcome = Self::default();
        let mut missing: HashMap<Uuid, Kind> = HashMap::with_capacity(accepted.len());
        for (number, id) in accepted {
            if missing.insert(*id, Kind::of(*number)).is_some() {
                outcome.unexpected.push(format!("booking {id} was the answer to two starts"));
            }
        }
        let Some(first) = accepted.iter().map(|(_, id)| *id).min() else { return Ok(outcome) };
        let sql = "SELECT id, status, started_at, finished_at FROM saga WHERE id >= $1 AND id <> $2 \
                   ORDER BY id LIMIT $3";
        let (mut from, mut seen) = (first, Uuid::nil());
        loop {
            let page = rows(&databases.orchestrator, sql, [from.into(), seen.into(), PAGE.into()]).await?;
            for row in &page {
                let id: Uuid = row.try_get("", "id")?;
                (from, seen) = (id, id);
                let Some(kind) = missing.remove(&id) else { continue };
                let status: String = row.try_get("", "status")?;
                let (started, finished) = (row.try_get("", "started_at")?, row.try_get("", "finished_at")?);
                outcome.add(id, kind, &status, started, finished, begun);
            }
            if page.is_empty() {
                break;
            }
        }
        let lost = missing.keys().map(|id| format!("booking {id} was accepted, but there is no such saga"));
        outcome.unexpected.extend(lost);
        outcome.times.sort_unstable();
        outcome.plain_times.sort_unstable();
        Ok(outcome)
    }

    fn add(
        &mut self,
        id: Uuid,
        kind: Kind,
        status: &str,
        started: OffsetDateTime,
        finished: Option<OffsetDateTime>,
        begun: OffsetDateTime,
    ) {
        let expected = kind.expected().as_str();
        if status != expected {
            self.unexpected.push(format!("booking {id} should have ended {expected}, but is {status}"));
        } else if status == "completed" {
            self.completed += 1;
        } else {
            self.compensated += 1;
        }
        let Some(finished) = finished.filter(|_| started >= begun) else { return };
        let took = Duration::try_from(finished - started).unwrap_or_default();
        self.times.push(took);
        if kind != Kind::Unavailable {
            self.plain_times.push(took);
        }
        self.completed_here += u64::from(status == "completed");
        let (first, last) = self.span.unwrap_or((started, finished));
        self.span = Some((first.min(started), last.max(finished)));
    }

    /// Prints it, with what each process used and what the tables say.
    pub(crate) fn tell(
        &self,
        burst: Burst,
        cpu: &[(&'static str, Duration)],
        report: &Report,
        terminal: Terminal,
    ) {
        let [normal, declined, unavailable] = [Kind::Normal, Kind::Declined, Kind::Unavailable]
            .map(|kind| grouped(u64::from(burst.count(kind))));
        terminal.entry(
            "asked for",
            &format!(
                "{normal} normal, {declined} declined, {unavailable} with the gateway unavailable twice"
            ),
        );
        terminal.entry("completed", &terminal.paint(Style::Green, &grouped(self.completed)));
        terminal.entry("compensated", &terminal.paint(Style::Blue, &grouped(self.compensated)));
        let style = if self.unexpected.is_empty() { Style::Green } else { Style::Red };
        terminal.entry("unexpected", &terminal.paint(style, &grouped(self.unexpected.len() as u64)));
        if let Some((first, last)) = self.span {
            let span = Duration::try_from(last - first).unwrap_or_default().max(Duration::from_millis(1));
            let rate = |number: u64| grouped((number as f64 / span.as_secs_f64()) as u64);
            let (completed, ended) = (rate(self.completed_here), rate(self.times.len() as u64));
            let took = short(span);
            terminal.entry(
                "rate",
                &format!("{completed} completed sagas/s ({ended} ended/s), {took} from the first start to the last end"),
            );
            terminal.entry("start to end", &percentiles(&self.times));
            terminal
                .entry("", &format!("{} without those that had to back off", percentiles(&self.plain_times)));
            // What was asked for again has cost time too, and no saga came of it.
            if self.times.len() == burst.bookings() {
                tell_cpu(cpu, self.times.len(), span, terminal);
            }
        }
        tell_report(report, terminal);
        tell_lines(&self.unexpected, terminal);
    }
}

fn percentiles(sorted: &[Duration]) -> String {
    let at = |share: f64| {
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        short(sorted.get(rank.max(1) - 1).copied().unwrap_or_default())
    };
    format!("p50 {}, p99 {}, max {}", at(0.5), at(0.99), at(1.0))
}

fn tell_cpu(cpu: &[(&'static str, Duration)], sagas: usize, span: Duration, terminal: Terminal) {
    if cpu.is_empty() || sagas == 0 {
        return;
    }
    let per_saga = |time: Duration| time.as_micros() as f64 / sagas as f64;
    let parts: Vec<String> =
        cpu.iter().map(|(name, time)| format!("{name} {:.0}", per_saga(*time))).collect();
    let all: Duration = cpu.iter().map(|(_, time)| *time).sum();
    let cores = all.as_secs_f64() / span.as_secs_f64();
    terminal
        .entry("CPU per saga", &format!("{:.0} us on {cores:.1} cores: {}", per_saga(all), parts.join(", ")));
}

/// Prints what the tables of the three services say.
pub(crate) fn tell_report(report: &Report, terminal: Terminal) {
    let bookings = report.completed + report.compensated + report.open;
    let all = counted(bookings, "booking");
    let (completed, compensated) = (grouped(report.completed), grouped(report.compensated));
    let (charges, refunds) = (grouped(report.charges), grouped(report.refunds));
    let (journal, shards) = (grouped(report.journal), report.shards);
    terminal.entry("tables", &format!("{all} ever: {completed} completed, {compensated} compensated; {charges} charges, {refunds} refunds"));
    let verdict = if report.differences.is_empty() {
        let text = format!(
            "no effect twice, none missing; journal of {journal} entries without a gap in {shards} shards"
        );
        terminal.paint(Style::Green, &text)
    } else {
        terminal.paint(Style::Red, &counted(report.differences.len() as u64, "difference"))
    };
    terminal.entry("", &verdict);
    tell_lines(&report.differences, terminal);
}

fn tell_lines(lines: &[String], terminal: Terminal) {
    for line in lines.iter().take(SHOWN) {
        terminal.say(&format!("    {}", terminal.paint(Style::Red, line)));
    }
    if lines.len() > SHOWN {
        terminal.say(&format!("    and {} more", lines.len() - SHOWN));
    }
}

/// What has been used since `before`.
pub(crate) fn cpu_since(
    before: &CpuTimes,
    processes: &[(&'static str, u32)],
) -> Vec<(&'static str, Duration)> {
    CpuTimes::now(processes).since(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentiles(&times), "p50 50 ms, p99 99 ms, max 100 ms");
        assert_eq!(percentiles(&times[..1]), "p50 1 ms, p99 1 ms, max 1 ms");
        assert_eq!(percentiles(&[]), "p50 0 us, p99 0 us, max 0 us");
    }
}
