//! Those who only look: why a saga waits, and what happens while it happens.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use saga_defs::ids::{SagaId, ShardCount};
use serde_json::{Value, json};
use tests::api::{Api, BookingRequest};
use tests::kafka::SHARDS;
use tests::process::{Program, Signal};
use tests::scenario::on_own_stack;
use tests::stack::{Options, STOP_LIMIT, Stack};
use tests::wait::{SOON, eventually};

/// How long shards may be without an owner after its death.
const TAKEOVER: Duration = Duration::from_secs(40);
/// So many bookings are of every shard.
const ENOUGH: usize = 200;
const TWO: Options =
    Options { orchestrators: 2, workers: true, forced_outcomes: true, gateway_latency_ms: 0 };

async fn why(api: &Api, saga: SagaId) -> Result<Value> {
    api.get(&format!("/api/sagas/{saga}/why")).await?.expect(200)
}

/// A saga that waits for a payment worker that is not there, after others of every shard were paid: the worker has
/// committed an offset of every partition.
async fn unanswered(stack: &Stack) -> Result<SagaId> {
    let shards = ShardCount::new(SHARDS).context("there are shards")?;
    let mut paid = HashSet::new();
    // Each process starts sagas of its own shards, in turns.
    for api in stack.apis().iter().cycle().take(ENOUGH) {
        let before = api.start_booking(&BookingRequest::default()).await?;
        api.saga_is(before, "completed").await?;
        paid.insert(before.shard(shards));
        if paid.len() == usize::from(SHARDS) {
            break;
        }
    }
    ensure!(paid.len() == usize::from(SHARDS), "{ENOUGH} bookings are of {} shards", paid.len());
    let payment = stack.worker(Program::PaymentWorker)?;
    payment.signal(Signal::Terminate)?;
    payment.ended(STOP_LIMIT).await?;
    let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
    eventually("the charge is out", SOON, async || {
        let view = stack.api()?.saga(saga).await?;
        Ok((view["steps"][1]["status"] == "running").then_some(()))
    })
    .await?;
    Ok(saga)
}

/// What is said of the command's place, once it is said to lie somewhere; held against the record that lies there.
async fn lies(stack: &Stack, api: &Api, saga: SagaId) -> Result<Value> {
    let command = eventually("it is known where the charge lies", TAKEOVER, async || {
        let Ok(said) = why(api, saga).await else { return Ok(None) };
        // Between two attempts nothing is out.
        let command = said["command"].clone();
        Ok(command["place"]["offset"].is_i64().then_some(command))
    })
    .await?;
    let place = &command["place"];
    ensure!(place["topic"] == "payment.commands" && place["published"] == true, "{command}");
    let records = stack.topic("payment.commands").await?;
    let there = records
        .iter()
        .find(|record| {
            json!(record.partition) == place["partition"] && json!(record.offset) == place["offset"]
        })
        .with_context(|| format!("nothing lies at {place}"))?;
    ensure!(
        there.headers.text("saga-id") == Some(&*saga.to_string()),
        "another saga's command lies at {place}"
    );
    ensure!(there.headers.text("command-id") == command["commandId"].as_str(), "{command}");
    ensure!(there.headers.text("attempt") == Some(&*command["attempt"].to_string()), "{command}");
    Ok(command)
}

#[test]
fn why_says_where_a_command_lies_that_a_stopped_worker_has_not_passed() {
    on_own_stack(TWO, async |stack| {
        let saga = unanswered(stack).await?;
        // One of them owns the saga, the other asks it.
        for api in stack.apis() {
            let command = lies(stack, &api, saga).await?;
            let group = &command["group"];
            ensure!(group["group"] == "payment-participant" && group["passed"] == false, "{command}");
            ensure!(command["step"] == "charge-payment" && command["maxAttempts"] == 5, "{command}");
        }
        let said = why(&stack.api()?, saga).await?;
        ensure!(said["remaining"][0]["step"] == "confirm-booking", "{said}");
        let all = stack.api()?.get("/api/why").await?.expect(200)?;
        ensure!(all["causes"][0]["participant"] == "payment" && all["causes"][0]["sagas"] == 1, "{all}");

        // Nobody has it in memory any more.
        for orchestrator in stack.orchestrators() {
            orchestrator.service.kill()?;
        }
        stack.start_orchestrator().await?;
        let command = lies(stack, &stack.api()?, saga).await?;
        ensure!(command["group"]["passed"] == false, "{command}");

        stack.start_worker(Program::PaymentWorker)?;
        let ended = stack.api()?.saga_is_within(saga, "completed", TAKEOVER).await;
        // Late enough, the charge may have been given up and undone.
        if ended.is_err() {
            stack.api()?.saga_is(saga, "compensated").await?;
        }
        let said = why(&stack.api()?, saga).await?;
        ensure!(said["waitsFor"] == "nothing" && said["command"].is_null(), "{said}");
        Ok(())
    });
}

/// A stream of events that is listened to.
struct Listening {
    answer: reqwest::Response,
    text: String,
}

impl Listening {
    async fn to(api: &Api, last: Option<&str>) -> Result<Self> {
        let request = api.request(Method::GET, "/api/sagas/events").timeout(Duration::from_secs(120));
        let request = last.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        Ok(Self { answer: request.send().await?.error_for_status()?, text: String::new() })
    }

    /// The next frame's id and data; `None` when the stream ends.
    async fn next(&mut self) -> Result<Option<(String, Option<Value>)>> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    frame.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
                };
                let (id, data) = (field("id:"), field("data:"));
                self.text = rest.to_owned();
                return Ok(Some((id, serde_json::from_str(&data).ok())));
            }
            match tokio::time::timeout(TAKEOVER, self.answer.chunk()).await.context("nothing is told")? {
                Ok(Some(more)) => self.text.push_str(std::str::from_utf8(&more)?),
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    /// Listens until these sagas have ended; gives what was told of them, and the last id.
    async fn until_ended(&mut self, sagas: &[SagaId]) -> Result<(Vec<(String, u64)>, String)> {
        let (mut told, mut open) = (Vec::new(), sagas.len());
        loop {
            let (id, data) = self.next().await?.context("the stream has ended")?;
            let Some(data) = data else { continue };
            let saga = data["sagaId"].as_str().unwrap_or_default().to_owned();
            if sagas.iter().any(|known| known.to_string() == saga) {
                told.push((saga, data["revision"].as_u64().unwrap_or_default()));
                open -= usize::from(data["status"] == "completed");
                if open == 0 {
                    return Ok((told, id));
                }
            }
        }
    }
}

/// A booking has four transitions, told once and in order.
fn told_whole(told: &[(String, u64)], sagas: &[SagaId]) -> Result<()> {
    for saga in sagas {
        let of_this: Vec<u64> =
            told.iter().filter(|(of, _)| *of == saga.to_string()).map(|(_, revision)| *revision).collect();
        ensure!(of_this == [1, 2, 3, 4], "saga {saga} was told as {of_this:?}");
    }
    Ok(())
}

#[test]
fn every_orchestrator_tells_what_all_of_them_do() {
    on_own_stack(TWO, async |stack| {
        let apis = stack.apis();
        let [one, two] = &apis[..] else { anyhow::bail!("two were started") };
        let mut streams = [Listening::to(one, None).await?, Listening::to(two, None).await?];
        let mut sagas = Vec::new();
        for n in 0..20 {
            sagas.push(apis[n % 2].start_booking(&BookingRequest::default()).await?);
        }
        let mut place = String::new();
        for stream in &mut streams {
            let (told, last) = stream.until_ended(&sagas).await?;
            told_whole(&told, &sagas)?;
            place = last;
        }
        // What is told by one may be resumed at another, also over its death.
        stack.orchestrator()?.service.kill()?;
        let mut later = Vec::new();
        let survivor = stack.api()?;
        for _ in 0..5 {
            let booking = BookingRequest::default().keyed(uuid::Uuid::new_v4().to_string());
            later.push(
                eventually("a booking is accepted", TAKEOVER, async || {
                    Ok(survivor.start_booking(&booking).await.ok())
                })
                .await?,
            );
        }
        let mut resumed = Listening::to(&survivor, Some(&place)).await?;
        let (told, _) = resumed.until_ended(&later).await?;
        told_whole(&told, &later)?;
        Ok(())
    });
}
