//! Health, readiness, metrics; a database that goes away and comes back.

use std::time::Duration;

use local_postgres::TestServer;
use orchestrator::engine::MAX_UNPUBLISHED;
use saga_defs::ids::Shard;
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
use serde_json::json;

use crate::harness::{NOBODY, Options, RESOURCE, Service, USER, eventually};

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let service = Service::start().await;
    assert_eq!(service.get("/livez").await.json(), json!({ "status": "ok" }));
    assert_eq!(service.get("/readyz").await.json(), json!({ "status": "ready" }));
    let verbose = service.get("/readyz?verbose").await.json();
    let names: Vec<&str> =
        verbose["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["database", "broker", "backlog", "shards", "consumer", "stopping"]);
    {
        let mut health = service.engine.health.lock().unwrap();
        health.broker = Some("all brokers are down".to_owned());
        health.stopped_shards = vec![(Shard(3), "offset 7 has vanished".to_owned())];
        health.shards_owned = 7;
    }
    // Starts are taken: whoever balances load must go on sending them.
    assert_eq!(service.get("/readyz").await.json(), json!({ "status": "degraded" }));
    let verbose = service.get("/readyz?verbose").await.json();
    let wrong: Vec<(&str, &str)> = verbose["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| (check["name"].as_str().unwrap(), check["detail"].as_str().unwrap()))
        .collect();
    let shards = "7 of 8 are owned here; shard 3 is stopped: offset 7 has vanished";
    assert_eq!(wrong, [("broker", "all brokers are down"), ("shards", shards)]);
    {
        let mut health = service.engine.health.lock().unwrap();
        (health.unpublished, health.full) = (MAX_UNPUBLISHED, true);
    }
    assert_eq!(
        service.get("/readyz").await.problem(),
        "503 not-ready: broker: all brokers are down; backlog: 50000 records wait for the broker; shards: 7 of 8 are \
         owned here; shard 3 is stopped: offset 7 has vanished [broker, backlog, shards]"
    );
    {
        let mut health = service.engine.health.lock().unwrap();
        (health.unpublished, health.full, health.shards_owned) = (MAX_UNPUBLISHED - 1, false, 1);
    }
    assert!(service.get("/readyz").await.problem().ends_with("[broker, shards]"), "no shard is read");
    assert_eq!(service.get("/livez").await.status, 200);
    service.engine.health.lock().unwrap().consumer_poll_age = Duration::from_secs(61);
    assert_eq!(
        service.get("/livez").await.problem(),
        "503 not-ready: consumer: polled 61.0 s ago [consumer]"
    );
}

#[tokio::test]
async fn metrics_name_routes_by_their_template() {
    let service = Service::start().await;
    service.get(&format!("/api/sagas/{NOBODY}")).await;
    service.get("/nowhere/at/all").await;
    service.send(service.request("BREW", "/livez")).await;
    let answered = service.get("/metrics").await;
    assert_eq!(answered.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        r#"http_server_request_duration_seconds_count{method="GET",route="/api/sagas/{sagaId}",status="404"} 1"#,
        r#"http_server_request_duration_seconds_count{method="GET",route="unknown",status="404"} 1"#,
        r#"http_server_request_duration_seconds_count{method="other",route="/livez",status="405"} 1"#,
    ] {
        assert!(answered.text.contains(line), "`{line}` is not in\n{}", answered.text);
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_a_503_until_it_is_back() {
    let url = TestServer::shared().fresh_database();
    let service = Service::start_on(&url, Options::default()).await;
    let db = &service.engine.db;
    let row =
        db.query_one_raw(Statement::from_string(DbBackend::Postgres, "SELECT current_database()::text"));
    let name: String = row.await.unwrap().unwrap().try_get("", "current_database").unwrap();
    let admin = Database::connect(TestServer::shared().maintenance_url()).await.unwrap();
    let body = json!({ "userId": USER, "resourceId": RESOURCE });
    let id = service.post("/api/bookings", &body).await.json()["bookingId"].as_str().unwrap().to_owned();

    let deny = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    admin.execute_unprepared(&deny).await.unwrap();
    admin.execute_unprepared(&end).await.unwrap();
    for path in [format!("/api/bookings/{id}"), "/api/sagas".to_owned(), "/api/dead-letters".to_owned()] {
        let answered = service.get(&path).await;
        assert_eq!(
            answered.problem(),
            "503 unavailable: the database cannot be reached at the moment",
            "{path}"
        );
        assert!(!answered.text.contains("postgres"), "{}", answered.text);
    }
    assert!(service.get("/readyz").await.problem().contains("[database]"));
    assert_eq!(service.get("/livez").await.status, 200);

    admin.execute_unprepared(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    eventually("the booking is shown again", async || {
        service.get(&format!("/api/bookings/{id}")).await.status == 200
    })
    .await;
}
