//! With a schema registry: bookings on its ids, without it once it is gone, and a fleet that changes over.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use insta::assert_snapshot;
use messaging::embedded::starting;
use schemas::testing::StubRegistry;
use tests::api::BookingRequest;
use tests::process::{Program, Service, Signal};
use tests::scenario::{on_no_stack, on_own_stack};
use tests::stack::{Options, STOP_LIMIT, Stack};
use tests::wait::{SOON, eventually};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};

const NOTHING: Options =
    Options { orchestrators: 0, workers: false, forced_outcomes: true, gateway_latency_ms: 0 };
const TOPICS: [&str; 4] = ["booking.commands", "payment.commands", "saga.inbox", booking_worker::CREATED];

/// How many records of a topic begin with an id, and how many with a fingerprint.
async fn framed(stack: &Stack, topic: &str) -> Result<(usize, usize)> {
    let records = stack.topic(topic).await?;
    let begin = |byte| {
        records.iter().filter(|record| record.value.as_ref().is_some_and(|value| value[0] == byte)).count()
    };
    let (ids, fingerprints) = (begin(0), begin(0xC3));
    ensure!(ids + fingerprints == records.len(), "{topic} has something else: {records:?}");
    Ok((ids, fingerprints))
}

/// What a program says of the registry.
async fn told(api: &tests::api::Api) -> Result<(u16, String, bool, String)> {
    let answer = api.get("/readyz?verbose").await?;
    let body = answer.json()?;
    let checks = body["checks"].as_array().into_iter().flatten();
    let found = checks.into_iter().find(|check| check["name"] == "registry").cloned().unwrap_or_default();
    let detail = found["detail"].as_str().unwrap_or_default().to_owned();
    let status = body["status"].as_str().unwrap_or_default().to_owned();
    Ok((answer.status, status, found["ok"] == true, detail))
}

async fn becomes(api: &tests::api::Api, ok: bool, part: &str) -> Result<()> {
    let status = if ok { "ready" } else { "degraded" };
    eventually(&format!("the registry is {part}"), SOON, async || {
        let (code, said, found, detail) = told(api).await?;
        Ok((code == 200 && said == status && found == ok && detail.contains(part)).then_some(()))
    })
    .await
}

#[test]
fn bookings_are_made_on_a_registrys_ids_and_go_on_without_it() {
    on_own_stack(NOTHING, async |stack| {
        let stub = StubRegistry::start().await;
        stub.demand("saga", "hunter2");
        stub.set_away(true);
        stack.tell("SCHEMA_REGISTRY_URL", stub.url());
        stack.tell("SCHEMA_REGISTRY_USER", "saga");
        stack.tell("SCHEMA_REGISTRY_PASSWORD", "hunter2");
        stack.tell("SCHEMA_REGISTRY_MODE", "register");
        // Away at the start: it is said, and waited for.
        let worker = stack.start_worker(Program::BookingWorker)?;
        eventually("the worker says what it waits for", SOON, async || {
            let (code, text) = {
                let answer = stack.probes(Program::BookingWorker).await?.get("/readyz").await?;
                (answer.status, answer.text)
            };
            Ok((code == 503 && text.contains("SCHEMA_REGISTRY_URL")).then_some(()))
        })
        .await?;
        stub.set_away(false);
        stack.start_worker(Program::PaymentWorker)?;
        let orchestrator = stack.start_orchestrator().await?;
        let api = &orchestrator.api;

        let paid = api.start_booking(&BookingRequest::default()).await?;
        api.saga_is(paid, "completed").await?;
        for topic in TOPICS {
            let (ids, fingerprints) = framed(stack, topic).await?;
            ensure!(ids > 0 && fingerprints == 0, "{topic}: {ids} with ids, {fingerprints} without");
        }
        ensure!(stub.rule("booking.commands-booking.ReserveBooking").as_deref() == Some("FULL_TRANSITIVE"));
        becomes(api, true, "schemas have ids").await?;

        stub.set_away(true);
        let booking = stack.probes(Program::BookingWorker).await?;
        becomes(api, false, "go on with the ids they have").await?;
        becomes(&booking, false, "go on with the ids they have").await?;
        let paid = api.start_booking(&BookingRequest::default()).await?;
        let declined = api.start_booking(&BookingRequest::forced("declined")).await?;
        api.saga_is(paid, "completed").await?;
        api.saga_is(declined, "compensated").await?;
        for topic in TOPICS {
            ensure!(framed(stack, topic).await?.1 == 0, "{topic} has messages without ids");
        }
        stub.set_away(false);
        becomes(api, true, "schemas have ids").await?;
        becomes(&booking, true, "schemas have ids").await?;
        ensure!(worker.is_running());
        Ok(())
    });
}

#[test]
fn a_fleet_changes_over_while_it_runs() {
    on_own_stack(NOTHING, async |stack| {
        let stub = StubRegistry::start().await;
        stack.tell("SCHEMA_REGISTRY_URL", stub.url());
        // All read ids before anybody writes them.
        stack.tell("SCHEMA_REGISTRY_MODE", "read");
        let slow = stack.start_worker(Program::PaymentWorker)?;
        let old = stack.start_worker(Program::BookingWorker)?;
        let api = stack.start_orchestrator().await?.api.clone();
        let first = api.start_booking(&BookingRequest::default()).await?;
        api.saga_is(first, "completed").await?;
        ensure!(framed(stack, "saga.inbox").await?.0 == 0);

        // One worker and the orchestrator write them, the other worker does not.
        stack.tell("SCHEMA_REGISTRY_MODE", "register");
        old.signal(Signal::Terminate)?;
        old.ended(STOP_LIMIT).await?;
        stack.start_worker(Program::BookingWorker)?;
        let before = stack.orchestrator()?;
        before.service.signal(Signal::Terminate)?;
        before.service.ended(STOP_LIMIT).await?;
        let api = stack.start_orchestrator().await?.api.clone();
        let (booked, declined) = (
            api.start_booking(&BookingRequest::default()).await?,
            api.start_booking(&BookingRequest::forced("declined")).await?,
        );
        api.saga_is(booked, "completed").await?;
        api.saga_is(declined, "compensated").await?;
        let (ids, fingerprints) = framed(stack, "saga.inbox").await?;
        ensure!(ids > 0 && fingerprints > 3, "both formats: {ids} and {fingerprints}");
        ensure!(framed(stack, "payment.commands").await?.0 > 0, "read by a worker that writes none");
        for saga in [first, booked, declined] {
            ensure!(api.letters_of(saga).await?.is_empty());
        }
        ensure!(slow.is_running());
        Ok(())
    });
}

/// A program that shares no code with this project.
struct Python(tokio::process::Child);

impl Python {
    async fn start(
        stack: &Stack,
        stub: &StubRegistry,
        answer: &str,
    ) -> Result<(Self, tokio::io::Lines<BufReader<ChildStdout>>)> {
        let python = std::env::var("TEST_PYTHON")?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(python);
        command
            .arg(root.join("python/participant.py"))
            .args([
                "--kafka",
                &stack.kafka_settings().bootstrap_servers,
                "--registry",
                &stub.url(),
                "--answer",
                answer,
            ])
            .arg("--schemas")
            .arg(root.join("../schemas/avro"))
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = starting(|| command.spawn())?;
        let out = child.stdout.take().context("its output")?;
        let mut lines = BufReader::new(out).lines();
        ensure!(lines.next_line().await?.as_deref() == Some("reading"), "it does not begin");
        Ok((Self(child), lines))
    }

    async fn end(mut self) -> Result<()> {
        Ok(self.0.kill().await?)
    }
}

/// A booking whose payment Python takes: what Python said of it.
async fn paid_by_python(
    stack: &Stack,
    lines: &mut tokio::io::Lines<BufReader<ChildStdout>>,
) -> Result<String> {
    let api = stack.api()?;
    let saga = api.start_booking(&BookingRequest::default()).await?;
    api.saga_is(saga, "completed").await?;
    loop {
        let line = lines.next_line().await?.context("it ended")?;
        if let Some(said) = line.strip_prefix(&saga.to_string()) {
            return Ok(said.trim().to_owned());
        }
    }
}

/// Runs where `TEST_PYTHON` names a Python with tests/python/requirements.txt; `.ci/python` makes one, and `.ci/run` says so.
#[test]
fn a_participant_in_python_reads_and_answers_both_formats() {
    if std::env::var_os("TEST_PYTHON").is_none() {
        eprintln!("not run: TEST_PYTHON names no Python; .ci/python makes one");
        return;
    }
    on_own_stack(NOTHING, async |stack| {
        let stub = StubRegistry::start().await;
        stack.tell("SCHEMA_REGISTRY_URL", stub.url());
        stack.tell("SCHEMA_REGISTRY_MODE", "register");
        stack.start_worker(Program::BookingWorker)?;
        let writes_ids = stack.start_orchestrator().await?;
        let (python, mut lines) = Python::start(stack, &stub, "ids").await?;
        assert_snapshot!(paid_by_python(stack, &mut lines).await?, @"ids 1000 EUR answered ids");
        python.end().await?;
        let (python, mut lines) = Python::start(stack, &stub, "single-object").await?;
        assert_snapshot!(paid_by_python(stack, &mut lines).await?, @"ids 1000 EUR answered single-object");
        stack.tell("SCHEMA_REGISTRY_MODE", "read");
        writes_ids.service.signal(Signal::Terminate)?;
        writes_ids.service.ended(STOP_LIMIT).await?;
        stack.start_orchestrator().await?;
        assert_snapshot!(paid_by_python(stack, &mut lines).await?, @"single-object 1000 EUR answered single-object");
        python.end().await
    });
}

/// What `orchestrator schemas VERB` prints, its first lines, and its exit code.
async fn schemas(stub: &StubRegistry, verb: &str) -> Result<String> {
    const SHOWN: usize = 3;
    let folder = tests::process::log_folder()?;
    let told = [("SCHEMA_REGISTRY_URL".to_owned(), stub.url())].into();
    let service =
        Service::start(Program::Orchestrator, &["schemas", verb], &told, &folder.join("program.log"))?;
    let status = service.ended(SOON).await?;
    let text = service.output()?;
    std::fs::remove_dir_all(folder)?;
    let lines = text.lines().take(SHOWN).collect::<Vec<_>>().join("\n");
    Ok(format!("{lines}\nexit code {}", status.code().context("a signal")?))
}

#[test]
fn a_release_is_held_against_the_registry_and_its_schemas_registered() {
    on_no_stack(async || {
        let stub = StubRegistry::start().await;
        assert_snapshot!(schemas(&stub, "check").await?, @r"
        all versions of 43 subjects can read each other; on no topic: accounts.RequestErasure, booking.StartBooking, stock.StartTransfer, trips.StartTrip
        exit code 0
        ");
        assert_snapshot!(schemas(&stub, "diff").await?, @r"
        saga.inbox-accounts.AccountErased: the registry has no such subject
        accounts.commands-accounts.EraseAccount: the registry has no such subject
        booking.cancelled-booking.BookingCancelled: the registry has no such subject
        exit code 1
        ");
        assert_snapshot!(schemas(&stub, "register").await?, @r"
        saga.inbox-accounts.AccountErased.v1 is registered
        accounts.commands-accounts.EraseAccount.v1 is registered
        booking.cancelled-booking.BookingCancelled.v1 is registered
        exit code 0
        ");
        assert_snapshot!(schemas(&stub, "diff").await?, @r"
        43 subjects are as they are here; on no topic: accounts.RequestErasure, booking.StartBooking, stock.StartTransfer, trips.StartTrip
        exit code 0
        ");
        stub.put(
            "saga.inbox-saga.Refusal",
            r#"{"type": "record", "name": "saga.Refusal", "fields": [{"name": "code", "type": "int"}]}"#,
        );
        let refused = schemas(&stub, "check").await?;
        assert_eq!(schemas(&stub, "register").await?, refused);
        assert_snapshot!(refused, @r"
        saga.inbox-saga.Refusal: saga.Refusal.v1 and version 2 of the registry cannot read each other: `code` was int and is string: keep its type, and add a new field with a default beside it
        saga.inbox-saga.Refusal: saga.Refusal.v1 and version 2 of the registry cannot read each other: `message` is new and has no default, so older messages cannot be read: give it a default
        exit code 1
        ");
        stub.set_away(true);
        let away = schemas(&stub, "check").await?;
        ensure!(away.contains("SCHEMA_REGISTRY_URL") && away.ends_with("exit code 1"), "{away}");
        Ok(())
    });
}
