//! A shard whose partition cannot be read on: it stands still and says so, the others go on, and an operator decides.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use messaging::KafkaSettings;
use messaging::fetch::watermarks;
use messaging::topics::{TopicSpec, cut_off, ensure, remove};
use saga_defs::ids::{SagaId, Shard, ShardCount};
use tests::api::{Api, BookingRequest};
use tests::kafka::SHARDS;
use tests::process::{Program, Signal};
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::wait::{SOON, eventually};

/// Until the group has been joined anew and every command that is waited for is answered once more.
const RESUMED: Duration = Duration::from_secs(60);
const INBOX: &str = "saga.inbox";
const REASON: &str = "the disk of broker 2 is gone";

#[test]
fn a_damaged_batch_stops_one_shard_until_an_operator_says_from_where_to_go_on() {
    if tests::kafka::is_real() {
        return;
    }
    on_own_stack(Options::default(), async |stack| {
        let api = stack.api()?;
        let payments = stack.worker(Program::PaymentWorker)?;
        payments.signal(Signal::Stop)?;
        let mut waiting = Vec::new();
        for _ in 0..3 * SHARDS {
            waiting.push(api.start_booking(&BookingRequest::default()).await?);
        }
        all_wait_for_payment(stack).await?;
        let shards = ShardCount::new(SHARDS).context("shards")?;
        let shard = waiting[0].shard(shards);

        stack.kafka().embedded()?.append_damaged("saga.inbox", i32::from(shard.0))?;
        let told = eventually("readiness tells", SOON, async || {
            let answer = api.get("/readyz?verbose").await?;
            ensure!(answer.status == 200, "it takes starts, and does not say so: {answer:?}");
            Ok((answer.json()?["status"] == "degraded").then_some(answer.text))
        })
        .await?;
        let command = format!("orchestrator shards resume --shard {shard} --from earliest|latest|OFFSET");
        ensure!(told.contains(&command), "{told}");
        ensure!(
            stack.orchestrator()?.service.output()?.contains(&command),
            "the log does not say what to do"
        );
        let metrics = api.get("/metrics").await?.text;
        ensure!(metrics.contains(r#"saga_shards{state="stopped"} 1"#), "{metrics}");

        // Answers come, and those of one shard nobody reads.
        payments.signal(Signal::Continue)?;
        let (still, on): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|saga| saga.shard(shards) == shard);
        for saga in on {
            api.saga_is(saga, "completed").await?;
        }
        for _ in 0..2 * SHARDS {
            let saga = api.start_booking(&BookingRequest::default()).await?;
            ensure!(saga.shard(shards) != shard, "a new saga was given to the shard that stands still");
            api.saga_is(saga, "completed").await?;
        }
        for saga in &still {
            ensure!(api.saga(*saga).await?["status"] == "running", "{saga} has moved");
        }

        let number = shard.to_string();
        let refused =
            shards_of(stack, &["resume", "--shard", &number, "--from", "999", "--reason", REASON]).await?;
        ensure!(refused.0 == Some(1) && refused.1.contains("--from 999: partition"), "{refused:?}");
        let (code, list) = shards_of(stack, &["list"]).await?;
        ensure!(code == Some(0) && list.lines().count() >= usize::from(SHARDS), "{list}");
        let resumed =
            shards_of(stack, &["resume", "--shard", &number, "--from", "latest", "--reason", REASON]).await?;
        ensure!(resumed.0 == Some(0), "{resumed:?}");
        for saga in still {
            api.saga_is_within(saga, "completed", RESUMED).await?;
        }
        eventually("it is ready again", SOON, async || {
            Ok((api.get("/readyz").await?.json()?["status"] == "ready").then_some(()))
        })
        .await?;
        let audit = "SELECT reason AS text FROM audit WHERE verb = 'resume-shard'";
        let audit = stack.sagas.texts(audit, vec![]).await?;
        ensure!(
            audit.len() == 1 && audit[0].starts_with(&format!("{REASON} (shard {shard} from offset ")),
            "{audit:?}"
        );
        Ok(())
    });
}

#[test]
fn a_partition_without_its_next_record_stops_one_shard_and_participants_are_asked_again() {
    if tests::kafka::is_real() {
        return;
    }
    on_own_stack(Options::default(), async |stack| {
        let payments = stack.worker(Program::PaymentWorker)?;
        payments.signal(Signal::Stop)?;
        let mut waiting = Vec::new();
        for _ in 0..3 * SHARDS {
            waiting.push(stack.api()?.start_booking(&BookingRequest::default()).await?);
        }
        all_wait_for_payment(stack).await?;
        let shards = ShardCount::new(SHARDS).context("shards")?;
        let shard = waiting[0].shard(shards);
        stack.orchestrator()?.service.kill()?;
        // As after a retention that removed what was not read yet: the next record is not there.
        let gone = format!("UPDATE shard SET inbox_offset = inbox_offset + 100000 WHERE id = {shard}");
        stack.sagas.execute(&gone).await?;
        let api = stack.start_orchestrator().await?.api.clone();
        let command = format!("orchestrator shards resume --shard {shard} --from earliest|latest|OFFSET");
        eventually("readiness tells", SOON, async || {
            Ok(api.get("/readyz?verbose").await?.text.contains(&command).then_some(()))
        })
        .await?;
        payments.signal(Signal::Continue)?;
        let (still, on): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|saga| saga.shard(shards) == shard);
        for saga in on {
            api.saga_is(saga, "completed").await?;
        }
        for saga in &still {
            ensure!(api.saga(*saga).await?["status"] == "running", "{saga} has moved");
        }
        let number = shard.to_string();
        let resumed =
            shards_of(stack, &["resume", "--shard", &number, "--from", "earliest", "--reason", REASON])
                .await?;
        ensure!(resumed.0 == Some(0), "{resumed:?}");
        for saga in still {
            api.saga_is_within(saga, "completed", RESUMED).await?;
        }
        Ok(())
    });
}

/// What retention does at a real broker while nobody reads.
#[test]
fn replies_that_retention_removed_before_they_were_read_stop_their_shard() {
    if !tests::kafka::is_real() {
        eprintln!("left out: the embedded broker deletes no records; set TEST_KAFKA_BOOTSTRAP_SERVERS");
        return;
    }
    on_own_stack(Options::default(), async |stack| {
        let waiting = waiting_for_payment(stack).await?;
        let shards = ShardCount::new(SHARDS).context("shards")?;
        let shard = waiting[0].shard(shards);
        stack.orchestrator()?.service.kill()?;
        stack.worker(Program::PaymentWorker)?.signal(Signal::Continue)?;
        let charged = "SELECT count(*) AS n FROM payments WHERE status = 'completed'";
        eventually("every payment is answered", SOON, async || {
            let charged = stack.payments.number(charged, vec![]).await?;
            let answers = stack.topic(INBOX).await?.len();
            Ok((charged == i64::from(3 * SHARDS) && answers == usize::from(2 * 3 * SHARDS)).then_some(()))
        })
        .await?;
        let settings = stack.kafka_settings();
        let end = end_of(&settings, shard)?;
        ensure!(
            cut_off(&settings, INBOX, i32::from(shard.0), end).await? == end,
            "not all of it was deleted"
        );

        let api = stack.start_orchestrator().await?.api.clone();
        stands_still(&api, &[shard]).await?;
        let (still, on): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|saga| saga.shard(shards) == shard);
        for saga in on {
            api.saga_is(saga, "completed").await?;
        }
        for saga in &still {
            ensure!(api.saga(*saga).await?["status"] == "running", "{saga} has moved");
        }
        resume(stack, shard, &end.to_string()).await?;
        for saga in still {
            api.saga_is_within(saga, "completed", RESUMED).await?;
        }
        all_go_on(stack, &api, 1).await
    });
}

/// Whoever makes a topic again makes another one: its offsets mean other records.
#[test]
fn an_inbox_that_is_deleted_and_made_again_under_a_running_service_stops_its_shards() {
    if !tests::kafka::is_real() {
        eprintln!("left out: the embedded broker deletes no topics; set TEST_KAFKA_BOOTSTRAP_SERVERS");
        return;
    }
    on_own_stack(Options::default(), async |stack| {
        let waiting = waiting_for_payment(stack).await?;
        let api = stack.api()?;
        let settings = stack.kafka_settings();
        remove(&settings, &[INBOX]).await?;
        ensure(&settings, &[TopicSpec::new(INBOX, i32::from(SHARDS), 1)]).await?;
        let all: Vec<Shard> = (0..SHARDS).map(Shard).collect();
        stands_still(&api, &all).await?;
        stack.worker(Program::PaymentWorker)?.signal(Signal::Continue)?;
        for shard in all {
            resume(stack, shard, "earliest").await?;
        }
        for saga in waiting {
            api.saga_is_within(saga, "completed", RESUMED).await?;
        }
        all_go_on(stack, &api, usize::from(SHARDS)).await
    });
}

/// Sagas whose payment is not answered: its worker stands still.
async fn waiting_for_payment(stack: &Stack) -> Result<Vec<SagaId>> {
    stack.worker(Program::PaymentWorker)?.signal(Signal::Stop)?;
    let mut waiting = Vec::new();
    for _ in 0..3 * SHARDS {
        waiting.push(stack.api()?.start_booking(&BookingRequest::default()).await?);
    }
    all_wait_for_payment(stack).await?;
    Ok(waiting)
}

fn end_of(settings: &KafkaSettings, shard: Shard) -> Result<i64> {
    let settings = settings.clone();
    let marks = tokio::task::block_in_place(|| watermarks(&settings, INBOX))?;
    let marks = marks.iter().find(|marks| marks.partition == i32::from(shard.0));
    Ok(marks.context("the shard's partition")?.high)
}

/// Readiness, metrics and log tell of these shards, and what to do.
async fn stands_still(api: &Api, shards: &[Shard]) -> Result<()> {
    eventually("readiness, metrics and log tell", RESUMED, async || {
        let told = api.get("/readyz?verbose").await?.text;
        let metrics = api.get("/metrics").await?.text;
        let command =
            |shard| format!("orchestrator shards resume --shard {shard} --from earliest|latest|OFFSET");
        let stopped = format!("saga_shards{{state=\"stopped\"}} {}", shards.len());
        let all = shards.iter().all(|shard| told.contains(&command(shard))) && metrics.contains(&stopped);
        Ok(all.then_some(()))
    })
    .await
}

async fn resume(stack: &Stack, shard: Shard, from: &str) -> Result<()> {
    let number = shard.to_string();
    let resumed =
        shards_of(stack, &["resume", "--shard", &number, "--from", from, "--reason", REASON]).await?;
    ensure!(resumed.0 == Some(0), "{resumed:?}");
    Ok(())
}

/// Nothing stands still any more, and the audit has who let it go on.
async fn all_go_on(stack: &Stack, api: &Api, resumed: usize) -> Result<()> {
    eventually("it is ready again", SOON, async || {
        let is_ready = api.get("/readyz").await?.json()?["status"] == "ready";
        let metrics = api.get("/metrics").await?.text;
        Ok((is_ready && metrics.contains(r#"saga_shards{state="stopped"} 0"#)).then_some(()))
    })
    .await?;
    let audit = "SELECT reason AS text FROM audit WHERE verb = 'resume-shard'";
    let audit = stack.sagas.texts(audit, vec![]).await?;
    ensure!(audit.len() == resumed && audit.iter().all(|line| line.starts_with(REASON)), "{audit:?}");
    Ok(())
}

async fn all_wait_for_payment(stack: &Stack) -> Result<()> {
    let reserved = "SELECT count(*) AS n FROM saga WHERE step = 'charge-payment'";
    eventually("all wait for their payment", SOON, async || {
        Ok((stack.sagas.number(reserved, vec![]).await? == i64::from(3 * SHARDS)).then_some(()))
    })
    .await
}

/// `orchestrator shards …`: its exit code and what it printed.
async fn shards_of(stack: &Stack, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let arguments: Vec<&str> = ["shards"].iter().chain(arguments).copied().collect();
    let program = stack.run(Program::Orchestrator, &arguments)?;
    let status = program.ended(SOON).await?;
    Ok((status.code(), program.output()?))
}
