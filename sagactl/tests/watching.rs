//! What `saga watch` does where events do not come as they should.
#![cfg(test)]
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use insta::assert_snapshot;
use serde_json::{Value, json};

const SAGA: &str = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
const AT: &str = "2026-11-22T19:58:53.891Z";

/// A saga of a definition that this program cannot read, which has ended.
fn answers() -> HashMap<&'static str, (&'static str, Value)> {
    let saga = json!({
        "sagaId": SAGA, "definition": "newer", "version": 1, "businessKey": null, "status": "completed", "reason": null,
        "steps": [], "data": {}, "revision": 2, "startedAt": AT, "updatedAt": AT, "finishedAt": AT, "nextWakeAt": null,
    });
    let item = |revision: u32, kind: &str, status: &str| {
        json!({
            "revision": revision, "at": AT, "event": {"type": kind}, "effects": [], "status": status,
        })
    };
    let definition = json!({
        "name": "newer", "version": 1, "input": "a.B", "steps": [], "source": "what = 'is this'", "registeredAt": null,
        "modelCheck": null,
    });
    let history = json!({"items": [item(1, "started", "running"), item(2, "replied", "completed")]});
    HashMap::from([
        ("saga", ("200 OK", saga)),
        ("definition", ("200 OK", definition)),
        ("history", ("200 OK", history)),
    ])
}

fn problem(kind: &str, status: u16, detail: &str) -> Value {
    json!({"type": format!("urn:saga:problem:{kind}"), "title": kind, "status": status, "detail": detail})
}

/// Serves these answers, by what is asked for.
fn service(answers: HashMap<&'static str, (&'static str, Value)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let asked = asked(&stream);
            let (status, body) = &answers[asked];
            let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    url
}

fn asked(stream: &TcpStream) -> &'static str {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert!(lines.any(|line| line.is_empty()));
    match first.split(' ').nth(1).unwrap().split('?').next().unwrap().rsplit('/').next().unwrap() {
        "events" => "events",
        "history" => "history",
        "1" => "definition",
        _ => "saga",
    }
}

fn watched(events: (&'static str, Value)) -> String {
    let mut answers = answers();
    answers.insert("events", events);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sagactl"));
    let output =
        command.args(["saga", "watch", SAGA, "--url", &service(answers)]).env_clear().output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    format!("{out}---- stderr\n{err}---- exit {}", output.status.code().unwrap())
}

#[test]
fn a_history_that_is_not_kept_whole_begins_with_what_is_left() {
    let gone = problem("gone", 410, "the journal no longer has all that comes after this revision");
    assert_snapshot!(watched(("410 Gone", gone)), @r"
        0 ms  started -> running
        0 ms  replied -> completed
    ---- stderr
    the journal no longer has all of it; this is what is left, and what comes
    ---- exit 0
    ");
}

#[test]
fn where_no_stream_comes_through_the_history_is_asked() {
    let page = Value::from("<html>streams are not allowed here</html>");
    assert_snapshot!(watched(("502 Bad Gateway", page)), @r"
        0 ms  started -> running
        0 ms  replied -> completed
    ---- stderr
    asking for the history every 1 s, for there are no events to listen to: GET /api/sagas/{sagaId}/events answered 502 with something that is not the orchestrator's: `<html>streams are not allowed here</html>`
    ---- exit 0
    ");
}
