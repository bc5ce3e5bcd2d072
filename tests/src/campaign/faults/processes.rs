//! Processes that die, stop, stand still, come and go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::Harm;
use crate::campaign::field::{Field, WORKERS, now};
use crate::process::Signal;
use crate::random::Random;
use crate::stack::{Orchestrator, STOP_LIMIT};
use crate::wait::eventually;

/// How long a dead process is missed, at most.
const MISSED: Duration = Duration::from_secs(8);
/// Longer than a group waits for a member that says nothing, give or take.
const FROZEN: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(20));
/// From less than a step waits to more than all of its attempts.
const SILENT: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(40));
/// Starts that are on their way to an orchestrator when it dies, and how long they had at most.
const IN_FLIGHT: u64 = 40;
const FLIGHT: Duration = Duration::from_millis(60);
/// How often one that recovers is killed.
const CRASHES: u64 = 10;
/// From the start of a process to its death, in a crash loop: it may be anywhere in its recovery.
const LIFE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(3_000));
/// Between two changes of a group.
const CHANGE: Duration = Duration::from_secs(2);
/// How long a group is not left in peace.
const UNREST: Duration = Duration::from_secs(30);

fn any(field: &Field, random: &mut Random) -> Result<Arc<Orchestrator>> {
    random.pick(&field.stack.orchestrators()).cloned().context("an orchestrator runs")
}

pub(super) async fn kill_orchestrator(field: &Field, random: &mut Random) -> Result<Harm> {
    let victim = any(field, random)?;
    victim.service.kill()?;
    let victims = vec![(victim.service.name().to_owned(), now())];
    let missed = random.between(Duration::ZERO, MISSED);
    sleep(missed).await;
    field.complete().await?;
    Ok(Harm { what: format!("{}, missed for {missed:?}", victim.service.name()), victims })
}

pub(super) async fn kill_with_starts_in_flight(field: &Field, random: &mut Random) -> Result<Harm> {
    let victim = any(field, random)?;
    let mut own = Random::seeded(random.next());
    let after = random.between(Duration::ZERO, FLIGHT);
    let kill = async {
        sleep(after).await;
        victim.service.kill()?;
        let at = now();
        field.complete().await?;
        anyhow::Ok(at)
    };
    let (at, ()) = tokio::join!(kill, field.clients.burst(&field.stack, &mut own, IN_FLIGHT, &victim.api));
    let victims = vec![(victim.service.name().to_owned(), at?)];
    let name = victim.service.name();
    Ok(Harm { what: format!("{name}, {after:?} after {IN_FLIGHT} starts"), victims })
}

pub(super) async fn kill_worker(field: &Field, random: &mut Random) -> Result<Harm> {
    let program = *random.pick(&WORKERS).context("two kinds")?;
    let victim = random.pick(&field.stack.workers(program)).cloned().context("a worker runs")?;
    victim.kill()?;
    let missed = random.between(Duration::ZERO, MISSED);
    sleep(missed).await;
    field.complete().await?;
    Ok(Harm::of(format!("{}, missed for {missed:?}", victim.name())))
}

pub(super) async fn freeze_owner(field: &Field, random: &mut Random) -> Result<Harm> {
    let victim = any(field, random)?;
    victim.service.signal(Signal::Stop)?;
    let victims = vec![(victim.service.name().to_owned(), now())];
    let frozen = random.between(FROZEN.0, FROZEN.1);
    sleep(frozen).await;
    victim.service.signal(Signal::Continue)?;
    // One that finds itself without its shards for too long ends, so that somebody starts it anew.
    field.complete().await?;
    Ok(Harm { what: format!("{} for {frozen:?}", victim.service.name()), victims })
}

pub(super) async fn freeze_all(field: &Field, random: &mut Random) -> Result<Harm> {
    let all = field.stack.orchestrators();
    let frozen = random.between(FROZEN.0, FROZEN.1);
    for orchestrator in &all {
        orchestrator.service.signal(Signal::Stop)?;
    }
    sleep(frozen).await;
    for orchestrator in &all {
        orchestrator.service.signal(Signal::Continue)?;
    }
    field.complete().await?;
    Ok(Harm::of(format!("{} orchestrators for {frozen:?}", all.len())))
}

pub(super) async fn freeze_workers(field: &Field, random: &mut Random) -> Result<Harm> {
    let program = *random.pick(&WORKERS).context("two kinds")?;
    let all = field.stack.workers(program);
    let frozen = random.between(SILENT.0, SILENT.1);
    for worker in &all {
        worker.signal(Signal::Stop)?;
    }
    sleep(frozen).await;
    for worker in &all {
        worker.signal(Signal::Continue)?;
    }
    Ok(Harm::of(format!("each {} for {frozen:?}", program.name())))
}

pub(super) async fn terminate(field: &Field, random: &mut Random) -> Result<Harm> {
    let victim = any(field, random)?;
    let begun = Instant::now();
    victim.service.signal(Signal::Terminate)?;
    let victims = vec![(victim.service.name().to_owned(), now())];
    let status = victim.service.ended(STOP_LIMIT).await?;
    let name = victim.service.name();
    ensure!(status.success(), "told to stop, {name} ended with {status}\n{}", victim.service.last_words());
    let took = begun.elapsed();
    sleep(random.between(Duration::ZERO, MISSED)).await;
    field.complete().await?;
    Ok(Harm { what: format!("{name}, which took {took:?}"), victims })
}

pub(super) async fn crash_loop(field: &Field, random: &mut Random) -> Result<Harm> {
    let mut victims = Vec::new();
    let victim = any(field, random)?;
    victim.service.kill()?;
    victims.push((victim.service.name().to_owned(), now()));
    for _ in 0..CRASHES {
        let again = field.stack.run(crate::process::Program::Orchestrator, &["serve"])?;
        sleep(random.between(LIFE.0, LIFE.1)).await;
        again.kill()?;
        victims.push((again.name().to_owned(), now()));
    }
    field.complete().await?;
    Ok(Harm { what: format!("{} and {CRASHES} after it", victim.service.name()), victims })
}

pub(super) async fn rebalances(field: &Field, random: &mut Random, left: Duration) -> Result<Harm> {
    let until = Instant::now() + left.min(UNREST);
    let mut changes = 0;
    while Instant::now() < until {
        let program = *random.pick(&WORKERS).context("two kinds")?;
        let joins = field.stack.run(crate::process::Program::Orchestrator, &["serve"])?;
        let worker = field.stack.run(program, &["serve"])?;
        sleep(CHANGE).await;
        for leaves in [&joins, &worker] {
            leaves.signal(Signal::Terminate)?;
        }
        eventually("those that joined leave", STOP_LIMIT, async || {
            Ok((!joins.is_running() && !worker.is_running()).then_some(()))
        })
        .await?;
        changes += 4;
    }
    Ok(Harm::of(format!("{changes} members came or left")))
}
