//! Clients that are slow, silent or endless, at the level of bytes.

use std::time::{Duration, Instant};

use orchestrator::api::HttpLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Options, Service, eventually};

const QUICK: Duration = Duration::from_millis(500);

async fn service() -> Service {
    let limits = HttpLimits {
        header_read: QUICK,
        body_read: QUICK,
        write_stall: QUICK,
        connections: 4,
        drain: Duration::from_secs(5),
        ..HttpLimits::default()
    };
    Service::start_with(Options { limits, ..Options::default() }).await
}

/// Everything the service says until it closes the connection, and how long that took.
async fn said(stream: &mut TcpStream) -> (String, Duration) {
    let (begun, mut bytes) = (Instant::now(), Vec::new());
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "still open after 10 s");
    (String::from_utf8_lossy(&bytes).into_owned(), begun.elapsed())
}

async fn check(service: &Service, bytes: &str, expected: &str) {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let (text, took) = said(&mut stream).await;
    assert!(text.starts_with(expected), "{bytes:?}: {text}");
    assert!(took < Duration::from_secs(5), "{bytes:?}: {took:?}");
    // What is no HTTP never reaches the service: the protocol answers, without a body.
    if text.contains("content-length") && !text.contains("content-length: 0") {
        assert!(text.contains("application/problem+json") || text.starts_with("HTTP/1.1 2"), "{text}");
    }
}

#[tokio::test]
async fn silent_and_dripping_clients_are_cut_off() {
    let service = service().await;
    check(&service, "", "").await;
    check(&service, "G", "").await;
    check(&service, "GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: ", "").await;
    check(&service, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200").await;
    let half =
        "POST /bookings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{";
    check(&service, half, "HTTP/1.1 408").await;
}

#[tokio::test]
async fn a_dripping_body_is_cut_off_although_it_goes_on() {
    let service = service().await;
    let stream = TcpStream::connect(service.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = "POST /bookings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    writer.write_all(head.as_bytes()).await.unwrap();
    let drip = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            if writer.write_all(b"1\r\n \r\n").await.is_err() {
                return;
            }
        }
    });
    let mut bytes = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(5), reader.read_exact(&mut bytes)).await;
    assert!(read.is_ok_and(|read| read.is_ok()), "no answer");
    assert!(bytes.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&bytes));
    drip.abort();
}

#[tokio::test]
async fn an_announced_oversize_is_refused_before_it_comes() {
    let service = service().await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = "POST /bookings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n";
    let begun = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = [0; 16];
    stream.read_exact(&mut bytes).await.unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 413"));
    assert!(begun.elapsed() < QUICK, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_endless_chunked_body_is_refused() {
    let service = service().await;
    let stream = TcpStream::connect(service.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = "POST /bookings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    writer.write_all(head.as_bytes()).await.unwrap();
    let flood = tokio::spawn(async move {
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        while writer.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let mut bytes = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(5), reader.read_exact(&mut bytes)).await;
    assert!(read.is_ok_and(|read| read.is_ok()), "no answer");
    assert!(bytes.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&bytes));
    let ended = tokio::time::timeout(Duration::from_secs(10), flood).await;
    assert!(ended.is_ok(), "the flood is read without end");
}

#[tokio::test]
async fn what_is_no_http_is_answered_by_the_protocol() {
    let service = service().await;
    check(&service, "\0\0\0\0\r\n\r\n", "HTTP/1.1 400").await;
    let long = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    check(&service, &long, "HTTP/1.1 431").await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_free_one() {
    let service = service().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(service.address).await.unwrap());
    }
    let mut fifth = TcpStream::connect(service.address).await.unwrap();
    fifth.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let (text, _) = said(&mut fifth).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn a_stop_refuses_new_connections_and_returns() {
    let service = service().await;
    let idle = TcpStream::connect(service.address).await.unwrap();
    assert_eq!(service.get("/livez").await.status, 200);
    service.stop.cancel();
    let served = tokio::time::timeout(Duration::from_secs(4), service.served).await;
    assert!(served.is_ok_and(|served| served.unwrap().is_ok()), "not drained in time");
    eventually("nobody listens", async || TcpStream::connect(service.address).await.is_err()).await;
    drop(idle);
}
