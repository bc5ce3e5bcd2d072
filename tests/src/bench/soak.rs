//! A long run, a line a minute, and whether it drifts: what gets slower the longer it runs is not seen in a minute.

use std::time::Duration;

use anyhow::Result;
use sea_orm::{ConnectionTrait, DatabaseTransaction, IsolationLevel, TransactionTrait};
use tokio::time::Instant;

use super::figures::{Figures, Spread};
use super::load::{self, Recent};
use super::machine;
use super::postgres;
use super::report::short;
use super::run::{Edge, Window};
use super::stack::Stack;

/// What is told and compared, by group and name.
const TOLD: [(&str, &str, &str); 7] = [
    ("throughput", "sagas ended", "/s"),
    ("processor time per saga", "all but the load", "µs"),
    ("processor time per saga", "orchestrator", "µs"),
    ("processor time per saga", "postgres, orchestrator", "µs"),
    ("start to end, normal bookings", "p99", "ms"),
    ("memory", "orchestrators", "MiB"),
    ("memory", "databases on disk", "MiB"),
];
const MINUTE: Duration = Duration::from_secs(60);

/// Transactions that keep every database from forgetting old versions of rows, as a forgotten session of a person does.
pub(crate) async fn pin_horizon(stack: &Stack) -> Result<Vec<DatabaseTransaction>> {
    let mut pins = Vec::new();
    for database in [&stack.databases.orchestrator, &stack.databases.booking, &stack.databases.payment] {
        let pin = database.begin_with_config(Some(IsolationLevel::RepeatableRead), None).await?;
        // The horizon is pinned from the first statement on.
        pin.execute_unprepared("SELECT 1").await?;
        pins.push(pin);
    }
    Ok(pins)
}

/// Tells of each minute between these moments, and gives what was told.
pub(crate) async fn watch(
    stack: &Stack,
    begin: Instant,
    end: Instant,
    recent: &Recent,
) -> Result<Vec<Figures>> {
    let heads: Vec<String> = TOLD.iter().map(|(_, name, unit)| format!("{name}, {unit}")).collect();
    eprintln!("| minute | {} |\n| ---: |{}", heads.join(" | "), " ---: |".repeat(heads.len()));
    tokio::time::sleep_until(begin).await;
    let (mut minutes, mut next, mut before) = (Vec::new(), begin + MINUTE, Edge::look(stack).await?);
    load::taken(recent);
    while next <= end {
        tokio::time::sleep_until(next).await;
        next += MINUTE;
        let after = Edge::look(stack).await?;
        let times = load::taken(recent);
        let window = Window { stack, before, after };
        let mut figures = Figures::default();
        let ended = window.ended_by_metrics();
        figures.add("throughput", "sagas ended", "/s", ended / window.seconds());
        window.processors(ended.max(1.0), &mut figures);
        figures.add_times("start to end, normal bookings", &times);
        let orchestrators = stack.running();
        let resident = orchestrators.iter().filter_map(|one| machine::resident_mib(one.service.pid()));
        figures.add("memory", "orchestrators", "MiB", resident.sum());
        figures.add("memory", "databases on disk", "MiB", postgres::size_mib(stack).await?);
        let cells: Vec<String> = TOLD
            .iter()
            .map(|(group, name, _)| figures.get(group, name).map_or_else(String::new, short))
            .collect();
        minutes.push(figures);
        eprintln!("| {} | {} |", minutes.len(), cells.join(" | "));
        before = window.after;
    }
    Ok(minutes)
}

/// What the last tenth of the minutes is to the first: 1 means that nothing drifts.
pub(crate) fn drift(minutes: &[Figures]) -> Figures {
    let mut drift = Figures::default();
    let tenth = (minutes.len() / 10).max(1);
    if minutes.len() < 2 {
        return drift;
    }
    let median = |of: &[Figures], group: &str, name: &str| {
        Spread::of(of.iter().filter_map(|figures| figures.get(group, name)).collect())
            .map(|spread| spread.median)
    };
    for (group, name, _) in TOLD {
        let (first, last) = (&minutes[..tenth], &minutes[minutes.len() - tenth..]);
        if let (Some(first), Some(last)) = (median(first, group, name), median(last, group, name)) {
            drift.add("last tenth of the run to its first", format!("{group}: {name}"), "", last / first);
        }
    }
    drift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_the_last_tenth_to_the_first() {
        let minute = |n: usize| {
            let mut figures = Figures::default();
            figures.add("throughput", "sagas ended", "/s", if n < 18 { 100.0 } else { 50.0 });
            figures
        };
        let minutes: Vec<Figures> = (0..20).map(minute).collect();
        let drifted = drift(&minutes);
        assert_eq!(drifted.0.len(), 1);
        assert_eq!(drifted.0[0].value, 0.5);
        assert_eq!(drift(&minutes[..1]), Figures::default());
    }
}
