//! Dead letters that an operator sends again, edited or not, or puts aside.

use anyhow::{Context, Result};
use insta::assert_snapshot;
use messaging::Record;
use saga_defs::ids::SagaId;
use serde_json::{Value, json};
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::story::transcript;
use tests::wait::{SOON, eventually};

const NO_WORKERS: Options =
    Options { orchestrators: 1, workers: false, forced_outcomes: true, gateway_latency_ms: 0 };

/// A command that an old release of a participant does not know is sent again when the new one is there.
#[test]
fn a_letter_that_is_sent_again_is_resolved_when_its_saga_moves_on() {
    on_own_stack(NO_WORKERS, async |stack| {
        let old = stack.start_stand_in("travel", Some("travel.BookTrain"), None).await?;
        let saga = stack.api()?.start_saga("patient-trip", json!({"traveller": "Lise"})).await?;
        let letter = letter_of(stack, saga).await?;
        assert_eq!((&letter["reason"], &letter["source"]), (&json!("unhandled"), &json!("travel")));

        redrive(stack, &letter, json!({"reason": "perhaps now"})).await?;
        status_becomes(stack, &letter, "open").await?;

        let agency = stack.start_stand_in("travel", None, Some(old.stop().await?)).await?;
        redrive(stack, &letter, json!({"reason": "the new release is there"})).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        status_becomes(stack, &letter, "resolved").await?;
        assert_snapshot!(lineage(stack, &letter).await?, @r"
        failed: this participant has no handler for travel.BookTrain
        redriven: perhaps now
        open: failed again: this participant has no handler for travel.BookTrain
        redriven: the new release is there
        resolved: the saga moved on
        ");
        assert_snapshot!(transcript(stack, &stack.api()?, saga).await?, @r"
        start                   -> book-train #1
        dead letter redriven    -> letter sent       perhaps now
        dead letter redriven    -> letter sent       the new release is there
        book-train succeeded    -> issue-tickets #1  letter resolved
        issue-tickets succeeded -> completed
        ");
        assert_snapshot!(agency.ledger(saga).await?, @"BookTrain for Lise, IssueTickets for Lise");
        Ok(())
    });
}

/// Operators who press the button at the same moment: one of them sends the letter, and nothing stands still.
#[test]
fn a_letter_wanted_by_several_at_once_is_sent_once() {
    on_own_stack(NO_WORKERS, async |stack| {
        let old = stack.start_stand_in("travel", Some("travel.BookTrain"), None).await?;
        let saga = stack.api()?.start_saga("patient-trip", json!({"traveller": "Otto"})).await?;
        let letter = letter_of(stack, saga).await?;
        let agency = stack.start_stand_in("travel", None, Some(old.stop().await?)).await?;
        let path = format!("/api/dead-letters/{}/redrive", text(&letter, "id")?);
        let (api, body) = (stack.api()?, json!({"reason": "me first"}));
        let answers = futures::future::try_join_all((0..12).map(|_| api.post(&path, &body))).await?;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        anyhow::ensure!(statuses == [vec![200], vec![409; 11]].concat(), "{statuses:?}");
        api.saga_is(saga, "completed").await?;
        status_becomes(stack, &letter, "resolved").await?;
        assert_snapshot!(agency.ledger(saga).await?, @"BookTrain for Otto, IssueTickets for Otto");
        Ok(())
    });
}

#[test]
fn an_edited_letter_is_checked_and_then_sent() {
    on_own_stack(NO_WORKERS, async |stack| {
        let old = stack.start_stand_in("travel", Some("travel.BookTrain"), None).await?;
        let saga = stack.api()?.start_saga("patient-trip", json!({"traveller": "Rosa"})).await?;
        let letter = letter_of(stack, saga).await?;
        let path = format!("/api/dead-letters/{}/redrive", text(&letter, "id")?);
        let wrong = json!({"reason": "typed badly", "value": {"traveller": 1, "train": "IC 7"}});
        assert_snapshot!(stack.api()?.post(&path, &wrong).await?.problem()?, @"422 validation [value.sagaId, value.traveller, value.train]");

        let agency = stack.start_stand_in("travel", None, Some(old.stop().await?)).await?;
        let edited =
            json!({"reason": "her sister goes", "value": {"sagaId": saga.to_string(), "traveller": "Luise"}});
        for _ in 0..2 {
            stack.api()?.post_keyed(&path, &edited, "once").await?.expect(200)?;
        }
        stack.api()?.saga_is(saga, "completed").await?;
        status_becomes(stack, &letter, "resolved").await?;
        assert_snapshot!(agency.ledger(saga).await?, @"BookTrain for Luise, IssueTickets for Rosa");
        let again = stack.api()?.post(&path, &json!({"reason": "once more"})).await?;
        assert_snapshot!(again.problem()?, @"409 wrong-state");
        Ok(())
    });
}

#[test]
fn an_edited_reply_moves_its_saga_on() {
    on_own_stack(NO_WORKERS, async |stack| {
        let saga = stack.api()?.start_saga("patient-trip", json!({"traveller": "Olga"})).await?;
        let command = eventually("the command is published", SOON, async || {
            Ok(stack.topic("travel.commands").await?.into_iter().next())
        })
        .await?;
        let mut reply = Record::new("saga.inbox", saga.to_string(), "rubbish", Default::default());
        for (name, value) in [
            ("saga-id", saga.to_string()),
            ("command-id", command.headers.text("command-id").unwrap_or_default().to_owned()),
            ("outcome", "succeeded".to_owned()),
            ("message-type", "travel.TrainBooked".to_owned()),
        ] {
            reply.headers.push(name, value);
        }
        stack.publish(vec![reply]).await?;
        let letter = letter_of(stack, saga).await?;
        assert_eq!((&letter["reason"], &letter["source"]), (&json!("undecodable"), &json!("orchestrator")));
        redrive(stack, &letter, json!({"reason": "as it is"})).await?;
        status_becomes(stack, &letter, "open").await?;
        redrive(stack, &letter, json!({"reason": "what was meant", "value": {"seat": "5C"}})).await?;
        status_becomes(stack, &letter, "resolved").await?;
        assert_eq!(stack.api()?.saga(saga).await?["data"]["seat"], "5C");
        assert_snapshot!(transcript(stack, &stack.api()?, saga).await?, @r"
        start                -> book-train #1
        dead letter redriven -> letter sent       as it is
        dead letter redriven -> letter sent       what was meant
        book-train succeeded -> issue-tickets #1  letter resolved
        ");
        Ok(())
    });
}

#[test]
fn a_letter_can_be_put_aside() {
    on_own_stack(NO_WORKERS, async |stack| {
        let mut stray = Record::new("saga.inbox", "nobody", "nothing", Default::default());
        stray.headers.push("from", "somewhere");
        stack.publish(vec![stray]).await?;
        let letter = eventually("the stray is kept", SOON, async || {
            let page = stack.api()?.get("/api/dead-letters?status=open").await?.expect(200)?;
            Ok(page["items"].as_array().and_then(|items| items.first().cloned()))
        })
        .await?;
        let path = format!("/api/dead-letters/{}/discard", text(&letter, "id")?);
        let body = json!({"reason": "nobody misses it"});
        stack.api()?.post_keyed(&path, &body, "aside").await?.expect(200)?;
        stack.api()?.post_keyed(&path, &body, "aside").await?.expect(200)?;
        assert_snapshot!(stack.api()?.post(&path, &body).await?.problem()?, @"409 wrong-state");
        assert_snapshot!(lineage(stack, &letter).await?, @r"
        failed: header saga-id is missing; allowed: a UUID with hyphens
        discarded: nobody misses it
        ");
        let open = stack.api()?.get("/api/dead-letters?status=open").await?.expect(200)?;
        assert_eq!(open["items"], json!([]));
        Ok(())
    });
}

async fn letter_of(stack: &Stack, saga: SagaId) -> Result<Value> {
    eventually("the saga has a dead letter", SOON, async || {
        Ok(stack.api()?.letters_of(saga).await?.first().cloned())
    })
    .await
}

async fn redrive(stack: &Stack, letter: &Value, body: Value) -> Result<()> {
    let path = format!("/api/dead-letters/{}/redrive", text(letter, "id")?);
    let shown = stack.api()?.post(&path, &body).await?.expect(200)?;
    anyhow::ensure!(shown["status"] != "discarded", "{shown}");
    Ok(())
}

async fn status_becomes(stack: &Stack, letter: &Value, status: &str) -> Result<()> {
    let id = text(letter, "id")?;
    eventually(&format!("letter {id} is {status}"), SOON, async || {
        Ok((stack.api()?.letter(id).await?["status"] == status).then_some(()))
    })
    .await
}

/// What became of a letter, a line each.
async fn lineage(stack: &Stack, letter: &Value) -> Result<String> {
    let shown = stack.api()?.letter(text(letter, "id")?).await?;
    let entries = shown["lineage"].as_array().context("a lineage")?;
    let line = |entry: &Value| {
        format!("{}: {}", text(entry, "what").unwrap_or("?"), text(entry, "reason").unwrap_or(""))
    };
    Ok(entries.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn text<'a>(value: &'a Value, member: &str) -> Result<&'a str> {
    value[member].as_str().with_context(|| format!("no {member} in {value}"))
}
