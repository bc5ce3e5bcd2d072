//! The accept loop: bounded connections, bounded times, and an end that waits for what is under way.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, service_fn};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use warp::Reply;
use warp::reply::Response;

use super::bodies::Bodies;
use super::feed::EVENT_READERS;
use super::mount::{HttpRequest, drain};
use super::problem::{Kind, Problem};
use super::stall::StallLimit;

/// What a client may take of this service. Every limit has a number.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long a request's head may take, and how long a connection may lie idle.
    pub header_read: Duration,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes that long bodies take at once, from their arrival to their answers; one more is answered with `503`.
    pub bodies_bytes: usize,
    /// How long a request's body may take.
    pub body_read: Duration,
    /// How long a client may take none of the answer that is ready for it.
    pub write_stall: Duration,
    /// How long a request may take in all; longer than the longest `Prefer: wait`.
    pub request: Duration,
    /// How long another process may take for a request that was passed on to it.
    pub forward: Duration,
    /// Clients that listen to events at once; one more is answered with `503`.
    pub event_readers: usize,
    /// How often a quiet event stream gives a sign of life.
    pub event_heartbeat: Duration,
    /// How long a stop waits for requests that are under way.
    pub drain: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 2_048,
            header_read: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            body_bytes: 1024 * 1024,
            bodies_bytes: 32 * 1024 * 1024,
            body_read: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            request: Duration::from_secs(45),
            forward: Duration::from_secs(10),
            event_readers: EVENT_READERS,
            event_heartbeat: Duration::from_secs(15),
            drain: Duration::from_secs(12),
        }
    }
}

/// How long to wait when no connection can be accepted, e.g. because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop`, then lets go of the listener and returns when what is under way is answered, or after the limit.
pub(crate) async fn run<A>(
    handle: impl Fn(HttpRequest) -> A + Clone + Send + Sync + 'static,
    listener: Arc<TcpListener>,
    stop: CancellationToken,
    limits: &HttpLimits,
) where
    A: Future<Output = Response> + Send + 'static,
{
    let limit = limits.request;
    let bodies = Bodies::new(limits);
    let service = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(PropagateRequestIdLayer::x_request_id())
        .service(service_fn(move |request: HttpRequest| {
            let answer = within(bodies.clone(), handle.clone(), request);
            async move { Ok::<_, Infallible>(guarded(answer, limit).await) }
        }));
    let service = TowerToHyperService::new(service);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(limits.header_bytes);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    while let Some((stream, slot)) = accept(&listener, &slots, &stop).await {
        let io = TokioIo::new(StallLimit::new(stream, limits.write_stall));
        let connection = graceful.watch(builder.serve_connection(io, service.clone()).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were still under way {} s after the stop", limits.drain.as_secs());
    }
}

/// The next connection and its slot; `None` when it is time to stop.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        slot = Arc::clone(slots).acquire_owned() => slot.ok()?,
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without it small answers may wait for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                return Some((stream, slot));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// An answer, if there is room for the request's body until then.
async fn within<A: Future<Output = Response>>(
    bodies: Bodies,
    handle: impl Fn(HttpRequest) -> A,
    request: HttpRequest,
) -> Response {
    let Some(taken) = bodies.take(request.headers()) else {
        drain(request);
        return Bodies::no_room();
    };
    let answer = handle(request).await;
    drop(taken);
    answer
}

/// An answer in any case: also when the handler panics, or takes too long.
async fn guarded(answer: impl Future<Output = Response>, limit: Duration) -> Response {
    let caught = AssertUnwindSafe(answer).catch_unwind();
    match tokio::time::timeout(limit, caught).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panicked(&*panic),
        Err(_) => {
            Problem::new(Kind::Timeout, "no answer in time; whether the request was carried out is not known")
                .retry_after(Duration::from_secs(1))
                .into_response()
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(message, "a request handler panicked");
    Problem::defect().into_response()
}
