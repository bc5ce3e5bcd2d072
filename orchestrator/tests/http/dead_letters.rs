//! Dead letters: everything in them, sent again as they are or edited, put aside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orchestrator::engine::handle::LetterVerb;
use schemas::Catalog;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{NOBODY, RESOURCE, Service, USER};

const HEADERS: &str = r#"[["saga-id","Mg=="],["none",null],["bytes","/w=="]]"#;

pub(crate) async fn letter(
    service: &Service,
    reason: &str,
    message_type: Option<&str>,
    value: Option<Vec<u8>>,
) -> String {
    let id = Uuid::now_v7();
    let sql = "INSERT INTO dead_letter (id, status, reason, message, source, topic, partition, record_offset,
                   record_key, record_value, record_headers, record_timestamp, message_type, saga_id, step,
                   direction, attempts, first_failed_at, last_failed_at, updated_at, lineage)
               VALUES ($1, 'open', $2, 'it cannot be read', 'booking', 'booking.commands', 3, 41, $3, $4,
                   $5::text::json, now(), $6, $7, 'reserve-booking', 'forward', 5, now(), now(), now(),
                   '[{\"at\":\"x\",\"what\":\"failed\",\"reason\":\"y\"}]')";
    let saga: Uuid = NOBODY.parse().unwrap();
    let values = vec![
        id.into(),
        reason.into(),
        b"key".to_vec().into(),
        value.into(),
        HEADERS.into(),
        message_type.map(str::to_owned).into(),
        saga.into(),
    ];
    service.engine.execute(sql, values).await.unwrap();
    id.to_string()
}

pub(crate) fn reserve() -> Vec<u8> {
    let fields = json!({ "bookingId": NOBODY, "userId": USER, "resourceId": RESOURCE });
    Catalog::shipped().encode("booking.ReserveBooking", fields.as_object().unwrap()).unwrap()
}

#[tokio::test]
async fn a_letter_shows_everything_in_it() {
    let service = Service::start().await;
    let bytes = reserve();
    let id = letter(&service, "unhandled", Some("booking.ReserveBooking"), Some(bytes.clone())).await;
    let shown = service.get(&format!("/api/dead-letters/{id}")).await.json();
    assert_eq!(shown["id"], id);
    assert_eq!(shown["status"], "open");
    assert_eq!((&shown["reason"], &shown["message"]), (&json!("unhandled"), &json!("it cannot be read")));
    assert_eq!(
        (&shown["topic"], &shown["partition"], &shown["offset"]),
        (&json!("booking.commands"), &json!(3), &json!(41))
    );
    assert_eq!(
        (&shown["sagaId"], &shown["step"], &shown["attempts"]),
        (&json!(NOBODY), &json!("reserve-booking"), &json!(5))
    );
    assert_eq!((&shown["key"], &shown["keyText"]), (&json!(STANDARD.encode("key")), &json!("key")));
    assert_eq!(shown["value"], STANDARD.encode(&bytes));
    assert_eq!(
        shown["headers"],
        json!([{ "name": "saga-id", "value": "Mg==", "text": "2" }, { "name": "none", "value": null, "text": null },
            { "name": "bytes", "value": "/w==", "text": null }])
    );
    assert_eq!(shown["decoded"]["messageType"], "booking.ReserveBooking");
    assert_eq!(shown["decoded"]["value"]["resourceId"], RESOURCE);
    assert_eq!((&shown["decoded"]["version"], &shown["decoded"]["newestVersion"]), (&json!(1), &json!(1)));
    for absent in ["decodeError", "decodeErrorAt", "hex"] {
        assert_eq!(shown[absent], Value::Null, "{absent}");
    }
    assert_eq!(shown["lineage"][0]["what"], "failed");

    let id = letter(&service, "undecodable", None, Some(b"poison".to_vec())).await;
    let shown = service.get(&format!("/api/dead-letters/{id}")).await.json();
    assert_eq!(shown["decoded"], Value::Null);
    assert!(shown["decodeError"].as_str().unwrap().contains("c3 01"), "{shown}");
    assert_eq!(shown["decodeErrorAt"], 0);
    assert_eq!(
        shown["hex"],
        json!(["00000000  70 6f 69 73 6f 6e                                 |poison|"]),
        "{shown}"
    );

    let id = letter(&service, "undecodable", None, Some(bytes[..40].to_vec())).await;
    let shown = service.get(&format!("/api/dead-letters/{id}")).await.json();
    assert_eq!(
        (&shown["decodeError"], &shown["decodeErrorAt"]),
        (&json!("booking.ReserveBooking cannot be read: bookingId: the bytes end too early"), &json!(10))
    );

    let id = letter(&service, "undecodable", None, None).await;
    let shown = service.get(&format!("/api/dead-letters/{id}")).await.json();
    assert_eq!((&shown["value"], &shown["decodeError"]), (&Value::Null, &json!("the record has no value")));
}

#[tokio::test]
async fn letters_are_listed_newest_first_and_filtered() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for reason in ["undecodable", "unhandled", "undecodable"] {
        ids.insert(0, letter(&service, reason, None, Some(vec![0; 100])).await);
    }
    let found = async |query: &str| {
        let page = service.get(&format!("/api/dead-letters?{query}")).await.json();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
        assert!(items.iter().all(|item| item.get("value").is_none()), "a list has no bytes");
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("").await, ids);
    assert_eq!(found("reason=unhandled&status=open").await, ids[1..2]);
    assert_eq!(found("status=resolved").await, Vec::<String>::new());
    assert_eq!(found(&format!("sagaId={NOBODY}")).await, ids);
    assert_eq!(found(&format!("sagaId={USER}")).await, Vec::<String>::new());
    let first = service.get("/api/dead-letters?limit=2").await.json();
    let rest = found(&format!("limit=2&cursor={}", first["nextCursor"].as_str().unwrap())).await;
    assert_eq!(rest, ids[2..]);
}

#[tokio::test]
async fn a_letter_is_sent_again_as_it_was_or_edited() {
    let service = Service::start().await;
    let id = letter(&service, "unhandled", Some("booking.ReserveBooking"), Some(reserve())).await;
    let path = format!("/api/dead-letters/{id}/redrive");
    let wrong = json!({ "reason": "x", "value": { "bookingId": NOBODY, "userId": 1, "colour": "red" } });
    let refused = service.post(&path, &wrong).await.problem();
    for field in ["value.userId", "value.resourceId", "value.colour"] {
        assert!(refused.starts_with("422 validation: ") && refused.contains(field), "{field}: {refused}");
    }
    let value = json!({ "bookingId": NOBODY, "userId": USER, "resourceId": USER });
    let edited = json!({ "reason": "another resource", "value": value });
    let key = [("idempotency-key", "letter-1")];
    for _ in 0..2 {
        let answered = service.post_with(&path, &key, &edited).await;
        assert_eq!((answered.status.as_u16(), answered.json()["status"].clone()), (200, json!("redriven")));
    }
    {
        let acts = service.engine.letter_acts.lock().unwrap();
        assert_eq!(acts.len(), 1, "the same key acts once");
        let expected =
            Catalog::shipped().encode("booking.ReserveBooking", value.as_object().unwrap()).unwrap();
        let LetterVerb::Redrive { edit: Some(edit) } = &acts[0].verb else { panic!("{:?}", acts[0].verb) };
        assert_eq!((&edit.value, Some(&edit.fields)), (&expected, value.as_object()));
        assert_eq!(
            json!(edit.changes),
            json!([{ "field": "resourceId", "from": RESOURCE, "to": USER }]),
            "what is other than in the letter is kept"
        );
        assert_eq!(&*acts[0].reason, "another resource");
    }
    let again = service.post(&path, &json!({ "reason": "x" })).await;
    assert_eq!(
        again.problem(),
        "409 wrong-state: the dead letter is redriven; only an open one can be redriven or discarded"
    );
    assert_eq!(again.json()["allowedIn"], json!(["open"]));
}

#[tokio::test]
async fn what_nobody_knows_cannot_be_edited_but_sent_again_or_put_aside() {
    let service = Service::start().await;
    let id = letter(&service, "undecodable", Some("some.Stranger"), Some(b"poison".to_vec())).await;
    let path = format!("/api/dead-letters/{id}");
    let edited = json!({ "reason": "x", "value": {} });
    assert_eq!(
        service.post(&format!("{path}/redrive"), &edited).await.problem(),
        "422 validation: value: cannot be given: which message the record was is not known [value]"
    );
    let answered = service.post(&format!("{path}/discard"), &json!({ "reason": "noise" })).await;
    assert_eq!((answered.status.as_u16(), answered.json()["status"].clone()), (200, json!("discarded")));
    assert_eq!(service.engine.letter_acts.lock().unwrap()[0].verb, LetterVerb::Discard);
    let other = letter(&service, "undecodable", None, Some(b"poison".to_vec())).await;
    let answered =
        service.post(&format!("/api/dead-letters/{other}/redrive"), &json!({ "reason": "again" })).await;
    assert_eq!(answered.json()["status"], "redriven");
}

/// Groups as lines: what they are, how many letters in which status.
async fn groups(service: &Service, query: &str) -> String {
    let page = service.get(&format!("/api/dead-letters/groups?{query}")).await.json();
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
    let line = |item: &Value| {
        let by = &item["byStatus"];
        let counts = ["open", "redriven", "resolved", "discarded"].map(|status| by[status].to_string());
        let text = |name: &str| item[name].as_str().unwrap_or("-").to_owned();
        let what = [text("reason"), text("messageType"), text("step")].join(" ");
        assert!(item["firstSeenAt"].as_str() <= item["lastSeenAt"].as_str(), "{item}");
        format!("{what}: {} = {}", item["count"], counts.join("+"))
    };
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn letters_of_one_cause_are_a_group() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for (reason, message_type) in [
        ("undecodable", None),
        ("unhandled", Some("booking.ReserveBooking")),
        ("unhandled", Some("booking.ReserveBooking")),
        ("unhandled", Some("booking.CancelBooking")),
    ] {
        ids.push(letter(&service, reason, message_type, Some(vec![0; 100])).await);
    }
    service.post(&format!("/api/dead-letters/{}/discard", ids[1]), &json!({ "reason": "noise" })).await;
    insta::assert_snapshot!(groups(&service, "").await, @r"
    unhandled booking.CancelBooking reserve-booking: 1 = 1+0+0+0
    unhandled booking.ReserveBooking reserve-booking: 2 = 1+0+0+1
    undecodable - reserve-booking: 1 = 1+0+0+0
    ");
    insta::assert_snapshot!(groups(&service, "status=discarded").await, @"unhandled booking.ReserveBooking reserve-booking: 2 = 1+0+0+1");
    assert_eq!(groups(&service, "status=resolved").await, "");
    assert_eq!(groups(&service, "reason=undecodable").await.lines().count(), 1);

    let first = service.get("/api/dead-letters/groups?limit=2").await.json();
    let cursor = first["nextCursor"].as_str().unwrap();
    assert_eq!(groups(&service, &format!("limit=2&cursor={cursor}")).await.lines().count(), 1);
    assert_eq!(
        service.get("/api/dead-letters/groups?cursor=s").await.problem(),
        "400 query: cursor: must be a nextCursor of an earlier answer to the same question; found `s` [cursor]"
    );

    let group = service.get(&format!("/api/dead-letters/{}", ids[1])).await.json()["group"].clone();
    let found = async |query: &str| {
        let path = format!("/api/dead-letters?group={}&{query}", group.as_str().unwrap());
        let page = service.get(&path).await.json();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("").await, [ids[2].clone(), ids[1].clone()]);
    assert_eq!(found("status=open").await, ids[2..3]);
    assert_eq!(found("status=discarded&reason=unhandled").await, ids[1..2]);
    assert_eq!(found(&format!("sagaId={NOBODY}&status=open")).await, ids[2..3]);
    assert_eq!(found("reason=undecodable").await, Vec::<String>::new());
}

#[tokio::test]
async fn groups_that_were_folded_say_the_same() {
    let service = Service::start().await;
    let store = service.store().await;
    assert_eq!(store.fold_letter_tally().await.unwrap(), None, "not worth the while");
    let id = letter(&service, "unhandled", None, None).await;
    for number in 0..500 {
        letter(&service, "undecodable", Some(&format!("some.Type{}", number % 3)), None).await;
    }
    assert_eq!(store.fold_letter_tally().await.unwrap(), None, "not yet");
    service.engine.execute("UPDATE dead_letter SET status = 'redriven'", vec![]).await.unwrap();
    let open = format!("UPDATE dead_letter SET status = 'open' WHERE id <> '{id}'");
    service.engine.execute(&open, vec![]).await.unwrap();
    service.engine.execute(&format!("DELETE FROM dead_letter WHERE id = '{id}'"), vec![]).await.unwrap();
    for _ in 0..500 {
        letter(&service, "undecodable", Some("some.Type0"), None).await;
    }
    let before = groups(&service, "").await;
    assert!(store.fold_letter_tally().await.unwrap().is_some_and(|rows| rows >= 1_000));
    assert_eq!(groups(&service, "").await, before);
    let rows = service
        .texts(
            "SELECT concat_ws(' ', message_type, status, letters) AS text FROM dead_letter_tally ORDER BY 1",
        )
        .await;
    assert_eq!(rows, ["some.Type0 open 667", "some.Type1 open 167", "some.Type2 open 166"]);
}

#[tokio::test]
async fn many_groups_are_not_folded_for_nothing() {
    let service = Service::start().await;
    let sql = "INSERT INTO dead_letter (id, status, reason, message, source, topic, record_headers, message_type, attempts,
                   first_failed_at, last_failed_at, updated_at, lineage)
               SELECT gen_random_uuid(), 'open', 'undecodable', 'it cannot be read', 'booking', 'booking.commands', '[]',
                   'some.Type' || n, 1, now(), now(), now(), '[]'
               FROM generate_series(1, 1000) AS n";
    service.engine.execute(sql, vec![]).await.unwrap();
    let store = service.store().await;
    assert_eq!(store.fold_letter_tally().await.unwrap(), None, "each row is of another group");
    let again = "UPDATE dead_letter SET status = 'redriven'";
    service.engine.execute(again, vec![]).await.unwrap();
    assert_eq!(
        store.fold_letter_tally().await.unwrap(),
        Some(3_000),
        "and now there are those that took it back"
    );
}
