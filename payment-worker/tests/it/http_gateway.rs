//! The gateway behind HTTP, against a stub.

use std::time::Duration;

use participant::CallError;
use participant::testing::new_saga;
use payment_worker::GatewayChoice;
use payment_worker::gateway::{
    Charge, Charged, Gateway, HttpGateway, HttpLimits, MAX_ANSWER_BYTES, Refund, Refunded,
};
use saga_defs::ids::{Attempt, CommandId, Direction};

use crate::bench::{PaymentBench, charge, refund};
use crate::stub::{Act, Stub, answer};

const LIMITS: HttpLimits = HttpLimits {
    concurrency: 4,
    try_timeout: Duration::from_millis(300),
    call_time: Duration::from_millis(600),
};

fn new_charge() -> Charge {
    Charge {
        key: CommandId::derive(new_saga(), "charge-payment", Direction::Forward),
        amount_minor: 1250,
        currency: "EUR".to_owned(),
        reference: "a booking".to_owned(),
        attempt: Attempt::FIRST,
        forced: None,
    }
}

/// What a charge comes to, in words, and after how many requests, when the gateway does this.
async fn check(acts: impl IntoIterator<Item = Act>, expected: &str, requests: Option<usize>) {
    let stub = Stub::start(acts).await;
    let gateway = HttpGateway::new(stub.url(), LIMITS).unwrap();
    let charge = new_charge();
    let answer = gateway.charge_all(std::slice::from_ref(&charge)).await.remove(0);
    let words = match answer {
        Ok(Charged::Done) => "done".to_owned(),
        Ok(Charged::Declined { why }) => format!("declined: {why}"),
        Err(CallError::NotMade(refusal)) => format!("not made: {}", refusal.code),
        Err(CallError::Unknown(refusal)) => format!("unknown: {}", refusal.code),
    };
    assert_eq!(words, expected);
    let seen = stub.requests();
    if let Some(requests) = requests {
        assert_eq!(seen.len(), requests);
    }
    for request in &seen {
        assert_eq!((request.path.as_str(), &request.key), ("/v1/charges", &charge.key.to_string()));
        assert_eq!(request.body, r#"{"amountMinor":1250,"currency":"EUR","reference":"a booking"}"#);
    }
}

#[tokio::test]
async fn a_2xx_is_done() {
    check([answer(200)], "done", Some(1)).await;
    check([answer(201)], "done", Some(1)).await;
}

#[tokio::test]
async fn a_4xx_is_declined_at_once() {
    check([answer(402)], r#"declined: the gateway answered 402 Payment Required: {"status":402}"#, Some(1))
        .await;
}

#[tokio::test]
async fn what_is_unavailable_is_tried_again_with_the_same_key() {
    check([answer(503), answer(200)], "done", Some(2)).await;
    check([answer(500), answer(429), answer(200)], "done", Some(3)).await;
    check([Act::HangUp, answer(200)], "done", Some(2)).await;
    check([Act::Silence, answer(200)], "done", Some(2)).await;
    check(
        [answer(503), answer(402)],
        r#"declined: the gateway answered 402 Payment Required: {"status":402}"#,
        Some(2),
    )
    .await;
}

#[tokio::test]
async fn what_stays_unavailable_was_not_made_only_if_no_try_can_have_made_it() {
    check(vec![answer(503); 50], "not made: gateway_unavailable", None).await;
    check(vec![answer(429); 50], "not made: gateway_unavailable", None).await;
    check(vec![answer(408); 50], "not made: gateway_unavailable", None).await;
    check(vec![answer(502); 50], "unknown: gateway_unavailable", None).await;
    check(vec![answer(302); 50], "unknown: gateway_unavailable", None).await;
    check(vec![Act::Silence; 50], "unknown: gateway_unavailable", None).await;
    check(vec![Act::HangUp; 50], "unknown: gateway_unavailable", None).await;
    let mut once_silent = vec![answer(503); 50];
    once_silent[0] = Act::HangUp;
    check(once_silent, "unknown: gateway_unavailable", None).await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let large = Act::Answer(200, "x".repeat(MAX_ANSWER_BYTES + 1));
    check(vec![large.clone(); 50], "unknown: gateway_unavailable", None).await;
    check([large, answer(200)], "done", Some(2)).await;
    check([Act::Answer(200, "x".repeat(MAX_ANSWER_BYTES))], "done", Some(1)).await;
}

#[tokio::test]
async fn nobody_there_means_not_made() {
    let stub = Stub::start([]).await;
    let url = stub.url().clone();
    drop(stub);
    let gateway = HttpGateway::new(&url, LIMITS).unwrap();
    let answer = gateway.charge_all(&[new_charge()]).await.remove(0);
    assert!(matches!(answer, Err(CallError::NotMade(_))), "{answer:?}");
}

#[tokio::test]
async fn many_charges_are_answered_in_order() {
    let stub = Stub::start([]).await;
    let gateway = HttpGateway::new(stub.url(), LIMITS).unwrap();
    let charges: Vec<Charge> = (0..40).map(|_| new_charge()).collect();
    let answers = gateway.charge_all(&charges).await;
    assert_eq!(answers, vec![Ok(Charged::Done); 40]);
    let mut keys: Vec<_> = stub.requests().into_iter().map(|request| request.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 40);
}

async fn check_refund(status: u16, expected: impl Fn(&Result<Refunded, CallError>) -> bool) {
    let stub = Stub::start([answer(status)]).await;
    let gateway = HttpGateway::new(stub.url(), LIMITS).unwrap();
    let saga = new_saga();
    let charge = CommandId::derive(saga, "charge-payment", Direction::Forward);
    let key = CommandId::derive(saga, "charge-payment", Direction::Compensation);
    let refunded = gateway.refund_all(&[Refund { key, charge }]).await.remove(0);
    assert!(expected(&refunded), "{status}: {refunded:?}");
    let request = &stub.requests()[0];
    assert_eq!((request.path.as_str(), &request.key), ("/v1/refunds", &key.to_string()));
    assert_eq!(request.body, format!(r#"{{"charge":"{charge}"}}"#));
}

#[tokio::test]
async fn refunds() {
    check_refund(200, |refunded| *refunded == Ok(Refunded::Done)).await;
    check_refund(404, |refunded| *refunded == Ok(Refunded::NothingToRefund)).await;
    check_refund(409, |refunded| matches!(refunded, Err(CallError::NotMade(_)))).await;
    check_refund(503, |refunded| *refunded == Ok(Refunded::Done)).await;
}

#[tokio::test]
async fn a_worker_charges_and_refunds_over_http() {
    let bench = PaymentBench::start().await;
    let stub = Stub::start([answer(503)]).await;
    let serving = bench.serve(GatewayChoice::Http { url: stub.url().clone() });
    let saga = new_saga();
    let (charge, refund) = (charge(saga), refund(saga));
    bench.send_commands([&charge, &refund, &charge, &refund]).await;
    assert_eq!(bench.replies(4).await.len(), 4);
    assert!(bench.has_payment(&charge, "refunded", "").await);
    let paths: Vec<_> = stub.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/v1/charges", "/v1/charges", "/v1/refunds"]);
    serving.stop().await;
}
