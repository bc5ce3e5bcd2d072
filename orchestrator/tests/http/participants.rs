//! Participants: listed, paused and resumed by hand.

use serde_json::{Value, json};

use crate::harness::{RESOURCE, Service, USER};

async fn shown(service: &Service, name: &str) -> Value {
    let all = service.get("/api/participants").await.json();
    let items = all["items"].as_array().unwrap();
    let names: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["booking", "payment"]);
    items.iter().find(|item| item["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn a_participant_that_nothing_is_known_of_answers() {
    let service = Service::start().await;
    assert_eq!(
        shown(&service, "payment").await,
        json!({"name": "payment", "state": "answering", "cause": null, "since": null, "waiting": 0, "oldestSagaId": null,
               "lastAnswerAt": null, "nextProbeAt": null, "order": null})
    );
}

#[tokio::test]
async fn an_operator_pauses_and_resumes_once_a_key() {
    let service = Service::start().await;
    let why = json!({"reason": "the gateway is moved"});
    for _ in 0..2 {
        let answered = service
            .post_with("/api/participants/payment/pause", &[("Idempotency-Key", "move-1")], &why)
            .await;
        assert_eq!(answered.status, 200, "{}", answered.text);
        let paused = answered.json();
        let state = (&paused["state"], &paused["cause"], &paused["order"]["reason"]);
        assert_eq!(state, (&json!("paused"), &json!("operator"), &why["reason"]));
    }
    assert_eq!(shown(&service, "payment").await["state"], "paused");
    assert_eq!(shown(&service, "booking").await["state"], "answering");
    let answered =
        service.post_with("/api/participants/booking/pause", &[("Idempotency-Key", "move-1")], &why).await;
    assert_eq!(answered.status, 422, "{}", answered.text);
    let resumed = service.post("/api/participants/payment/resume", &json!({"reason": "it is moved"})).await;
    assert_eq!(resumed.status, 200, "{}", resumed.text);
    let order = &resumed.json()["order"];
    assert_eq!((&order["paused"], &order["reason"]), (&json!(false), &json!("it is moved")));
    let audit = service
        .texts("SELECT verb || ': ' || reason || ' ' || state_before || ' ' || state_after AS text FROM audit ORDER BY id")
        .await;
    insta::assert_snapshot!(audit.join("\n"), @r#"
    pause-participant: the gateway is moved {"participant":"payment","paused":false} {"participant":"payment","paused":true}
    resume-participant: it is moved {"participant":"payment","paused":true} {"participant":"payment","paused":false}
    "#);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let service = Service::start().await;
    let why = json!({"reason": "because"});
    let unknown = service.post("/api/participants/shipping/pause", &why).await.problem();
    assert_eq!(
        unknown,
        "404 not-found: no definition has a participant `shipping`; there are: booking, payment"
    );
    let silent = service.post("/api/participants/payment/pause", &json!({})).await;
    assert_eq!(silent.status, 422, "{}", silent.text);
}

#[tokio::test]
async fn a_saga_says_that_its_participant_is_paused() {
    let service = Service::start().await;
    let booking =
        service.post("/api/bookings", &json!({"userId": USER, "resourceId": RESOURCE})).await.json();
    service.post("/api/participants/booking/pause", &json!({"reason": "because"})).await;
    let why = service.get(&format!("/api/sagas/{}/why", booking["bookingId"].as_str().unwrap())).await.json();
    assert_eq!(why["held"]["state"], "paused", "{why}");
    let summary = why["summary"].as_str().unwrap();
    assert!(summary.contains("an operator paused it. No attempt is counted meanwhile."), "{summary}");
    let timeouts =
        why["upcoming"].as_array().unwrap().iter().filter(|next| next["what"] == "timeout").count();
    assert_eq!(timeouts, 0, "{why}");
}
