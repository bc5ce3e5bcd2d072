//! Everything goes wrong in some order: a new one in every run, whose seed is printed and can be given again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tests::kafka;
use tests::load::Load;
use tests::oracle::{Tolerance, check_with};
use tests::process::{Program, Signal};
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::wait::eventually;

/// Gives the same storm again.
const SEED: &str = "TEST_STORM_SEED";
const BLOWS: usize = 12;
/// Bookings between two blows.
const BREATH: usize = 6;
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Blow {
    KillOrchestrator,
    StopOrchestrator,
    FreezeOrchestrator,
    KillBookingWorker,
    KillPaymentWorker,
    FreezeBookingWorker,
    BreakConnections,
    BrokerAway,
}

const ALL: [Blow; 8] = [
    Blow::KillOrchestrator,
    Blow::StopOrchestrator,
    Blow::FreezeOrchestrator,
    Blow::KillBookingWorker,
    Blow::KillPaymentWorker,
    Blow::FreezeBookingWorker,
    Blow::BreakConnections,
    Blow::BrokerAway,
];

#[test]
fn a_storm_loses_and_doubles_nothing() {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    let blows: Vec<Blow> = storm(seed).collect();
    println!("{SEED}={seed}: {blows:?}");
    on_own_stack(Options { orchestrators: 2, ..Options::default() }, async |stack| {
        let load = Load::of(8);
        let disturb = async {
            for blow in blows {
                load.accepts(BREATH, LIMIT).await.with_context(|| format!("before {blow:?}"))?;
                strike(stack, &load, blow).await.with_context(|| format!("{blow:?}"))?;
            }
            load.accepts(BREATH, LIMIT).await.context("after the storm")?;
            load.stop();
            anyhow::Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check_with(stack, &load.accepted(), Tolerance::Timeouts).await?;
        Ok(())
    });
}

/// Blows in an order that follows from the seed (a linear congruential generator).
fn storm(seed: u64) -> impl Iterator<Item = Blow> {
    let mut state = seed;
    (0..BLOWS).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ALL[(state >> 33) as usize % ALL.len()]
    })
}

async fn strike(stack: &Stack, load: &Load, blow: Blow) -> Result<()> {
    match blow {
        Blow::KillOrchestrator => {
            stack.orchestrator()?.service.kill()?;
            stack.start_orchestrator().await?;
        }
        Blow::StopOrchestrator => {
            let stopped = stack.orchestrator()?;
            stopped.service.signal(Signal::Terminate)?;
            stack.start_orchestrator().await?;
            stopped.service.ended(LIMIT).await?;
        }
        Blow::FreezeOrchestrator => {
            let frozen = stack.orchestrator()?;
            frozen.service.signal(Signal::Stop)?;
            let thawed = load.accepts(1, LIMIT).await;
            frozen.service.signal(Signal::Continue)?;
            thawed?;
        }
        Blow::KillBookingWorker => kill(stack, Program::BookingWorker)?,
        Blow::KillPaymentWorker => kill(stack, Program::PaymentWorker)?,
        Blow::FreezeBookingWorker => {
            let worker = stack.worker(Program::BookingWorker)?;
            worker.signal(Signal::Stop)?;
            let second = stack.start_worker(Program::BookingWorker)?;
            let taken = eventually("the second worker gets partitions", LIMIT, async || {
                Ok(second.output()?.contains("assigned").then_some(()))
            });
            let taken = taken.await;
            worker.signal(Signal::Continue)?;
            taken?;
            worker.kill()?;
        }
        Blow::BreakConnections => {
            for database in [&stack.sagas, &stack.bookings, &stack.payments] {
                database.break_connections().await?;
            }
        }
        Blow::BrokerAway if kafka::is_real() => {}
        Blow::BrokerAway => {
            let kafka = stack.kafka();
            kafka.embedded()?.down()?;
            let met = load.accepts(1, LIMIT).await;
            kafka.embedded()?.up()?;
            met?;
        }
    }
    Ok(())
}

fn kill(stack: &Stack, program: Program) -> Result<()> {
    stack.worker(program)?.kill()?;
    stack.start_worker(program).map(drop)
}
