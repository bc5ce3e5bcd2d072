//! A broker or a database that is away for a while.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::api::BookingRequest;
use tests::load::{Accepted, End, Load};
use tests::oracle::check;
use tests::process::{Program, Service};
use tests::scenario::on_own_stack;
use tests::stack::Options;
use tests::wait::{SOON, eventually};
use tokio::time::Instant;

/// How long connections keep breaking.
const STORM: Duration = Duration::from_secs(3);
const BETWEEN_BREAKS: Duration = Duration::from_millis(100);
/// Several sessions of the embedded broker's groups, which end after 2 s.
const AWAY: Duration = Duration::from_secs(8);
const BETWEEN_STARTS: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_broker_that_is_away_burns_no_attempts() {
    if tests::kafka::is_real() {
        return;
    }
    on_own_stack(Options::default(), async |stack| {
        let kafka = stack.kafka();
        kafka.embedded()?.down()?;
        let mut accepted = Vec::new();
        for _ in 0..10 {
            let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
            accepted.push(Accepted { saga, end: End::Completed });
        }
        let status = stack.api()?.saga(accepted[0].saga).await?["status"].take();
        ensure!(status == "running", "without a broker it is {status}");
        kafka.embedded()?.up()?;
        check(stack, &accepted).await?;
        for Accepted { saga, .. } in accepted {
            let view = stack.api()?.saga(saga).await?;
            let attempts: Vec<_> =
                view["steps"].as_array().into_iter().flatten().map(|s| &s["attempt"]).collect();
            ensure!(attempts == [1, 1, 1], "attempts were burned: {view}");
        }
        Ok(())
    });
}

#[test]
fn starts_are_accepted_for_as_long_as_the_broker_is_away() {
    if tests::kafka::is_real() {
        return;
    }
    on_own_stack(Options::default(), async |stack| {
        let kafka = stack.kafka();
        kafka.embedded()?.down()?;
        let mut accepted = Vec::new();
        let (mut every, end) = (tokio::time::interval(BETWEEN_STARTS), Instant::now() + AWAY);
        while Instant::now() < end {
            every.tick().await;
            let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
            accepted.push(Accepted { saga, end: End::Completed });
        }
        let said = stack.orchestrator()?.service.output()?;
        ensure!(said.contains("the group is not heard of"), "the broker was away for less than a session");
        kafka.embedded()?.up()?;
        check(stack, &accepted).await?;
        Ok(())
    });
}

#[test]
fn a_broker_that_comes_and_goes_loses_nothing() {
    if tests::kafka::is_real() {
        return;
    }
    on_own_stack(Options::default(), async |stack| {
        let load = Load::of(8);
        let kafka = stack.kafka();
        let disturb = async {
            for _ in 0..3 {
                load.accepts(15, LONG).await?;
                kafka.embedded()?.down()?;
                load.accepts(5, LONG).await?;
                kafka.embedded()?.up()?;
            }
            load.accepts(15, LONG).await?;
            load.stop();
            anyhow::Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check(stack, &load.accepted()).await?;
        Ok(())
    });
}

#[test]
fn an_orchestrator_waits_for_a_broker_that_comes_later() {
    if tests::kafka::is_real() {
        return;
    }
    on_own_stack(Options { orchestrators: 0, ..Options::default() }, async |stack| {
        let kafka = stack.kafka();
        kafka.embedded()?.down()?;
        let early = stack.run(Program::Orchestrator, &["serve"])?;
        eventually("it says that it waits", SOON, async || {
            Ok(early.output()?.contains("waiting for the broker").then_some(()))
        })
        .await?;
        // It lives, and says what it waits for, to whoever looks after it and to whoever wants something of it.
        let at = early_address(&early)?;
        let told = |path: &'static str| {
            let asked = reqwest::get(format!("{at}{path}"));
            async move {
                let answer = asked.await?;
                let (status, again) =
                    (answer.status().as_u16(), answer.headers().get("retry-after").is_some());
                anyhow::Ok((status, again, answer.text().await?))
            }
        };
        let (live, ready, other) = (told("/livez").await?, told("/readyz").await?, told("/api/sagas").await?);
        assert_eq!((live.0, ready.0, other.0), (200, 503, 503));
        for (_, again, text) in [&ready, &other] {
            ensure!(
                *again && text.contains("not-ready") && text.contains("waiting for the broker"),
                "{text}"
            );
        }
        assert_eq!(told("/metrics").await?.0, 200);
        kafka.embedded()?.up()?;
        let saga = stack.adopt(early).await?.api.start_booking(&BookingRequest::default()).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        Ok(())
    });
}

/// Where a service that starts answers already.
fn early_address(service: &Service) -> Result<String> {
    let output = service.output()?;
    let at = output.split("/readyz are at ").nth(1).context("it does not say where it answers")?;
    Ok(at.split_whitespace().next().unwrap_or_default().to_owned())
}

#[test]
fn breaking_database_connections_loses_and_doubles_nothing() {
    on_own_stack(Options::default(), async |stack| {
        let load = Load::of(8);
        let disturb = async {
            load.accepts(20, LONG).await?;
            let mut every = tokio::time::interval(BETWEEN_BREAKS);
            let (mut broken, end) = (0, Instant::now() + STORM);
            while Instant::now() < end {
                every.tick().await;
                broken += stack.sagas.break_connections().await?;
                broken += stack.bookings.break_connections().await?;
                broken += stack.payments.break_connections().await?;
            }
            ensure!(broken > 20, "only {broken} connections were broken");
            load.accepts(20, LONG).await?;
            load.stop();
            Ok(())
        };
        tokio::try_join!(load.run(stack), disturb)?;
        check(stack, &load.accepted()).await?;
        Ok(())
    });
}

#[test]
fn without_its_database_the_service_says_so_and_comes_back_by_itself() {
    on_own_stack(Options::default(), async |stack| {
        let api = stack.api()?;
        let first = api.start_booking(&BookingRequest::default()).await?;
        api.saga_is(first, "completed").await?;

        stack.sagas.go_away().await?;
        for answer in [
            api.book(&BookingRequest::default().keyed("later")).await?,
            api.get(&format!("/api/sagas/{first}")).await?,
            api.get("/api/dead-letters").await?,
            api.post(&format!("/api/sagas/{first}/cancel"), &json!({"reason": "none"})).await?,
        ] {
            ensure!(answer.problem()?.starts_with("503 "), "{answer:?}");
            ensure!(!answer.header("retry-after").is_empty(), "{answer:?}");
        }
        not_ready(&api).await?;
        api.get("/livez").await?.expect(200)?;

        stack.sagas.come_back().await?;
        let second = eventually("a booking is accepted again", SOON, async || {
            let answer = api.book(&BookingRequest::default().keyed("again")).await?;
            Ok((answer.status == 201).then(|| answer.json()))
        })
        .await??;
        let second = tests::api::id(&second, "bookingId")?;
        api.saga_is(second, "completed").await?;
        check(stack, &[first, second].map(|saga| Accepted { saga, end: End::Completed })).await?;
        Ok(())
    });
}

async fn not_ready(api: &tests::api::Api) -> Result<()> {
    eventually("it says that it is not ready", SOON, async || {
        Ok((api.get("/readyz").await?.status == 503).then_some(()))
    })
    .await
}

#[test]
fn a_worker_without_its_database_goes_on_when_it_is_back() {
    on_own_stack(Options::default(), async |stack| {
        stack.bookings.go_away().await?;
        let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
        let view = stack.api()?.saga(saga).await?;
        ensure!(view["status"] == "running", "{view}");
        stack.bookings.come_back().await?;
        stack.api()?.saga_is_within(saga, "completed", LONG).await?;
        check(stack, &[Accepted { saga, end: End::Completed }]).await?;
        Ok(())
    });
}
