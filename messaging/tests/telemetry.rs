//! The export of spans, which is switched on once for a process: so each case is a process of its own.
#![expect(clippy::unwrap_used, reason = "what a test did not expect fails it")]

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use messaging::TraceParent;
use messaging::telemetry::{self, Kind, Span};

const DEADLINE: Duration = Duration::from_secs(30);
/// How every HTTP/2 connection, and so every export over gRPC, begins.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// The process that the tests start.
#[tokio::test]
#[ignore = "only in a process of its own"]
async fn child() {
    let guard = match telemetry::start("test") {
        Ok(guard) => guard,
        Err(error) => return println!("refused: {error}"),
    };
    let Some(recorder) = telemetry::recorder() else { return println!("nothing is exported") };
    recorder.record(Span {
        context: TraceParent::root(),
        parent: None,
        name: "work".into(),
        kind: Kind::Internal,
        start: SystemTime::now(),
        end: SystemTime::now(),
        attributes: Vec::new(),
        links: Vec::new(),
        error: None,
    });
    println!(
        "a second start: {}",
        if telemetry::start("test").is_ok() { "changes nothing" } else { "fails" }
    );
    guard.shutdown().await;
}

fn check(variables: &[(&str, &str)], expected: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains(expected), "{expected} is not in {stdout}");
}

#[test]
fn nothing_is_exported_unless_somebody_asks_for_it() {
    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    check(&[], "nothing is exported");
    check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], "nothing is exported");
    check(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")], "nothing is exported");
    check(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")], "nothing is exported");
}

#[test]
fn a_wrong_variable_is_named() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    check(&[endpoint, ("OTEL_TRACES_SAMPLER", "some")], "refused: OTEL_TRACES_SAMPLER: found \"some\"");
    check(
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")],
        "refused: the OTEL_EXPORTER_OTLP_* variables do not make a span exporter",
    );
}

#[test]
fn with_an_endpoint_spans_leave_before_the_process_does() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let (seen, greeting) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut connection, _): (TcpStream, _) = collector.accept().unwrap();
        let mut bytes = vec![0; HTTP2.len()];
        connection.read_exact(&mut bytes).unwrap();
        seen.send(bytes).unwrap();
    });
    check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)], "a second start: changes nothing");
    assert_eq!(greeting.recv_timeout(DEADLINE).unwrap(), HTTP2);
}
