//! Machines whose clocks are wrong: the database's is what counts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::process::Service;
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::stand_in::Manner;
use tests::wait::{SOON, eventually};
use tokio::time::Instant;

const NONE: Options =
    Options { orchestrators: 0, workers: false, forced_outcomes: false, gateway_latency_ms: 0 };
/// How wrong a machine's clock is, in milliseconds.
const AHEAD: &str = "3600000";
const BEHIND: &str = "-3600000";
/// A take-over, an attempt that nobody answers, and a slow machine.
const LONG: Duration = Duration::from_secs(90);
/// No timer fires in the first seconds after a take-over; those that are taken for late fire then.
const GRACE: Duration = Duration::from_secs(6);

/// Starts a saga on a machine whose clock is so wrong, lets it wait for a reply that is lost, and lets a machine whose clock
/// is wrong the other way take over.
async fn hand_over(stack: &Stack, definition: &str, before: &str, after: &str) -> Result<String> {
    let agency = stack.stand_in("travel").await?;
    agency.handle("Vera", "BookTrain", &[Manner::LoseReply]);
    stack.tell("CLOCK_OFF_MS", before);
    let first = stack.start_orchestrator().await?;
    let saga = first.api.start_saga(definition, json!({"traveller": "Vera"})).await?;
    eventually("the command is carried out", SOON, async || {
        Ok((agency.ledger(saga).await? != "nothing").then_some(()))
    })
    .await?;
    // What is not known to be published is published again, and its time runs anew.
    eventually("its publication is written down", SOON, async || {
        let behind = "SELECT count(*) AS n FROM shard WHERE published_seq <> next_seq - 1";
        Ok((stack.sagas.number(behind, vec![]).await? == 0).then_some(()))
    })
    .await?;
    stack.tell("CLOCK_OFF_MS", after);
    first.service.kill()?;
    let second = stack.start_orchestrator().await?;
    took_over(&second.service).await?;
    Ok(saga.to_string())
}

async fn took_over(service: &Service) -> Result<()> {
    eventually("the shards are taken over", LONG, async || {
        Ok(service.output()?.contains("took over").then_some(()))
    })
    .await
}

#[test]
fn a_machine_whose_clock_is_behind_gives_up_in_time() {
    on_own_stack(NONE, async |stack| {
        let saga = hand_over(stack, "quick-trip", AHEAD, BEHIND).await?;
        // Both attempts time out, and what is in doubt is undone.
        stack.api()?.saga_is_within(saga.parse()?, "compensated", LONG).await?;
        Ok(())
    });
}

#[test]
fn a_machine_whose_clock_is_ahead_gives_nothing_up_too_early() {
    on_own_stack(NONE, async |stack| {
        let saga = hand_over(stack, "patient-trip", BEHIND, AHEAD).await?;
        let began = Instant::now();
        eventually("timers had their time", LONG, async || Ok((began.elapsed() >= GRACE).then_some(())))
            .await?;
        let view = stack.api()?.saga(saga.parse()?).await?;
        let attempt = view["steps"][0]["attempt"].as_u64().context("an attempt")?;
        ensure!(attempt == 1, "an attempt that has ten minutes was given up: {view}");
        Ok(())
    });
}
