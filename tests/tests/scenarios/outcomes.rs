//! How a booking ends, with the shipped definition.

use insta::assert_snapshot;
use tests::api::BookingRequest;
use tests::scenario::on_shared_stack;
use tests::story::story;

#[test]
fn a_booking_completes() {
    on_shared_stack(async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        assert_snapshot!(story(stack, saga).await?, @"");
        Ok(())
    });
}

#[test]
fn a_declined_payment_undoes_the_reservation() {
    on_shared_stack(async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::forced("declined")).await?;
        stack.api()?.saga_is(saga, "compensated").await?;
        assert_snapshot!(story(stack, saga).await?, @"");
        Ok(())
    });
}
