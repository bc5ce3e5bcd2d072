//! The saga API: the shape of a saga, lists and their pages, history, diagram.

use saga_defs::Data;
use saga_defs::saga::{Outcome, Refusal, Saga};
use serde_json::{Value, json};

use crate::fake_engine::Ends;
use crate::harness::{RESOURCE, Service, USER};

fn start(definition: &str, business_key: Option<&str>) -> Value {
    json!({ "definition": definition, "businessKey": business_key,
        "input": { "userId": USER, "resourceId": RESOURCE } })
}

async fn started(service: &Service, definition: &str, business_key: Option<&str>) -> Saga {
    let answered = service.post("/api/sagas", &start(definition, business_key)).await;
    assert_eq!(answered.status, 201, "{}", answered.text);
    let id = answered.json()["sagaId"].as_str().unwrap().parse().unwrap();
    service.engine.load(id).await.unwrap()
}

/// Ids and times replaced by what they are, so that a snapshot can be read.
pub(crate) fn told(mut value: Value) -> String {
    fn tell(name: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| tell(name, value)),
            Value::Array(items) => items.iter_mut().for_each(|value| tell(name, value)),
            Value::String(text) if text.len() == 24 && text.ends_with('Z') => *value = "TIME".into(),
            Value::String(text) if text.len() == 36 => *value = name.to_uppercase().into(),
            _ => {}
        }
    }
    tell("", &mut value);
    serde_json::to_string_pretty(&value).unwrap()
}

#[tokio::test]
async fn a_saga_has_every_key_always() {
    let service = Service::start().await;
    let saga = started(&service, "booking", Some("order-1")).await;
    let refusal = Refusal::new("payment_declined", "the card was declined");
    let saga = service.engine.reply(&saga, Outcome::Succeeded { fields: Data::new() }).await;
    service.engine.reply(&saga, Outcome::Rejected { refusal }).await;
    let answered = service.get(&format!("/api/sagas/{}", saga.id)).await;
    assert_eq!(answered.header("etag"), "\"3\"");
    insta::assert_snapshot!(told(answered.json()), @r#"
    {
      "businessKey": "order-1",
      "data": {
        "amountMinor": 0,
        "bookingId": "BOOKINGID",
        "currency": "EUR",
        "forcedPaymentOutcome": null,
        "resourceId": "RESOURCEID",
        "sagaId": "SAGAID",
        "userId": "USERID"
      },
      "definition": "booking",
      "finishedAt": null,
      "nextWakeAt": "TIME",
      "reason": {
        "code": "payment_declined",
        "message": "the card was declined",
        "step": "charge-payment"
      },
      "revision": 3,
      "sagaId": "SAGAID",
      "startedAt": "TIME",
      "status": "compensating",
      "steps": [
        {
          "attempt": 1,
          "commandId": "COMMANDID",
          "error": null,
          "finishedAt": null,
          "kind": "compensatable",
          "name": "reserve-booking",
          "participant": "booking",
          "startedAt": "TIME",
          "status": "compensating"
        },
        {
          "attempt": 1,
          "commandId": "COMMANDID",
          "error": {
            "code": "payment_declined",
            "message": "the card was declined"
          },
          "finishedAt": "TIME",
          "kind": "compensatable",
          "name": "charge-payment",
          "participant": "payment",
          "startedAt": "TIME",
          "status": "rejected"
        },
        {
          "attempt": 0,
          "commandId": null,
          "error": null,
          "finishedAt": null,
          "kind": "pivot",
          "name": "confirm-booking",
          "participant": "booking",
          "startedAt": null,
          "status": "pending"
        }
      ],
      "updatedAt": "TIME",
      "version": 1
    }
    "#);
}

#[tokio::test]
async fn a_start_is_answered_with_the_saga_as_it_began_every_time() {
    let service = Service::start().await;
    let key = [("idempotency-key", "s-1")];
    let body = start("booking", Some("order-2"));
    let first = service.post_with("/api/sagas", &key, &body).await;
    assert_eq!(first.status, 201);
    let id = first.json()["sagaId"].as_str().unwrap().to_owned();
    assert_eq!(first.header("location"), format!("/api/sagas/{id}"));
    assert_eq!(first.header("etag"), "\"1\"");
    assert!(first.json()["nextWakeAt"].is_string(), "it waits for a reply, but not for ever");
    service.engine.complete(&service.engine.load(id.parse().unwrap()).await.unwrap()).await;
    let again = service.post_with("/api/sagas", &key, &body).await;
    assert_eq!((again.status, again.json()), (first.status, first.json()));
    assert_eq!(again.header("etag"), "\"1\"");

    let waited =
        service.post_with("/api/sagas", &[("idempotency-key", "s-2"), ("prefer", "wait=5")], &body).await;
    assert_eq!(waited.json()["status"], "completed");
    let again = service.post_with("/api/sagas", &[("idempotency-key", "s-2")], &body).await;
    assert_eq!((again.json(), again.header("etag")), (waited.json(), waited.header("etag")));
}

#[tokio::test]
async fn a_version_can_be_asked_for() {
    let service = Service::start().await;
    let mut body = start("delivery", None);
    body["version"] = json!(3);
    assert_eq!(service.post("/api/sagas", &body).await.json()["version"], 3);
    body["version"] = json!(1);
    assert_eq!(
        service.post("/api/sagas", &body).await.problem(),
        "422 validation: version: `delivery` has no version 1; the newest is 3 [version]"
    );
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let service = Service::start().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.push(started(&service, "booking", Some(&format!("k{n}"))).await.id.to_string());
    }
    expected.sort();
    expected.reverse();
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = service.get(&format!("/api/sagas?limit=3{cursor}")).await.json();
        pages += 1;
        let ids = page["items"].as_array().unwrap().iter();
        seen.extend(ids.map(|saga| saga["sagaId"].as_str().unwrap().to_owned()));
        match page.get("nextCursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        if pages == 1 {
            // What begins in between belongs to no later page.
            started(&service, "booking", None).await;
        }
    }
    assert_eq!((seen, pages), (expected, 3));
}

#[tokio::test]
async fn a_list_is_filtered_by_what_is_asked_for() {
    let service = Service::start().await;
    let running = started(&service, "booking", Some("a b&c")).await;
    let completed = started(&service, "booking", None).await;
    service.engine.complete(&completed).await;
    let delivery = started(&service, "delivery", None).await;
    let reserved = service.engine.reply(&delivery, Outcome::Succeeded { fields: Data::new() }).await;
    let found = async |query: &str| {
        let page = service.get(&format!("/api/sagas?{query}")).await.json();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
        items.iter().map(|saga| saga["sagaId"].as_str().unwrap().parse().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found("definition=delivery").await, [delivery.id]);
    assert_eq!(found("status=completed").await, [completed.id]);
    assert_eq!(found("status=running&definition=booking").await, [running.id]);
    assert_eq!(found("step=confirm").await, [reserved.id]);
    assert_eq!(found("businessKey=a+b%26c").await, [running.id]);
    assert_eq!(found("businessKey=nobody").await, []);
    assert_eq!(found(&format!("startedBefore={}", running.started_at)).await, []);
    let later = completed.started_at.after(std::time::Duration::from_secs(60));
    assert_eq!(found(&format!("startedBefore={later}&limit=500")).await.len(), 3);
    assert_eq!(found(&format!("startedAfter={later}")).await, []);
    let after = found(&format!("startedAfter={}", running.started_at)).await;
    assert!(!after.contains(&running.id), "later than its start does not take it in: {after:?}");
    assert_eq!(found("startedAfter=2020-01-01T00:00:00%2B02:00").await.len(), 3);
    assert_eq!(found("status=").await.len(), 3);
    let injected = found("definition=booking'%20OR%20'1'='1").await;
    assert_eq!(injected, []);
}

#[tokio::test]
async fn a_history_tells_every_transition() {
    let service = Service::start().await;
    let saga = started(&service, "delivery", None).await;
    let saga = service.engine.reply(&saga, Outcome::Succeeded { fields: Data::new() }).await;
    let refusal = Refusal::new("closed", "the shop is closed");
    service.engine.reply(&saga, Outcome::Failed { refusal }).await;
    let path = format!("/api/sagas/{}/history", saga.id);
    let history = service.get(&path).await.json();
    assert!(history.get("nextCursor").is_none());
    let lines: Vec<String> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let effects: Vec<String> = item["effects"]
                .as_array()
                .unwrap()
                .iter()
                .map(|effect| {
                    let step = effect["step"].as_str().map_or(String::new(), |step| {
                        assert_eq!(effect["commandId"].as_str().unwrap().len(), 36);
                        format!(" {step} {} #{}", effect["direction"].as_str().unwrap(), effect["attempt"])
                    });
                    format!("{}{step}", effect["type"].as_str().unwrap())
                })
                .collect();
            format!(
                "{} {} {} -> {}",
                item["revision"],
                item["event"]["type"],
                item["status"],
                effects.join(", ")
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    1 "started" "running" -> announce_start, send reserve forward #1
    2 "replied" "running" -> send confirm forward #1
    3 "replied" "running" ->
    "#);
    let page = service.get(&format!("{path}?limit=2")).await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let rest = service.get(&format!("{path}?cursor={}", page["nextCursor"].as_str().unwrap())).await.json();
    assert_eq!(rest["items"].as_array().unwrap()[..], history["items"].as_array().unwrap()[2..]);
}

#[tokio::test]
async fn a_diagram_is_mermaid_or_a_picture() {
    let service = Service::start().await;
    let saga = started(&service, "booking", None).await;
    for query in ["", "?format=mermaid"] {
        let answered = service.get(&format!("/api/sagas/{}/diagram{query}", saga.id)).await;
        assert_eq!(
            (answered.status.as_u16(), answered.header("content-type")),
            (200, "text/plain; charset=utf-8")
        );
        assert!(answered.text.starts_with("flowchart"), "{}", answered.text);
    }
    assert_eq!(
        service.get(&format!("/api/sagas/{}/diagram?format=png", saga.id)).await.problem(),
        "422 validation: format: must be one of mermaid, svg; found `png` [format]"
    );
    let picture = service.get(&format!("/api/sagas/{}/diagram?format=svg", saga.id)).await;
    assert_eq!((picture.status.as_u16(), picture.header("content-type")), (200, "image/svg+xml"));
    assert_eq!(picture.header("content-security-policy"), "default-src 'none'; sandbox");
    assert!(
        picture.text.starts_with("<svg ") && picture.text.contains("class=\"running\""),
        "{}",
        picture.text
    );
}

#[tokio::test]
async fn a_saga_that_has_not_moved_need_not_be_sent_again() {
    let service = Service::start().await;
    let saga = started(&service, "booking", None).await;
    let ask = async |tag: &str| {
        let request = service.request("GET", &format!("/api/sagas/{}", saga.id)).header("if-none-match", tag);
        service.send(request).await
    };
    let same = ask("W/\"9\", \"1\"").await;
    assert_eq!((same.status.as_u16(), same.text.as_str(), same.header("etag")), (304, "", "\"1\""));
    service.engine.reply(&saga, Outcome::Succeeded { fields: Data::new() }).await;
    assert_eq!(ask("\"1\"").await.status, 200);
}

#[tokio::test]
async fn definitions_are_listed_and_shown() {
    let service = Service::start().await;
    let all = service.get("/api/definitions").await.json();
    let names: Vec<&str> =
        all["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["booking", "delivery"]);
    let one = service.get("/api/definitions/booking/1").await.json();
    assert_eq!(one["input"], "booking.StartBooking");
    assert_eq!(
        one["steps"][2],
        json!({ "name": "confirm-booking", "kind": "pivot", "participant": "booking" })
    );
    assert!(one["source"].as_str().unwrap().contains("[[step]]"));
}

#[tokio::test]
async fn a_wait_ends_when_the_service_stops() {
    let service = Service::start().await;
    *service.engine.ends.lock().unwrap() = Ends::Never;
    let body = start("booking", None);
    let begun = std::time::Instant::now();
    let stopper = async {
        crate::harness::eventually("the saga is there", async || {
            service.engine.execute("UPDATE saga SET shard = 0", vec![]).await.unwrap() == 1
        })
        .await;
        service.stop.cancel();
    };
    let (answered, ()) =
        tokio::join!(service.post_with("/api/sagas", &[("prefer", "wait=18")], &body), stopper);
    assert_eq!((answered.status.as_u16(), answered.json()["status"].clone()), (201, json!("running")));
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
}
