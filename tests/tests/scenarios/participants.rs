//! A participant that does not answer, or that an operator paused: its sagas wait, and nothing is given up.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::api::{Api, BookingRequest};
use tests::load::{Accepted, End};
use tests::oracle::check;
use tests::process::Program;
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::wait::{SOON, eventually};
use tokio::time::Instant;

/// Until a silence is noticed: the timeout of a charge, and a slow machine.
const NOTICED: Duration = Duration::from_secs(40);
/// Several times the timeout of a charge: whoever did not hold would have tried again.
const OUTAGE: Duration = Duration::from_secs(12);
/// Until everything that waited is done: a probe after the longest wait, the ramp, a slow machine.
const BACK: Duration = Duration::from_secs(120);
const CROWD: usize = 40;
const TRIPS: usize = 20;
/// So many sagas lose an attempt before the silence is noticed.
const NOTICES: usize = 10;

async fn payment(api: &Api) -> Result<Value> {
    let all = api.get("/api/participants").await?.expect(200)?;
    let items = all["items"].as_array().context("items")?;
    items.iter().find(|item| item["name"] == "payment").cloned().context("no participant payment")
}

async fn payment_is(api: &Api, state: &str, limit: Duration) -> Result<Value> {
    eventually(&format!("payment is {state}"), limit, async || {
        let payment = payment(api).await?;
        Ok((payment["state"] == state).then_some(payment))
    })
    .await
}

async fn book(api: &Api, accepted: &mut Vec<Accepted>, count: usize) -> Result<()> {
    for _ in 0..count {
        let saga = api.start_booking(&BookingRequest::default()).await?;
        accepted.push(Accepted { saga, end: End::Completed });
    }
    Ok(())
}

/// Nobody was given up, and who was asked is on its first attempts still.
async fn nothing_is_given_up(stack: &Stack, accepted: &[Accepted]) -> Result<()> {
    let letters = stack.sagas.number("SELECT count(*) AS n FROM dead_letter", vec![]).await?;
    let undone = "SELECT count(*) AS n FROM journal WHERE status = 'compensating' OR status = 'stuck'";
    let undone = stack.sagas.number(undone, vec![]).await?;
    ensure!((letters, undone) == (0, 0), "{letters} dead letters, {undone} steps back");
    let mut again = 0;
    for Accepted { saga, .. } in accepted {
        let view = stack.api()?.saga(*saga).await?;
        let attempt = view["steps"][1]["attempt"].as_u64().context("an attempt")?;
        ensure!(attempt <= 2, "{saga} is at attempt {attempt}");
        again += usize::from(attempt == 2);
    }
    ensure!(again <= NOTICES, "{again} sagas lost an attempt");
    Ok(())
}

#[test]
fn an_outage_of_a_participant_gives_nothing_up() {
    on_own_stack(Options::default(), async |stack| {
        let api = stack.api()?;
        let mut accepted = Vec::new();
        stack.worker(Program::PaymentWorker)?.kill()?;
        book(&api, &mut accepted, CROWD).await?;
        let held = payment_is(&api, "held", NOTICED).await?;
        ensure!(held["cause"] == "silence" && held["since"].is_string(), "{held}");
        // More come, and are accepted.
        book(&api, &mut accepted, CROWD).await?;
        eventually("all wait for payment", NOTICED, async || {
            Ok((payment(&api).await?["waiting"] == 2 * CROWD).then_some(()))
        })
        .await?;
        // Each says why, but for those with whom the participant is tried.
        let mut tried = Vec::new();
        for Accepted { saga, .. } in &accepted[CROWD..] {
            let why = api.get(&format!("/api/sagas/{saga}/why")).await?.expect(200)?;
            if why["held"]["participant"] != "payment" || why["waitsFor"] != "participant" {
                tried.push(why);
            }
        }
        ensure!(tried.len() <= NOTICES, "{} do not say that they wait: {tried:#?}", tried.len());
        let metrics = api.get("/metrics").await?.text;
        ensure!(metrics.contains(r#"saga_participant_held{participant="payment"} 1"#), "{metrics}");

        // Whoever comes next goes on holding, once it is written down: that takes a second.
        eventually("the hold is written down", SOON, async || {
            let held = "SELECT count(*) AS n FROM participant_hold WHERE participant = 'payment'";
            Ok((stack.sagas.number(held, vec![]).await? > 0).then_some(()))
        })
        .await?;
        stack.orchestrator()?.service.kill()?;
        let api = stack.start_orchestrator().await?.api.clone();
        payment_is(&api, "held", SOON).await?;
        book(&api, &mut accepted, 5).await?;
        let began = Instant::now();
        eventually("the outage lasts", 2 * OUTAGE, async || Ok((began.elapsed() >= OUTAGE).then_some(())))
            .await?;
        nothing_is_given_up(stack, &accepted).await?;

        stack.start_worker(Program::PaymentWorker)?;
        payment_is(&api, "answering", BACK).await?;
        check(stack, &accepted).await?;
        nothing_is_given_up(stack, &accepted).await?;
        Ok(())
    });
}

#[test]
fn a_participant_is_paused_and_resumed_by_hand() {
    on_own_stack(Options::default(), async |stack| {
        let api = stack.api()?;
        let mut accepted = Vec::new();
        let paused = api.post("/api/participants/payment/pause", &json!({"reason": "it is moved"})).await?;
        ensure!(paused.expect(200)?["state"] == "paused", "{}", paused.text);
        book(&api, &mut accepted, CROWD).await?;
        eventually("all wait for payment", NOTICED, async || {
            Ok((payment(&api).await?["waiting"] == CROWD).then_some(()))
        })
        .await?;
        // One is cancelled: it never was charged, so nobody need be asked about that.
        let cancelled = accepted.remove(0).saga;
        api.act(cancelled, "cancel").await?.expect(200)?;
        api.saga_is(cancelled, "compensated").await?;
        // One is let through by hand.
        api.act(accepted[0].saga, "retry-now").await?.expect(200)?;
        api.saga_is(accepted[0].saga, "completed").await?;
        // The pause outlives the process.
        stack.orchestrator()?.service.kill()?;
        let api = stack.start_orchestrator().await?.api.clone();
        let waiting = CROWD - 2;
        eventually("those that are left wait still", NOTICED, async || {
            let payment = payment(&api).await?;
            Ok((payment["state"] == "paused" && payment["waiting"] == waiting).then_some(()))
        })
        .await?;
        let charges = stack.payments.number("SELECT count(*) AS n FROM payments", vec![]).await?;
        ensure!(charges == 1, "{charges} charges while it was paused");
        api.post("/api/participants/payment/resume", &json!({"reason": "it is moved"})).await?.expect(200)?;
        payment_is(&api, "answering", BACK).await?;
        accepted.push(Accepted { saga: cancelled, end: End::Compensated });
        check(stack, &accepted).await?;
        Ok(())
    });
}

#[test]
fn a_slow_participant_is_slow_for_its_own_sagas_alone() {
    let slow = Options { gateway_latency_ms: 4_000, ..Options::default() };
    on_own_stack(slow, async |stack| {
        let api = stack.api()?;
        stack.stand_in("travel").await?;
        let mut accepted = Vec::new();
        book(&api, &mut accepted, CROWD).await?;
        // A trip that began after a booking is done before it: on a machine that stands still for seconds not every one.
        let mut overtook = 0;
        for _ in 0..TRIPS {
            let booking = api.start_booking(&BookingRequest::default()).await?;
            let trip = api.start_saga("quick-trip", json!({"traveller": "Quinn"})).await?;
            api.saga_is(trip, "completed").await?;
            overtook += usize::from(api.saga(booking).await?["status"] == "running");
            accepted.push(Accepted { saga: booking, end: End::Completed });
        }
        ensure!(
            overtook > TRIPS / 2,
            "{overtook} of {TRIPS} trips were done before the booking they began after"
        );
        for Accepted { saga, .. } in &accepted {
            api.saga_is_within(*saga, "completed", BACK).await?;
        }
        Ok(())
    });
}
