//! What the client does while it listens: it goes on where a connection breaks, and stops where it is told to.
#![cfg(test)]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use saga_client::{Client, Error, ProblemKind, SagaId};

const SAGA: SagaId = SagaId(uuid::Uuid::from_u128(0x0190a6b0_1c2d_7e3f_8a4b_5c6d7e8f9a0b));

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// What the service does with one connection.
enum Answer {
    /// Sends these, one after the other, and closes.
    Stream(Vec<String>),
    /// Begins a stream, says nothing, and lets go when the client does.
    Silence,
    /// Answers so.
    Status(&'static str, &'static str),
}

fn transition(revision: u32, status: &str) -> String {
    format!(
        "event:transition\nid:{revision}\ndata:{{\"sagaId\":\"{SAGA}\",\"definition\":\"booking\",\"version\":1,\
         \"revision\":{revision},\"at\":\"2026-11-22T19:58:53.891Z\",\"event\":{{\"type\":\"replied\"}},\"effects\":[],\
         \"status\":\"{status}\"}}\n\n"
    )
}

fn shown(status: &str, revision: u32) -> String {
    format!(
        "{{\"sagaId\":\"{SAGA}\",\"definition\":\"booking\",\"version\":1,\"businessKey\":null,\"status\":\"{status}\",\
         \"reason\":null,\"steps\":[],\"data\":{{}},\"revision\":{revision},\"startedAt\":\"2026-11-22T19:58:53.891Z\",\
         \"updatedAt\":\"2026-11-22T19:58:53.891Z\",\"finishedAt\":null,\"nextWakeAt\":null}}"
    )
}

/// Treats one connection after the other so, and tells what was asked and after which event.
fn service(answers: Vec<Answer>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (url, asked) = served(answers);
    (Client::new(url).unwrap(), asked)
}

/// A client without patience.
fn hasty(answers: Vec<Answer>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (url, asked) = served(answers);
    let client = Client::builder(url).answer_limit(Duration::from_millis(300));
    (client.retry_limit(Duration::from_millis(500)).build().unwrap(), asked)
}

fn served(answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            heard.lock().unwrap().push(request(&stream));
            match answer {
                Answer::Stream(parts) => {
                    stream.write_all(STREAM.as_bytes()).unwrap();
                    for part in parts {
                        stream.write_all(part.as_bytes()).unwrap();
                        stream.flush().unwrap();
                    }
                }
                Answer::Silence => {
                    stream.write_all(STREAM.as_bytes()).unwrap();
                    let _ = stream.read(&mut [0]);
                }
                Answer::Status(status, body) => {
                    let later = if body.contains("full") { 1 } else { 0 };
                    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\nretry-after: {later}");
                    let length = body.len();
                    let text = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
                    stream.write_all(text.as_bytes()).unwrap();
                }
            }
        }
    });
    (url, asked)
}

/// Reads a request: the end of its path, and the event after which it wants to go on.
fn request(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let path = first.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
    let after = lines
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix("last-event-id: ").map(str::to_owned));
    format!("{} after {}", path, after.unwrap_or_else(|| "none".to_owned()))
}

async fn revisions(client: &Client, after: Option<u32>) -> Result<Vec<u32>, Error> {
    let mut events = client.sagas().watch(SAGA, after);
    let mut told = Vec::new();
    while let Some(event) = events.next().await? {
        told.push(event.revision);
    }
    Ok(told)
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke() {
    let torn = transition(2, "running")[..40].to_owned();
    let (client, asked) = service(vec![
        Answer::Stream(vec!["retry:5\nid:0\n\n".into(), transition(1, "running"), ":\n\n".into(), torn]),
        Answer::Status(
            "503 Service Unavailable",
            r#"{"type":"urn:saga:problem:busy","title":"","status":503,"detail":""}"#,
        ),
        Answer::Stream(vec![]),
        Answer::Stream(vec![
            transition(2, "running"),
            transition(3, "completed"),
            transition(9, "never read"),
        ]),
    ]);
    assert_eq!(revisions(&client, None).await.unwrap(), [1, 2, 3]);
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, ["events after none", "events after 1", "events after 1", "events after 1"]);
}

#[tokio::test]
async fn nothing_more_to_come_is_the_end() {
    let (client, asked) =
        service(vec![Answer::Stream(vec!["retry:5\nid:4\n\n".into()]), Answer::Status("204 No Content", "")]);
    assert_eq!(revisions(&client, Some(4)).await.unwrap(), [0; 0]);
    assert_eq!(asked.lock().unwrap().clone(), ["events after 4", "events after 4"]);
}

#[tokio::test]
async fn a_refusal_is_an_error_and_not_asked_again() {
    let gone = r#"{"type":"urn:saga:problem:gone","title":"","status":410,"detail":"no longer there"}"#;
    let (client, asked) = service(vec![Answer::Status("410 Gone", gone)]);
    let error = revisions(&client, None).await.unwrap_err();
    assert_eq!(error.kind(), Some(ProblemKind::Gone));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_event_is_told() {
    let (client, _) = service(vec![Answer::Stream(vec!["event:transition\nid:1\ndata:{}\n\n".into()])]);
    let error = revisions(&client, None).await.unwrap_err();
    assert!(error.to_string().contains("an event that cannot be read: missing field"), "{error}");
    let nobody = Client::new("http://127.0.0.1:9").unwrap();
    let error = revisions(&nobody, None).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn waiting_for_the_end_listens() {
    let (running, stuck): (&'static str, &'static str) =
        (shown("running", 3).leak(), shown("stuck", 5).leak());
    let (client, asked) = service(vec![
        Answer::Status("200 OK", running),
        Answer::Stream(vec![transition(4, "running"), transition(5, "stuck")]),
        Answer::Status("200 OK", stuck),
        Answer::Status("200 OK", stuck),
    ]);
    let limit = Duration::from_secs(30);
    assert_eq!(client.sagas().settled(SAGA, limit).await.unwrap().revision, 5);
    assert_eq!(client.sagas().settled(SAGA, limit).await.unwrap().revision, 5);
    let id = SAGA.to_string();
    let looks = format!("{id} after none");
    let looks = looks.as_str();
    assert_eq!(asked.lock().unwrap().clone(), [looks, "events after 3", looks, looks]);
}

const PAGE: Answer = Answer::Status("502 Bad Gateway", "<html>nobody is there</html>");

#[tokio::test]
async fn a_page_of_what_stands_in_between_ends_no_stream_that_was_there() {
    let (client, asked) = service(vec![
        Answer::Stream(vec!["retry:5\nid:0\n\n".into(), transition(1, "running")]),
        PAGE,
        PAGE,
        Answer::Stream(vec![transition(2, "completed")]),
    ]);
    assert_eq!(revisions(&client, None).await.unwrap(), [1, 2]);
    assert_eq!(asked.lock().unwrap().len(), 4);
    let (client, asked) = service(vec![PAGE]);
    let error = revisions(&client, None).await.unwrap_err();
    assert!(matches!(error, Error::Unexpected { status: 502, .. }), "{error:?}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn streams_that_open_and_say_nothing_are_given_up() {
    for silent in [|| Answer::Silence, || Answer::Stream(vec![])] {
        let (client, _) = hasty((0..9).map(|_| silent()).collect());
        let error = revisions(&client, None).await.unwrap_err();
        assert!(error.to_string().ends_with("an event stream that says nothing"), "{error}");
    }
    let (client, _) = service(vec![Answer::Status("200 OK", "<html>log in first</html>")]);
    let error = revisions(&client, None).await.unwrap_err();
    assert!(error.to_string().ends_with("something that is no event stream"), "{error}");
}

#[tokio::test]
async fn who_is_told_when_there_is_room_does_not_come_before() {
    let full = r#"{"type":"urn:saga:problem:busy","title":"","status":503,"detail":"full"}"#;
    let (client, _) = service(vec![
        Answer::Stream(vec!["retry:5\nid:0\n\n".into(), transition(1, "running")]),
        Answer::Status("503 Service Unavailable", full),
        Answer::Stream(vec![transition(2, "completed")]),
    ]);
    let begun = Instant::now();
    assert_eq!(revisions(&client, None).await.unwrap(), [1, 2]);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // Later than anybody waits here.
    let (client, _) = hasty(vec![Answer::Status("503 Service Unavailable", full)]);
    assert_eq!(revisions(&client, None).await.unwrap_err().kind(), Some(ProblemKind::Busy));
}

#[tokio::test]
async fn where_there_is_nothing_to_listen_to_the_end_is_looked_for() {
    let (running, completed): (&'static str, &'static str) =
        (shown("running", 3).leak(), shown("completed", 5).leak());
    let unknown = r#"{"type":"urn:saga:problem:not-found","title":"","status":404,"detail":"no such path"}"#;
    for deaf in [PAGE, Answer::Status("404 Not Found", unknown)] {
        let looks = [running, completed].map(|saga| Answer::Status("200 OK", saga));
        let (client, asked) =
            service([Answer::Status("200 OK", running), deaf].into_iter().chain(looks).collect());
        let seen = client.sagas().settled(SAGA, Duration::from_secs(30)).await.unwrap();
        assert_eq!((seen.revision, asked.lock().unwrap().len()), (5, 4));
    }
}
