//! Many letters sent again: chosen once, at a pace, stopped when failures come back.

use saga_defs::Data;
use saga_defs::saga::{Outcome, Refusal};
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dead_letters::{letter, reserve};
use crate::harness::{Answered, NOBODY, Service, USER, eventually};
use crate::verbs::started;

const RESERVE: Option<&str> = Some("booking.ReserveBooking");

/// Open letters, each about a saga of its own that waits at the step.
pub(crate) async fn letters(service: &Service, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let saga = started(service, "delivery").await;
        service.engine.reply(&saga, Outcome::Succeeded { fields: Data::new() }).await;
        let id = letter(service, "unhandled", RESERVE, Some(reserve())).await;
        belongs(service, &id, saga.id.as_uuid(), "confirm").await;
        ids.push(id);
    }
    ids
}

/// Open letters that are about no saga.
async fn letters_of_nobody(service: &Service, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(letter(service, "undecodable", RESERVE, Some(reserve())).await);
    }
    service.engine.execute("UPDATE dead_letter SET saga_id = NULL, step = NULL", vec![]).await.unwrap();
    ids
}

/// Makes the letter's saga this one, at that step.
async fn belongs(service: &Service, letter: &str, saga: Uuid, step: &str) {
    let sql = format!(
        "UPDATE dead_letter SET saga_id = '{saga}', step = '{step}', direction = 'forward' WHERE id = '{letter}'"
    );
    service.engine.execute(&sql, vec![]).await.unwrap();
}

/// The sagas of letters that were sent are answered, the newest first, so many of them.
async fn are_answered(service: &Service, at_most: usize, outcome: Outcome) {
    let sent = "SELECT saga_id::text AS text FROM dead_letter WHERE status = 'redriven' ORDER BY id DESC";
    let sagas = service.texts(sent).await;
    assert!(!sagas.is_empty(), "nothing was sent");
    for saga in sagas.iter().take(at_most) {
        let saga = service.engine.load(saga.parse().unwrap()).await.unwrap();
        service.engine.reply(&saga, outcome.clone()).await;
    }
}

pub(crate) async fn succeed(service: &Service) {
    are_answered(service, usize::MAX, Outcome::Succeeded { fields: Data::new() }).await;
}

/// One of them is stuck again.
async fn one_fails(service: &Service) {
    let refusal = Refusal::new("broken", "the printer is broken");
    are_answered(service, 1, Outcome::Rejected { refusal }).await;
}

/// Nothing was heard of what was sent for longer than anybody waits where nobody would tell.
async fn time_passes(service: &Service) {
    let sql = "UPDATE dead_letter SET updated_at = updated_at - interval '31 seconds'";
    service.engine.execute(sql, vec![]).await.unwrap();
}

pub(crate) async fn make(service: &Service, path: &str, body: Value) -> String {
    let answered = service.post(path, &body).await;
    assert_eq!(answered.status, 202, "{}", answered.text);
    let made = answered.json();
    assert_eq!(answered.header("location"), format!("{path}/{}", made["id"].as_str().unwrap()));
    answered.header("location").to_owned()
}

pub(crate) async fn redrive(service: &Service, body: Value) -> String {
    make(service, "/api/redrives", body).await
}

/// The state of an action in a line.
pub(crate) fn line(action: &Value) -> String {
    let number = |name: &str| format!("{name} {}", action[name]);
    let numbers = ["sent", "succeeded", "failedAgain", "waiting", "remaining"].map(number).join(", ");
    let passed =
        if action["passedOver"] == json!({}) { String::new() } else { format!(", {}", action["passedOver"]) };
    let text = |name: &str| action[name].as_str().map(|text| format!("; {text}")).unwrap_or_default();
    format!(
        "{}: {numbers}{passed}{}{}",
        action["status"].as_str().unwrap(),
        text("waitsFor"),
        text("stopReason")
    )
}

/// Waits for a state, and says which it was if it does not come.
pub(crate) async fn becomes(service: &Service, path: &str, expected: &str) {
    let mut last = String::new();
    let mut reached = false;
    for _ in 0..400 {
        last = line(&service.get(path).await.json());
        reached = last == expected;
        if reached {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert!(reached, "not reached: {expected}\nlast seen:   {last}");
}

#[tokio::test]
async fn letters_are_sent_in_steps_and_their_outcomes_waited_for() {
    let service = Service::start().await;
    let ids = letters(&service, 8).await;
    let path = redrive(
        &service,
        json!({ "filter": { "reason": "unhandled" }, "ramp": [1, 3], "ratePerSecond": 1000, "reason": "mended" }),
    )
    .await;
    // What comes afterwards was not chosen.
    letters(&service, 1).await;
    becomes(&service, &path, "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 7; the outcome of 1 of step 1; 7 follow").await;
    succeed(&service).await;
    becomes(&service, &path, "running: sent 4, succeeded 1, failedAgain 0, waiting 3, remaining 4; the outcomes of 3 of step 2; 4 follow").await;
    succeed(&service).await;
    becomes(
        &service,
        &path,
        "running: sent 8, succeeded 4, failedAgain 0, waiting 4, remaining 0; the outcomes of 4",
    )
    .await;
    assert_eq!(service.get(&path).await.json()["finishedAt"], Value::Null);
    succeed(&service).await;
    becomes(&service, &path, "completed: sent 8, succeeded 8, failedAgain 0, waiting 0, remaining 0").await;
    eventually("it is finished", async || service.get(&path).await.json()["finishedAt"].is_string()).await;

    let acts = service.engine.letter_acts.lock().unwrap().clone();
    let sent: Vec<String> = acts.iter().map(|act| act.letter.to_string()).collect();
    assert_eq!(sent.iter().collect::<std::collections::BTreeSet<_>>(), ids.iter().collect());
    assert_eq!((sent.len(), &sent[0]), (8, &ids[0]), "each once, the oldest first");
    assert!(acts.iter().all(|act| &*act.reason == "mended" && act.key.is_some()));
    let page = service.get(&format!("{path}/letters?outcome=succeeded&limit=5")).await.json();
    let next = page["nextCursor"].as_str().unwrap();
    let rest = service.get(&format!("{path}/letters?outcome=succeeded&limit=5&cursor={next}")).await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (5, 3));
    assert_eq!((&page["items"][0]["id"], &page["items"][0]["place"]), (&json!(ids[0]), &json!(1)));
    let listed = service.get("/api/redrives").await.json();
    assert_eq!(listed["items"][0], service.get(&path).await.json());
}

#[tokio::test]
async fn failures_that_come_back_stop_it() {
    let service = Service::start().await;
    letters(&service, 20).await;
    let body = json!({ "filter": { "status": "open" }, "ratePerSecond": 1000, "reason": "perhaps now" });
    let path = redrive(&service, body.clone()).await;
    becomes(&service, &path, "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 19; the outcome of 1 of step 1; 19 follow").await;
    one_fails(&service).await;
    becomes(
        &service,
        &path,
        "stopped: sent 1, succeeded 0, failedAgain 1, waiting 0, remaining 19; 1 of the last 1 failed again",
    )
    .await;
    // What is left is open as before: the next one takes it up again.
    let path = redrive(&service, body).await;
    becomes(&service, &path, "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 19; the outcome of 1 of step 1; 19 follow").await;
    succeed(&service).await;
    becomes(&service, &path, "running: sent 6, succeeded 1, failedAgain 0, waiting 5, remaining 14; the outcomes of 5 of step 2; 14 follow").await;
    one_fails(&service).await;
    becomes(&service, &path, "stopped: sent 6, succeeded 1, failedAgain 1, waiting 4, remaining 14; the outcomes of 4; 1 of the last 1 failed again").await;
    // What was sent before is followed to its end.
    succeed(&service).await;
    becomes(
        &service,
        &path,
        "stopped: sent 6, succeeded 5, failedAgain 1, waiting 0, remaining 14; 1 of the last 1 failed again",
    )
    .await;
    let failed = service.get(&format!("{path}/letters?outcome=failed_again")).await.json();
    assert_eq!(failed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_sends_nothing() {
    let service = Service::start().await;
    let ids = letters(&service, 5).await;
    let running = started(&service, "booking").await;
    belongs(&service, &ids[0], running.id.as_uuid(), "reserve-booking").await;
    belongs(&service, &ids[1], running.id.as_uuid(), "charge-payment").await;
    let ended = service.engine.complete(&started(&service, "booking").await).await;
    belongs(&service, &ids[2], ended.id.as_uuid(), "reserve-booking").await;
    belongs(&service, &ids[3], NOBODY.parse().unwrap(), "reserve-booking").await;
    let poison = "UPDATE dead_letter SET record_value = 'poison' WHERE id = (SELECT max(id::text)::uuid FROM dead_letter)";
    service.engine.execute(poison, vec![]).await.unwrap();

    let body = json!({ "filter": {}, "dryRun": true, "reason": "what if" });
    let made = service.post("/api/redrives", &body).await.json();
    assert_eq!((&made["status"], &made["dryRun"]), (&json!("completed"), &json!(true)), "{made}");
    insta::assert_json_snapshot!(made["found"], @r#"
    {
      "examined": 5,
      "failsSchema": 1,
      "matched": 5,
      "passesSchema": 4,
      "wouldNotSend": {
        "saga_ended": 1,
        "saga_gone": 1,
        "saga_moved_on": 1
      },
      "wouldSend": 2
    }
    "#);
    let path = format!("/api/redrives/{}/letters", made["id"].as_str().unwrap());
    let page = service.get(&path).await.json();
    let items = page["items"].as_array().unwrap().iter();
    let notes: Vec<String> = items
        .map(|item| format!("{}: {}", item["code"].as_str().unwrap(), item["note"].as_str().unwrap_or("-")))
        .collect();
    insta::assert_snapshot!(notes.join("\n"), @r"
    send: -
    saga_moved_on: its saga is at reserve-booking by now: the message might take effect again, and the answer would be ignored
    saga_ended: its saga has ended (completed): the message might take effect, and nobody would take the answer
    saga_gone: its saga is no longer kept: nobody would take the answer
    send: -
    ");

    let patch = json!({ "resourceId": USER, "userId": 7 });
    let body = json!({ "filter": {}, "dryRun": true, "patch": patch, "reason": "what if" });
    let found = service.post("/api/redrives", &body).await.json()["found"].clone();
    assert_eq!(
        (&found["wouldSend"], &found["passesSchema"], &found["failsSchema"]),
        (&json!(0), &json!(0), &json!(5))
    );
    assert_eq!(found["wouldNotSend"]["does_not_fit"], 2);
    assert!(service.engine.letter_acts.lock().unwrap().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn what_has_moved_on_is_passed_over_and_a_patch_is_sent_where_it_fits() {
    let service = Service::start().await;
    let ids = letters(&service, 3).await;
    let ended = service.engine.complete(&started(&service, "booking").await).await;
    belongs(&service, &ids[0], ended.id.as_uuid(), "reserve-booking").await;
    let poison = format!("UPDATE dead_letter SET record_value = 'poison' WHERE id = '{}'", ids[1]);
    service.engine.execute(&poison, vec![]).await.unwrap();
    let body =
        json!({ "filter": {}, "ramp": [], "patch": { "resourceId": USER }, "reason": "the other room" });
    let path = redrive(&service, body).await;
    becomes(&service, &path, r#"running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 0, {"does_not_fit":1,"saga_ended":1}; the outcome of 1"#).await;
    succeed(&service).await;
    becomes(&service, &path, r#"completed: sent 1, succeeded 1, failedAgain 0, waiting 0, remaining 0, {"does_not_fit":1,"saga_ended":1}"#).await;
    let acts = service.engine.letter_acts.lock().unwrap().clone();
    let orchestrator::engine::handle::LetterVerb::Redrive { edit: Some(edit) } = &acts[0].verb else {
        panic!("{acts:?}")
    };
    assert_eq!(edit.fields["resourceId"], USER);
    assert_eq!(edit.changes.iter().map(|change| &*change.field).collect::<Vec<_>>(), ["resourceId"]);
}

#[tokio::test]
async fn one_key_makes_one_redrive_and_cancels_it_once() {
    let service = Service::start().await;
    letters(&service, 3).await;
    let key = [("idempotency-key", "redrive-1")];
    let body = json!({ "filter": { "reason": "unhandled" }, "reason": "once" });
    let id = async |answered: Answered| answered.json()["id"].clone();
    let first = id(service.post_with("/api/redrives", &key, &body).await).await;
    assert_eq!(id(service.post_with("/api/redrives", &key, &body).await).await, first);
    let other = json!({ "filter": {}, "reason": "once" });
    let refused = service.post_with("/api/redrives", &key, &other).await.problem();
    assert!(refused.starts_with("422 idempotency-key-reused: "), "{refused}");
    assert_eq!(service.get("/api/redrives").await.json()["items"].as_array().unwrap().len(), 1);

    let path = format!("/api/redrives/{}", first.as_str().unwrap());
    becomes(&service, &path, "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 2; the outcome of 1 of step 1; 2 follow").await;
    let key = [("idempotency-key", "cancel-1")];
    let why = json!({ "reason": "wrong room" });
    for _ in 0..2 {
        let cancelled = service.post_with(&format!("{path}/cancel"), &key, &why).await;
        assert_eq!((cancelled.status.as_u16(), &cancelled.json()["status"]), (200, &json!("cancelled")));
    }
    assert_eq!(
        service.post(&format!("{path}/cancel"), &why).await.problem(),
        "409 wrong-state: the action is cancelled; only a running one can be cancelled"
    );
    succeed(&service).await;
    becomes(&service, &path, "cancelled: sent 1, succeeded 1, failedAgain 0, waiting 0, remaining 2").await;
    let audit = "SELECT concat_ws(' ', verb || ':', reason, state_before, state_after) AS text FROM audit ORDER BY id";
    let audited = service.texts(audit).await.join("\n").replace(first.as_str().unwrap(), "<id>");
    insta::assert_snapshot!(audited, @r#"
    redrive-dead-letters: once {"action":"<id>","dryRun":false,"filter":{"reason":"unhandled"}}
    cancel-action: wrong room {"action":"<id>","status":"running"} {"action":"<id>","status":"cancelled"}
    "#);
    for nothing in
        [format!("/api/saga-actions/{}", first.as_str().unwrap()), format!("/api/redrives/{NOBODY}")]
    {
        assert_eq!(service.get(&nothing).await.status, 404, "{nothing}");
    }
}

#[tokio::test]
async fn who_goes_on_after_a_crash_knows_what_was_sent() {
    let service = Service::start().await;
    letters(&service, 3).await;
    let path = redrive(&service, json!({ "filter": {}, "reason": "again" })).await;
    becomes(&service, &path, "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 2; the outcome of 1 of step 1; 2 follow").await;
    // As if the process had died after the engine's commit and before its own.
    let lost = "WITH a AS (UPDATE bulk_action SET progress = '{}', lease_token = NULL, lease_until = NULL)
                UPDATE bulk_item SET state = 'chosen', updated_at = NULL";
    service.engine.execute(lost, vec![]).await.unwrap();
    becomes(&service, &path, "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 2; the outcome of 1 of step 1; 2 follow").await;
    assert_eq!(service.engine.letter_acts.lock().unwrap().len(), 1, "it was not sent twice");
}

#[tokio::test]
async fn letters_that_nobody_waits_for_have_an_outcome_all_the_same() {
    let service = Service::start().await;
    let ids = letters_of_nobody(&service, 4).await;
    let body =
        json!({ "filter": {}, "ramp": [1, 2], "ratePerSecond": 1000, "reason": "the schema is there" });
    let path = redrive(&service, body.clone()).await;
    becomes(&service, &path, "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 3; the outcome of 1 of step 1; 3 follow").await;
    time_passes(&service).await;
    becomes(&service, &path, "running: sent 3, succeeded 1, failedAgain 0, waiting 2, remaining 1; the outcomes of 2 of step 2; 1 follow").await;
    // One of these is back on the topic of dead letters.
    let back = format!("UPDATE dead_letter SET status = 'open' WHERE id = '{}'", ids[1]);
    service.engine.execute(&back, vec![]).await.unwrap();
    becomes(&service, &path, "stopped: sent 3, succeeded 1, failedAgain 1, waiting 1, remaining 1; the outcome of 1; 1 of the last 1 failed again").await;
    time_passes(&service).await;
    becomes(
        &service,
        &path,
        "stopped: sent 3, succeeded 2, failedAgain 1, waiting 0, remaining 1; 1 of the last 1 failed again",
    )
    .await;
    let page = service.get(&format!("{path}/letters?outcome=succeeded")).await.json();
    assert_eq!(
        (&page["items"][0]["id"], &page["items"][0]["code"], &page["items"][0]["note"]),
        (
            &json!(ids[0]),
            &json!("not_back"),
            &json!(
                "no saga waits for it: it counts as done, since it has not failed again within 30 seconds"
            )
        )
    );
}

#[tokio::test]
async fn a_letter_whose_saga_ends_as_it_is_sent_has_an_outcome_all_the_same() {
    let service = Service::start().await;
    let ids = letters(&service, 1).await;
    let path = redrive(&service, json!({ "filter": {}, "reason": "again" })).await;
    becomes(
        &service,
        &path,
        "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 0; the outcome of 1",
    )
    .await;
    // A saga that had ended when the letter was sent knows nothing of it.
    let ended = service.engine.complete(&started(&service, "booking").await).await;
    belongs(&service, &ids[0], ended.id.as_uuid(), "reserve-booking").await;
    time_passes(&service).await;
    becomes(&service, &path, "completed: sent 1, succeeded 1, failedAgain 0, waiting 0, remaining 0").await;
}

#[tokio::test]
async fn a_letter_whose_saga_waits_is_waited_for_however_long() {
    let service = Service::start().await;
    letters(&service, 1).await;
    let path = redrive(&service, json!({ "filter": {}, "reason": "again" })).await;
    let waiting = "running: sent 1, succeeded 0, failedAgain 0, waiting 1, remaining 0; the outcome of 1";
    becomes(&service, &path, waiting).await;
    time_passes(&service).await;
    // Whoever takes it up anew looks at the outcome first.
    let lease = "UPDATE bulk_action SET lease_token = NULL, lease_until = NULL";
    service.engine.execute(lease, vec![]).await.unwrap();
    eventually("somebody drives it again", async || {
        let driven = "SELECT 'yes' AS text FROM bulk_action WHERE lease_token IS NOT NULL";
        !service.texts(driven).await.is_empty()
    })
    .await;
    assert_eq!(line(&service.get(&path).await.json()), waiting);
    succeed(&service).await;
    becomes(&service, &path, "completed: sent 1, succeeded 1, failedAgain 0, waiting 0, remaining 0").await;
}

#[tokio::test]
async fn one_key_cancels_once_however_often_it_is_sent_at_once() {
    let service = Service::start().await;
    letters(&service, 3).await;
    let path = redrive(&service, json!({ "filter": {}, "reason": "again" })).await;
    let row = service.engine.db.begin().await.unwrap();
    row.execute_unprepared("SELECT FROM bulk_action FOR UPDATE").await.unwrap();
    let cancel = async || {
        let key = [("idempotency-key", "cancel-twice")];
        service.post_with(&format!("{path}/cancel"), &key, &json!({ "reason": "wrong room" })).await
    };
    let release = async {
        eventually("both wait for the row", async || {
            let waiting = "SELECT 'one' AS text FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event_type = 'Lock'
                             AND query LIKE 'SELECT status FROM bulk_action%'";
            service.texts(waiting).await.len() == 2
        })
        .await;
        row.commit().await.unwrap();
    };
    let (one, two, ()) = tokio::join!(cancel(), cancel(), release);
    for answered in [one, two] {
        assert_eq!((answered.status.as_u16(), &answered.json()["status"]), (200, &json!("cancelled")));
    }
    let audited = service.texts("SELECT verb AS text FROM audit WHERE verb = 'cancel-action'").await;
    assert_eq!(audited.len(), 1);
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let service = Service::start().await;
    let mut lines = Vec::new();
    for (path, body) in [
        ("/api/redrives", json!({})),
        (
            "/api/redrives",
            json!({ "filter": { "status": "redriven", "sagaId": 7, "colour": "red" }, "reason": "x" }),
        ),
        (
            "/api/redrives",
            json!({ "filter": {}, "ratePerSecond": 0, "ramp": [1, 0], "dryRun": "yes", "patch": [], "reason": "x" }),
        ),
        ("/api/redrives", json!({ "filter": { "ids": ["x"] }, "reason": "x" })),
        ("/api/saga-actions", json!({ "filter": {}, "action": "delete", "reason": "x" })),
        ("/api/saga-actions", json!({ "filter": {}, "action": "cancel", "reason": "x" })),
        (
            "/api/saga-actions",
            json!({ "filter": { "businessKey": null }, "action": "cancel", "reason": "x" }),
        ),
        (
            "/api/saga-actions",
            json!({ "filter": { "startedAfter": "today" }, "action": "skip", "reason": "x" }),
        ),
    ] {
        lines.push(service.post(path, &body).await.problem());
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    422 validation: reason: is missing; a text is expected; filter: is missing; an object is expected [reason, filter]
    422 validation: filter.status: must be open; found `redriven`; filter.sagaId: must be a UUID as text; found 7; filter.colour: is not a field of this request [filter.status, filter.sagaId, filter.colour]
    422 validation: ratePerSecond: must be 1 to 1000; found 0; ramp[1]: must be a whole number, 1 to 1000000; dryRun: must be true or false; found `yes`; patch: must be an object; found an array [ratePerSecond, ramp[1], dryRun, patch]
    422 validation: filter.ids[0]: must be a UUID as text [filter.ids[0]]
    422 validation: action: must be cancel or redrive or skip or retry-now; found `delete` [action]
    422 validation: filter: names no condition; one at least is expected [filter]
    422 validation: filter: names no condition; one at least is expected [filter]
    422 validation: filter.startedAfter: must be a time such as 2026-01-02T03:04:05Z; found `today` [filter.startedAfter]
    ");
}
