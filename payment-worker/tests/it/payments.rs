//! Charge and refund, with the simulated gateway.

use std::time::Duration;

use participant::testing::{TestCommand, new_saga};
use payment_worker::gateway::{Charge, Charged, Gateway, SimulatedGateway};
use payment_worker::{COMPLETED, GatewayChoice, REFUNDED};
use saga_defs::ids::Attempt;
use sea_orm::ConnectionTrait;

use crate::bench::{PaymentBench, charge, forced, refund, simulated};

#[tokio::test]
async fn a_payment_is_charged_once_and_refunded_once() {
    let bench = PaymentBench::start().await;
    let serving = bench.serve(simulated());
    let saga = new_saga();
    let (charge, refund) = (charge(saga), refund(saga));
    bench.send_commands([&charge, &charge]).await;
    let charged = bench.replies_to(&charge, 2).await;
    assert_eq!(&*charged[0].headers.message_type, "payment.PaymentCompleted");
    assert_eq!(charged[0].fields["reference"], saga.to_string());
    assert_eq!(charged[0].fields["paymentId"], charge.id().to_string());
    assert_eq!(charged[0].record.value, charged[1].record.value);
    assert!(bench.has_payment(&charge, "completed", "").await);
    assert_eq!(bench.books().await, (1, 0, 0));

    bench.send_commands([&refund, &refund]).await;
    let refunded = bench.replies_to(&refund, 2).await;
    assert_eq!(refunded[0].fields["paymentId"], charge.id().to_string());
    assert_eq!(refunded[0].record.value, refunded[1].record.value);
    assert!(bench.has_payment(&charge, "refunded", "").await);
    assert_eq!(bench.books().await, (1, 1, 0));
    let same =
        "SELECT count(*) FROM simulated_gateway WHERE amount_minor = 1250 AND currency = 'EUR' AND calls = 1";
    assert_eq!(bench.count(same).await, 2);
    assert_eq!(bench.records(COMPLETED, 2).await[0].key.as_deref(), Some(saga.to_string().as_bytes()));
    assert_eq!(bench.records(REFUNDED, 2).await.len(), 2);
    serving.stop().await;
}

#[tokio::test]
async fn a_refund_before_its_charge_refuses_the_charge() {
    let bench = PaymentBench::start().await;
    let serving = bench.serve(simulated());
    let saga = new_saga();
    let (charge, refund) = (charge(saga), refund(saga));
    bench.send_commands([&refund, &charge]).await;
    assert_eq!(bench.reply_to(&charge).await, "rejected: tombstoned");
    let reply = &bench.replies_to(&refund, 1).await[0];
    assert_eq!(
        (reply.summary().as_str(), &reply.fields["paymentId"]),
        ("succeeded", &serde_json::Value::Null)
    );
    assert_eq!(bench.books().await, (0, 0, 0));
    serving.stop().await;
}

#[tokio::test]
async fn a_crash_while_the_gateway_works_charges_once() {
    let bench = PaymentBench::start().await;
    let slow = GatewayChoice::Simulated { latency: Duration::from_secs(60), allow_forced_outcomes: true };
    let serving = bench.serve(slow);
    let sagas = [new_saga(), new_saga()];
    let charges = sagas.map(charge);
    bench.send_commands(&charges).await;
    bench.wait_for_count("SELECT count(*) FROM inbox WHERE recorded = 'claimed'", 2).await;
    serving.crash().await;

    // One goes on, the other is undone although nobody knows whether it happened.
    bench.send_commands([&refund(sagas[1])]).await;
    let serving = bench.serve(simulated());
    assert_eq!(bench.reply_to(&refund(sagas[1])).await, "succeeded");
    assert_eq!(bench.reply_to(&charges[0]).await, "succeeded");
    assert!(bench.has_payment(&charges[0], "completed", "").await);
    let (charged, refunded, void) = bench.books().await;
    assert_eq!((charged - refunded, void), (1, 0));
    serving.stop().await;
}

#[tokio::test]
async fn a_claimed_charge_that_never_reached_the_gateway_is_voided_there() {
    let bench = PaymentBench::start().await;
    let charge = charge(new_saga());
    // As after a crash between the claim and the call, with a charge that is still on its way to the gateway.
    let claim = format!(
        "INSERT INTO inbox (command_id, saga_id, revision, recorded) VALUES ('{}', '{}', 1, 'claimed')",
        charge.id(),
        charge.saga
    );
    bench.database.execute_unprepared(&claim).await.unwrap();
    let serving = bench.serve(simulated());
    let refund = refund(charge.saga);
    bench.send_commands([&refund, &charge]).await;
    assert_eq!(bench.reply_to(&refund).await, "succeeded");
    assert_eq!(bench.reply_to(&charge).await, "rejected: tombstoned");
    assert_eq!(bench.books().await, (0, 0, 1));

    let gateway = SimulatedGateway::new(bench.database.clone(), Duration::ZERO);
    let late = Charge {
        key: charge.id(),
        amount_minor: 1,
        currency: "EUR".to_owned(),
        reference: String::new(),
        attempt: Attempt::FIRST,
        forced: None,
    };
    let answer = gateway.charge_all(&[late]).await.remove(0);
    assert!(matches!(answer, Ok(Charged::Declined { .. })), "{answer:?}");
    serving.stop().await;
}

#[tokio::test]
async fn amounts_that_make_no_sense_are_refused_and_their_neighbours_charged() {
    let bench = PaymentBench::start().await;
    let negative = charge(new_saga()).with("amountMinor", -1);
    let nul = charge(new_saga()).with("reference", "a\0b");
    let good: Vec<TestCommand> = (0..10).map(|_| charge(new_saga())).collect();
    bench.send_commands(good.iter().take(5).chain([&negative, &nul]).chain(good.iter().skip(5))).await;
    let serving = bench.serve(simulated());
    assert_eq!(bench.reply_to(&negative).await, "rejected: invalid_amount");
    assert_eq!(bench.reply_to(&nul).await, "failed: database_refused");
    for charge in &good {
        assert_eq!(bench.reply_to(charge).await, "succeeded");
    }
    assert_eq!(bench.books().await, (10, 0, 0));
    serving.stop().await;
}

#[tokio::test]
async fn a_redriven_charge_may_succeed_where_it_was_declined() {
    let bench = PaymentBench::start().await;
    let serving = bench.serve(simulated());
    let declined = forced(new_saga(), "declined");
    bench.send_commands([&declined]).await;
    bench.replies_to(&declined, 1).await;
    bench.send_commands([&declined.redrive(1).with("forcedPaymentOutcome", serde_json::Value::Null)]).await;
    assert_eq!(bench.replies_to(&declined, 2).await[1].summary(), "succeeded");
    assert!(bench.has_payment(&declined, "completed", "").await);
    assert_eq!(bench.books().await, (1, 0, 0));
    serving.stop().await;
}
