//! More than there is room for: it is refused before the memory is full.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{FuturesUnordered, StreamExt};
use reqwest::Method;
use serde_json::json;
use tests::api::{id, send};
use tests::process::Service;
use tests::scenario::{on_own_stack, on_shared_stack};
use tests::stack::{Options, Stack};
use tests::wait::eventually;
use tokio::time::Instant;

/// The longest text of a start here, and how many clients send one after the other.
const TEXT: usize = 400 * 1024;
const CLIENTS: usize = 48;
/// How long they do.
const FLOOD: Duration = Duration::from_secs(20);
/// What a process takes at most, of that what it takes when nothing is asked of it: in mebibytes.
const MOST_MIB: u64 = 512;
const LONG: Duration = Duration::from_secs(60);

/// The memory of a process that is its own, in mebibytes.
fn resident_mib(service: &Service) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a high-water mark")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

/// Starts until the time is up; the sagas that were accepted, and how many were not.
async fn flood(stack: &Stack) -> Result<(Vec<String>, usize)> {
    let api = stack.api()?;
    let end = Instant::now() + FLOOD;
    let client = |number: usize| {
        let (api, traveller) = (api.clone(), format!("{number}{}", "x".repeat(TEXT)));
        async move {
            let (mut accepted, mut refused) = (Vec::new(), 0);
            while Instant::now() < end {
                let body = json!({"definition": "patient-trip", "input": {"traveller": traveller}});
                let answer = send(api.request(Method::POST, "/api/sagas").json(&body)).await?;
                match answer.status {
                    201 => accepted.push(id(&answer.json()?, "sagaId")?.to_string()),
                    503 => {
                        ensure!(!answer.header("retry-after").is_empty(), "{answer:?}");
                        refused += 1;
                    }
                    status => anyhow::bail!("{status}: {}", answer.text),
                }
            }
            Ok((accepted, refused))
        }
    };
    let mut clients: FuturesUnordered<_> = (0..CLIENTS).map(client).collect();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    while let Some(done) = clients.next().await {
        let (more, not) = done?;
        accepted.extend(more);
        refused += not;
    }
    Ok((accepted, refused))
}

#[test]
fn a_flood_that_nothing_drains_is_refused_before_the_memory_is_full() {
    if tests::kafka::is_real() {
        return;
    }
    let bare = Options { orchestrators: 1, workers: false, forced_outcomes: false, gateway_latency_ms: 0 };
    on_own_stack(bare, async |stack| {
        let kafka = stack.kafka();
        let before = resident_mib(&stack.orchestrator()?.service)?;
        kafka.embedded()?.down()?;
        let (accepted, refused) = flood(stack).await?;
        let most = resident_mib(&stack.orchestrator()?.service)?;
        println!("{before} MiB, then at most {most}; {} accepted, {refused} refused", accepted.len());
        ensure!(refused > 0 && !accepted.is_empty(), "{} accepted, {refused} refused", accepted.len());
        ensure!(most < MOST_MIB, "{most} MiB, of these {before} before");

        // And if it is killed all the same, nothing is lost: whoever takes over has them all. (That their commands go out is not
        // looked at here: the embedded broker keeps 5 MB of a partition.)
        stack.orchestrator()?.service.kill()?;
        kafka.embedded()?.up()?;
        let api = stack.start_orchestrator().await?.api.clone();
        eventually("all are taken over", LONG, async || {
            Ok(stack.orchestrator()?.service.output()?.contains("took over").then_some(()))
        })
        .await?;
        for saga in &accepted {
            let view = api.saga(saga.parse()?).await?;
            ensure!(view["status"] == "running", "{saga} is {}", view["status"]);
        }
        let sagas = stack.sagas.number("SELECT count(*) AS n FROM saga", vec![]).await?;
        ensure!(
            sagas >= i64::try_from(accepted.len())?,
            "{} were accepted, {sagas} are there",
            accepted.len()
        );
        let most = resident_mib(&stack.orchestrator()?.service)?;
        ensure!(most < MOST_MIB, "{most} MiB after the take-over");
        Ok(())
    });
}

#[test]
fn a_command_that_is_too_large_ends_its_step_at_once() {
    on_shared_stack(async |stack| {
        // Short enough for a request, too long for a command with its other fields.
        let traveller = "x".repeat(1_000_000);
        let saga = stack.api()?.start_saga("quick-trip", json!({ "traveller": traveller })).await?;
        let view = stack.api()?.saga_is(saga, "compensated").await?;
        ensure!(view["reason"]["code"] == "command_too_large", "{}", view["reason"]);
        ensure!(view["steps"][0]["attempt"] == 1, "it was tried again: {}", view["steps"][0]);
        Ok(())
    });
}
