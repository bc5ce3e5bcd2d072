//! What operators do to sagas of a definition that nobody at the orchestrator has heard of.

use std::time::Duration;

use anyhow::{Result, ensure};
use insta::assert_snapshot;
use saga_defs::ids::SagaId;
use serde_json::json;
use tests::scenario::{on_own_stack, on_shared_stack};
use tests::stack::{Options, Stack};
use tests::stand_in::Manner::{Do, Fail, LoseReply, Reject, Wait};
use tests::story::transcript;
use tests::wait::{SOON, becomes, eventually};
use tokio::time::Instant;

#[test]
fn a_trip_goes_its_way() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Ada", &[]).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start                   -> book-train #1
        book-train succeeded    -> book-hotel #1
        book-hotel succeeded    -> issue-tickets #1
        issue-tickets succeeded -> send-postcard #1
        send-postcard succeeded -> completed

        agency: BookTrain for Ada, BookHotel for Ada, IssueTickets for Ada, SendPostcard for Ada
        ");
        Ok(())
    });
}

#[test]
fn a_compensation_that_keeps_failing_is_stuck_until_it_is_redriven() {
    on_shared_stack(async |stack| {
        let manners = [("BookHotel", &[Reject][..]), ("CancelTrain", &[Fail])];
        let saga = travel(stack, "quick-trip", "Grace", &manners).await?;
        stack.api()?.saga_is(saga, "stuck").await?;
        let letter = only_letter(stack, saga).await?;
        assert_eq!(
            letter,
            json!({"status": "open", "reason": "busy", "source": "orchestrator", "step": "book-train"})
        );

        stack.stand_in("travel").await?.handle("Grace", "CancelTrain", &[Do]);
        stack.api()?.act(saga, "redrive").await?.expect(200)?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start                  -> book-train #1
        book-train succeeded   -> book-hotel #1
        book-hotel rejected    -> undo book-train #1        closed
        undo book-train failed -> back off                  busy
        undo book-train #2 due -> undo book-train #2
        undo book-train failed -> stuck at undo book-train  busy
        redrive                -> undo book-train #1        to see redrive work
        book-train undone      -> compensated               closed, letter resolved

        agency: BookTrain for Grace, CancelTrain for Grace
        ");
        becomes("the letter's status", json!("resolved"), SOON, async || {
            Ok(only_letter(stack, saga).await?["status"].take())
        })
        .await
    });
}

#[test]
fn a_step_that_may_only_go_forward_is_redriven_with_other_input() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Mary", &[("SendPostcard", &[Reject])]).await?;
        stack.api()?.saga_is(saga, "stuck").await?;
        let redrive = format!("/api/sagas/{saga}/redrive");
        let wrong = json!({"reason": "typed badly", "input": {"traveller": 7, "colour": "red"}});
        let refused = stack.api()?.post(&redrive, &wrong).await?;
        assert_snapshot!(refused.problem()?, @"422 validation [input.traveller, input.colour]");

        let right = json!({"reason": "her friend pays", "input": {"traveller": "Anne"}});
        stack.api()?.post(&redrive, &right).await?.expect(200)?;
        stack.api()?.saga_is(saga, "completed").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start                   -> book-train #1
        book-train succeeded    -> book-hotel #1
        book-hotel succeeded    -> issue-tickets #1
        issue-tickets succeeded -> send-postcard #1
        send-postcard rejected  -> stuck at send-postcard  closed
        redrive with input      -> send-postcard #1        her friend pays
        send-postcard succeeded -> completed               letter resolved

        agency: BookTrain for Mary, BookHotel for Mary, IssueTickets for Mary, SendPostcard for Anne
        ");
        Ok(())
    });
}

#[test]
fn a_stuck_compensation_can_be_skipped() {
    on_shared_stack(async |stack| {
        let manners = [("BookHotel", &[Reject][..]), ("CancelTrain", &[Reject])];
        let saga = travel(stack, "quick-trip", "Joan", &manners).await?;
        stack.api()?.saga_is(saga, "stuck").await?;
        stack.api()?.act(saga, "skip").await?.expect(200)?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start                    -> book-train #1
        book-train succeeded     -> book-hotel #1
        book-hotel rejected      -> undo book-train #1        closed
        undo book-train rejected -> stuck at undo book-train  closed
        skip                     -> compensated               to see skip work, letter resolved

        agency: BookTrain for Joan
        ");
        Ok(())
    });
}

#[test]
fn a_running_saga_can_be_cancelled() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "patient-trip", "Jean", &[("BookTrain", &[LoseReply])]).await?;
        done(stack, saga, "BookTrain for Jean").await?;
        stack.api()?.act(saga, "cancel").await?.expect(200)?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start             -> book-train #1
        cancel            -> undo book-train #1  to see cancel work
        book-train undone -> compensated         cancelled

        agency: BookTrain for Jean, CancelTrain for Jean
        ");
        let refused = stack.api()?.act(saga, "cancel").await?;
        assert_snapshot!(refused.problem()?, @"409 wrong-state");
        Ok(())
    });
}

#[test]
fn a_back_off_can_be_cut_short() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "patient-trip", "Kay", &[("BookTrain", &[Fail, Do])]).await?;
        becomes("the saga's revision", json!(2), SOON, async || {
            Ok(stack.api()?.saga(saga).await?["revision"].take())
        })
        .await?;
        stack.api()?.act(saga, "retry-now").await?.expect(200)?;
        stack.api()?.saga_is(saga, "completed").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start                   -> book-train #1
        book-train failed       -> back off          busy
        retry now               -> book-train #2     to see retry-now work
        book-train succeeded    -> issue-tickets #1
        issue-tickets succeeded -> completed

        agency: BookTrain for Kay, IssueTickets for Kay
        ");
        Ok(())
    });
}

#[test]
fn a_deadline_cancels() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "brief-trip", "Hedy", &[("BookTrain", &[LoseReply])]).await?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start             -> book-train #1
        deadline passed   -> undo book-train #1
        book-train undone -> compensated         deadline_exceeded

        agency: BookTrain for Hedy, CancelTrain for Hedy
        ");
        Ok(())
    });
}

/// One that does not say so is cancelled; the time of the other stands still, also while nobody looks.
#[test]
fn a_deadline_stands_still_while_its_participant_is_paused() {
    on_own_stack(Options::default(), async |stack| {
        let api = stack.api()?;
        let because = json!({"reason": "it is moved"});
        api.post("/api/participants/travel/pause", &because).await?.expect(200)?;
        let brief = travel(stack, "brief-trip", "Ida", &[]).await?;
        let lasting = travel(stack, "lasting-trip", "Lise", &[]).await?;
        let began = Instant::now();
        api.saga_is(brief, "compensated").await?;
        stack.orchestrator()?.service.kill()?;
        let api = stack.start_orchestrator().await?.api.clone();
        let deadline = Duration::from_secs(4);
        eventually("the deadline would be over", SOON, async || {
            Ok((began.elapsed() > deadline + Duration::from_secs(2)).then_some(()))
        })
        .await?;
        api.saga_is(lasting, "running").await?;
        api.post("/api/participants/travel/resume", &because).await?.expect(200)?;
        api.saga_is(lasting, "completed").await?;
        let told = [trip(stack, brief).await?, trip(stack, lasting).await?].join("\n\n");
        assert_snapshot!(told, @r"
        start                  -> book-train #1
        book-train #1 withheld -> wait for travel
        deadline passed        -> compensated      deadline_exceeded

        agency: nothing

        start                  -> book-train #1
        book-train #1 withheld -> wait for travel
        book-train #1 due      -> book-train #1
        book-train succeeded   -> completed

        agency: BookTrain for Lise
        ");
        Ok(())
    });
}

/// The compensation waits behind its command, and the command's reply comes too late.
#[test]
fn a_deadline_finds_a_participant_at_work() {
    on_own_stack(Options::default(), async |stack| {
        let saga = travel(stack, "brief-trip", "Rita", &[("BookTrain", &[Wait])]).await?;
        stack.api()?.saga_is(saga, "compensating").await?;
        stack.stand_in("travel").await?.go_on();
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(trip(stack, saga).await?, @r"
        start             -> book-train #1
        deadline passed   -> undo book-train #1
        book-train undone -> compensated         deadline_exceeded

        agency: BookTrain for Rita, CancelTrain for Rita
        ");
        assert!(stack.stand_in("travel").await?.left(saga).await?.is_empty());
        Ok(())
    });
}

#[test]
fn a_verb_under_one_key_acts_once() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Edith", &[("SendPostcard", &[Reject])]).await?;
        stack.api()?.saga_is(saga, "stuck").await?;
        let redrive = format!("/api/sagas/{saga}/redrive");
        let body = json!({"reason": "try again"});
        let key = format!("once-{saga}");
        stack.api()?.post_keyed(&redrive, &body, &key).await?.expect(200)?;
        stack.api()?.saga_is(saga, "stuck").await?;
        let before = stack.api()?.saga(saga).await?;
        for _ in 0..3 {
            stack.api()?.post_keyed(&redrive, &body, &key).await?.expect(200)?;
        }
        let other = stack.api()?.post_keyed(&redrive, &json!({"reason": "another"}), &key).await?;
        assert_snapshot!(other.problem()?, @"422 idempotency-key-reused");
        let after = stack.api()?.saga(saga).await?;
        assert_eq!(before["revision"], after["revision"]);
        let audited = "SELECT verb || ': ' || reason AS text FROM audit WHERE saga_id = $1";
        let audited = stack.sagas.texts(audited, vec![saga.as_uuid().into()]).await?;
        assert_eq!(audited, ["redrive: try again"]);
        Ok(())
    });
}

#[test]
fn verbs_that_do_not_fit_say_when_they_would() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Emmy", &[]).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        for verb in ["cancel", "redrive", "skip", "retry-now"] {
            let refused = stack.api()?.act(saga, verb).await?;
            ensure!(refused.problem()? == "409 wrong-state", "{verb}: {}", refused.text);
            ensure!(refused.json()?["allowedIn"].is_array(), "{verb}: {}", refused.text);
        }
        Ok(())
    });
}

/// Starts a trip; the agency treats the traveller so.
async fn travel(
    stack: &Stack,
    definition: &str,
    traveller: &str,
    manners: &[(&'static str, &[tests::stand_in::Manner])],
) -> Result<SagaId> {
    let agency = stack.stand_in("travel").await?;
    for (command, manner) in manners {
        agency.handle(traveller, command, manner);
    }
    stack.api()?.start_saga(definition, json!({"traveller": traveller})).await
}

/// The transcript of a trip and what the agency did.
async fn trip(stack: &Stack, saga: SagaId) -> Result<String> {
    let transcript = transcript(stack, &stack.api()?, saga).await?;
    Ok(format!("{transcript}\nagency: {}", stack.stand_in("travel").await?.ledger(saga).await?))
}

async fn done(stack: &Stack, saga: SagaId, what: &str) -> Result<()> {
    becomes("the agency's ledger", what.to_owned(), SOON, async || {
        stack.stand_in("travel").await?.ledger(saga).await
    })
    .await
}

async fn only_letter(stack: &Stack, saga: SagaId) -> Result<serde_json::Value> {
    let letters = stack.api()?.letters_of(saga).await?;
    ensure!(letters.len() == 1, "one letter was expected: {letters:?}");
    let letter = &letters[0];
    Ok(json!({
        "status": letter["status"], "reason": letter["reason"], "source": letter["source"], "step": letter["step"],
    }))
}
