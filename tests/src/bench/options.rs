//! The command line.

use std::path::PathBuf;

use clap::Parser;

use super::booking::Mix;
use super::load::{Arrivals, Pace};
use super::open::End;

const AFTER_HELP: &str = "\
Examples, each after `cargo run --release -p tests --bin bench --`:
  --rate 1000                                  1,000 starts a second, whatever the answers
  --open 2000 --seconds 20                     2,000 clients, each with one booking at a time
  --sweep 150,1000,3000 --repeat 3 --report r  The curve of throughput against latency
  --rate 1000 --soak 60 --pin-horizon          An hour, with old rows that cannot be forgotten
  --rate 1000 --ended 10000000 --readers 20    Beside ten million sagas that have ended, with people who look
  --open-sagas 1000000 --hold 900              Memory and timers of a million open sagas
  --open-sagas 1000 --orchestrators 2 --take-over kill
                                               How long nothing moves when an orchestrator dies
  --rate 300 --mix hot                         Half of the clients want one resource: what that costs the others
  --rate 100 --env SIMULATED_LATENCY_MS=200    A slow participant: what it costs the steps of the others
  --open 2000 --kafka $(.ci/kafka.sh start)    The same on Apache Kafka

The exit code is 1 if an invariant does not hold, whatever the figures are.";

/// Starts the whole stack as real processes, loads it, and reports what it did: throughput, latency, processor time by
/// process, WAL; then checks the invariants over every saga.
#[derive(Parser, Debug, Clone)]
#[command(name = "bench", after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// An open loop of so many starts a second; latency counts from when a start was due [default: 1000]
    #[arg(long, value_name = "PER_S", value_parser = rate, conflicts_with_all = ["open", "sweep"])]
    pub(crate) rate: Option<f64>,

    /// A closed loop: so many clients, each with one booking at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "sweep")]
    pub(crate) open: Option<u32>,

    /// Several open loops one after the other, by rate; with --report also as a curve
    #[arg(long, value_name = "PER_S,…", value_delimiter = ',', value_parser = rate)]
    pub(crate) sweep: Vec<f64>,

    /// How long each is measured
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,

    /// How long it runs before that
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=3_600))]
    pub(crate) warm_up: u32,

    /// How often everything is done; figures are then minimum, median and maximum
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeat: u32,

    /// What the bookings are to show
    #[arg(long, value_enum, default_value_t = Mix::Mixed)]
    pub(crate) mix: Mix,

    /// How the starts of an open loop follow each other
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub(crate) arrivals: Arrivals,

    /// What ids and arrivals follow from [default: drawn]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Each start has an idempotency key
    #[arg(long)]
    pub(crate) keys: bool,

    /// How many resources are booked
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) resources: u32,

    /// How many connections the clients of an open loop may have
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,

    /// How many orchestrators run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) orchestrators: u8,

    /// Use this Kafka, whose topics of ours are removed first, instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka: Option<String>,

    /// A Postgres for each database, so that the WAL of each is known
    #[arg(long)]
    pub(crate) own_clusters: bool,

    /// A setting of Postgres
    #[arg(long = "pg", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) postgres: Vec<(String, String)>,

    /// A setting of the services: an environment variable
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) environment: Vec<(String, String)>,

    /// The load of the gate, about a minute; the exit code is 1 if sagas have become dearer than
    /// tests/performance-gate.toml tolerates
    #[arg(long, conflicts_with_all = ["rate", "open", "sweep", "soak", "open_sagas"])]
    pub(crate) gate: bool,

    /// Make tests/performance-gate.toml anew of the reports of at least five runs of the gate, and do nothing else
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Vec<PathBuf>,

    /// Measure so long instead, tell of each minute, and say in the end what has drifted
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(2..=1_440), conflicts_with_all = ["sweep", "repeat", "seconds"])]
    pub(crate) soak: Option<u32>,

    /// With --soak: transactions stay open that keep every database from forgetting old rows
    #[arg(long, requires = "soak")]
    pub(crate) pin_horizon: bool,

    /// Open so many sagas that nobody answers, and measure memory and how late their timers are
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "open", "sweep", "soak"])]
    pub(crate) open_sagas: Option<u64>,

    /// With --open-sagas: how long each waits for its timer; longer than starting all of them takes
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) hold: u32,

    /// With --open-sagas: end the first of two orchestrators instead of waiting for timers, and measure the take-over
    #[arg(long, value_enum, requires = "open_sagas")]
    pub(crate) take_over: Option<End>,

    /// So many sagas have ended before the load begins; the invariants are asked without them
    #[arg(long, value_name = "N", conflicts_with = "open_sagas", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) ended: Option<u64>,

    /// Ask for pages so many times a second while the load runs: lists, sagas, histories
    #[arg(long, value_name = "PER_S", conflicts_with = "open_sagas", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) readers: Option<u32>,

    /// The services export their spans, of so large a share of all traces
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) traces: Option<f64>,

    /// Write report.md, report.json and latency.svg there
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,

    /// Where databases and logs are kept, and left; without it they are removed in the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl Options {
    /// What is run, in order.
    pub(crate) fn paces(&self) -> Vec<Pace> {
        match (self.open, self.rate) {
            (Some(open), _) => vec![Pace::Open(open as usize)],
            (None, None) if !self.sweep.is_empty() => self.sweep.iter().copied().map(Pace::Rate).collect(),
            (None, rate) => vec![Pace::Rate(rate.unwrap_or(1_000.0))],
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.1..=1_000_000.0).contains(rate));
    rate.ok_or_else(|| "a number of starts a second is needed, from 0.1 to 1000000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is needed, from 0 to 1".to_owned())
}

fn setting(text: &str) -> Result<(String, String), String> {
    let setting = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = setting.ok_or("NAME=VALUE is needed")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paces(args: &[&str]) -> Vec<Pace> {
        Options::try_parse_from(["bench"].iter().chain(args)).unwrap().paces()
    }

    #[test]
    fn what_is_run_follows_from_the_command_line() {
        assert_eq!(paces(&[]), [Pace::Rate(1_000.0)]);
        assert_eq!(paces(&["--rate", "150"]), [Pace::Rate(150.0)]);
        assert_eq!(paces(&["--open", "64"]), [Pace::Open(64)]);
        assert_eq!(paces(&["--sweep", "150,3000"]), [Pace::Rate(150.0), Pace::Rate(3_000.0)]);
        for wrong in [&["--rate", "0"][..], &["--rate", "1", "--open", "1"], &["--pg", "=1"]] {
            assert!(Options::try_parse_from(["bench"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
