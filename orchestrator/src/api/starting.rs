//! What is answered before the service can do anything: that it lives, what it waits for, and to everybody else to come again.
//! A process that waits for its database for an hour is not a dead one, and who looks after it is to see why it waits.

use std::sync::{Arc, Mutex, PoisonError};

use http::Method;

use participant::service::health::Check;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use warp::Reply;
use warp::reply::Response;

use super::mount::{HttpRequest, drain};
use super::ops::{RETRY_AFTER, measured, verdict};
use super::problem::{Answer, Kind, Problem};
use super::server::{self, HttpLimits};
use crate::metrics::Metrics;

/// What the service waits for while it starts.
#[derive(Debug)]
pub struct Starting(Mutex<Check>);

impl Default for Starting {
    fn default() -> Self {
        Self(Mutex::new(Check::needed("database", false, "not asked yet")))
    }
}

impl Starting {
    /// What is awaited now: a name as `/readyz` has it, and what was found.
    pub fn waits_for(&self, name: &'static str, detail: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Check::needed(name, false, detail);
    }
}

/// Answers until the guard is dropped. Whoever is being answered then still gets the answer; the listener is free for
/// [`super::serve`].
pub fn serve(listener: Arc<TcpListener>, starting: Arc<Starting>, metrics: Arc<Metrics>) -> DropGuard {
    let started = CancellationToken::new();
    let until = started.clone();
    let answer = move |request| answer(request, starting.clone(), metrics.clone());
    tokio::spawn(async move { server::run(answer, listener, until, &HttpLimits::default()).await });
    started.drop_guard()
}

async fn answer(request: HttpRequest, starting: Arc<Starting>, metrics: Arc<Metrics>) -> Response {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = if looks { request.uri().path().to_owned() } else { String::new() };
    drain(request);
    let waits = starting.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let answer: Answer = match path.as_str() {
        "/livez" => verdict("ok", Vec::new(), false),
        "/readyz" => verdict("ready", vec![waits], false),
        "/metrics" => Ok(measured(&metrics)),
        _ => Err(Problem::new(
            Kind::NotReady,
            format!("the service is starting: {}: {}", waits.name, waits.detail),
        )
        .retry_after(RETRY_AFTER)),
    };
    answer.unwrap_or_else(Reply::into_response)
}
