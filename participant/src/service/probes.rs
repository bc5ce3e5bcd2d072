//! What a worker answers over HTTP: whether it lives, whether it is ready, what it measures. Nothing else, to nobody but those who
//! run it: few connections, short times, no bodies.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use messaging::meters::PROMETHEUS_TEXT;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::service::health::{Check, Verdict};
use crate::vitals::Vitals;

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 32;
/// How long a request's head may take, and how long a connection may lie idle: less than a probe waits, so that those who say
/// nothing do not keep it out.
const HEADER_READ: Duration = Duration::from_secs(3);
/// Bytes of a request's head.
const HEADER_BYTES: usize = 16 * 1024;
/// How long a connection may last in all: who looks again makes another one.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// How long to wait when no connection can be accepted, e.g. because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What somebody is told to wait who asks for readiness too early, in seconds.
const RETRY_AFTER: &str = "1";

/// Somewhere to ask a worker how it is.
pub(crate) struct Probes {
    listener: TcpListener,
    address: SocketAddr,
}

impl Probes {
    /// Listens there; port 0 is any free one.
    pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self, vitals: Arc<Vitals>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let vitals = vitals.clone();
                    tokio::spawn(async move {
                        // Too long, or broken off: either way it is over.
                        let _ = tokio::time::timeout(CONNECTION_LIFE, answer_all(stream, vitals)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer_all(stream: TcpStream, vitals: Arc<Vitals>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let vitals = vitals.clone();
        async move { Ok::<_, Infallible>(answer(&request, &vitals).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ).max_buf_size(HEADER_BYTES);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error, "a connection ended early");
    }
}

/// The answer to one request.
async fn answer(request: &Request<Incoming>, vitals: &Vitals) -> Response<String> {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/healthz" | "/readyz" | "/metrics") {
        let detail = "there are /livez, /healthz, /readyz and /metrics";
        return problem(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail, &[]);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let title = "The method is not allowed here";
        let mut refused = problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            title,
            &format!("{path} allows GET, HEAD"),
            &[],
        );
        refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let verbose = request.uri().query().unwrap_or_default().split('&').any(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        name == "verbose" && value != "false"
    });
    match path {
        "/metrics" => text(StatusCode::OK, PROMETHEUS_TEXT, vitals.render().await),
        "/readyz" => verdict(vitals.ready().await, verbose),
        _ => verdict(vitals.live(), verbose),
    }
}

fn verdict((verdict, checks): (Verdict, Vec<Check>), verbose: bool) -> Response<String> {
    match verdict {
        Verdict::Is(status) => {
            let body =
                if verbose { json!({"status": status, "checks": checks}) } else { json!({"status": status}) };
            text(StatusCode::OK, "application/json", body.to_string())
        }
        Verdict::Not(wrong) => {
            let told: Vec<String> =
                wrong.iter().map(|check| format!("{}: {}", check.name, check.detail)).collect();
            let mut answer =
                problem(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", &told.join("; "), &wrong);
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
            answer
        }
    }
}

/// An error as every service of ours sends it (RFC 9457).
fn problem(status: StatusCode, slug: &str, title: &str, detail: &str, wrong: &[Check]) -> Response<String> {
    let mut body = json!({
        "type": format!("urn:saga:problem:{slug}"), "title": title, "status": status.as_u16(), "detail": detail,
    });
    if !wrong.is_empty() {
        body["errors"] =
            wrong.iter().map(|check| json!({"field": check.name, "message": check.detail})).collect();
    }
    text(status, "application/problem+json", body.to_string())
}

fn text(status: StatusCode, media_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
