//! One booking is one trace, whoever moves it.

use std::time::Duration;

use anyhow::{Context, Result};
use insta::assert_snapshot;
use reqwest::Method;
use saga_defs::ids::SagaId;
use serde_json::{Value, json};
use tests::api::{Api, BookingRequest};
use tests::otlp::{Collected, Collector, tree};
use tests::process::{Program, Signal};
use tests::scenario::on_own_stack;
use tests::stack::{Options, STOP_LIMIT, Stack};
use tests::stand_in::Manner::{Fail, Reject};
use tests::wait::{SOON, eventually};

const NONE_YET: Options =
    Options { orchestrators: 0, workers: false, forced_outcomes: true, gateway_latency_ms: 0 };
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OPERATORS: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-{flags}")
}

/// Books with a trace of the client's.
async fn book(api: &Api, forced: Option<&str>, flags: &str) -> Result<SagaId> {
    let mut request = api
        .request(Method::POST, "/api/bookings")
        .header("traceparent", traceparent(TRACE, flags))
        .json(&BookingRequest::default().body());
    if let Some(outcome) = forced {
        request = request.header("x-forced-payment-outcome", outcome);
    }
    let view: Value = request.send().await?.error_for_status()?.json().await?;
    Ok(view["bookingId"].as_str().context("a booking has an id")?.parse()?)
}

/// The trace, once it has so many spans.
async fn collected(collector: &Collector, trace: &str, count: usize) -> Result<Vec<Collected>> {
    eventually(&format!("{count} spans"), SOON, async || {
        let mut spans = collector.trace(trace)?;
        // What was published again is answered and read again, as often as it happens.
        spans.retain(|one| one.attribute("saga.ignored").is_empty());
        Ok((spans.len() >= count).then_some(spans))
    })
    .await
}

#[test]
fn a_booking_that_is_undone_is_one_trace_through_four_processes() {
    on_own_stack(NONE_YET, async |stack| {
        let collector = Collector::start().await?;
        collector.collect_from(stack);
        stack.start_services_again().await?;
        let api = stack.api()?;
        let saga = book(&api, Some("declined"), "01").await?;
        api.saga_is(saga, "compensated").await?;

        let spans = collected(&collector, TRACE, 14).await?;
        assert_snapshot!(tree(&spans), @r"
        POST /api/bookings [orchestrator, server]
          saga booking [orchestrator, internal] status=compensated ERROR payment_declined: declined, as was asked for
            send booking.commands [orchestrator, producer] step=reserve-booking direction=forward
              process booking.commands [booking-worker, consumer] step=reserve-booking direction=forward outcome=succeeded
                send saga.inbox [booking-worker, producer]
                  process saga.inbox [orchestrator, consumer] outcome=succeeded
            send payment.commands [orchestrator, producer] step=charge-payment direction=forward
              process payment.commands [payment-worker, consumer] step=charge-payment direction=forward outcome=rejected
                send saga.inbox [payment-worker, producer]
                  process saga.inbox [orchestrator, consumer] outcome=rejected
            send booking.commands [orchestrator, producer] step=reserve-booking direction=compensation
              process booking.commands [booking-worker, consumer] step=reserve-booking direction=compensation outcome=succeeded
                send saga.inbox [booking-worker, producer]
                  process saga.inbox [orchestrator, consumer] outcome=succeeded
        ");
        let whole = spans.iter().find(|one| one.span.name == "saga booking").context("the saga's span")?;
        assert_eq!(whole.attribute("messaging.message.conversation_id"), saga.to_string());
        for one in &spans {
            assert!(one.span.end_time_unix_nano >= one.span.start_time_unix_nano, "{one:?}");
        }
        Ok(())
    });
}

/// The request's span leaves with the process that was asked; all others are written by who carries the saga on.
#[test]
fn a_takeover_continues_the_trace() {
    on_own_stack(NONE_YET, async |stack| {
        let collector = Collector::start().await?;
        collector.collect_from(stack);
        let first = stack.start_services_again().await?;
        let payment = stack.worker(Program::PaymentWorker)?;
        payment.signal(Signal::Terminate)?;
        payment.ended(STOP_LIMIT).await?;
        let saga = book(&first.api, None, "01").await?;
        // The request, and the reservation: sent, processed, answered, read; and the charge that nobody reads.
        collected(&collector, TRACE, 6).await?;
        first.service.kill()?;
        let second = stack.start_orchestrator().await?;
        stack.start_worker(Program::PaymentWorker)?;
        second.api.saga_is_within(saga, "completed", Duration::from_secs(60)).await?;

        let spans = collected(&collector, TRACE, 14).await?;
        assert_snapshot!(tree(&spans), @r"
        POST /api/bookings [orchestrator, server]
          saga booking [orchestrator, internal] status=completed
            send booking.commands [orchestrator, producer] step=reserve-booking direction=forward
              process booking.commands [booking-worker, consumer] step=reserve-booking direction=forward outcome=succeeded
                send saga.inbox [booking-worker, producer]
                  process saga.inbox [orchestrator, consumer] outcome=succeeded
            send payment.commands [orchestrator, producer] step=charge-payment direction=forward
              process payment.commands [payment-worker, consumer] step=charge-payment direction=forward outcome=succeeded
                send saga.inbox [payment-worker, producer]
                  process saga.inbox [orchestrator, consumer] outcome=succeeded
            send booking.commands [orchestrator, producer] step=confirm-booking direction=forward
              process booking.commands [booking-worker, consumer] step=confirm-booking direction=forward outcome=succeeded
                send saga.inbox [booking-worker, producer]
                  process saga.inbox [orchestrator, consumer] outcome=succeeded
        ");
        Ok(())
    });
}

#[test]
fn what_nobody_wanted_recorded_is_recorded_when_it_is_undone() {
    on_own_stack(NONE_YET, async |stack| {
        let collector = Collector::start().await?;
        collector.collect_from(stack);
        stack.start_services_again().await?;
        let api = stack.api()?;
        let undone = book(&api, Some("declined"), "00").await?;
        api.saga_is(undone, "compensated").await?;
        let fine = book(&api, None, "00").await?;
        api.saga_is(fine, "completed").await?;

        let spans = collected(&collector, TRACE, 3).await?;
        assert_snapshot!(tree(&spans), @r"
        saga booking [orchestrator, internal] status=compensated ERROR payment_declined: declined, as was asked for
          reserve-booking [orchestrator, internal] status=compensated
          charge-payment [orchestrator, internal] status=rejected ERROR payment_declined: declined, as was asked for
        ");
        Ok(())
    });
}

#[test]
fn a_sampler_that_follows_nobody_overrules_the_client() {
    on_own_stack(NONE_YET, async |stack| {
        let collector = Collector::start().await?;
        collector.collect_from(stack);
        stack.tell("OTEL_TRACES_SAMPLER", "always_off");
        stack.start_services_again().await?;
        let api = stack.api()?;
        let (undone, fine) = (book(&api, Some("declined"), "01").await?, book(&api, None, "01").await?);
        api.saga_is(undone, "compensated").await?;
        api.saga_is(fine, "completed").await?;

        stack.kill_services()?;
        stack.tell("OTEL_TRACES_SAMPLER", "always_on");
        stack.start_services_again().await?;
        let api = stack.api()?;
        let wanted = book(&api, None, "00").await?;
        api.saga_is(wanted, "completed").await?;
        for one in collected(&collector, TRACE, 14).await? {
            let about = one.attribute("messaging.message.conversation_id");
            assert!(about != undone.to_string() && about != fine.to_string(), "{one:?}");
        }
        Ok(())
    });
}

#[test]
fn a_redrive_is_a_trace_of_its_own_and_linked() {
    on_own_stack(NONE_YET, async |stack| {
        let collector = Collector::start().await?;
        collector.collect_from(stack);
        stack.start_services_again().await?;
        let api = stack.api()?;
        let saga = stuck(stack, &api).await?;
        let redriven = api
            .request(Method::POST, &format!("/api/sagas/{saga}/redrive"))
            .header("traceparent", traceparent(OPERATORS, "01"))
            .json(&json!({"reason": "the agency is back"}))
            .send()
            .await?;
        assert_eq!(redriven.status(), 200);

        let spans = collected(&collector, OPERATORS, 1).await?;
        assert_snapshot!(tree(&spans), @"POST /api/sagas/{sagaId}/redrive [orchestrator, server]");
        // A request without a trace began one, which the saga is in.
        let linked = spans[0].linked_to().context("a link")?;
        let sent = eventually("the command is sent anew", SOON, async || {
            let spans = collector.trace(&linked)?;
            Ok(spans.into_iter().find(|one| one.attribute("saga.redrive") == "1"))
        })
        .await?;
        assert_eq!(sent.attribute("messaging.message.conversation_id"), saga.to_string());
        Ok(())
    });
}

/// A saga whose compensation fails.
async fn stuck(stack: &Stack, api: &Api) -> Result<SagaId> {
    let agency = stack.stand_in("travel").await?;
    agency.handle("Grace", "BookHotel", &[Reject]);
    agency.handle("Grace", "CancelTrain", &[Fail]);
    let saga = api.start_saga("quick-trip", json!({"traveller": "Grace"})).await?;
    api.saga_is(saga, "stuck").await?;
    Ok(saga)
}
