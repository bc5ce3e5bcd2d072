//! What may happen. Each fault does its harm once, at a moment that the nemesis chooses, and takes it back.

mod broker;
mod postgres;
mod processes;
mod records;
mod sagas;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use saga_defs::time::Timestamp;

use super::field::Field;
use crate::oracle::Tolerance;
use crate::proxy::Weather;
use crate::random::Random;

/// What a strike did.
#[derive(Debug, Default)]
pub(crate) struct Harm {
    /// To whom, and for how long.
    pub(crate) what: String,
    /// The orchestrators that ended or stood still, and when: others have to take over from them.
    pub(crate) victims: Vec<(String, Timestamp)>,
}

impl Harm {
    fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), victims: Vec::new() }
    }
}

/// What a network does that is there and does not work.
const BROKEN: [Weather; 3] = [Weather::Swallowing, Weather::Mute, Weather::Stalled];

/// What a fault needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// An Apache Kafka of the campaign's.
    OwnKafka,
    /// The embedded broker, which can be told to fail.
    Embedded,
}

/// The faults, in the words of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// kill -9 of an orchestrator at any moment: before a commit, after it, between publication and watermark
    KillOrchestrator,
    /// kill -9 of an orchestrator while many starts are on their way to it; their clients ask again under the same keys
    KillWithStarts,
    /// kill -9 of a worker at any moment: before its commit, after it, before its reply
    KillWorker,
    /// An orchestrator stands still for longer than its session, another takes over, then it wakes
    FreezeOwner,
    /// All orchestrators stand still, and all their timers are due when they wake
    FreezeAll,
    /// Workers of one kind stand still: their replies come late, or after the last attempt
    FreezeWorkers,
    /// An orchestrator is told to stop, under load
    TerminateOrchestrator,
    /// An orchestrator is killed again and again while it recovers
    CrashLoop,
    /// Members join and leave the group every two seconds
    Rebalances,
    /// Postgres is stopped at once and starts again
    PostgresCrash,
    /// Postgres is away for up to two minutes
    PostgresAway,
    /// A commit happens and its answer is lost
    LostAnswers,
    /// All connections to Postgres are broken each second
    BrokenConnections,
    /// The network to Postgres takes 200 ms longer, give or take 100
    PostgresDelay,
    /// The network between one process and Postgres loses everything, the answers only, or nothing but time
    PostgresHalfOpen,
    /// Of ten statements that write, one meets a deadlock, a serialization failure or a time limit
    Refusals,
    /// Old snapshots keep dead rows from being removed
    PinnedHorizon,
    /// A table is locked for a while
    LockedTables,
    /// Days of the journal are made and dropped
    PartitionMaintenance,
    /// The broker stands still and goes on, again and again
    BrokerFreeze,
    /// The broker is killed and comes back later, with what it stored
    BrokerCrash,
    /// All connections to the broker are cut, again and again
    BrokerCuts,
    /// The network to the broker takes 100 ms longer, give or take 50
    BrokerDelay,
    /// The network to the broker loses everything, the answers only, or nothing but time
    BrokerHalfOpen,
    /// Requests to the broker fail: leaders change, coordinators are away, producers are unknown
    BrokerErrors,
    /// Nobody answers at the broker's address
    BrokerAway,
    /// Commands and replies come again, and again
    Duplicates,
    /// Records that belong to nothing, and some that nobody can read
    Strays,
    /// Operators cancel sagas while their replies come
    Cancels,
    /// More people look at lists and histories than there are connections for it
    Lookers,
    /// The rows of one saga in twenty are refused; it is parked, and an operator sends it on its way again
    PoisonRows,
}

/// What is to be known of a fault.
struct Facts {
    name: &'static str,
    /// Its numbers in the catalogue of faults.
    numbers: &'static [u8],
    needs: Needs,
    /// How long after it was taken back sagas may still not move, in seconds.
    settles_s: u64,
    tolerance: Tolerance,
}

impl Facts {
    const fn new(name: &'static str, numbers: &'static [u8]) -> Self {
        Self { name, numbers, needs: Needs::Nothing, settles_s: 15, tolerance: Tolerance::Timeouts }
    }

    const fn on(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    const fn failing(self) -> Self {
        Self { tolerance: Tolerance::Failures, ..self }
    }

    const fn settling(self, settles_s: u64) -> Self {
        Self { settles_s, ..self }
    }
}

impl Fault {
    /// All of them, in the order in which they are run.
    pub(crate) const ALL: [Self; 31] = [
        Self::KillOrchestrator,
        Self::KillWithStarts,
        Self::KillWorker,
        Self::FreezeOwner,
        Self::FreezeAll,
        Self::FreezeWorkers,
        Self::TerminateOrchestrator,
        Self::CrashLoop,
        Self::Rebalances,
        Self::PostgresCrash,
        Self::PostgresAway,
        Self::LostAnswers,
        Self::BrokenConnections,
        Self::PostgresDelay,
        Self::PostgresHalfOpen,
        Self::Refusals,
        Self::PinnedHorizon,
        Self::LockedTables,
        Self::PartitionMaintenance,
        Self::BrokerFreeze,
        Self::BrokerCrash,
        Self::BrokerCuts,
        Self::BrokerDelay,
        Self::BrokerHalfOpen,
        Self::BrokerErrors,
        Self::BrokerAway,
        Self::Duplicates,
        Self::Strays,
        Self::Cancels,
        Self::Lookers,
        Self::PoisonRows,
    ];

    const fn facts(self) -> Facts {
        match self {
            Self::KillOrchestrator => Facts::new("kill-orchestrator", &[1, 2, 3]),
            Self::KillWithStarts => Facts::new("kill-with-starts", &[4]),
            Self::KillWorker => Facts::new("kill-worker", &[24]),
            Self::FreezeOwner => Facts::new("freeze-owner", &[6]),
            Self::FreezeAll => Facts::new("freeze-all", &[14]),
            Self::FreezeWorkers => Facts::new("freeze-workers", &[17, 23, 28]).failing(),
            Self::TerminateOrchestrator => Facts::new("terminate-orchestrator", &[8]),
            Self::CrashLoop => Facts::new("crash-loop", &[5]),
            Self::Rebalances => Facts::new("rebalances", &[48]),
            Self::PostgresCrash => Facts::new("postgres-crash", &[55, 61]).failing(),
            Self::PostgresAway => Facts::new("postgres-away", &[55, 61]).failing().settling(45),
            Self::LostAnswers => Facts::new("lost-answers", &[56]).failing(),
            Self::BrokenConnections => Facts::new("broken-connections", &[59]).failing(),
            Self::PostgresDelay => Facts::new("postgres-delay", &[54]),
            Self::PostgresHalfOpen => Facts::new("postgres-half-open", &[54]).settling(45),
            Self::Refusals => Facts::new("refusals", &[62]).failing(),
            Self::PinnedHorizon => Facts::new("pinned-horizon", &[64]),
            Self::LockedTables => Facts::new("locked-tables", &[68]).failing(),
            Self::PartitionMaintenance => Facts::new("partition-maintenance", &[68]),
            Self::BrokerFreeze => Facts::new("broker-freeze", &[42]).on(Needs::OwnKafka).settling(30),
            Self::BrokerCrash => Facts::new("broker-crash", &[40, 44]).on(Needs::OwnKafka).settling(30),
            Self::BrokerCuts => Facts::new("broker-cuts", &[54]).on(Needs::OwnKafka),
            Self::BrokerDelay => Facts::new("broker-delay", &[54]).on(Needs::OwnKafka),
            Self::BrokerHalfOpen => Facts::new("broker-half-open", &[54]).on(Needs::OwnKafka).settling(45),
            Self::BrokerErrors => Facts::new("broker-errors", &[43, 49, 53]).on(Needs::Embedded),
            Self::BrokerAway => Facts::new("broker-away", &[40]).on(Needs::Embedded).settling(30),
            Self::Duplicates => Facts::new("duplicates", &[15, 16, 18]),
            Self::Strays => Facts::new("strays", &[21, 22, 30, 31, 34, 39]),
            Self::Cancels => Facts::new("cancels", &[19]).failing(),
            Self::Lookers => Facts::new("lookers", &[66]),
            Self::PoisonRows => Facts::new("poison-rows", &[63]).failing(),
        }
    }

    /// As on the command line.
    pub(crate) const fn name(self) -> &'static str {
        self.facts().name
    }

    /// What has to be there.
    pub(crate) const fn needs(self) -> Needs {
        self.facts().needs
    }

    /// How long after it was taken back sagas may still not move.
    pub(crate) const fn settles(self) -> Duration {
        Duration::from_secs(self.facts().settles_s)
    }

    /// What it may change about how bookings end.
    pub(crate) const fn tolerance(self) -> Tolerance {
        self.facts().tolerance
    }

    /// Does the harm and takes it back, in about `left` at most.
    pub(crate) async fn strike(self, field: &Field, random: &mut Random, left: Duration) -> Result<Harm> {
        match self {
            Self::KillOrchestrator => processes::kill_orchestrator(field, random).await,
            Self::KillWithStarts => processes::kill_with_starts_in_flight(field, random).await,
            Self::KillWorker => processes::kill_worker(field, random).await,
            Self::FreezeOwner => processes::freeze_owner(field, random).await,
            Self::FreezeAll => processes::freeze_all(field, random).await,
            Self::FreezeWorkers => processes::freeze_workers(field, random).await,
            Self::TerminateOrchestrator => processes::terminate(field, random).await,
            Self::CrashLoop => processes::crash_loop(field, random).await,
            Self::Rebalances => processes::rebalances(field, random, left).await,
            Self::PostgresCrash => postgres::crash(field).await,
            Self::PostgresAway => postgres::go_away(field, random).await,
            Self::LostAnswers => postgres::lose_answers(field, random).await,
            Self::BrokenConnections => postgres::break_connections(field).await,
            Self::PostgresDelay => postgres::delay(field, random).await,
            Self::PostgresHalfOpen => postgres::half_open(field, random).await,
            Self::Refusals => postgres::refuse(field).await,
            Self::PinnedHorizon => postgres::pin_horizon(field).await,
            Self::LockedTables => postgres::lock_tables(field, random).await,
            Self::PartitionMaintenance => postgres::maintain_partitions(field, random).await,
            Self::BrokerFreeze => broker::freeze(field, random).await,
            Self::BrokerCrash => broker::crash(field, random).await,
            Self::BrokerCuts => broker::cut(field, random).await,
            Self::BrokerDelay => broker::delay(field, random).await,
            Self::BrokerHalfOpen => broker::half_open(field, random).await,
            Self::BrokerErrors => broker::fail_requests(field, random).await,
            Self::BrokerAway => broker::go_away(field, random).await,
            Self::Duplicates => records::repeat(field).await,
            Self::Strays => records::stray(field, random).await,
            Self::Cancels => sagas::cancel(field, random).await,
            Self::Lookers => sagas::look(field, random).await,
            Self::PoisonRows => sagas::poison(field).await,
        }
    }
}

/// A line for each.
pub(crate) fn list() -> String {
    let mut text = String::new();
    for fault in Fault::ALL {
        let about = fault.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        let numbers: Vec<String> = fault.facts().numbers.iter().map(ToString::to_string).collect();
        let about = about.unwrap_or_default();
        // Writing to a text does not fail.
        let _ = writeln!(text, "{:24} {:14} {about}", fault.name(), numbers.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_name() {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        let known = Fault::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let known: Vec<String> = known.map(|value| value.get_name().to_owned()).collect();
        assert_eq!(names, known);
    }
}
