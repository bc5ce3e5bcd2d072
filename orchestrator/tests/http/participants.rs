//! Participants: listed, paused and resumed by hand.

use futures::future::join_all;
use orchestrator::engine::participants::Participants;
use orchestrator::engine::participants::board::State;
use orchestrator::engine::participants::health::{Cause, Health, Hold, Limits};
use orchestrator::engine::participants::parked::Parked;
use orchestrator::participants::Desk;
use orchestrator::store::ENGINE_CONNECTIONS;
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};

use tokio_util::sync::CancellationToken;

use crate::fake_engine::now;
use crate::harness::{RESOURCE, Service, USER, eventually};

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

/// Another process that holds this one, as it wrote it down.
async fn held_elsewhere(service: &Service, participant: &str) {
    let sql = "INSERT INTO participant_hold (participant, process, state, cause, since, waiting, seen_at)
               VALUES ($1, 'http://elsewhere', 'held', 'silence', now(), 7, now())";
    service.engine.execute(sql, vec![participant.into()]).await.unwrap();
}

#[tokio::test]
async fn a_pause_that_is_over_is_answered_as_over() {
    let service = Service::start().await;
    let sql = "INSERT INTO participant_hold (participant, process, state, cause, since, waiting, seen_at)
               VALUES ('payment', 'http://elsewhere', 'paused', 'operator', now(), 7, now())";
    service.engine.execute(sql, vec![]).await.unwrap();
    let why = json!({"reason": "because"});
    let paused = service.post("/api/participants/payment/pause", &why).await.json();
    assert_eq!(paused["state"], "paused");
    let resumed = service.post("/api/participants/payment/resume", &why).await.json();
    assert_eq!((&resumed["state"], &resumed["waiting"]), (&json!("ramping"), &json!(7)));
}

#[tokio::test]
async fn what_another_process_holds_is_listed_and_is_no_answer_for_our_sagas() {
    let service = Service::start().await;
    let booking =
        service.post("/api/bookings", &json!({"userId": USER, "resourceId": RESOURCE})).await.json();
    held_elsewhere(&service, "booking").await;
    assert_eq!(shown(&service, "booking").await["state"], "held");
    let why = service.get(&format!("/api/sagas/{}/why", booking["bookingId"].as_str().unwrap())).await.json();
    assert_eq!(why["held"], Value::Null, "{why}");
}

#[tokio::test]
async fn whoever_looks_needs_none_of_the_engines_connections() {
    let service = Service::start().await;
    let booking =
        service.post("/api/bookings", &json!({"userId": USER, "resourceId": RESOURCE})).await.json();
    let mut taken = Vec::new();
    for _ in 0..ENGINE_CONNECTIONS {
        taken.push(service.engine_side.connection().begin().await.unwrap());
    }
    assert_eq!(shown(&service, "payment").await["state"], "answering");
    let why = service.get(&format!("/api/sagas/{}/why", booking["bookingId"].as_str().unwrap())).await;
    assert_eq!(why.status, 200, "{}", why.text);
}

#[tokio::test]
async fn words_on_a_participant_wait_for_each_other_and_leave_the_engine_its_connections() {
    let service = Service::start().await;
    let first = service.engine.db.begin().await.unwrap();
    let sql = "INSERT INTO participant_order (participant, paused, revision, actor, reason, at)
               VALUES ('payment', true, 1, 'anonymous', 'the first', now())";
    first.execute_unprepared(sql).await.unwrap();
    let why = json!({"reason": "because"});
    let pauses = join_all((0..8).map(|_| service.post("/api/participants/payment/pause", &why)));
    let blocked = "SELECT pid::text AS text FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let meanwhile = async {
        eventually("a pause waits", async || !service.texts(blocked).await.is_empty()).await;
        let mut left = Vec::new();
        for _ in 1..ENGINE_CONNECTIONS {
            left.push(service.engine_side.connection().begin().await.unwrap());
        }
        drop(left);
        first.commit().await.unwrap();
    };
    let (pauses, ()) = tokio::join!(pauses, meanwhile);
    assert!(pauses.iter().all(|answered| answered.status == 200));
    let before = service.texts("SELECT DISTINCT state_before::text AS text FROM audit").await;
    assert_eq!(before, [r#"{"participant":"payment","paused":true}"#]);
}

/// How a process that starts goes on with a participant that was held so long ago, as one wrote it down that is gone.
async fn goes_on(service: &Service, seconds_ago: i64) -> &'static str {
    let sql = "INSERT INTO participant_hold (participant, process, state, cause, since, waiting, seen_at)
               VALUES ('payment', 'http://gone', 'held', 'silence', now(), 7, now() - $1 * interval '1 second')
               ON CONFLICT (participant, process) DO UPDATE SET seen_at = excluded.seen_at";
    service.engine.execute(sql, vec![seconds_ago.into()]).await.unwrap();
    let (store, limits) = (service.store().await, Limits::default());
    let desk = Desk::open(store, service.reads(), "http://new".into(), limits).await.unwrap();
    let (participants, _) = desk.board().begin(now());
    participants.get("payment").map_or("unknown", |health| State::of(health).as_str())
}

#[tokio::test]
async fn a_hold_that_nobody_renews_is_not_believed_for_long() {
    let service = Service::start().await;
    let mut states = Vec::new();
    for seconds_ago in [1, 300, 1_200] {
        states.push(goes_on(&service, seconds_ago).await);
    }
    assert_eq!(states, ["held", "ramping", "unknown"]);
}

/// A process that holds a participant, under the URL that another one has, too.
async fn holds(service: &Service, participant: &str) -> Desk {
    let (store, limits) = (service.store().await, Limits::default());
    let desk = Desk::open(store, service.reads(), "http://twin".into(), limits).await.unwrap();
    let hold = Health::Held(Hold::known(now(), Cause::Silence, now(), &limits));
    let held = Participants::new(limits, [(participant.into(), hold)]);
    desk.board().show(&held, &Parked::default());
    desk
}

#[tokio::test]
async fn processes_of_one_url_each_keep_what_they_hold() {
    let service = Service::start().await;
    let (one, other) = (holds(&service, "booking").await, holds(&service, "payment").await);
    let stop = CancellationToken::new();
    let both = [one, other.clone()].map(|desk| tokio::spawn(desk.keep(stop.clone())));
    eventually("each sees the other's", async || {
        let all = other.all([]).await.unwrap();
        all.iter().filter(|participant| participant.is_held()).count() == 2
    })
    .await;
    stop.cancel();
    for one in both {
        one.await.unwrap();
    }
    let rows = service.texts("SELECT participant AS text FROM participant_hold ORDER BY 1").await;
    assert_eq!(rows, ["booking", "payment"]);
    // Whoever comes to that URL later does not take their lines for another process's.
    let next = Desk::open(service.store().await, service.reads(), "http://twin".into(), Limits::default());
    assert_eq!(next.await.unwrap().all([]).await.unwrap(), []);
}
