//! Many dead letters of one cause, sent again at a pace.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use messaging::embedded::starting;
use saga_defs::ids::SagaId;
use serde_json::{Value, json};
use tests::process::services_program;
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::stand_in::{Manner, StandIn};
use tests::wait::{SOON, becomes, eventually};
use uuid::Uuid;

const NO_WORKERS: Options =
    Options { orchestrators: 1, workers: false, forced_outcomes: false, gateway_latency_ms: 0 };
/// Letters of the walk: few in every test run, as many as this says in a large one.
const LETTERS: &str = "REDRIVE_LETTERS";
/// Requests that are under way at once.
const AT_ONCE: usize = 64;
/// A lease of ten seconds ends first, and somebody has to start.
const AFTER_A_CRASH: Duration = Duration::from_secs(90);

/// Sagas that are stuck because the payment participant refuses what may only go forward.
async fn stuck(stack: &Stack, payment: &StandIn, count: usize) -> Result<Vec<SagaId>> {
    payment.handle("EUR", "ChargePayment", &[Manner::Reject]);
    let api = stack.api()?;
    let input = || json!({"userId": Uuid::now_v7().to_string(), "resourceId": Uuid::now_v7().to_string()});
    let starts = stream::iter(0..count).map(|_| api.start_saga("dues", input()));
    let sagas: Vec<SagaId> = starts.buffer_unordered(AT_ONCE).try_collect().await?;
    let stuck = stream::iter(&sagas).map(|saga| api.saga_is_within(*saga, "stuck", limit_for(count)));
    stuck.buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await?;
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
    let api = stack.api()?;
    let checked = stream::iter(sagas).map(async |&saga| {
        api.saga_is(saga, "completed").await?;
        let done = payment.ledger(saga).await?;
        ensure!(
            done.starts_with("ChargePayment") && !done.contains(','),
            "{saga} was not charged once: {done}"
        );
        let history = api.get(&format!("/api/sagas/{saga}/history")).await?.expect(200)?;
        let events = history["items"].as_array().context("a history")?;
        let count = events.iter().filter(|item| item["event"]["type"] == "redrive").count();
        ensure!(redriven(count), "{saga} was redriven {count} times: {history}");
        for letter in api.letters_of(saga).await? {
            ensure!(letter["status"] == "resolved", "{letter}");
        }
        Ok(())
    });
    checked.buffer_unordered(AT_ONCE).try_for_each(async |()| Ok(())).await
}

/// How long something may take that is done to so many.
fn limit_for(count: usize) -> Duration {
    SOON + Duration::from_millis(100) * u32::try_from(count).unwrap_or(u32::MAX)
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

/// The command line, as an operator types it; what it says is shown.
async fn sagactl(stack: &Stack, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = tokio::process::Command::new(services_program()?);
    command.arg("sagactl").args(arguments).env_clear().env("SAGACTL_URL", stack.api()?.base());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = starting(|| command.spawn())?.wait_with_output().await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    println!("$ sagactl {}\n{err}{out}", arguments.join(" "));
    Ok((output.status.code(), out))
}

/// The walk of `docs/dead-letters.md`: look, try too early, mend, try again, die in the middle, go on, all resolved.
#[test]
fn the_walk_from_the_alarm_to_the_last_letter() {
    on_own_stack(NO_WORKERS, async |stack| {
        let letters = std::env::var(LETTERS).ok().map_or(Ok(40), |text| text.parse::<usize>())?;
        let payment = stack.start_stand_in("payment", None, None).await?;
        let sagas = stuck(stack, &payment, letters).await?;
        sagactl(stack, &["why"]).await?;
        sagactl(stack, &["dead-letter", "groups"]).await?;
        let found = group(stack).await?;
        let group_id = found["group"].as_str().context("a group")?.to_owned();
        let oldest = ["dead-letter", "list", "--group", &group_id, "--limit", "1", "-o", "id"];
        let (_, one) = sagactl(stack, &oldest).await?;
        sagactl(stack, &["dead-letter", "show", one.trim()]).await?;

        // Slow enough that not all is sent before the half is seen.
        let rate = (letters / 5).clamp(10, 1_000).to_string();
        let start = ["redrive", "start", "--group", &group_id, "--rate", &rate, "--reason"];
        let with =
            |more: &[&'static str]| start.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
        let (dry, _) = sagactl(stack, &with(&["what if", "--dry-run"])).await?;
        let (early, _) = sagactl(stack, &with(&["is it back?", "--yes", "--watch"])).await?;
        ensure!(
            (dry, early) == (Some(0), Some(1)),
            "a dry run, and one that stopped by itself: {dry:?}, {early:?}"
        );
        let stopped = stack.api()?.get("/api/redrives?limit=1").await?.expect(200)?["items"][0].take();
        ensure!(stopped["sent"].as_u64() <= Some(1) && stopped["step"] == 1, "in its first step: {stopped}");

        payment.handle("EUR", "ChargePayment", &[Manner::Do]);
        let (_, made) = sagactl(stack, &with(&["1.4.2 is out", "--yes", "-o", "id"])).await?;
        let made = json!({"id": made.trim()});
        let half = u64::try_from(letters / 2)?;
        let killed_at = eventually("half of them are sent", limit_for(letters), async || {
            let sent = shown(stack, &made).await?["sent"].as_u64().unwrap_or_default();
            Ok((sent >= half).then_some(sent))
        })
        .await?;
        stack.orchestrator()?.service.kill()?;
        println!("kill -9 after {killed_at} were seen as sent\n");
        ensure!(killed_at < u64::try_from(letters)?, "nothing is left to be sent");
        stack.start_orchestrator().await?;
        let id = made["id"].as_str().context("an id")?;
        let (went_on, _) = sagactl(stack, &["redrive", "watch", id]).await?;
        ensure!(went_on == Some(0), "it went on and all of them succeeded: {went_on:?}");
        sagactl(stack, &["redrive", "show", id]).await?;
        sagactl(stack, &["dead-letter", "groups"]).await?;
        sagactl(stack, &["dead-letter", "show", one.trim()]).await?;
        let wanted = format!("completed: {letters} sent, {letters} succeeded, 0 failed again, 0 left");
        becomes("the redrive", wanted, SOON, async || Ok(line(&shown(stack, &made).await?))).await?;
        let found = group(stack).await?;
        ensure!(found["byStatus"]["resolved"] == letters && found["byStatus"]["open"] == 0, "{found}");
        // The one that was also sent too early is the only one that was sent more than once.
        let again = AtomicUsize::new(0);
        let once_or_twice = |count: usize| {
            again.fetch_add(count.saturating_sub(1), Ordering::Relaxed);
            count == 1 || count == 2
        };
        each_once(stack, &payment, &sagas, &once_or_twice).await?;
        ensure!(again.into_inner() == 1, "some were sent twice");
        println!("{letters} sagas completed, each charged once, each letter resolved");
        Ok(())
    });
}
