//! How a booking ends.

use insta::assert_snapshot;
use serde_json::json;
use tests::api::{Api, BookingRequest};
use tests::scenario::on_shared_stack;
use tests::story::story;
use uuid::Uuid;

#[test]
fn a_booking_completes() {
    on_shared_stack(async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        assert_snapshot!(story(stack, saga).await?, @r"
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment succeeded  -> confirm-booking #1
        confirm-booking succeeded -> completed

        booking: confirmed, units taken 1
        payment: completed 1000 EUR
        gateway: charge 1000 EUR
        inbox: reserve-booking succeeded, charge-payment succeeded, confirm-booking succeeded
        ");
        assert_eq!(shown(&stack.api()?, saga).await?, json!(["PAID", null]));
        Ok(())
    });
}

#[test]
fn a_declined_payment_undoes_the_reservation() {
    on_shared_stack(async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::forced("declined")).await?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(story(stack, saga).await?, @r"
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment rejected   -> undo reserve-booking #1  payment_declined
        reserve-booking undone    -> compensated              payment_declined

        booking: cancelled, units taken 0
        payment: failed 1000 EUR payment_declined
        gateway: nothing
        inbox: reserve-booking succeeded, charge-payment rejected, undo reserve-booking succeeded
        ");
        assert_eq!(shown(&stack.api()?, saga).await?, json!(["CANCELLED", "payment_declined"]));
        Ok(())
    });
}

#[test]
fn a_resource_without_a_free_unit_is_sold_out() {
    on_shared_stack(async |stack| {
        let resource = Uuid::new_v4();
        stack.set_capacity(resource, 1).await?;
        let first = stack.api()?.start_booking(&BookingRequest::of(resource)).await?;
        stack.api()?.saga_is(first, "completed").await?;
        let second = stack.api()?.start_booking(&BookingRequest::of(resource)).await?;
        stack.api()?.saga_is(second, "compensated").await?;
        assert_snapshot!(story(stack, second).await?, @r"
        start                    -> reserve-booking #1
        reserve-booking rejected -> compensated         sold_out

        booking: nothing
        payment: nothing
        gateway: nothing
        inbox: reserve-booking rejected
        ");
        assert_eq!(shown(&stack.api()?, second).await?, json!(["CANCELLED", "sold_out"]));
        Ok(())
    });
}

#[test]
fn an_unavailable_gateway_is_tried_again() {
    on_shared_stack(async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::forced("unavailable")).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        assert_snapshot!(story(stack, saga).await?, @r"
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment failed     -> back off            gateway_unavailable
        charge-payment #2 due     -> charge-payment #2
        charge-payment failed     -> back off            gateway_unavailable
        charge-payment #3 due     -> charge-payment #3
        charge-payment succeeded  -> confirm-booking #1
        confirm-booking succeeded -> completed

        booking: confirmed, units taken 1
        payment: completed 1000 EUR
        gateway: charge 1000 EUR
        inbox: reserve-booking succeeded, charge-payment succeeded, confirm-booking succeeded
        ");
        Ok(())
    });
}

#[test]
fn a_gateway_that_stays_down_is_a_rejection_in_the_end() {
    on_shared_stack(async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::forced("down")).await?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(story(stack, saga).await?, @r"
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment failed     -> back off                 gateway_unavailable
        charge-payment #2 due     -> charge-payment #2
        charge-payment failed     -> back off                 gateway_unavailable
        charge-payment #3 due     -> charge-payment #3
        charge-payment failed     -> back off                 gateway_unavailable
        charge-payment #4 due     -> charge-payment #4
        charge-payment failed     -> back off                 gateway_unavailable
        charge-payment #5 due     -> charge-payment #5
        charge-payment failed     -> undo reserve-booking #1  gateway_unavailable
        reserve-booking undone    -> compensated              gateway_unavailable

        booking: cancelled, units taken 0
        payment: pending 1000 EUR
        gateway: nothing
        inbox: reserve-booking succeeded, charge-payment failed, undo reserve-booking succeeded
        ");
        assert_eq!(shown(&stack.api()?, saga).await?, json!(["CANCELLED", "gateway_unavailable"]));
        Ok(())
    });
}

#[test]
fn a_payment_without_a_reply_is_in_doubt_and_refunded_once() {
    on_shared_stack(async |stack| {
        let input = json!({
            "userId": Uuid::new_v4(), "resourceId": Uuid::new_v4(), "amountMinor": 700,
            "forcedPaymentOutcome": "no_reply",
        });
        let saga = stack.api()?.start_saga("hasty-booking", input).await?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(story(stack, saga).await?, @r"
        start                       -> reserve-booking #1
        reserve-booking succeeded   -> charge-payment #1
        charge-payment #1 timed out -> back off
        charge-payment #2 due       -> charge-payment #2
        charge-payment #2 timed out -> undo charge-payment #1   in doubt
        charge-payment undone       -> undo reserve-booking #1
        reserve-booking undone      -> compensated              timed_out

        booking: cancelled, units taken 0
        payment: refunded 700 EUR
        gateway: charge 700 EUR, refund 700 EUR
        inbox: reserve-booking succeeded, charge-payment succeeded, undo charge-payment succeeded, undo reserve-booking succeeded
        ");
        Ok(())
    });
}

/// Status and reason, as the shop sees them.
async fn shown(api: &Api, saga: saga_defs::ids::SagaId) -> anyhow::Result<serde_json::Value> {
    let booking = api.get(&format!("/api/bookings/{saga}")).await?.expect(200)?;
    Ok(json!([booking["status"], booking["reason"]]))
}
