//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, ValueEnum};

use super::faults::Fault;

const AFTER_HELP: &str = "\
Examples, each after `cargo run -p tests --bin campaign --`:
  --fault kill-orchestrator --minutes 1     One fault, again and again for a minute
  --mix --minutes 60 --report target/mix    Faults of all kinds for an hour
  --mix --minutes 60 --seed 42              The same ones in the same order
  --all --minutes 0.5                       Each fault for half a minute, one after the other
  --mix --broker embedded                   Without Java

The exit code is 1 if an invariant does not hold, and if there was no progress.";

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerChoice {
    /// Apache Kafka as a process of its own, by .ci/kafka.sh
    Apache,
    /// The embedded one, in this process
    Embedded,
}

/// Starts the whole stack as real processes, lets clients book all the time, does harm to it, and asks in the end
/// whether anything was lost, doubled or left behind.
#[derive(Parser, Debug, Clone)]
#[command(name = "campaign", after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("what").args(["fault", "mix", "all", "list"]).required(true))]
pub(crate) struct Options {
    /// This fault, again and again; several with commas, one run each
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub(crate) fault: Vec<Fault>,

    /// All faults in random order, one after the other, on one stack
    #[arg(long)]
    pub(crate) mix: bool,

    /// Every fault in turn, each on a stack of its own
    #[arg(long)]
    pub(crate) all: bool,

    /// Only say which faults there are
    #[arg(long)]
    pub(crate) list: bool,

    /// For how long harm is done in each run
    #[arg(long, value_name = "M", default_value_t = 1.0, value_parser = minutes)]
    pub(crate) minutes: f64,

    /// What everything that is drawn follows from [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Orchestrators
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) orchestrators: u8,

    /// Workers of each kind
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) workers: u8,

    /// Bookings asked for in a second, whatever the answers
    #[arg(long, value_name = "PER_S", default_value_t = 40)]
    pub(crate) rate: u32,

    /// The broker
    #[arg(long, value_enum, default_value_t = BrokerChoice::Apache)]
    pub(crate) broker: BrokerChoice,

    /// An Apache Kafka that runs already; its topics of ours are removed, and it is not disturbed
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "broker")]
    pub(crate) kafka: Option<String>,

    /// Write report.md and report.json there
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,

    /// Where databases and logs are kept, and left; without it they are removed in the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| (0.05..=10_000.0).contains(minutes));
    minutes.ok_or_else(|| "a number of minutes is needed, from 0.05".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_run_has_to_be_chosen() {
        let parse = |args: &[&str]| Options::try_parse_from(["campaign"].iter().chain(args));
        assert_eq!(parse(&["--fault", "kill-orchestrator"]).unwrap().fault, [Fault::KillOrchestrator]);
        assert!(parse(&["--mix", "--minutes", "0.5", "--seed", "7"]).unwrap().mix);
        for wrong in [&[][..], &["--mix", "--all"], &["--fault", "no-such"], &["--mix", "--minutes", "0"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
