//! `orchestrator verify` as a process, beside a service that goes on.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::api::BookingRequest;
use tests::process::Program;
use tests::scenario::{on_own_stack, on_shared_stack, verified};
use tests::stack::{Options, Stack};
use tests::wait::SOON;

#[test]
fn a_journal_is_verified_while_sagas_go_on() {
    on_shared_stack(async |stack| {
        for outcome in ["declined", "unavailable", "no_reply"] {
            stack.api()?.start_booking(&BookingRequest::forced(outcome)).await?;
            verified(stack).await?;
        }
        Ok(())
    });
}

#[test]
fn a_difference_is_told_and_is_the_exit_code() {
    on_own_stack(Options::default(), async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        let set = |status: &str| format!("UPDATE saga SET status = '{status}' WHERE id = '{saga}'");
        stack.sagas.execute(&set("running")).await?;

        let (code, text) = verify(stack, &[]).await?;
        ensure!(code == Some(1), "{text}");
        let line = format!("saga {saga}: row: expected status completed, found status running");
        ensure!(text.contains(&line), "{text}");

        let (code, text) = verify(stack, &["--format", "json", "--limit", "0"]).await?;
        ensure!(code == Some(1), "{text}");
        let report: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
        assert_eq!(report["byKind"], json!({"row": 1}));
        assert_eq!((&report["differences"], &report["items"]), (&json!(1), &json!([])));

        stack.sagas.execute(&set("completed")).await?;
        Ok(())
    });
}

async fn verify(stack: &Stack, more: &[&str]) -> Result<(Option<i32>, String)> {
    let arguments = [&["verify"], more].concat();
    let service = stack.run(Program::Orchestrator, &arguments)?;
    Ok((service.ended(SOON).await?.code(), service.output()?))
}
