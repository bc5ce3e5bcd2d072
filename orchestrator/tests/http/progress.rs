//! How far an action over many is, as events.

use orchestrator::store::bulk::BULK_CONNECTIONS;
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::json;

use crate::events::Listening;
use crate::harness::{NOBODY, Service, eventually};
use crate::redrives::{letters, line, redrive, succeed};

/// The next one that says how far an action is: its id and the state in a line. `None`: there are no more.
async fn told(listening: &mut Listening) -> Option<(String, String)> {
    loop {
        let frame = listening.frame().await?;
        let Some(data) = frame.data else { continue };
        assert_eq!(frame.name, "progress");
        return Some((frame.id, line(&data)));
    }
}

#[tokio::test]
async fn how_far_it_is_is_told_until_everything_has_its_outcome() {
    let service = Service::start().await;
    letters(&service, 3).await;
    let path = redrive(&service, json!({ "filter": {}, "ramp": [1], "reason": "mended" })).await;
    let events = format!("{path}/events");
    let mut listening = Listening::to(&service, &events, None).await;
    let mut lines = Vec::new();
    for sent in ["sent 1, succeeded 0", "sent 3, succeeded 1"] {
        while lines.last().is_none_or(|(_, line): &(String, String)| !line.contains(sent)) {
            lines.push(told(&mut listening).await.expect("more to come"));
        }
        succeed(&service).await;
    }
    while let Some(told) = told(&mut listening).await {
        lines.push(told);
    }
    let (last, line) = lines.last().unwrap();
    assert_eq!(line, "completed: sent 3, succeeded 3, failedAgain 0, waiting 0, remaining 0");
    let ids: std::collections::BTreeSet<&String> = lines.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), lines.len(), "nothing is told twice");

    let heard = service.send(service.request("GET", &events).header("last-event-id", last)).await;
    assert_eq!((heard.status.as_u16(), heard.text.as_str()), (204, ""));
    let mut late = Listening::to(&service, &events, Some("of another time")).await;
    assert_eq!(told(&mut late).await.unwrap().1, *line);
    assert!(told(&mut late).await.is_none(), "it ends with the redrive");
    assert_eq!(service.get(&format!("/api/redrives/{NOBODY}/events")).await.status, 404);
    let metrics = service.get("/metrics").await.text;
    for line in [
        r#"saga_bulk_items_total{action="redrive",outcome="sent"} 3"#,
        r#"saga_bulk_items_total{action="redrive",outcome="succeeded"} 3"#,
        r#"saga_bulk_ended_total{action="redrive",status="completed"} 1"#,
        r#"saga_event_streams{of="action"} 0"#,
    ] {
        assert!(metrics.contains(line), "`{line}` is not in\n{metrics}");
    }
}

#[tokio::test]
async fn whoever_listens_needs_no_connection_of_those_that_drive() {
    let service = Service::start().await;
    letters(&service, 1).await;
    let path = redrive(&service, json!({ "filter": {}, "reason": "mended" })).await;
    // Each of these has a connection, and waits for who has the row.
    let theirs = service.engine_side.connection().begin().await.unwrap();
    theirs.execute_unprepared("SELECT FROM bulk_action FOR UPDATE").await.unwrap();
    let cancels = (0..BULK_CONNECTIONS).map(|_| {
        let cancel = service.request("POST", &format!("{path}/cancel")).json(&json!({"reason": "because"}));
        tokio::spawn(cancel.send())
    });
    let cancels: Vec<_> = cancels.collect();
    let waiting = "SELECT pid::text AS text FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name = 'orchestrator-bulk' AND wait_event_type = 'Lock'";
    eventually("all connections wait", async || {
        service.texts(waiting).await.len() == BULK_CONNECTIONS as usize
    })
    .await;
    let mut listening = Listening::to(&service, &format!("{path}/events"), None).await;
    assert!(told(&mut listening).await.is_some());
    // Somebody else drives it.
    let sql = "UPDATE bulk_action SET status = 'cancelled', updated_at = now(), finished_at = now()";
    theirs.execute_unprepared(sql).await.unwrap();
    theirs.commit().await.unwrap();
    while let Some((_, line)) = told(&mut listening).await {
        assert!(line.starts_with("running") || line.starts_with("cancelled"), "{line}");
    }
    for cancel in cancels {
        cancel.await.unwrap().unwrap();
    }
}
