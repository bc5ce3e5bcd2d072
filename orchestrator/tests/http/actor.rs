//! Who acts: as a proxy says in the header that the service was told to believe, down to the audit.

use orchestrator::api::ActorHeader;
use orchestrator::engine::handle::ActError;
use serde_json::{Value, json};

use crate::dead_letters::{letter, reserve};
use crate::definitions::{PARCEL, with_schemas};
use crate::harness::{Answered, Options, Service, eventually};
use crate::redrives::letters;
use crate::verbs::{started, stuck};

const HEADER: &str = "x-forwarded-user";

async fn believing() -> Service {
    let actor_header = ActorHeader::parse(HEADER);
    Service::start_with(Options { actor_header, ..Options::default() }).await
}

async fn post(service: &Service, actor: &str, path: &str, body: &Value) -> Answered {
    let answered = service.post_with(path, &[(HEADER, actor)], body).await;
    assert!(answered.status.is_success(), "{} {}", answered.status, answered.text);
    answered
}

#[tokio::test]
async fn whoever_acts_is_in_the_audit() {
    let service = believing().await;
    let why = json!({"reason": "because"});
    let saga = started(&service, "booking").await;
    post(&service, "ann", &format!("/api/sagas/{}/cancel", saga.id), &why).await;
    let nobodys = letter(&service, "undecodable", None, Some(reserve())).await;
    post(&service, "bob", &format!("/api/dead-letters/{nobodys}/discard"), &why).await;
    post(&service, "eve", "/api/participants/payment/pause", &why).await;
    post(&service, "dan", "/api/definitions", &with_schemas(PARCEL)).await;
    letters(&service, 1).await;
    let made = post(&service, "fay", "/api/redrives", &json!({"filter": {}, "reason": "mended"})).await;
    assert_eq!(made.json()["actor"], "fay");
    let stuck = stuck(&service).await;
    let skip = json!({"filter": {"status": "stuck"}, "action": "skip", "reason": "by hand"});
    post(&service, "gus", "/api/saga-actions", &skip).await;
    eventually("the saga is skipped", async || {
        service.engine.load(stuck.id).await.unwrap().revision > stuck.revision
    })
    .await;
    eventually("the letter is sent", async || service.engine.actors.lock().unwrap().len() == 4).await;
    service.post("/api/participants/payment/resume", &why).await;

    // What one saga or letter is asked the engine writes down in the commit that acts.
    let mut asked = service.engine.actors.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, ["cancel ann", "discard bob", "redrive fay", "skip gus"]);
    let audit = service.texts("SELECT verb || ' ' || actor AS text FROM audit ORDER BY id").await;
    insta::assert_snapshot!(audit.join("\n"), @"
    pause-participant eve
    register dan
    redrive-dead-letters fay
    skip-sagas gus
    resume-participant anonymous
    ");
}

#[tokio::test]
async fn the_owner_of_a_saga_is_told_who_acts() {
    let (here, there) = (believing().await, believing().await);
    let saga = started(&there, "booking").await;
    let owner = Some(format!("http://{}", there.address));
    here.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner: owner.clone() });
    post(&here, "ann", &format!("/api/sagas/{}/cancel", saga.id), &json!({"reason": "because"})).await;
    let stuck = stuck(&here).await;
    here.engine.act_errors.lock().unwrap().push_back(ActError::NotHere { owner });
    let skip = json!({"filter": {"step": "confirm"}, "action": "skip", "reason": "by hand"});
    // It is not there either: what counts is who asks.
    post(&here, "bob", "/api/saga-actions", &skip).await;
    eventually("it is passed on", async || there.engine.actors.lock().unwrap().len() == 2).await;
    assert_eq!(*there.engine.actors.lock().unwrap(), ["cancel ann", "skip bob"]);
    assert_eq!(here.engine.load(stuck.id).await.unwrap().revision, stuck.revision);
}

#[tokio::test]
async fn who_is_not_believed_is_nobody_and_who_is_two_is_refused() {
    let why = json!({"reason": "because"});
    let pause = "/api/participants/payment/pause";
    let trusting_nobody = Service::start().await;
    post(&trusting_nobody, "ann", pause, &why).await;
    let audit = "SELECT actor AS text FROM audit";
    assert_eq!(trusting_nobody.texts(audit).await, ["anonymous"]);
    let service = believing().await;
    for said in [&["ann", "bob"][..], &[""]] {
        let headers: Vec<(&str, &str)> = said.iter().map(|actor| (HEADER, *actor)).collect();
        let refused = service.post_with(pause, &headers, &why).await;
        assert!(refused.problem().starts_with("400 header: "), "{}", refused.text);
    }
    assert_eq!(service.texts(audit).await, Vec::<String>::new());
}
