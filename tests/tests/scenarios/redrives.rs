//! Many dead letters of one cause, sent again at a pace.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use saga_defs::ids::SagaId;
use serde_json::{Value, json};
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::stand_in::{Manner, StandIn};
use tests::wait::{SOON, becomes, eventually};
use uuid::Uuid;

const NO_WORKERS: Options =
    Options { orchestrators: 1, workers: false, forced_outcomes: false, gateway_latency_ms: 0 };
/// A lease of ten seconds ends first, and somebody has to start.
const AFTER_A_CRASH: Duration = Duration::from_secs(90);

/// Sagas that are stuck because the payment participant refuses what may only go forward.
async fn stuck(stack: &Stack, payment: &StandIn, count: usize) -> Result<Vec<SagaId>> {
    payment.handle("EUR", "ChargePayment", &[Manner::Reject]);
    let api = stack.api()?;
    let input = || json!({"userId": Uuid::now_v7().to_string(), "resourceId": Uuid::now_v7().to_string()});
    let sagas = try_join_all((0..count).map(|_| api.start_saga("dues", input()))).await?;
    try_join_all(sagas.iter().map(|saga| api.saga_is(*saga, "stuck"))).await?;
    Ok(sagas)
}

/// The only group there is.
async fn group(stack: &Stack) -> Result<Value> {
    let page = stack.api()?.get("/api/dead-letters/groups").await?.expect(200)?;
    let groups = page["items"].as_array().context("groups")?;
    ensure!(groups.len() == 1, "{page}");
    Ok(groups[0].clone())
}

async fn redrive(stack: &Stack, body: &Value) -> Result<Value> {
    stack.api()?.post("/api/redrives", body).await?.expect(202)
}

async fn shown(stack: &Stack, redrive: &Value) -> Result<Value> {
    let id = redrive["id"].as_str().context("an id")?;
    stack.api()?.get(&format!("/api/redrives/{id}")).await?.expect(200)
}

/// `completed: 12 sent, 12 succeeded, 0 failed again`.
fn line(redrive: &Value) -> String {
    let Value::String(status) = &redrive["status"] else { return redrive.to_string() };
    let numbers = [
        ("sent", "sent"),
        ("succeeded", "succeeded"),
        ("failedAgain", "failed again"),
        ("remaining", "left"),
    ];
    let numbers = numbers.map(|(name, text)| format!("{} {text}", redrive[name]));
    format!("{status}: {}", numbers.join(", "))
}

/// Each was charged once, and redriven as often as that.
async fn each_once(
    stack: &Stack,
    payment: &StandIn,
    sagas: &[SagaId],
    redriven: &dyn Fn(usize) -> bool,
) -> Result<()> {
    for &saga in sagas {
        stack.api()?.saga_is(saga, "completed").await?;
        let done = payment.ledger(saga).await?;
        ensure!(!done.contains(','), "{saga} was charged more than once: {done}");
        let history = stack.api()?.get(&format!("/api/sagas/{saga}/history")).await?.expect(200)?;
        let events = history["items"].as_array().context("a history")?;
        let count = events.iter().filter(|item| item["event"]["type"] == "redrive").count();
        ensure!(redriven(count), "{saga} was redriven {count} times: {history}");
        for letter in stack.api()?.letters_of(saga).await? {
            ensure!(letter["status"] == "resolved", "{letter}");
        }
    }
    Ok(())
}

#[test]
fn a_redrive_looks_first_goes_up_in_steps_and_stops_when_it_fails_again() {
    on_own_stack(NO_WORKERS, async |stack| {
        let payment = stack.start_stand_in("payment", None, None).await?;
        let sagas = stuck(stack, &payment, 12).await?;
        let found = group(stack).await?;
        ensure!(found["byStatus"]["open"] == 12 && found["step"] == "charge-payment", "{found}");
        let filter = json!({"group": found["group"]});

        let dry = redrive(stack, &json!({"filter": filter, "dryRun": true, "reason": "what if"})).await?;
        ensure!(dry["found"]["wouldSend"] == 12 && dry["found"]["passesSchema"] == 12, "{dry}");

        let asked = json!({"filter": filter, "ratePerSecond": 200, "reason": "is it back?"});
        let early = redrive(stack, &asked).await?;
        let wanted = "stopped: 1 sent, 0 succeeded, 1 failed again, 11 left".to_owned();
        becomes("the redrive", wanted, SOON, async || Ok(line(&shown(stack, &early).await?))).await?;
        ensure!(group(stack).await?["byStatus"]["open"] == 12);

        payment.handle("EUR", "ChargePayment", &[Manner::Do]);
        let later = redrive(stack, &asked).await?;
        let wanted = "completed: 12 sent, 12 succeeded, 0 failed again, 0 left".to_owned();
        becomes("the redrive", wanted, SOON, async || Ok(line(&shown(stack, &later).await?))).await?;
        each_once(stack, &payment, &sagas, &|count| count == 1 || count == 2).await?;
        let found = group(stack).await?;
        ensure!(found["byStatus"]["resolved"] == 12 && found["byStatus"]["open"] == 0, "{found}");
        Ok(())
    });
}

#[test]
fn a_redrive_goes_on_after_kill_9_and_sends_each_letter_once() {
    on_own_stack(NO_WORKERS, async |stack| {
        let payment = stack.start_stand_in("payment", None, None).await?;
        let sagas = stuck(stack, &payment, 60).await?;
        payment.handle("EUR", "ChargePayment", &[Manner::Do]);
        let asked =
            json!({"filter": {"reason": "closed"}, "ratePerSecond": 30, "ramp": [], "reason": "it is back"});
        let made = redrive(stack, &asked).await?;
        eventually("some are sent", SOON, async || {
            let sent = shown(stack, &made).await?["sent"].as_u64().unwrap_or_default();
            Ok((sent >= 10).then_some(()))
        })
        .await?;
        stack.orchestrator()?.service.kill()?;
        stack.start_orchestrator().await?;
        let wanted = "completed: 60 sent, 60 succeeded, 0 failed again, 0 left".to_owned();
        becomes("the redrive", wanted, AFTER_A_CRASH, async || Ok(line(&shown(stack, &made).await?))).await?;
        each_once(stack, &payment, &sagas, &|count| count == 1).await
    });
}

#[test]
fn two_orchestrators_share_the_letters_and_one_of_them_drives() {
    on_own_stack(Options { orchestrators: 2, ..NO_WORKERS }, async |stack| {
        let payment = stack.start_stand_in("payment", None, None).await?;
        let sagas = stuck(stack, &payment, 30).await?;
        payment.handle("EUR", "ChargePayment", &[Manner::Do]);
        let asked = json!({"filter": {}, "ratePerSecond": 100, "reason": "it is back"});
        let made = redrive(stack, &asked).await?;
        let wanted = "completed: 30 sent, 30 succeeded, 0 failed again, 0 left".to_owned();
        becomes("the redrive", wanted, SOON, async || Ok(line(&shown(stack, &made).await?))).await?;
        each_once(stack, &payment, &sagas, &|count| count == 1).await
    });
}
