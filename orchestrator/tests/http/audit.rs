//! The audit: filters, pages, and what an entry says.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{NOBODY, Service};

async fn did(service: &Service, actor: &str, verb: &str, day: u8, saga: Option<&str>, letter: Option<&str>) {
    let at = format!("2026-03-{day:02}T12:00:00Z");
    let millis = 1_772_323_200_000_u64 + u64::from(day - 1) * 86_400_000;
    let mut id = [day; 16];
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    id[6] = 0x70 | (id[6] & 0x0f);
    let saga: Option<Uuid> = saga.map(|text| text.parse().unwrap());
    let letter: Option<Uuid> = letter.map(|text| text.parse().unwrap());
    let sql = "INSERT INTO audit (id, at, actor, verb, saga_id, dead_letter_id, reason, state_before, state_after)
               VALUES ($1, $2::text::timestamptz, $3, $4, $5, $6, 'as asked', '{\"status\":\"stuck\"}', '{\"status\":\"running\"}')";
    let values =
        vec![Uuid::from_bytes(id).into(), at.into(), actor.into(), verb.into(), saga.into(), letter.into()];
    service.engine.execute(sql, values).await.unwrap();
}

fn told(page: &Value) -> String {
    let line = |entry: &Value| {
        let word = |name: &str| entry[name].as_str().unwrap().to_owned();
        format!("{} {} {}", &word("at")[..10], word("actor"), word("action"))
    };
    page["items"].as_array().unwrap().iter().map(line).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn entries_are_found_by_what_they_say_page_by_page() {
    let service = Service::start().await;
    let letter = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f1111";
    did(&service, "ann", "cancel", 1, Some(NOBODY), None).await;
    did(&service, "bob", "redrive", 2, Some(NOBODY), None).await;
    did(&service, "ann", "discard", 3, None, Some(letter)).await;
    did(&service, "ann", "register", 4, None, None).await;
    let mut lines = Vec::new();
    for query in [
        "",
        "actor=ann",
        "action=redrive",
        &format!("sagaId={NOBODY}"),
        &format!("deadLetterId={letter}"),
        "after=2026-03-02T12:00:00Z",
        "after=2026-03-01T23:00:00Z&before=2026-03-03T13:00:00Z",
        "actor=nobody",
    ] {
        let page = service.get(&format!("/api/audit?{query}")).await.json();
        lines.push(format!("{query}: {}", told(&page)).trim_end().to_owned());
    }
    insta::assert_snapshot!(lines.join("\n"), @"
    : 2026-03-04 ann register, 2026-03-03 ann discard, 2026-03-02 bob redrive, 2026-03-01 ann cancel
    actor=ann: 2026-03-04 ann register, 2026-03-03 ann discard, 2026-03-01 ann cancel
    action=redrive: 2026-03-02 bob redrive
    sagaId=0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000: 2026-03-02 bob redrive, 2026-03-01 ann cancel
    deadLetterId=0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f1111: 2026-03-03 ann discard
    after=2026-03-02T12:00:00Z: 2026-03-04 ann register, 2026-03-03 ann discard
    after=2026-03-01T23:00:00Z&before=2026-03-03T13:00:00Z: 2026-03-03 ann discard, 2026-03-02 bob redrive
    actor=nobody:
    ");

    let first = service.get("/api/audit?limit=3").await.json();
    let next = first["nextCursor"].as_str().unwrap();
    let second = service.get(&format!("/api/audit?limit=3&cursor={next}")).await.json();
    assert_eq!((told(&second).as_str(), &second["nextCursor"]), ("2026-03-01 ann cancel", &Value::Null));
    let other = service.get(&format!("/api/sagas?cursor={next}")).await;
    assert!(other.problem().starts_with("400 query: cursor: "), "{}", other.text);

    let entry = &second["items"][0];
    assert_eq!(entry["sagaId"], NOBODY);
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({"status": "stuck"}), &json!({"status": "running"}))
    );
    assert_eq!(
        (&entry["chain"], &entry["seq"], &entry["deadLetterId"]),
        (&json!(-1), &json!(1), &Value::Null)
    );
    assert_eq!(entry["hash"].as_str().unwrap().len(), 64);
    for wrong in ["sagaId=7", "deadLetterId=x", "after=yesterday", "limit=0", "verb=cancel"] {
        let status = service.get(&format!("/api/audit?{wrong}")).await.status.as_u16();
        assert!(status == 400 || status == 422, "{wrong}: {status}");
    }
}
