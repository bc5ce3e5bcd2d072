//! Server-sent events: every transition once and in order, resumed where it was left, and nobody slow in anybody's way.

use std::time::Duration;

use orchestrator::api::HttpLimits;
use saga_defs::Data;
use saga_defs::saga::{Outcome, Saga};
use serde_json::{Value, json};

use crate::harness::{NOBODY, Options, RESOURCE, Service, USER, eventually};

const SOON: Duration = Duration::from_secs(10);

async fn started(service: &Service, definition: &str) -> Saga {
    let body = json!({ "definition": definition, "input": { "userId": USER, "resourceId": RESOURCE } });
    let id = service.post("/api/sagas", &body).await.json()["sagaId"].as_str().unwrap().parse().unwrap();
    service.engine.load(id).await.unwrap()
}

async fn succeeds(service: &Service, saga: &Saga) -> Saga {
    service.engine.reply(saga, Outcome::Succeeded { fields: Data::new() }).await
}

/// One frame of a stream.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Option<Value>,
    comment: bool,
}

/// A stream that is listened to.
pub(crate) struct Listening {
    answer: reqwest::Response,
    text: String,
    /// So much of the text was taken.
    taken: usize,
}

impl Listening {
    pub(crate) async fn to(service: &Service, path: &str, last: Option<&str>) -> Self {
        let request = service.request("GET", path);
        let request = last.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, text: String::new(), taken: 0 }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, _)) = self.text[self.taken..].split_once("\n\n") {
                let mut read = Frame::default();
                for line in frame.lines() {
                    match line.split_once(':').unwrap() {
                        ("event", name) => name.clone_into(&mut read.name),
                        ("id", id) => id.clone_into(&mut read.id),
                        ("data", data) => read.data = Some(serde_json::from_str(data).unwrap()),
                        ("", _) => read.comment = true,
                        ("retry", _) => {}
                        (other, _) => panic!("{other}"),
                    }
                }
                self.taken += frame.len() + 2;
                return Some(read);
            }
            let more = tokio::time::timeout(SOON, self.answer.chunk()).await.expect("nothing comes");
            // A connection that is cut ends the stream too.
            let Ok(Some(more)) = more else { return None };
            self.text.drain(..std::mem::take(&mut self.taken));
            self.text.push_str(std::str::from_utf8(&more).unwrap());
        }
    }

    /// The next transition: its id, and what it says in short.
    async fn told(&mut self) -> Option<(String, String)> {
        loop {
            let frame = self.frame().await?;
            let Some(data) = frame.data else { continue };
            assert_eq!(frame.name, "transition");
            let word = |name: &str| data[name].as_str().unwrap_or("none").to_owned();
            let text = format!(
                "{} {} {}",
                data["revision"],
                data["event"]["type"].as_str().unwrap(),
                word("status")
            );
            return Some((frame.id, text));
        }
    }
}

#[tokio::test]
async fn a_saga_is_told_from_its_first_transition_to_its_last() {
    let service = Service::start().await;
    let saga = started(&service, "booking").await;
    let saga = succeeds(&service, &saga).await;
    let path = format!("/api/sagas/{}/events", saga.id);
    let mut listening = Listening::to(&service, &path, None).await;
    let mut lines = Vec::new();
    for _ in 0..2 {
        lines.push(listening.told().await.unwrap());
    }
    service.engine.complete(&saga).await;
    while let Some(told) = listening.told().await {
        lines.push(told);
    }
    let lines: Vec<String> = lines.into_iter().map(|(id, text)| format!("{id}: {text}")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    1: 1 started running
    2: 2 replied running
    3: 3 replied running
    4: 4 replied completed
    ");
    let mut resumed = Listening::to(&service, &path, Some("2")).await;
    assert_eq!(resumed.told().await.unwrap().0, "3");
    assert_eq!(resumed.told().await.unwrap().0, "4");
    assert!(resumed.told().await.is_none(), "it ends with the saga");
    let nothing = service.send(service.request("GET", &path).header("last-event-id", "4")).await;
    assert_eq!((nothing.status.as_u16(), nothing.text.as_str()), (204, ""));
}

#[tokio::test]
async fn an_event_says_what_the_history_says() {
    let service = Service::start().await;
    let saga = started(&service, "booking").await;
    let mut listening = Listening::to(&service, &format!("/api/sagas/{}/events", saga.id), None).await;
    let opening = listening.frame().await.unwrap();
    assert_eq!((opening.id.as_str(), opening.data), ("0", None));
    let mut told = listening.frame().await.unwrap().data.unwrap();
    let history = service.get(&format!("/api/sagas/{}/history", saga.id)).await.json()["items"][0].clone();
    assert_eq!(told["sagaId"], saga.id.to_string());
    assert_eq!((&told["definition"], &told["version"]), (&json!("booking"), &json!(1)));
    for name in ["sagaId", "definition", "version"] {
        told.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(told, history);
}

#[tokio::test]
async fn all_sagas_are_told_and_a_stream_goes_on_where_it_was_left() {
    let service = Service::start().await;
    service.engine.has_shards(1).await;
    let before = started(&service, "booking").await;
    let mut all = Listening::to(&service, "/api/sagas/events", None).await;
    let place = all.frame().await.unwrap().id;
    assert!(!place.is_empty(), "one may resume before the first event");
    let one = started(&service, "booking").await;
    let two = started(&service, "delivery").await;
    let (first, _) = all.told().await.unwrap();
    all.told().await.unwrap();
    drop(all);
    succeeds(&service, &one).await;
    succeeds(&service, &before).await;

    let mut resumed = Listening::to(&service, "/api/sagas/events", Some(&first)).await;
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(resumed.told().await.unwrap().1);
    }
    assert_eq!(texts, ["1 started running", "2 replied running", "2 replied running"]);
    succeeds(&service, &two).await;
    assert_eq!(resumed.told().await.unwrap().1, "2 replied running", "and goes on");

    let mut again = Listening::to(&service, "/api/sagas/events", Some(&place)).await;
    assert_eq!(again.told().await.unwrap(), (first, "1 started running".to_owned()));
}

#[tokio::test]
async fn a_stream_may_be_of_some_sagas_only() {
    let limits = HttpLimits { event_heartbeat: Duration::from_millis(50), ..HttpLimits::default() };
    let service = Service::start_with(Options { limits, ..Options::default() }).await;
    service.engine.has_shards(1).await;
    let mut some =
        Listening::to(&service, "/api/sagas/events?definition=booking&status=completed", None).await;
    let begin = some.frame().await.unwrap().id;
    let delivery = started(&service, "delivery").await;
    service.engine.complete(&delivery).await;
    // What is of no interest moves the place all the same.
    let mut beat = some.frame().await.unwrap();
    while beat.id == begin {
        assert!(beat.comment && beat.data.is_none(), "{beat:?}");
        beat = some.frame().await.unwrap();
    }
    let booking = started(&service, "booking").await;
    service.engine.complete(&booking).await;
    assert_eq!(some.told().await.unwrap().1, "4 replied completed");
}

#[tokio::test]
async fn a_stream_of_some_sagas_beats_however_busy_the_others_are() {
    let limits = HttpLimits { event_heartbeat: Duration::from_secs(1), ..HttpLimits::default() };
    let service = Service::start_with(Options { limits, ..Options::default() }).await;
    service.engine.has_shards(1).await;
    let mut some = Listening::to(&service, "/api/sagas/events?status=compensated", None).await;
    some.frame().await.unwrap();
    let others = async {
        loop {
            started(&service, "delivery").await;
        }
    };
    tokio::select! {
        () = others => {}
        beat = some.frame() => assert!(beat.as_ref().is_some_and(|beat| beat.comment), "{beat:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_resumed_says_why() {
    let service = Service::start().await;
    service.engine.has_shards(2).await;
    let saga = started(&service, "booking").await;
    let path = format!("/api/sagas/{}/events", saga.id);
    let mut lines = Vec::new();
    for (path, id) in [
        (&*path, "2"),
        (&path, "x"),
        (&path, "-1"),
        (&format!("/api/sagas/{NOBODY}/events"), "1"),
        ("/api/sagas/events", "x"),
        ("/api/sagas/events", "AA"),
        ("/api/sagas/events", "CQA"),
    ] {
        let answered = service.send(service.request("GET", path).header("last-event-id", id)).await;
        lines.push(answered.problem().replace(&saga.id.to_string(), "<saga>"));
    }
    service.engine.execute("DELETE FROM journal", vec![]).await.unwrap();
    for (path, id) in [(&*path, "0"), ("/api/sagas/events", "AAA")] {
        lines.push(service.send(service.request("GET", path).header("last-event-id", id)).await.problem());
    }
    lines.push(service.get("/api/sagas/events?colour=red").await.problem());
    insta::assert_snapshot!(lines.join("\n"), @"
    400 header: Last-Event-ID must be a revision that the saga has had: 0 to 1
    400 header: Last-Event-ID must be a revision that the saga has had: 0 to 1
    400 header: Last-Event-ID must be a revision that the saga has had: 0 to 1
    404 not-found: no saga has the id 0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000
    400 header: Last-Event-ID is not the id of an event that came from here
    400 header: Last-Event-ID is not the id of an event that came from here
    400 header: Last-Event-ID is not the id of an event that came from here
    410 gone: the journal no longer has all that comes after this revision; read what is there now, then listen without Last-Event-ID
    410 gone: the journal no longer has all that comes after this place; read what is there now, then listen without Last-Event-ID
    400 query: colour: is not a parameter of this resource [colour]
    ");
}

#[tokio::test]
async fn there_is_room_for_so_many_and_a_stop_ends_all() {
    let limits = HttpLimits { event_readers: 2, ..HttpLimits::default() };
    let service = Service::start_with(Options { limits, ..Options::default() }).await;
    let saga = started(&service, "booking").await;
    let one = Listening::to(&service, "/api/sagas/events", None).await;
    let mut two = Listening::to(&service, &format!("/api/sagas/{}/events", saga.id), None).await;
    let refused = service.get("/api/sagas/events").await;
    assert!(
        refused.problem().starts_with("503 busy: as many clients as there is room for"),
        "{}",
        refused.text
    );
    drop(one);
    eventually("the room of one who left is free", async || {
        service.head_of(service.request("GET", "/api/sagas/events")).await.status == 200
    })
    .await;
    two.told().await.unwrap();
    service.stop.cancel();
    assert!(two.told().await.is_none());
    let served = tokio::time::timeout(SOON, service.served).await.expect("the streams hold up the stop");
    served.unwrap().unwrap();
}

/// A client that reads nothing is cut off, and others are told everything meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_is_cut_off_and_holds_up_nobody() {
    let service = Service::start().await;
    service.engine.has_shards(1).await;
    let saga = started(&service, "booking").await;
    let mut slow = Listening::to(&service, "/api/sagas/events", None).await;
    let mut quick = Listening::to(&service, "/api/sagas/events", None).await;
    // In the end more than sockets and buffers take.
    const EACH: usize = 2_000;
    const ALL: usize = 7 * EACH;
    for from in (0..ALL).step_by(EACH) {
        let to = from + EACH;
        let sql = format!(
            "WITH many AS (
                 INSERT INTO journal (shard, seq, saga_id, revision, at, status, event, effects)
                 SELECT 0, 1 + n, '{}', 1 + n, now(), 'running', json_build_object('type', repeat('x', 4000)), '[]'
                 FROM generate_series({from} + 1, {to}) n
             )
             UPDATE shard SET next_seq = {to} + 2",
            saga.id
        );
        service.engine.execute(&sql, vec![]).await.unwrap();
        for n in from..to {
            assert!(quick.told().await.unwrap().1.starts_with(&format!("{} ", n + 2)));
        }
    }
    let mut told = 0;
    while slow.told().await.is_some() {
        told += 1;
    }
    assert!(told < ALL, "it was cut off");
}
