//! Orchestrators that are killed, stopped and frozen while clients book.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::api::{BookingRequest, id};
use tests::load::Load;
use tests::oracle::{check, epochs};
use tests::process::{Program, Signal};
use tests::scenario::on_own_stack;
use tests::stack::{Options, STOP_LIMIT};
use tests::wait::eventually;

/// How long shards may be without an owner after its death: the group's session, a rebalance, and a slow machine.
const TAKEOVER: Duration = Duration::from_secs(40);
const TWO: Options =
    Options { orchestrators: 2, workers: true, forced_outcomes: true, gateway_latency_ms: 0 };

#[test]
fn a_second_orchestrator_takes_over_from_a_killed_one() {
    on_own_stack(TWO, async |stack| {
        let second = stack.orchestrator()?;
        let load = Load::of(8);
        let disturb = async {
            load.accepts(30, TAKEOVER).await?;
            second.service.kill()?;
            load.accepts(30, TAKEOVER).await?;
            load.stop();
            anyhow::Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check(stack, &load.accepted()).await?;
        Ok(())
    });
}

#[test]
fn an_orchestrator_that_is_told_to_stop_hands_over() {
    on_own_stack(TWO, async |stack| {
        let second = stack.orchestrator()?;
        let load = Load::of(8);
        let disturb = async {
            load.accepts(30, TAKEOVER).await?;
            second.service.signal(Signal::Terminate)?;
            let status = second.service.ended(STOP_LIMIT).await?;
            ensure!(status.success(), "told to stop, it ended with {status}");
            load.accepts(30, TAKEOVER).await?;
            load.stop();
            Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check(stack, &load.accepted()).await?;
        Ok(())
    });
}

/// How long a process may take from SIGTERM to its end; what is in flight is finished meanwhile.
const DRAIN: Duration = Duration::from_secs(25);

/// As a deployment replaces them: the next one only when the new one is ready. Clients come back after a 503, and go to another
/// process where nobody takes their connection any more; on any other answer than 201 `Load` fails.
#[test]
fn three_orchestrators_are_replaced_under_load() {
    on_own_stack(Options { orchestrators: 3, ..TWO }, async |stack| {
        let load = Load::of(12);
        let disturb = async {
            load.accepts(30, TAKEOVER).await?;
            for old in stack.orchestrators() {
                old.service.signal(Signal::Terminate)?;
                let status = old.service.ended(DRAIN).await?;
                ensure!(status.success(), "told to stop, it ended with {status}");
                stack.start_orchestrator().await?;
                load.accepts(20, TAKEOVER).await?;
            }
            load.stop();
            Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        ensure!(stack.orchestrators().len() == 3, "three run again");
        check(stack, &load.accepted()).await?;
        Ok(())
    });
}

#[test]
fn a_frozen_owner_is_fenced_when_it_wakes() {
    on_own_stack(TWO, async |stack| {
        let frozen = stack.orchestrator()?;
        let load = Load::of(8);
        let before = epochs(stack).await?;
        let disturb = async {
            load.accepts(30, TAKEOVER).await?;
            frozen.service.signal(Signal::Stop)?;
            // Clients of the frozen one hang on; the other one has to take over all shards meanwhile.
            eventually("the other one owns every shard", TAKEOVER, async || {
                let owners = "SELECT count(DISTINCT owner) AS n FROM shard WHERE owner <> $1";
                let others = "SELECT count(*) AS n FROM shard WHERE owner = $1";
                let me = || vec![frozen.api.base().to_owned().into()];
                let mine = stack.sagas.number(others, me()).await?;
                Ok((mine == 0 && stack.sagas.number(owners, me()).await? == 1).then_some(()))
            })
            .await?;
            frozen.service.signal(Signal::Continue)?;
            load.accepts(60, TAKEOVER).await?;
            load.stop();
            anyhow::Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check(stack, &load.accepted()).await?;
        let after = epochs(stack).await?;
        ensure!(
            before.iter().zip(&after).all(|(before, after)| before <= after),
            "{before:?} then {after:?}"
        );
        Ok(())
    });
}

#[test]
fn a_verb_reaches_the_owner_whichever_orchestrator_is_asked() {
    on_own_stack(TWO, async |stack| {
        let agency = stack.stand_in("travel").await?;
        let one = stack.orchestrator()?;
        // Nobody owns anything for a moment while the second one joins.
        let owners = "SELECT count(DISTINCT owner) AS n FROM shard WHERE owner <> ''";
        eventually("both own shards", TAKEOVER, async || {
            Ok((stack.sagas.number(owners, vec![]).await? == 2).then_some(()))
        })
        .await?;
        let mut sagas = Vec::new();
        for number in 0..8 {
            let traveller = format!("Ida {number}");
            agency.handle(&traveller, "SendPostcard", &[tests::stand_in::Manner::Reject]);
            sagas.push((one.api.start_saga("quick-trip", json!({"traveller": traveller})).await?, traveller));
        }
        for api in stack.apis() {
            sagas.push((api.start_saga("quick-trip", json!({"traveller": "Ida"})).await?, "Ida".to_owned()));
        }
        for (number, (saga, traveller)) in sagas.iter().enumerate() {
            let api = &stack.apis()[number % 2];
            if traveller == "Ida" {
                api.saga_is(*saga, "completed").await?;
                continue;
            }
            api.saga_is(*saga, "stuck").await?;
            agency.handle(traveller, "SendPostcard", &[tests::stand_in::Manner::Do]);
            let key = format!("redrive-{saga}");
            let redrive = format!("/api/sagas/{saga}/redrive");
            let body = json!({"reason": "whoever owns it"});
            api.post_keyed(&redrive, &body, &key).await?.expect(200)?;
            stack.apis()[(number + 1) % 2].post_keyed(&redrive, &body, &key).await?.expect(200)?;
            api.saga_is(*saga, "completed").await?;
        }
        Ok(())
    });
}

#[test]
fn one_key_makes_one_booking_at_two_orchestrators() {
    on_own_stack(TWO, async |stack| {
        let apis = stack.apis();
        for _ in 0..5 {
            let booking = BookingRequest::default().keyed(uuid::Uuid::new_v4().to_string());
            let asked = (0..10).map(|number| {
                let (api, booking) = (&apis[number % 2], &booking);
                async move {
                    // While shards change hands there is nobody to ask.
                    eventually("it is accepted", TAKEOVER, async || {
                        let answer = api.book(booking).await?;
                        Ok((answer.status != 503).then_some(answer))
                    })
                    .await
                }
            });
            let answers = futures::future::try_join_all(asked).await?;
            for answer in &answers {
                assert_eq!((answer.status, &answer.text), (201, &answers[0].text));
            }
            let bookings = "SELECT count(*) AS n FROM bookings WHERE user_id = $1";
            let saga = id(&answers[0].json()?, "bookingId")?;
            apis[0].saga_is(saga, "completed").await?;
            assert_eq!(stack.bookings.number(bookings, vec![booking.user.into()]).await?, 1);
        }
        Ok(())
    });
}

#[test]
fn an_orchestrator_that_dies_again_and_again_loses_nothing() {
    on_own_stack(Options::default(), async |stack| {
        let load = Load::of(8);
        let disturb = async {
            for _ in 0..10 {
                load.accepts(10, TAKEOVER).await?;
                stack.orchestrator()?.service.kill()?;
                stack.start_orchestrator().await?;
            }
            load.accepts(10, TAKEOVER).await?;
            load.stop();
            anyhow::Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check(stack, &load.accepted()).await?;
        Ok(())
    });
}

#[test]
fn everything_restarts_with_sagas_in_flight() {
    restart(async |_| Ok(()));
}

#[test]
fn everything_restarts_on_a_new_and_empty_broker() {
    if tests::kafka::is_real() {
        return;
    }
    restart(async |stack| stack.replace_broker().await);
}

fn restart(between: impl AsyncFnOnce(&tests::stack::Stack) -> Result<()>) {
    let slow = Options { gateway_latency_ms: 1_500, ..Options::default() };
    on_own_stack(slow, async |stack| {
        let mut accepted = Vec::new();
        for _ in 0..20 {
            let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
            accepted.push(tests::load::Accepted { saga, end: tests::load::End::Completed });
        }
        stack.kill_services()?;
        between(stack).await?;
        stack.start_services_again().await?;
        check(stack, &accepted).await?;
        Ok(())
    });
}

#[test]
fn workers_that_die_do_nothing_twice() {
    let slow = Options { gateway_latency_ms: 50, ..Options::default() };
    on_own_stack(slow, async |stack| {
        let load = Load::of(8);
        let disturb = async {
            for program in [Program::PaymentWorker, Program::BookingWorker, Program::PaymentWorker] {
                load.accepts(20, TAKEOVER).await?;
                stack.worker(program)?.kill()?;
                stack.start_worker(program)?;
            }
            for program in [Program::BookingWorker, Program::PaymentWorker] {
                load.accepts(10, TAKEOVER).await?;
                let worker = stack.worker(program)?;
                worker.signal(Signal::Terminate)?;
                let status = worker.ended(STOP_LIMIT).await?;
                ensure!(status.success(), "told to stop, {} ended with {status}", program.name());
                stack.start_worker(program)?;
            }
            load.accepts(20, TAKEOVER).await?;
            load.stop();
            Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check(stack, &load.accepted()).await?;
        Ok(())
    });
}
