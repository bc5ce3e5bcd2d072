//! Logs and spans of a whole process: it starts itself again, since both are switched on once and for all.
#![expect(clippy::unwrap_used, reason = "what a test did not expect fails it")]

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use messaging::embedded::Broker;
use messaging::telemetry::{self, LogFormat};
use messaging::topics::TopicSpec;
use messaging::{AckedProducer, Headers, Record, TraceParent, fetch};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// How every HTTP/2 connection, and so every export over gRPC, begins.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// The process that the tests start.
#[tokio::test]
#[ignore = "only in a process of its own"]
async fn child() {
    let format = std::env::var("LOG_FORMAT").unwrap().parse().unwrap();
    let guard = match telemetry::init("test", format) {
        Ok(guard) => guard,
        Err(error) => return println!("refused: {error}"),
    };
    println!("twice: {}", telemetry::init("test", format).err().unwrap());
    let span = tracing::info_span!("work", saga = 7);
    telemetry::follow(&span, &TraceParent::parse(PARENT).unwrap());
    match telemetry::traceparent_of(&span) {
        Some(traceparent) => println!("traced: {traceparent}"),
        None => println!("not traced"),
    }
    span.in_scope(|| tracing::info!(count = 3, "done"));
    tracing::debug!("too much");
    drop(span);
    chat();
    guard.shutdown().await;
}

/// A day in the life of the clients, none of which has anything to say.
fn chat() {
    let broker = Broker::start(&[TopicSpec::new("t", 1, 1)]).unwrap();
    let settings = broker.settings();
    let producer = AckedProducer::start(&settings, Duration::ZERO).unwrap();
    let records = vec![Record::new("t", "key", "value", Headers::new())];
    let published = std::thread::scope(|scope| {
        let publish = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(producer.publish(records, &CancellationToken::new())).unwrap()
        };
        scope.spawn(publish).join().unwrap()
    });
    assert_eq!(published.len(), 1);
    assert_eq!(fetch::read_all(&settings, "t").unwrap().len(), 1);
}

fn run(variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env_remove("RUST_LOG")
        .env("LOG_FORMAT", "auto")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn off_a_terminal_logs_are_json_lines_and_nothing_is_traced() {
    let output = run(&[]);
    assert!(output.status.success(), "{output:?}");
    let stdout = text(&output.stdout);
    assert!(stdout.contains("twice: logs are switched on already"), "{stdout}");
    assert!(stdout.contains("not traced"), "{stdout}");
    let stderr = text(&output.stderr);
    let lines: Vec<serde_json::Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert_eq!(lines[0]["message"], "done");
    assert_eq!(lines[0]["count"], 3);
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["span"]["saga"], 7);
}

#[test]
fn text_off_a_terminal_has_no_colours() {
    let output = run(&[("LOG_FORMAT", "text"), ("RUST_LOG", "telemetry=debug")]);
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert!(stderr.contains("done count=3") && stderr.contains("too much"), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
}

#[test]
fn a_filter_that_is_none_is_named() {
    let output = run(&[("RUST_LOG", "telemetry=loud")]);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("refused: RUST_LOG: found \"telemetry=loud\""), "{stdout}");
}

#[test]
fn with_an_endpoint_spans_are_exported_and_follow_the_message() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let (seen, greeting) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut connection, _): (TcpStream, _) = collector.accept().unwrap();
        let mut bytes = vec![0; HTTP2.len()];
        connection.read_exact(&mut bytes).unwrap();
        seen.send(bytes).unwrap();
    });
    let output = run(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(greeting.recv_timeout(DEADLINE).unwrap(), HTTP2);
    let stdout = text(&output.stdout);
    let traced = stdout.lines().find_map(|line| line.strip_prefix("traced: ")).unwrap();
    let (parent, child) = (TraceParent::parse(PARENT).unwrap(), TraceParent::parse(traced).unwrap());
    assert_eq!(child.trace_id, parent.trace_id);
    assert_ne!(child.span_id, parent.span_id);
}

#[test]
fn log_formats_have_one_spelling() {
    for format in [LogFormat::Auto, LogFormat::Text, LogFormat::Json] {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert!("JSON".parse::<LogFormat>().is_err());
}
