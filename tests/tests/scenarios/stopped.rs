//! A shard whose partition cannot be read on: it stands still and says so, the others go on, and an operator decides.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use saga_defs::ids::ShardCount;
use tests::api::BookingRequest;
use tests::kafka::SHARDS;
use tests::process::{Program, Signal};
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::wait::{SOON, eventually};

/// Until the group has been joined anew and every command that is waited for is answered once more.
const RESUMED: Duration = Duration::from_secs(60);
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
