//! Operators' verbs: when they are possible, what they answer, once per key, passed on to the owner.

use std::time::Duration;

use orchestrator::engine::handle::ActError;
use saga_defs::Data;
use saga_defs::saga::{Outcome, Refusal, Saga};
use serde_json::{Value, json};

use crate::harness::{RESOURCE, Service, USER};

pub(crate) async fn started(service: &Service, definition: &str) -> Saga {
    let body = json!({ "definition": definition, "input": { "userId": USER, "resourceId": RESOURCE } });
    let id = service.post("/api/sagas", &body).await.json()["sagaId"].as_str().unwrap().parse().unwrap();
    service.engine.load(id).await.unwrap()
}

/// Stuck on a step that may only go forward.
pub(crate) async fn stuck(service: &Service) -> Saga {
    let saga = started(service, "delivery").await;
    let saga = service.engine.reply(&saga, Outcome::Succeeded { fields: Data::new() }).await;
    let refusal = Refusal::new("broken", "the printer is broken");
    service.engine.reply(&saga, Outcome::Rejected { refusal }).await
}

fn why() -> Value {
    json!({ "reason": "asked by the shop" })
}

#[tokio::test]
async fn a_running_saga_is_cancelled() {
    let service = Service::start().await;
    let saga = started(&service, "booking").await;
    let answered = service.post(&format!("/api/sagas/{}/cancel", saga.id), &why()).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
    let body = answered.json();
    assert_eq!(body["status"], "compensating");
    assert_eq!(body["reason"], json!({ "code": "cancelled", "message": "asked by the shop", "step": null }));
    assert_eq!(answered.header("etag"), "\"2\"");
}

#[tokio::test]
async fn what_is_not_possible_says_when_it_would_be() {
    let service = Service::start().await;
    let running = started(&service, "booking").await;
    let completed = service.engine.complete(&started(&service, "booking").await).await;
    let delivery = started(&service, "delivery").await;
    let past = service.engine.reply(&delivery, Outcome::Succeeded { fields: Data::new() }).await;
    let mut lines = Vec::new();
    for (saga, verb) in [
        (&running, "redrive"),
        (&running, "skip"),
        (&running, "retry-now"),
        (&completed, "cancel"),
        (&completed, "redrive"),
        (&past, "cancel"),
    ] {
        let answered = service.post(&format!("/api/sagas/{}/{verb}", saga.id), &why()).await;
        lines.push(answered.problem());
        let body = answered.json();
        assert_eq!(body["sagaId"], saga.id.to_string());
        assert!(!body["allowedIn"].as_array().unwrap().is_empty());
        assert_eq!(body["current"], saga.status().as_str());
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    409 wrong-state: redrive is not possible: the saga is running and it is not stuck. It is possible only while the saga is stuck.
    409 wrong-state: skip is not possible: the saga is running and it is not stuck. It is possible only while the saga is stuck.
    409 wrong-state: retry-now is not possible: the saga is running and it does not wait to try again. It is possible while the saga is running or compensating and waits to try again.
    409 wrong-state: cancel is not possible: the saga is completed and it has ended. It is possible while the saga goes forward (running, or stuck on a step) and nothing is out that cannot be undone.
    409 wrong-state: redrive is not possible: the saga is completed and it has ended. It is possible only while the saga is stuck.
    409 wrong-state: cancel is not possible: the saga is running and it is past the point of no return. It is possible while the saga goes forward (running, or stuck on a step) and nothing is out that cannot be undone.
    "#);
}

#[tokio::test]
async fn a_stuck_saga_is_redriven_with_values_that_fit_its_command() {
    let service = Service::start().await;
    let saga = stuck(&service).await;
    let shown = service.get(&format!("/api/sagas/{}", saga.id)).await.json();
    assert_eq!(shown["status"], "stuck");
    assert_eq!(shown["reason"]["code"], "broken");
    assert_eq!(shown["steps"][1]["error"]["message"], "the printer is broken");
    let path = format!("/api/sagas/{}/redrive", saga.id);
    let wrong = json!({ "reason": "x", "input": { "bookingId": 7, "colour": "red" } });
    let refused = service.post(&path, &wrong).await.problem();
    assert!(refused.starts_with("422 validation: "), "{refused}");
    assert!(refused.contains("input.bookingId") && refused.contains("input.colour"), "{refused}");
    let right = json!({ "reason": "x", "input": { "bookingId": USER } });
    let answered = service.post(&path, &right).await;
    assert_eq!((answered.status.as_u16(), answered.json()["status"].clone()), (200, json!("running")));
}

#[tokio::test]
async fn a_stuck_step_is_skipped() {
    let service = Service::start().await;
    let saga = stuck(&service).await;
    let answered = service.post(&format!("/api/sagas/{}/skip", saga.id), &why()).await;
    assert_eq!(answered.json()["status"], "completed");
}

#[tokio::test]
async fn one_key_acts_once() {
    let service = Service::start().await;
    let (one, two) = (started(&service, "booking").await, started(&service, "booking").await);
    let key = [("idempotency-key", "cancel-1")];
    let path = format!("/api/sagas/{}/cancel", one.id);
    let first = service.post_with(&path, &key, &why()).await;
    let again = service.post_with(&path, &key, &why()).await;
    assert_eq!(
        (first.status, first.json()["revision"].clone()),
        (again.status, again.json()["revision"].clone())
    );
    assert_eq!(service.post(&path, &why()).await.status, 409, "without the key it is another request");
    let other = service.post_with(&format!("/api/sagas/{}/cancel", two.id), &key, &why()).await;
    assert!(other.problem().starts_with("422 idempotency-key-reused: "), "{}", other.text);
}

#[tokio::test]
async fn a_verb_acts_only_on_what_was_seen() {
    let service = Service::start().await;
    let saga = started(&service, "booking").await;
    let path = format!("/api/sagas/{}/cancel", saga.id);
    let seen = service.get(&format!("/api/sagas/{}", saga.id)).await.header("etag").to_owned();
    let moved = service.engine.reply(&saga, Outcome::Succeeded { fields: Data::new() }).await;
    let refused = service.post_with(&path, &[("if-match", &seen)], &why()).await;
    assert_eq!(
        refused.problem(),
        "412 moved-on: the saga has moved on: it is at revision 2, and If-Match names another; look at it again"
    );
    assert_eq!((refused.header("etag"), &refused.json()["sagaId"]), ("\"2\"", &json!(moved.id.to_string())));
    for never in ["W/\"2\"", "\"x\"", "\"1\", \"3\""] {
        let answered = service.post_with(&path, &[("if-match", never)], &why()).await;
        assert_eq!(answered.status, 412, "{never}: {}", answered.text);
    }
    for wrong in ["2", "", "\"2\" \"3\"", "\"2"] {
        let answered = service.post_with(&path, &[("if-match", wrong)], &why()).await;
        assert!(answered.problem().starts_with("400 header: If-Match must be"), "{wrong}: {}", answered.text);
    }
    let key = [("idempotency-key", "seen-1"), ("if-match", "\"9\", \"2\"")];
    let first = service.post_with(&path, &key, &why()).await;
    assert_eq!((first.status.as_u16(), first.header("etag")), (200, "\"3\""));
    let again = service.post_with(&path, &key, &why()).await;
    assert_eq!(
        (again.status.as_u16(), again.header("etag")),
        (200, "\"3\""),
        "the key counts, not what was seen"
    );
    let other = started(&service, "booking").await;
    let any =
        service.post_with(&format!("/api/sagas/{}/cancel", other.id), &[("if-match", "*")], &why()).await;
    assert_eq!(any.status, 200);
}

#[tokio::test]
async fn a_verb_is_passed_on_to_the_owner_once() {
    let here = Service::start().await;
    let there = Service::start().await;
    let saga = started(&there, "booking").await;
    let owner = Some(format!("http://{}", there.address));
    let path = format!("/api/sagas/{}/cancel", saga.id);
    here.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner: owner.clone() });
    let answered = here.post_with(&path, &[("x-request-id", "r-1")], &why()).await;
    assert_eq!((answered.status.as_u16(), answered.json()["status"].clone()), (200, json!("compensating")));
    assert_eq!(answered.header("x-request-id"), "r-1");
    assert_eq!(answered.header("etag"), "\"2\"");

    here.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner: owner.clone() });
    let conflict = here.post(&path, &why()).await;
    assert!(conflict.problem().starts_with("409 wrong-state: cancel is not possible"), "{}", conflict.text);

    // The other one takes us for the owner: it must not come back.
    let back = Some(format!("http://{}", here.address));
    here.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner });
    there.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner: back });
    assert!(here.post(&path, &why()).await.problem().starts_with("503 elsewhere: "));

    let gone = Some("http://127.0.0.1:1".to_owned());
    for owner in [gone, None] {
        here.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner });
        assert!(here.post(&path, &why()).await.problem().starts_with("503 elsewhere: "));
    }
}

#[tokio::test]
async fn an_engine_without_room_is_told_and_a_panic_is_a_500() {
    let service = Service::start().await;
    let saga = started(&service, "booking").await;
    let path = format!("/api/sagas/{}/cancel", saga.id);
    let busy = ActError::Busy { retry_after: Duration::from_secs(1) };
    service.engine.act_errors.lock().unwrap().extend([busy, ActError::Stopping]);
    let answered = service.post(&path, &why()).await;
    assert!(answered.problem().starts_with("503 busy: "));
    assert_eq!(answered.json()["sagaId"], saga.id.to_string());
    assert!(service.post(&path, &why()).await.problem().starts_with("503 stopping: "));
    let panicked = service.post(&path, &json!({ "reason": "please panic" })).await;
    assert_eq!(panicked.problem(), "500 internal: the request could not be handled; the log has the cause");
    assert_eq!(service.post(&path, &why()).await.status, 200);
}
