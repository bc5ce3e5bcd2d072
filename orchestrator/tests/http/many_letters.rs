//! A million dead letters: what is asked about them costs about what it shows.
//!
//! `cargo test -p orchestrator --test http many_letters -- --ignored --nocapture` takes some minutes and prints the times.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Service, eventually};

/// Letters of six groups; every hundredth is closed, and one in a hundred thousand has the rare reason.
const LETTERS: &str = "
INSERT INTO dead_letter (id, status, reason, message, source, topic, partition, record_offset, record_key, record_value,
    record_headers, record_timestamp, message_type, saga_id, step, direction, attempts, first_failed_at, last_failed_at,
    updated_at, lineage)
SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
    CASE n % 100 WHEN 0 THEN 'resolved' ELSE 'open' END,
    CASE WHEN n % 100000 = 7 THEN 'rare' ELSE (ARRAY['unhandled', 'undecodable', 'busy'])[1 + n % 3] END,
    'it cannot be handled', 'payment', 'payment.commands', 3, n, 'key', convert_to(repeat('x', 200), 'UTF8'),
    '[]', now(), (ARRAY['payment.ChargePayment', 'payment.RefundPayment'])[1 + n % 2], NULL, 'charge-payment',
    'forward', 1, now(), now(), now(), '[]'
FROM generate_series(1, 1000000) AS n";

const ROWS: u32 = 1_000_000;
/// Far more than any of it takes on an idle machine.
const LONG: Duration = Duration::from_secs(2);

#[tokio::test]
#[ignore = "takes some minutes"]
async fn a_million_letters_are_listed_grouped_and_redriven() {
    let service = Service::start().await;
    let begun = Instant::now();
    let rows = service.engine.execute(LETTERS, vec![]).await.unwrap();
    assert_eq!(rows, u64::from(ROWS));
    service.engine.execute("ANALYZE dead_letter", vec![]).await.unwrap();
    println!("{ROWS} letters inserted, counted by the trigger and analyzed: {:?}", begun.elapsed());

    let groups = service.get("/api/dead-letters/groups").await.json();
    let all: i64 =
        groups["items"].as_array().unwrap().iter().map(|group| group["count"].as_i64().unwrap()).sum();
    assert_eq!(all, i64::from(ROWS));
    let group = groups["items"][0]["group"].as_str().unwrap();
    let first = service.get("/api/dead-letters?limit=500&status=open").await.json();
    let cursor = first["nextCursor"].as_str().unwrap();
    for path in [
        "/api/dead-letters/groups".to_owned(),
        "/api/dead-letters".to_owned(),
        "/api/dead-letters?status=open".to_owned(),
        format!("/api/dead-letters?status=open&cursor={cursor}"),
        "/api/dead-letters?status=resolved".to_owned(),
        "/api/dead-letters?status=discarded".to_owned(),
        "/api/dead-letters?reason=rare".to_owned(),
        "/api/dead-letters?reason=busy&status=resolved".to_owned(),
        format!("/api/dead-letters?group={group}"),
        format!("/api/dead-letters?group={group}&status=open&limit=500"),
        "/api/dead-letters?sagaId=0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000".to_owned(),
    ] {
        let mut times = Vec::new();
        for _ in 0..9 {
            let begun = Instant::now();
            assert_eq!(service.get(&path).await.status, 200);
            times.push(begun.elapsed());
        }
        times.sort();
        println!("{:>9.1?} (slowest {:>9.1?})  GET {path}", times[4], times[8]);
        assert!(times[4] < LONG, "{path}");
    }
    let body = json!({ "filter": { "status": "open" }, "ratePerSecond": 1, "reason": "all of them" });
    let begun = Instant::now();
    let made = service.post("/api/redrives", &body).await;
    println!("{:>9.1?} POST /api/redrives that chooses {}", begun.elapsed(), made.json()["selected"]);
    let path = made.header("location").to_owned();
    service.post(&format!("{path}/cancel"), &json!({ "reason": "enough" })).await;
    let body = json!({ "filter": { "reason": "rare" }, "dryRun": true, "reason": "the rare ones" });
    let begun = Instant::now();
    let made = service.post("/api/redrives", &body).await;
    assert_eq!(made.json()["found"]["examined"], 10, "{}", made.text);
    println!("{:>9.1?} POST /api/redrives, a dry run of 10 out of a million", begun.elapsed());
    eventually("the first one stops", async || service.get(&path).await.json()["status"] == "cancelled")
        .await;
    let begun = Instant::now();
    service
        .engine
        .execute("UPDATE dead_letter SET status = 'discarded' WHERE reason = 'rare'", vec![])
        .await
        .unwrap();
    println!("{:>9.1?} for an update of the status of 10 letters", begun.elapsed());
}
