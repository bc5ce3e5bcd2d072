//! What a saga waits for, as far as the owner's memory, the journal and the broker tell; and what all of them wait for.

use messaging::topics::{EMBEDDED_PARTITIONS, TopicSpec};
use orchestrator::engine::handle::{ActError, Looked};
use orchestrator::engine::shards::Wake;
use saga_defs::Data;
use saga_defs::saga::{Outcome, Refusal, Saga};
use saga_defs::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::dead_letters::{letter, reserve};
use crate::harness::{RESOURCE, Service, USER};
use crate::sagas::told;
use crate::verbs::stuck;

async fn started(service: &Service, definition: &str) -> Saga {
    let body = json!({ "definition": definition, "input": { "userId": USER, "resourceId": RESOURCE } });
    let id = service.post("/api/sagas", &body).await.json()["sagaId"].as_str().unwrap().parse().unwrap();
    service.engine.load(id).await.unwrap()
}

async fn succeeds(service: &Service, saga: &Saga) -> Saga {
    service.engine.reply(saga, Outcome::Succeeded { fields: Data::new() }).await
}

async fn fails(service: &Service, saga: &Saga) -> Saga {
    let refusal = Refusal::new("gateway_away", "try again");
    service.engine.reply(saga, Outcome::Failed { refusal }).await
}

async fn service() -> Service {
    let service = Service::start().await;
    service.engine.has_shards(1).await;
    for topic in ["booking.commands", "payment.commands"] {
        let partitions = i32::from(EMBEDDED_PARTITIONS);
        service.broker.create_topic(&TopicSpec::new(topic, partitions, 1)).unwrap();
    }
    service
}

fn looks(service: &Service, looked: Result<Looked, ActError>) {
    *service.engine.looked.lock().unwrap() = looked;
}

async fn why(service: &Service, saga: &Saga) -> Value {
    let answered = service.get(&format!("/api/sagas/{}/why", saga.id)).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
    answered.json()
}

/// The summary with its times replaced.
fn summary(why: &Value) -> String {
    let words = why["summary"].as_str().unwrap().split(' ').map(|word| {
        let bare = word.trim_end_matches([',', '.', ';', ':']);
        // How long it backs off follows from the saga's id.
        let is_time = bare.len() == 24 && bare.ends_with('Z') || bare.ends_with("ms");
        if is_time { word.replace(bare, "TIME") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_saga_that_waits_for_a_reply_says_everything_about_it() {
    let service = service().await;
    let saga = succeeds(&service, &started(&service, "booking").await).await;
    let timeout_at = saga.updated_at.after(std::time::Duration::from_secs(5));
    let wake = Wake { at: timeout_at, timeout_at: Some(timeout_at), awaits_seq: None };
    looks(&service, Ok(Looked { wake: Some(wake), offset: Some(41) }));
    let mut shown = why(&service, &saga).await;
    insta::assert_snapshot!(summary(&shown), @"Since TIME it waits for payment's reply to charge-payment, attempt 1 of 5. The command lies at payment.commands/0, offset 41; whether payment-participant has passed it is not known: the group payment-participant has committed no offset of this partition: it has not worked there yet, or the participant's group has another name. Next: timeout at TIME, then back off TIME.");
    shown["summary"] = "SUMMARY".into();
    for then in [shown["next"]["then"].take(), shown["upcoming"][0]["then"].take()] {
        assert!(then.as_str().unwrap().starts_with("back off "), "{then}");
    }
    insta::assert_snapshot!(told(shown), @r#"
    {
      "asOf": "TIME",
      "command": {
        "attempt": 1,
        "commandId": "COMMANDID",
        "deadLetterId": null,
        "direction": "forward",
        "group": {
          "ahead": null,
          "because": "the group payment-participant has committed no offset of this partition: it has not worked there yet, or the participant's group has another name",
          "committedOffset": null,
          "endOffset": 0,
          "group": "payment-participant",
          "passed": null
        },
        "inDoubt": false,
        "maxAttempts": 5,
        "messageType": "payment.ChargePayment",
        "participant": "payment",
        "place": {
          "because": null,
          "offset": 41,
          "partition": 0,
          "published": true,
          "topic": "payment.commands"
        },
        "redrives": 0,
        "replyType": "payment.PaymentCompleted",
        "step": "charge-payment"
      },
      "definition": "booking",
      "held": null,
      "lastError": null,
      "next": {
        "at": "TIME",
        "then": null,
        "what": "timeout"
      },
      "remaining": [
        {
          "direction": "forward",
          "participant": "booking",
          "step": "confirm-booking"
        }
      ],
      "revision": 2,
      "sagaId": "SAGAID",
      "since": "TIME",
      "status": "running",
      "summary": "SUMMARY",
      "upcoming": [
        {
          "at": "TIME",
          "then": null,
          "what": "timeout"
        },
        {
          "at": "TIME",
          "then": "undo charge-payment #1",
          "what": "deadline"
        }
      ],
      "verbs": [
        {
          "possible": true,
          "then": "undo charge-payment #1",
          "verb": "cancel"
        },
        {
          "possible": false,
          "then": "not stuck",
          "verb": "redrive"
        },
        {
          "possible": false,
          "then": "not stuck",
          "verb": "skip"
        },
        {
          "possible": false,
          "then": "not in back-off",
          "verb": "retry-now"
        }
      ],
      "version": 1,
      "waitsFor": "reply"
    }
    "#);
}

#[tokio::test]
async fn each_state_says_what_it_waits_for() {
    let service = service().await;
    let mut lines = Vec::new();
    let wake = Wake { at: Timestamp::default(), timeout_at: None, awaits_seq: Some(1) };
    looks(&service, Ok(Looked { wake: Some(wake), offset: None }));
    lines.push(why(&service, &started(&service, "booking").await).await);
    looks(&service, Ok(Looked { wake: None, offset: None }));
    lines.push(why(&service, &started(&service, "booking").await).await);
    looks(&service, Err(ActError::Busy { retry_after: std::time::Duration::from_secs(1) }));
    lines.push(why(&service, &started(&service, "booking").await).await);
    looks(&service, Err(ActError::NotHere { owner: None }));
    lines.push(why(&service, &started(&service, "booking").await).await);
    lines.push(why(&service, &fails(&service, &started(&service, "booking").await).await).await);
    lines.push(why(&service, &stuck(&service).await).await);
    let two = succeeds(&service, &succeeds(&service, &started(&service, "booking").await).await).await;
    let refusal = Refusal::new("sold_out", "");
    let undoing = service.engine.reply(&two, Outcome::Rejected { refusal }).await;
    lines.push(why(&service, &fails(&service, &undoing).await).await);
    lines.push(why(&service, &service.engine.complete(&started(&service, "booking").await).await).await);
    let lines: Vec<String> = lines
        .iter()
        .map(|shown| {
            let verbs: Vec<String> = shown["verbs"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|verb| verb["possible"] == true)
                .map(|verb| {
                    format!("{} -> {}", verb["verb"].as_str().unwrap(), verb["then"].as_str().unwrap())
                })
                .collect();
            let remaining: Vec<String> = shown["remaining"]
                .as_array()
                .unwrap()
                .iter()
                .map(|step| {
                    format!("{} {}", step["direction"].as_str().unwrap(), step["step"].as_str().unwrap())
                })
                .collect();
            format!("{}\n  verbs: {}.\n  remain: {}.", summary(shown), verbs.join(", "), remaining.join(", "))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    Since TIME it waits for booking's reply to reserve-booking, attempt 1 of 5. The broker has not acknowledged the command for booking.commands yet. Next: deadline at TIME, then undo reserve-booking #1.
      verbs: cancel -> undo reserve-booking #1.
      remain: forward charge-payment, forward confirm-booking.
    Since TIME it waits for booking's reply to reserve-booking, attempt 1 of 5. The command lies on booking.commands/0, offset unknown: a process that owned the saga before has published it, and it is not among the 5000 records looked through. Next: deadline at TIME, then undo reserve-booking #1.
      verbs: cancel -> undo reserve-booking #1.
      remain: forward charge-payment, forward confirm-booking.
    Since TIME it waits for booking's reply to reserve-booking, attempt 1 of 5. Whether the command is published is not known: the engine of the process that owns the saga does not answer. Next: deadline at TIME, then undo reserve-booking #1.
      verbs: cancel -> undo reserve-booking #1.
      remain: forward charge-payment, forward confirm-booking.
    Since TIME it waits for booking's reply to reserve-booking, attempt 1 of 5. Whether the command is published is not known: no process owns the saga's shard at the moment. Next: deadline at TIME, then undo reserve-booking #1.
      verbs: cancel -> undo reserve-booking #1.
      remain: forward charge-payment, forward confirm-booking.
    Since TIME it waits to try reserve-booking again, attempt 2 of 5. Last error: gateway_away. Next: retry at TIME, then reserve-booking #2.
      verbs: cancel -> compensated, retry-now -> reserve-booking #2.
      remain: forward charge-payment, forward confirm-booking.
    Since TIME it is stuck at confirm and waits for an operator. Last error: broken. Possible: redrive, skip.
      verbs: redrive -> confirm #1, skip -> completed.
      remain: .
    Since TIME it waits to try undo charge-payment again, attempt 2 of 10. Last error: gateway_away. Next: retry at TIME, then undo charge-payment #2.
      verbs: retry-now -> undo charge-payment #2.
      remain: compensation reserve-booking.
    It has ended.
      verbs: .
      remain: .
    ");
}

/// The row of a saga that another service has.
async fn copied(saga: &Saga, from: &Service, to: &Service) {
    let row = format!("SELECT row_to_json(s)::text AS text FROM saga s WHERE id = '{}'", saga.id);
    let row = from.texts(&row).await.remove(0);
    let sql = "INSERT INTO saga SELECT * FROM json_populate_record(NULL::saga, $1::text::json)";
    to.engine.execute(sql, vec![row.into()]).await.unwrap();
}

#[tokio::test]
async fn whether_its_participant_is_held_says_the_owner_of_a_saga_that_backs_off() {
    let (here, there) = (service().await, service().await);
    let saga = fails(&there, &started(&there, "booking").await).await;
    copied(&saga, &there, &here).await;
    let paused = there.post("/api/participants/booking/pause", &json!({ "reason": "because" })).await;
    assert_eq!(paused.status, 200, "{}", paused.text);
    looks(&here, Err(ActError::NotHere { owner: Some(format!("http://{}", there.address)) }));
    let shown = why(&here, &saga).await;
    assert_eq!((&shown["waitsFor"], &shown["held"]["state"]), (&json!("participant"), &json!("paused")));
    let causes = there.get("/api/why").await.json();
    assert_eq!(causes["causes"][0]["waitsFor"], "participant", "{causes}");
    let causes = here.get("/api/why").await.json();
    assert_eq!(causes["causes"][0]["waitsFor"], "retry", "{causes}");
}

#[tokio::test]
async fn the_owner_is_asked_and_if_it_is_silent_that_is_said() {
    let (here, there) = (service().await, service().await);
    let saga = started(&there, "booking").await;
    copied(&saga, &there, &here).await;
    looks(&there, Ok(Looked { wake: None, offset: Some(77) }));
    looks(&here, Err(ActError::NotHere { owner: Some(format!("http://{}", there.address)) }));
    let answered = why(&here, &saga).await;
    assert_eq!(answered["command"]["place"]["offset"], 77);
    // Each takes the other for the owner: the second is not asked again.
    looks(&there, Err(ActError::NotHere { owner: Some(format!("http://{}", here.address)) }));
    for owner in [format!("http://{}", there.address), "http://127.0.0.1:1".to_owned()] {
        looks(&here, Err(ActError::NotHere { owner: Some(owner) }));
        let place = why(&here, &saga).await["command"]["place"].clone();
        let because = place["because"].as_str().unwrap();
        assert!(because.contains("the process that owns the saga does not answer"), "{because}");
    }
}

#[tokio::test]
async fn the_owner_is_asked_in_the_trace_of_who_asked() {
    let service = service().await;
    let saga = started(&service, "booking").await;
    let owner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    looks(
        &service,
        Err(ActError::NotHere { owner: Some(format!("http://{}", owner.local_addr().unwrap())) }),
    );
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = service.request("GET", &format!("/api/sagas/{}/why", saga.id));
    let answered = service.send(request.header("traceparent", traceparent));
    let heard = async {
        let (mut connection, _) = owner.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            connection.read_buf(&mut asked).await.unwrap();
        }
        String::from_utf8(asked).unwrap()
    };
    let (answered, heard) = tokio::join!(answered, heard);
    assert!(heard.contains(&format!("traceparent: {traceparent}\r\n")), "{heard}");
    assert_eq!(answered.status, 200, "the owner does not answer: {}", answered.text);
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_said_to_be_silent() {
    let service = service().await;
    let saga = started(&service, "booking").await;
    looks(&service, Ok(Looked { wake: None, offset: Some(41) }));
    service.broker.down().unwrap();
    let begun = std::time::Instant::now();
    let shown = why(&service, &saga).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(shown["command"]["place"]["offset"], 41);
    assert_eq!(shown["command"]["group"]["passed"], Value::Null);
    let because = shown["command"]["group"]["because"].as_str().unwrap();
    assert!(because.contains("did not answer"), "{because}");
}

#[tokio::test]
async fn what_everything_waits_for_is_counted_by_cause() {
    let service = service().await;
    for _ in 0..3 {
        started(&service, "booking").await;
    }
    for _ in 0..2 {
        fails(&service, &succeeds(&service, &started(&service, "booking").await).await).await;
    }
    let saga = stuck(&service).await;
    service.engine.complete(&started(&service, "booking").await).await;
    let shown = service.get("/api/why").await.json();
    assert_eq!(
        (&shown["counted"], &shown["complete"], &shown["notCounted"]),
        (&json!(6), &json!(true), &Value::Null)
    );
    let lines: Vec<String> = shown["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| {
            let word = |name: &str| cause[name].as_str().unwrap_or("none").to_owned();
            format!(
                "{} {} {} by {}: {} {} ({})",
                cause["sagas"],
                word("definition"),
                word("step"),
                word("participant"),
                word("status"),
                word("waitsFor"),
                word("error")
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    3 booking reserve-booking by booking: running reply (none)
    2 booking charge-payment by payment: running retry (gateway_away)
    1 delivery confirm by booking: stuck operator (broken)
    ");
    let stuck =
        shown["causes"].as_array().unwrap().iter().find(|cause| cause["waitsFor"] == "operator").unwrap();
    assert_eq!(stuck["oldestSagaId"], saga.id.to_string());
}

#[tokio::test]
async fn a_stuck_saga_whose_letter_was_put_aside_is_counted_however_old_it_is() {
    let service = service().await;
    service.engine.has_shards(1).await;
    let old = stuck(&service).await;
    let sql = format!("UPDATE shard SET open_from = '{}'", started(&service, "booking").await.id);
    service.engine.execute(&sql, vec![]).await.unwrap();
    crate::dead_letters::letter(&service, "broken", None, None).await;
    for status in ["open", "discarded"] {
        let sql = format!("UPDATE dead_letter SET saga_id = '{}', status = '{status}'", old.id);
        service.engine.execute(&sql, vec![]).await.unwrap();
        let shown = service.get("/api/why").await.json();
        assert_eq!((&shown["counted"], &shown["complete"]), (&json!(2), &json!(true)), "{status}: {shown}");
    }
}

#[tokio::test]
async fn of_too_many_some_are_counted_and_that_is_said() {
    let service = service().await;
    let first = stuck(&service).await;
    letter(&service, "broken", Some("booking.ReserveBooking"), Some(reserve())).await;
    let sql = format!("UPDATE dead_letter SET saga_id = '{}'", first.id);
    service.engine.execute(&sql, vec![]).await.unwrap();
    // The oldest of them, where only its letter tells of it.
    let sql = "UPDATE saga SET updated_at = updated_at - interval '1 hour'";
    service.engine.execute(sql, vec![]).await.unwrap();
    // Letters that are older, of sagas with higher ids: what counts is which letters are the newest.
    let sql = "
        INSERT INTO saga SELECT (r).* FROM (
            SELECT json_populate_record(s, json_build_object(
                'id', 'f' || lpad(to_hex(n), 7, '0') || substr(s.id::text, 9), 'updated_at', now())) AS r
            FROM saga s, generate_series(1, 1500) AS n) AS many";
    service.engine.execute(sql, vec![]).await.unwrap();
    let sql = "
        INSERT INTO dead_letter SELECT (r).* FROM (
            SELECT json_populate_record(l, json_build_object(
                'id', '00000000' || substr(s.id::text, 1, 8) || substr(l.id::text, 19), 'saga_id', s.id)) AS r
            FROM dead_letter l, saga s WHERE s.id <> l.saga_id) AS many";
    service.engine.execute(sql, vec![]).await.unwrap();
    let sql = "UPDATE shard SET open_from = 'f0000000-0000-0000-0000-000000000000'";
    service.engine.execute(sql, vec![]).await.unwrap();
    let shown = service.get("/api/why").await.json();
    assert_eq!(shown["complete"], false, "{shown}");
    let counted = shown["counted"].as_u64().unwrap();
    assert!((1_001..1_501).contains(&counted), "{shown}");
    assert_eq!(shown["causes"][0]["sagas"], counted);
    assert!(shown["notCounted"].as_str().unwrap().contains("500"), "{shown}");
    assert_eq!(shown["causes"][0]["oldestSagaId"], first.id.to_string(), "that of the newest letter");
}
