//! Forced outcomes: for demonstrations, and only where they are allowed.

use std::time::Duration;

use participant::testing::new_saga;
use payment_worker::{COMPLETED, FAILED, GatewayChoice};

use crate::bench::{PaymentBench, charge, forced, refund, simulated};

#[tokio::test]
async fn declined() {
    let bench = PaymentBench::start().await;
    let serving = bench.serve(simulated());
    let declined = forced(new_saga(), "declined");
    bench.send_commands([&declined]).await;
    assert_eq!(bench.reply_to(&declined).await, "rejected: payment_declined");
    assert!(bench.has_payment(&declined, "failed", "payment_declined").await);
    assert_eq!(bench.books().await, (0, 0, 0));
    let event = bench.records(FAILED, 1).await.remove(0);
    let fields = bench.catalog.decode(&event.value.unwrap()).unwrap().fields;
    assert_eq!(fields["reason"], "payment_declined");
    serving.stop().await;
}

#[tokio::test]
async fn unavailable_twice_then_it_works() {
    let bench = PaymentBench::start().await;
    let serving = bench.serve(simulated());
    let charge = forced(new_saga(), "unavailable");
    for attempt in 1..=3 {
        bench.send_commands([&charge.attempt(attempt)]).await;
        bench.replies_to(&charge, attempt as usize).await;
    }
    let replies = bench.replies_to(&charge, 3).await;
    let words: Vec<_> = replies.iter().map(|reply| reply.summary()).collect();
    assert_eq!(words, ["failed: gateway_unavailable", "failed: gateway_unavailable", "succeeded"]);
    assert_eq!(bench.books().await, (1, 0, 0));
    serving.stop().await;
}

#[tokio::test]
async fn down_always_fails_and_has_nothing_to_refund() {
    let bench = PaymentBench::start().await;
    let serving = bench.serve(simulated());
    let saga = new_saga();
    let (charge, refund) = (forced(saga, "down"), refund(saga));
    bench.send_commands([&charge, &charge.attempt(7), &refund]).await;
    assert_eq!(bench.reply_to(&refund).await, "succeeded");
    let replies = bench.replies_to(&charge, 2).await;
    assert!(replies.iter().all(|reply| reply.summary() == "failed: gateway_unavailable"));
    assert_eq!(bench.books().await, (0, 0, 0));
    serving.stop().await;
}

#[tokio::test]
async fn no_reply_charges_says_nothing_and_is_refunded() {
    let bench = PaymentBench::start().await;
    let serving = bench.serve(simulated());
    let saga = new_saga();
    let (charge, refund) = (forced(saga, "no_reply"), refund(saga));
    bench.send_commands([&charge, &charge.attempt(2), &refund]).await;
    assert_eq!(bench.reply_to(&refund).await, "succeeded");
    assert_eq!(bench.replies(1).await.len(), 1, "only the refund is answered");
    assert_eq!(bench.records(COMPLETED, 1).await[0].key.as_deref(), Some(saga.to_string().as_bytes()));
    assert!(bench.has_payment(&charge, "refunded", "").await);
    assert_eq!(bench.books().await, (1, 1, 0));
    serving.stop().await;
}

#[tokio::test]
async fn where_it_is_not_allowed_it_is_refused() {
    let bench = PaymentBench::start().await;
    let serving =
        bench.serve(GatewayChoice::Simulated { latency: Duration::ZERO, allow_forced_outcomes: false });
    let (asked, plain) = (forced(new_saga(), "down"), charge(new_saga()));
    bench.send_commands([&asked, &plain]).await;
    assert_eq!(bench.reply_to(&asked).await, "rejected: forced_outcome_not_allowed");
    assert_eq!(bench.reply_to(&plain).await, "succeeded");
    serving.stop().await;

    let serving = bench.serve(simulated());
    let nonsense = forced(new_saga(), "sometimes");
    bench.send_commands([&nonsense]).await;
    assert_eq!(bench.reply_to(&nonsense).await, "rejected: forced_outcome_unknown");
    serving.stop().await;
}
