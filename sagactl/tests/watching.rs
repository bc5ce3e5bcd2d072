//! What is done where events and answers do not come as they should.
#![cfg(test)]
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use serde_json::{Value, json};

const SAGA: &str = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
const ACTION: &str = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0c";
/// Instead of a status: there is no answer.
const NEVER: &str = "never";
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
    let redrive = json!({
        "id": ACTION, "action": "redrive", "status": "completed", "dryRun": false, "reason": "because", "actor": "anonymous",
        "filter": {}, "patch": null, "ratePerSecond": 10, "ramp": [],
        "selected": 2, "sent": 2, "passedOver": {}, "waiting": 0, "succeeded": 2, "failedAgain": 0, "remaining": 0, "step": 1,
        "waitsFor": null, "stopReason": null, "found": null, "createdAt": AT, "updatedAt": AT, "finishedAt": AT,
    });
    let history = json!({"items": [item(1, "started", "running"), item(2, "replied", "completed")]});
    HashMap::from([
        ("saga", ("200 OK", saga)),
        ("definition", ("200 OK", definition)),
        ("history", ("200 OK", history)),
        ("redrive", ("200 OK", redrive)),
        ("document", ("200 OK", json!({"paths": {"/api/participants/{name}/pause": {"post": {}}}}))),
    ])
}

fn problem(kind: &str, status: u16, detail: &str) -> Value {
    json!({"type": format!("urn:saga:problem:{kind}"), "title": kind, "status": status, "detail": detail})
}

/// Serves these answers, by what is asked for. A saga with an answer `before` is so until somebody has tried to listen.
fn service(answers: HashMap<&'static str, (&'static str, Value)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut listened = false;
        while let Ok((mut stream, _)) = listener.accept() {
            let asked = asked(&stream);
            listened |= asked == "events";
            let before = answers.get("before").filter(|_| asked == "saga" && !listened);
            let (status, body) = before.unwrap_or_else(|| &answers[asked]);
            if *status == NEVER {
                std::mem::forget(stream);
                continue;
            }
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
        "redrives" | ACTION => "redrive",
        "pause" => "pause",
        "openapi.json" => "document",
        _ => "saga",
    }
}

fn watched(events: (&'static str, Value)) -> String {
    told(&["saga", "watch", SAGA], events)
}

fn told(arguments: &[&str], events: (&'static str, Value)) -> String {
    said(arguments, &[("events", events)])
}

fn said(arguments: &[&str], other: &[(&'static str, (&'static str, Value))]) -> String {
    let mut answers = answers();
    answers.extend(other.iter().cloned());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sagactl"));
    let output = command.args(arguments).args(["--url", &service(answers)]).env_clear().output().unwrap();
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

/// Its end is looked for, and is the exit code.
#[test]
fn who_waits_for_what_it_starts_needs_no_stream() {
    let page = Value::from("<html>streams are not allowed here</html>");
    let mut running = answers()["saga"].1.clone();
    (running["status"], running["finishedAt"]) = ("running".into(), Value::Null);
    let mut undone = answers()["saga"].1.clone();
    undone["status"] = "compensated".into();
    undone["reason"] = json!({"code": "sold_out", "message": "", "step": null});
    let answers = [
        ("before", ("200 OK", running)),
        ("events", ("502 Bad Gateway", page)),
        ("saga", ("200 OK", undone)),
    ];
    let arguments = ["saga", "start", "newer", "--input", "{}", "--wait", "-o", "id"];
    assert_snapshot!(said(&arguments, &answers), @r"
    0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b
    ---- stderr
    ---- exit 3
    ");
}

#[test]
fn where_no_stream_comes_through_an_act_on_many_is_asked_for() {
    let page = Value::from("<html>streams are not allowed here</html>");
    let told = told(&["redrive", "watch", ACTION], ("502 Bad Gateway", page));
    let (shown, noted) = told.split_once("---- stderr\n").unwrap();
    assert!(shown.contains("completed"), "{shown}");
    assert_snapshot!(noted, @r"
    asking every 1 s, for there are no events to listen to: GET /api/redrives/{id}/events answered 502 with something that is not the orchestrator's: `<html>streams are not allowed here</html>`
    2 of 2 sent: 2 succeeded, 0 failed again, 0 waiting
    ---- exit 0
    ");
}

#[test]
fn an_orchestrator_without_these_events_is_asked() {
    let unknown = problem("not-found", 404, "there is no such path");
    let told = told(&["redrive", "watch", ACTION], ("404 Not Found", unknown));
    assert_snapshot!(told.split_once("---- stderr\n").unwrap().1, @r"
    2 of 2 sent: 2 succeeded, 0 failed again, 0 waiting
    ---- exit 0
    ");
}

#[test]
fn an_unknown_participant_names_the_list_of_those_there_are() {
    let unknown = problem("not-found", 404, "no definition has a participant `shipping`");
    let arguments = ["participant", "pause", "shipping", "--reason", "because"];
    assert_snapshot!(said(&arguments, &[("pause", ("404 Not Found", unknown))]), @r"
    ---- stderr
    error: no definition has a participant `shipping`
    next: sagactl participant list
    ---- exit 5
    ");
}

#[test]
fn every_file_is_looked_at_also_those_after_one_that_cannot_be_read() {
    assert_snapshot!(said(&["definition", "check", "no-such-file", "nor-this"], &[]), @r"
    ---- stderr
    error: no-such-file cannot be read: No such file or directory (os error 2)
    error: nor-this cannot be read: No such file or directory (os error 2)
    ---- exit 2
    ");
}

#[test]
fn watching_all_ends_in_time_whoever_does_not_answer() {
    let event = json!({
        "sagaId": SAGA, "definition": "newer", "version": 1, "revision": 1, "at": AT, "event": {"type": "started"},
        "effects": [], "status": "running",
    });
    let stream = Value::from(format!("event:transition\nid:1\ndata:{event}\n\n"));
    let begun = Instant::now();
    let events = ("200 OK\r\ncontent-type: text/event-stream", stream);
    said(&["saga", "watch", "--timeout", "1s"], &[("events", events), ("definition", (NEVER, Value::Null))]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
