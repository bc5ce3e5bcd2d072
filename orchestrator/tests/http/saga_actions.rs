//! Many sagas acted on, and what actions over many have in common: what they leave to others.

use std::time::Duration;

use orchestrator::engine::handle::ActError;
use saga_defs::saga::{Event, Outcome, Refusal};
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Service, eventually};
use crate::redrives::{becomes, letters, make, redrive, succeed};
use crate::verbs::{started, stuck};

#[tokio::test]
async fn sagas_are_acted_on_in_numbers() {
    let service = Service::start().await;
    for _ in 0..3 {
        started(&service, "booking").await;
    }
    let ended = service.engine.complete(&started(&service, "booking").await).await;
    let waiting = stuck(&service).await;
    let body =
        |action: &str, filter: Value| json!({ "filter": filter, "action": action, "reason": "closing time" });
    let mut dry = body("cancel", json!({ "definition": "booking" }));
    dry["dryRun"] = json!(true);
    let found = service.post("/api/saga-actions", &dry).await.json()["found"].clone();
    assert_eq!((&found["matched"], &found["wouldSend"]), (&json!(3), &json!(3)), "{found}");

    let path = make(&service, "/api/saga-actions", body("cancel", json!({ "definition": "booking" }))).await;
    becomes(&service, &path, "completed: sent 3, succeeded 3, failedAgain 0, waiting 0, remaining 0").await;
    let one = body("cancel", json!({ "ids": [ended.id.to_string()], "status": "completed" }));
    let path = make(&service, "/api/saga-actions", one).await;
    becomes(
        &service,
        &path,
        r#"completed: sent 0, succeeded 0, failedAgain 0, waiting 0, remaining 0, {"refused":1}"#,
    )
    .await;
    let items = service.get(&format!("{path}/sagas")).await.json();
    assert_eq!(items["items"][0]["note"], "not possible: the saga is completed");

    let path = make(&service, "/api/saga-actions", body("redrive", json!({ "step": "confirm" }))).await;
    becomes(
        &service,
        &path,
        "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 0; the outcome of 1",
    )
    .await;
    let saga = service.engine.load(waiting.id).await.unwrap();
    service.engine.complete(&saga).await;
    becomes(&service, &path, "completed: sent 1, succeeded 1, failedAgain 0, waiting 0, remaining 0").await;
    assert_eq!(service.get("/api/saga-actions").await.json()["items"].as_array().unwrap().len(), 4);
    assert_eq!(service.get("/api/redrives").await.json()["items"], json!([]));
}

#[tokio::test]
async fn what_was_stuck_when_it_was_chosen_is_left_alone_when_it_is_stuck_anew() {
    for verb in ["skip", "redrive"] {
        let service = Service::start().await;
        let (chosen, moved) = (stuck(&service).await, stuck(&service).await);
        // The engine has no time until one of them has moved.
        let busy = ActError::Busy { retry_after: Duration::from_secs(1) };
        service.engine.act_errors.lock().unwrap().extend(std::iter::repeat_n(busy, 1_000));
        let body =
            json!({ "filter": { "step": "confirm" }, "action": verb, "ramp": [], "reason": "off you go" });
        let path = make(&service, "/api/saga-actions", body).await;
        let moved = service.engine.load(moved.id).await.unwrap();
        let redrive = Event::Redrive { reason: "a colleague's".into(), input: None };
        let moved = service.engine.happen(&moved, redrive).await.unwrap();
        let refusal = Refusal::new("broken", "something else is broken");
        service.engine.reply(&moved, Outcome::Rejected { refusal }).await;
        service.engine.act_errors.lock().unwrap().clear();

        eventually("both are tried", async || {
            let shown = service.get(&path).await.json();
            (&shown["sent"], &shown["passedOver"]) == (&json!(1), &json!({ "refused": 1 }))
        })
        .await;
        let items = service.get(&format!("{path}/sagas?outcome=passed_over")).await.json();
        assert_eq!(
            (&items["items"][0]["id"], &items["items"][0]["note"]),
            (&json!(moved.id.to_string()), &json!("the saga is at another revision"))
        );
        assert!(service.engine.load(chosen.id).await.unwrap().revision > chosen.revision);
    }
}

#[tokio::test]
async fn the_owner_of_a_saga_is_told_which_revision_was_chosen() {
    let service = Service::start().await;
    let saga = stuck(&service).await;
    let owner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", owner.local_addr().unwrap());
    service.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner: Some(url) });
    let body = json!({ "filter": { "step": "confirm" }, "action": "skip", "reason": "off you go" });
    let path = make(&service, "/api/saga-actions", body).await;
    let (mut connection, _) = owner.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"}") {
        connection.read_buf(&mut asked).await.unwrap();
    }
    let asked = String::from_utf8(asked).unwrap();
    assert!(asked.starts_with(&format!("POST /api/sagas/{}/skip ", saga.id)), "{asked}");
    assert!(asked.contains(&format!("if-match: \"{}\"\r\n", saga.revision.0)), "{asked}");
    let traceparent = asked.lines().find(|line| line.starts_with("traceparent: 00-")).unwrap();
    assert!(traceparent.ends_with("-00"), "what goes on by itself wants no trace: {traceparent}");
    let text = r#"{"detail":"the saga has moved on"}"#;
    let answer = format!(
        "HTTP/1.1 412 Precondition Failed\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    connection.write_all(answer.as_bytes()).await.unwrap();
    drop(connection);
    becomes(
        &service,
        &path,
        r#"completed: sent 0, succeeded 0, failedAgain 0, waiting 0, remaining 0, {"refused":1}"#,
    )
    .await;
}

#[tokio::test]
async fn actions_that_only_wait_hold_up_no_others() {
    let service = Service::start().await;
    // As many as a process drives at a time.
    for id in letters(&service, 16).await {
        redrive(&service, json!({ "filter": { "ids": [id] }, "reason": "again" })).await;
    }
    eventually("all wait for their outcome", async || {
        let page = service.get("/api/redrives").await.json();
        page["items"].as_array().unwrap().iter().all(|action| action["waiting"] == 1)
    })
    .await;
    let path = redrive(&service, json!({ "filter": {}, "dryRun": true, "reason": "what if" })).await;
    eventually("the last one is driven too", async || {
        service.get(&path).await.json()["finishedAt"].is_string()
    })
    .await;
    // And those that waited are still followed.
    succeed(&service).await;
    eventually("all have their outcome", async || {
        let page = service.get("/api/redrives").await.json();
        page["items"].as_array().unwrap().iter().all(|action| action["status"] == "completed")
    })
    .await;
}

/// Statements that wait for a lock on a table.
async fn held_up(service: &Service) -> usize {
    let waiting = "SELECT query AS text FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'orchestrator-bulk' AND wait_event_type = 'Lock'";
    service.texts(waiting).await.len()
}

#[tokio::test]
async fn choices_and_dry_runs_that_take_long_leave_the_others_a_connection() {
    let service = Service::start().await;
    let held = service.engine.db.begin().await.unwrap();
    held.execute_unprepared("LOCK TABLE saga, dead_letter IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // As if they had been chosen before.
    let dry_runs = "
        WITH made AS (
            INSERT INTO bulk_action (id, subject, verb, status, dry_run, actor, reason, filter, rate, ramp, selected, progress,
                created_at, updated_at)
            SELECT gen_random_uuid(), 'letter', 'redrive', 'running', true, 'a', 'r', '{}', 1, '[]', 1, '{}', now(), now()
            FROM generate_series(1, 5) RETURNING id
        )
        INSERT INTO bulk_item (action_id, place, subject_id, state) SELECT id, 1, gen_random_uuid(), 'chosen' FROM made";
    service.engine.execute(dry_runs, vec![]).await.unwrap();
    eventually("two are read for", async || held_up(&service).await >= 2).await;
    let listed = service.get("/api/redrives").await;
    assert_eq!((listed.status.as_u16(), held_up(&service).await), (200, 2), "{}", listed.text);
    let body = json!({ "filter": { "step": "confirm" }, "action": "cancel", "reason": "closing time" });
    let refused = service.post("/api/saga-actions", &body).await;
    assert_eq!(refused.status, 503, "it is not waited for longer than for a connection: {}", refused.text);
    held.commit().await.unwrap();
    eventually("all dry runs are over", async || {
        let page = service.get("/api/redrives").await.json();
        page["items"].as_array().unwrap().iter().all(|action| action["finishedAt"].is_string())
    })
    .await;
    make(&service, "/api/saga-actions", body).await;
}
