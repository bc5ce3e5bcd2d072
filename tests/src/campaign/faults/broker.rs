//! A broker that is frozen, killed, slow, silent, or answers with errors.

use std::time::Duration;

use anyhow::{Context, Result};
use messaging::embedded::{Fault as Failure, Request};
use tokio::time::{Instant, sleep};

use super::{BROKEN, Harm};
use crate::campaign::field::Field;
use crate::process::Signal;
use crate::proxy::Weather;
use crate::random::Random;

/// The recipe that has shown lost and repeated records of idempotent producers: frozen, thawed, again. From less than a
/// client waits for an answer to three times as long.
const FROZEN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(45));
const THAWED: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(20));
const FREEZES: u32 = 2;
/// How long a broker is away: also for longer than a producer keeps a record.
const AWAY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(70));
/// The network to the broker: how much longer it takes, give or take, and for how long.
const DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(50));
const SLOW: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// A network in which something is lost, from less than any limit of ours to more than each of them.
const SILENT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));
/// Rounds of failing requests, and the time between them.
const ROUNDS: u32 = 20;
const BETWEEN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(900));
/// Requests that fail in a round, at most.
const IN_A_ROUND: u64 = 4;

pub(super) async fn freeze(field: &Field, random: &mut Random) -> Result<Harm> {
    let (broker, _) = field.base.own_kafka()?;
    let mut told = Vec::new();
    for number in 0..FREEZES {
        if number > 0 {
            sleep(random.between(THAWED.0, THAWED.1)).await;
        }
        let frozen = random.between(FROZEN.0, FROZEN.1);
        broker.signal(Signal::Stop)?;
        sleep(frozen).await;
        broker.signal(Signal::Continue)?;
        told.push(format!("{frozen:?}"));
    }
    Ok(Harm::of(format!("for {}", told.join(" and "))))
}

pub(super) async fn crash(field: &Field, random: &mut Random) -> Result<Harm> {
    let (broker, _) = field.base.own_kafka()?;
    let begun = Instant::now();
    broker.kill()?;
    sleep(random.between(AWAY.0, AWAY.1)).await;
    broker.start_again().await?;
    Ok(Harm::of(format!("away for {:?}", begun.elapsed())))
}

pub(super) async fn cut(field: &Field, random: &mut Random) -> Result<Harm> {
    let (_, network) = field.base.own_kafka()?;
    for _ in 0..ROUNDS {
        network.cut();
        sleep(random.between(BETWEEN.0, BETWEEN.1)).await;
    }
    Ok(Harm::of(format!("{ROUNDS} times")))
}

pub(super) async fn delay(field: &Field, random: &mut Random) -> Result<Harm> {
    weather(field, Weather::Slow(DELAY.0, DELAY.1), random.between(SLOW.0, SLOW.1)).await
}

pub(super) async fn half_open(field: &Field, random: &mut Random) -> Result<Harm> {
    let weather = *random.pick(&BROKEN).context("a kind")?;
    self::weather(field, weather, random.between(SILENT.0, SILENT.1)).await
}

async fn weather(field: &Field, weather: Weather, time: Duration) -> Result<Harm> {
    let (_, network) = field.base.own_kafka()?;
    network.set(weather);
    sleep(time).await;
    network.set(Weather::Clear);
    Ok(Harm::of(format!("{weather:?} for {time:?}")))
}

/// What an embedded broker is told to answer.
const FAILURES: [(Request, Failure); 9] = [
    (Request::Produce, Failure::Disconnect),
    (Request::Produce, Failure::NotLeader),
    (Request::Produce, Failure::TimedOut),
    (Request::Produce, Failure::OutOfOrderSequence),
    (Request::Produce, Failure::UnknownProducerId),
    (Request::Fetch, Failure::Disconnect),
    (Request::Fetch, Failure::NotLeader),
    (Request::OffsetCommit, Failure::NoCoordinator),
    (Request::Metadata, Failure::Disconnect),
];

pub(super) async fn fail_requests(field: &Field, random: &mut Random) -> Result<Harm> {
    let kafka = field.stack.kafka();
    let broker = kafka.embedded()?;
    let mut failed = 0;
    for _ in 0..ROUNDS {
        if let Some((request, failure)) = random.pick(&FAILURES) {
            let failures: Vec<Failure> = (0..=random.below(IN_A_ROUND)).map(|_| *failure).collect();
            broker.fail_requests(*request, &failures)?;
            failed += failures.len();
        }
        sleep(random.between(BETWEEN.0, BETWEEN.1)).await;
    }
    for (request, _) in FAILURES {
        broker.stop_failing(request)?;
    }
    Ok(Harm::of(format!("up to {failed} requests")))
}

pub(super) async fn go_away(field: &Field, random: &mut Random) -> Result<Harm> {
    let kafka = field.stack.kafka();
    let (broker, time) = (kafka.embedded()?, random.between(AWAY.0, AWAY.1));
    broker.down()?;
    sleep(time).await;
    broker.up()?;
    Ok(Harm::of(format!("{time:?}")))
}
