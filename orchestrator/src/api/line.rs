//! The way of server-sent events to one client, for as long as it listens: the same for whatever it listens to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use warp::Reply;
use warp::reply::Response;

use super::app::App;
use super::mount::Asked;
use super::problem::{Kind, Problem};
use crate::metrics::Metrics;
use crate::store::StoreError;

/// Frames on their way to one client; more wait where they come from.
const ON_THE_WAY: usize = 64;
/// How long a client waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 1_000;
/// What somebody is told to wait for whom there is no room.
const NO_ROOM_RETRY: Duration = Duration::from_secs(5);

/// Why a stream ends: the client is gone or too slow, the service stops, or the database is away. The client comes back.
pub(super) struct Ended;

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        tracing::debug!(%error, "an event stream ends: the database does not answer");
        Self
    }
}

/// Room for one stream, and its part of what is measured.
pub(super) struct Slot {
    of: &'static str,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Room for one more client that listens to `of`.
    pub(super) fn take(app: &App, of: &'static str) -> Result<Self, Problem> {
        let permit = app.feed.slot().ok_or_else(|| {
            let text = "as many clients as there is room for listen to events already; ask again";
            Problem::new(Kind::Busy, text).retry_after(NO_ROOM_RETRY)
        })?;
        let metrics = app.api.metrics.clone();
        metrics.event_stream(of, 1);
        Ok(Self { of, metrics, _permit: permit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.event_stream(self.of, -1);
    }
}

/// The way to one client.
pub(super) struct Line {
    pub(super) app: Arc<App>,
    out: mpsc::Sender<Bytes>,
    slot: Slot,
}

impl Line {
    /// The way, and the answer at its end.
    pub(super) fn open(app: Arc<App>, slot: Slot) -> (Self, Response) {
        let (out, frames) = mpsc::channel(ON_THE_WAY);
        let body = stream::unfold(frames, |mut frames: mpsc::Receiver<Bytes>| async move {
            let frame = frames.recv().await?;
            Some((Ok::<_, Infallible>(frame), frames))
        });
        let mut response = warp::reply::stream(body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Proxies that gather answers would hold events back.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        (Self { app, out, slot }, response)
    }

    /// Sends a frame as soon as the client has room for it.
    pub(super) async fn send(&self, frame: Bytes) -> Result<(), Ended> {
        tokio::select! {
            biased;
            () = self.app.stop.cancelled() => Err(Ended),
            sent = self.out.send(frame) => sent.map_err(|_| Ended),
        }
    }

    /// The first frame: when to come back, and from where.
    pub(super) async fn opening(&self, id: &str) -> Result<(), Ended> {
        self.send(format!("retry:{RETRY_MS}\nid:{id}\n\n").into()).await
    }

    /// An event with its place and its data, one line of JSON.
    pub(super) async fn event(&self, name: &str, id: &str, data: &[u8]) -> Result<(), Ended> {
        let mut frame = Vec::with_capacity(name.len() + id.len() + data.len() + 32);
        let parts = [&b"event:"[..], name.as_bytes(), b"\nid:", id.as_bytes(), b"\ndata:", data, b"\n\n"];
        for part in parts {
            frame.extend_from_slice(part);
        }
        self.send(frame.into()).await
    }

    /// A sign of life. A client that has still something to read needs none.
    pub(super) fn beat(&self, frame: String) {
        let _ = self.out.try_send(frame.into());
    }

    /// The client has gone.
    pub(super) async fn closed(&self) {
        self.out.closed().await;
    }

    /// Notes that the client did not read fast enough, and is cut off.
    pub(super) fn cut(&self) {
        self.slot.metrics.event_stream_cut(self.slot.of);
    }
}

/// What the client has heard last, as it says.
pub(super) fn last_event_id(asked: &Asked) -> Result<Option<&str>, Problem> {
    let Some(value) = asked.headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().map_err(|_| {
        Problem::new(Kind::BadHeader, "Last-Event-ID is not the id of an event that came from here")
    })?;
    // What a client sends that has not had an event yet.
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The answer where nothing comes any more: a client that has understood does not come back.
pub(super) fn nothing_comes() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
