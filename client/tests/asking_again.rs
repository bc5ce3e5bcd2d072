//! What the client does when it is not answered as it should be: whom it asks again, and what it makes of the answers.
#![cfg(test)]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use saga_client::{Act, Client, Error, ProblemKind, SagaId};

const SAGA: SagaId = SagaId(uuid::Uuid::from_u128(0x0190a6b0_1c2d_7e3f_8a4b_5c6d7e8f9a0b));

const SHOWN: &str = r#"HTTP/1.1 200 OK
content-type: application/json

{"sagaId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", "definition": "booking", "version": 1, "businessKey": null,
 "status": "dreaming", "reason": null, "steps": [], "data": {}, "revision": 7, "startedAt": "2026-11-22T19:58:53.891Z",
 "updatedAt": "2026-11-22T19:58:53.891Z", "finishedAt": null, "nextWakeAt": null, "mood": "good"}"#;

const BUSY: &str = r#"HTTP/1.1 503 Service Unavailable
retry-after: 1

{"type": "urn:saga:problem:busy", "title": "Too busy", "status": 503, "detail": "not now"}"#;

const MUCH_LATER: &str = r#"HTTP/1.1 429 Too Many Requests
retry-after: 3600

{"type": "urn:saga:problem:busy", "title": "Too busy", "status": 429, "detail": "not this hour"}"#;

const NEVER: &str = r#"HTTP/1.1 503 Service Unavailable
retry-after: 18446744073709551615

{"type": "urn:saga:problem:busy", "title": "Too busy", "status": 503, "detail": "not in this universe"}"#;

const WRONG_STATE: &str = r#"HTTP/1.1 409 Conflict

{"type": "urn:saga:problem:wrong-state", "title": "Not possible in this state", "status": 409, "detail": "it has ended",
 "sagaId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", "current": "completed", "allowedIn": ["stuck"]}"#;

const NEW_KIND: &str = r#"HTTP/1.1 418 I'm a teapot

{"type": "urn:saga:problem:teapot", "title": "A teapot", "status": 418, "detail": "short and stout"}"#;

const NO_ANSWER: &str = "";

const SOMEBODY_ELSE: &str = "HTTP/1.1 502 Bad Gateway\n\n<html>the gateway has no backend</html>";

/// Answers one request after the other with these, and tells the idempotency keys that came.
fn service(answers: &'static [&'static str]) -> (Client, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let keys = Arc::new(Mutex::new(Vec::new()));
    let heard = keys.clone();
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            heard.lock().unwrap().push(read(&stream));
            if let Some((head, body)) = answer.split_once("\n\n") {
                let (head, length) = (head.replace('\n', "\r\n"), body.len());
                let text = format!("{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                (&stream).write_all(text.as_bytes()).unwrap();
            }
        }
    });
    (Client::builder(url).retry_limit(Duration::from_secs(20)).build().unwrap(), keys)
}

/// Reads a request; its idempotency key.
fn read(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else {
            if line.trim().is_empty() {
                break;
            }
            continue;
        };
        match name {
            "idempotency-key" => key = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    key
}

#[tokio::test]
async fn a_busy_service_is_asked_again_under_the_same_key() {
    let (client, keys) = service(&[BUSY, NO_ANSWER, SHOWN]);
    let saga = client.sagas().redrive(SAGA, &Act::because("again")).await.unwrap();
    assert_eq!(saga.revision, 7);
    // What a newer service says besides is left out, and words that nobody knew yet are kept.
    assert_eq!(saga.status.as_str(), "dreaming");
    let keys = keys.lock().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(!keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn what_would_come_too_late_is_not_waited_for() {
    let (client, keys) = service(&[NEVER, MUCH_LATER]);
    let error = client.sagas().get(SAGA).await.unwrap_err();
    assert_eq!(error.problem().unwrap().retry_after, Some(Duration::from_secs(u64::MAX)));
    let act = Act::because("again").idempotency_key("mine");
    let error = client.sagas().cancel(SAGA, &act).await.unwrap_err();
    assert_eq!(error.kind(), Some(ProblemKind::Busy));
    assert_eq!(error.problem().unwrap().retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(*keys.lock().unwrap(), ["", "mine"]);
}

#[tokio::test]
async fn a_refusal_is_a_typed_problem_and_final() {
    let (client, _) = service(&[WRONG_STATE, NEW_KIND]);
    let error = client.sagas().skip(SAGA, &Act::because("x")).await.unwrap_err();
    assert!(error.is_wrong_state());
    assert_eq!(error.to_string(), "it has ended");
    let problem = error.problem().unwrap();
    assert_eq!((problem.saga_id, &*problem.allowed_in), (Some(SAGA), &["stuck".to_owned()][..]));
    let error = client.sagas().get(SAGA).await.unwrap_err();
    assert_eq!(error.kind(), Some(ProblemKind::Other("teapot".into())));
}

#[tokio::test]
async fn somebody_else_who_answers_is_told_from_the_service() {
    let (client, _) = service(&[SOMEBODY_ELSE]);
    let error = client.sagas().get(SAGA).await.unwrap_err();
    insta::assert_snapshot!(error, @"GET /api/sagas/{sagaId} answered 502 with something that is not the orchestrator's: `<html>the gateway has no backend</html>`");
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let client = Client::new("http://127.0.0.1:9").unwrap();
    let error = client.sagas().get(SAGA).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn addresses_and_tokens_that_cannot_be_used() {
    for url in ["", "localhost:8080", "ftp://example.org", "mailto:me"] {
        assert!(matches!(Client::new(url), Err(Error::Invalid(_))), "{url}");
    }
    let token = Client::builder("http://127.0.0.1").token("two\nlines").build();
    assert!(matches!(token, Err(Error::Invalid(_))));
}
