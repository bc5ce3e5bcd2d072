//! Bookings: started once, answered as the first time, waited for.

use std::time::{Duration, Instant};

use orchestrator::engine::handle::StartError;
use saga_defs::saga::{Outcome, Refusal};
use serde_json::{Value, json};

use crate::fake_engine::Ends;
use crate::harness::{Options, RESOURCE, Service, USER, eventually};

fn booking() -> Value {
    json!({ "userId": USER, "resourceId": RESOURCE })
}

#[tokio::test]
async fn a_booking_is_created_and_found_under_both_paths() {
    let service = Service::start().await;
    for path in ["/api/bookings", "/bookings"] {
        let answered = service.post(path, &booking()).await;
        assert_eq!(answered.status, 201, "{}", answered.text);
        let body = answered.json();
        let id = body["bookingId"].as_str().unwrap();
        let expected =
            json!({ "bookingId": id, "userId": USER, "resourceId": RESOURCE, "status": "CREATED" });
        assert_eq!(body, expected);
        assert_eq!(answered.header("location"), format!("/api/bookings/{id}"));
        assert_eq!(service.get(&format!("/api/bookings/{id}")).await.json(), expected);
        assert_eq!(service.get(&format!("/bookings/{id}")).await.json(), expected);
        let saga = service.get(&format!("/api/sagas/{id}")).await.json();
        assert_eq!(saga["definition"], "booking");
        assert_eq!(saga["data"]["amountMinor"], 1000);
        assert_eq!(saga["data"]["currency"], "EUR");
        assert_eq!(saga["data"]["bookingId"], id);
    }
}

#[tokio::test]
async fn its_status_follows_the_saga() {
    let service = Service::start().await;
    let (mut ids, mut sagas) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let id = service.post("/api/bookings", &booking()).await.json()["bookingId"].clone();
        sagas.push(service.engine.load(id.as_str().unwrap().parse().unwrap()).await.unwrap());
        ids.push(id.as_str().unwrap().to_owned());
    }
    service.engine.complete(&sagas[0]).await;
    let sold_out = Outcome::Rejected { refusal: Refusal::new("sold_out", "no unit is left") };
    service.engine.reply(&sagas[1], sold_out).await;
    let shown = async |id: &String| {
        let body = service.get(&format!("/api/bookings/{id}")).await.json();
        (body["status"].clone(), body.get("reason").cloned())
    };
    assert_eq!(shown(&ids[0]).await, (json!("PAID"), None));
    assert_eq!(shown(&ids[1]).await, (json!("CANCELLED"), Some(json!("sold_out"))));
    assert_eq!(shown(&ids[2]).await, (json!("CREATED"), None));
}

#[tokio::test]
async fn without_its_definition_the_way_to_one_is_told() {
    let service = Service::start_with(Options { booking: false, ..Options::default() }).await;
    let problem = service.post("/api/bookings", &booking()).await.problem();
    insta::assert_snapshot!(problem, @"503 unavailable: no definition `booking` is published here: start the orchestrator with `booking` in SHIPPED_DEFINITIONS, or register one with POST /api/definitions");
    assert_eq!(service.post("/bookings", &booking()).await.problem(), problem);
}

#[tokio::test]
async fn a_saga_of_another_definition_is_no_booking() {
    let service = Service::start().await;
    let body = json!({ "definition": "delivery", "input": { "userId": USER, "resourceId": RESOURCE } });
    let id = service.post("/api/sagas", &body).await.json()["sagaId"].as_str().unwrap().to_owned();
    let answered = service.get(&format!("/api/bookings/{id}")).await;
    assert_eq!(answered.problem(), "404 not-found: there is no such booking");
}

#[tokio::test]
async fn one_key_starts_one_booking() {
    let service = Service::start().await;
    let key = [("idempotency-key", "order-17")];
    let first = service.post_with("/api/bookings", &key, &booking()).await;
    assert_eq!(first.status, 201);
    let id = first.json()["bookingId"].as_str().unwrap().to_owned();
    service.engine.complete(&service.engine.load(id.parse().unwrap()).await.unwrap()).await;

    // By the other path, with the fields in another order, and after it has been paid: the first answer.
    let again = service
        .send(
            service
                .request("POST", "/bookings")
                .header("idempotency-key", "order-17")
                .header("content-type", "application/json")
                .body(format!("{{ \"resourceId\":\"{RESOURCE}\",\n \"userId\":\"{USER}\" }}")),
        )
        .await;
    assert_eq!((again.status, again.json()), (first.status, first.json()));
    assert_eq!(again.header("location"), first.header("location"));

    let other = json!({ "userId": RESOURCE, "resourceId": RESOURCE });
    for refused in [
        service.post_with("/api/bookings", &key, &other).await,
        service
            .post_with("/api/bookings", &[key[0], ("x-forced-payment-outcome", "declined")], &booking())
            .await,
        service.post_with("/api/sagas", &key, &json!({ "definition": "booking", "input": booking() })).await,
    ] {
        assert_eq!(
            refused.problem(),
            "422 idempotency-key-reused: this Idempotency-Key was used for another request; use a new key for a \
             new request"
        );
    }
    let all = service.get("/api/sagas").await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn one_key_starts_one_booking_also_at_the_same_moment() {
    let service = Service::start().await;
    let key = [("idempotency-key", "race")];
    let body = booking();
    let answers =
        futures::future::join_all((0..8).map(|_| service.post_with("/api/bookings", &key, &body))).await;
    let ids: std::collections::BTreeSet<String> = answers
        .iter()
        .filter(|answered| answered.status == 201)
        .map(|answered| answered.json()["bookingId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    eventually("the key answers", async || {
        service.post_with("/api/bookings", &key, &body).await.status == 201
    })
    .await;
}

#[tokio::test]
async fn prefer_wait_answers_with_the_status_reached() {
    let service = Service::start().await;
    let answered = service.post_with("/api/bookings", &[("prefer", "wait=20")], &booking()).await;
    assert_eq!(answered.status, 201);
    assert_eq!(answered.json()["status"], "PAID");
    assert_eq!(answered.header("preference-applied"), "wait=20");

    let capped = service.post_with("/api/bookings", &[("prefer", "wait=3600")], &booking()).await;
    assert_eq!(capped.header("preference-applied"), "wait=30");
    let ignored = service.post_with("/api/bookings", &[("prefer", "wait=soon")], &booking()).await;
    assert_eq!(
        (ignored.json()["status"].clone(), ignored.header("preference-applied")),
        (json!("CREATED"), "")
    );

    *service.engine.ends.lock().unwrap() = Ends::Never;
    let begun = Instant::now();
    let late = service.post_with("/api/bookings", &[("prefer", "wait=1")], &booking()).await;
    assert_eq!((late.status.as_u16(), late.json()["status"].clone()), (201, json!("CREATED")));
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn an_answer_that_was_waited_for_is_repeated_as_it_was() {
    let service = Service::start().await;
    let headers = [("idempotency-key", "w-1"), ("prefer", "wait=10")];
    let first = service.post_with("/api/bookings", &headers, &booking()).await;
    assert_eq!(first.json()["status"], "PAID");
    for headers in [&headers[..], &headers[..1]] {
        let again = service.post_with("/api/bookings", headers, &booking()).await;
        assert_eq!((again.status, again.json()), (first.status, first.json()));
    }
    // The first one was cut off before it was answered: its repetition waits as well.
    let started = service.post_with("/api/bookings", &[("idempotency-key", "w-2")], &booking()).await;
    assert_eq!(started.json()["status"], "CREATED");
    let waited =
        service.post_with("/api/bookings", &[("idempotency-key", "w-2"), headers[1]], &booking()).await;
    assert_eq!(waited.json()["status"], "PAID");
}

#[tokio::test]
async fn a_saga_that_another_process_moves_is_waited_for_by_its_row() {
    let service = Service::start().await;
    *service.engine.ends.lock().unwrap() = Ends::Elsewhere;
    let headers = [("prefer", "wait=15")];
    let body = booking();
    let mover = async {
        let mut id = None;
        eventually("the saga is there", async || {
            let all = service.get("/api/sagas").await.json();
            id = all["items"][0]["sagaId"].as_str().map(str::to_owned);
            id.is_some()
        })
        .await;
        let saga = service.engine.load(id.unwrap().parse().unwrap()).await.unwrap();
        service.engine.complete(&saga).await;
    };
    let (answered, ()) = tokio::join!(service.post_with("/api/bookings", &headers, &body), mover);
    assert_eq!(answered.json()["status"], "PAID");
}

#[tokio::test]
async fn what_the_engine_cannot_take_is_told_to_come_again() {
    let service = Service::start().await;
    let errors = [
        StartError::Busy { retry_after: Duration::from_millis(2500) },
        StartError::Stopping,
        StartError::Refused { message: "value too long".to_owned() },
    ];
    service.engine.start_errors.lock().unwrap().extend(errors);
    let busy = service.post("/api/bookings", &booking()).await;
    assert!(busy.problem().starts_with("503 busy: "), "{}", busy.text);
    assert_eq!(busy.header("retry-after"), "3");
    assert!(service.post("/api/bookings", &booking()).await.problem().starts_with("503 stopping: "));
    assert_eq!(service.post("/api/bookings", &booking()).await.problem(), "422 refused: value too long");
}

#[tokio::test]
async fn a_forced_outcome_becomes_part_of_the_input_where_it_is_allowed() {
    let service = Service::start().await;
    let answered =
        service.post_with("/bookings", &[("x-forced-payment-outcome", "no_reply")], &booking()).await;
    let id = answered.json()["bookingId"].as_str().unwrap().to_owned();
    let saga = service.get(&format!("/api/sagas/{id}")).await.json();
    assert_eq!(saga["data"]["forcedPaymentOutcome"], "no_reply");

    let strict = Service::start_with(Options { allow_forced_outcomes: false, ..Options::default() }).await;
    let body = json!({ "definition": "booking",
        "input": { "userId": USER, "resourceId": RESOURCE, "forcedPaymentOutcome": "declined" } });
    assert_eq!(
        strict.post("/api/sagas", &body).await.problem(),
        "400 forced-outcome: input.forcedPaymentOutcome: is honoured only where the service was started with \
         ALLOW_FORCED_OUTCOMES=true [input.forcedPaymentOutcome]"
    );
}
