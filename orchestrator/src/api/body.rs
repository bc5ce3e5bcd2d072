//! Request bodies: of a bounded size, arrived in a bounded time, and most of them JSON.

use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderMap, header};
use saga_defs::Data;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use warp::{Filter, Rejection, reject};

use super::problem::{Kind, Problem};
use super::server::HttpLimits;
use super::strict_json;

/// An answer that comes before its request has been read is lost if the connection is reset because of the unread rest.
/// So the rest is read and dropped, but not more than this, and not longer than [`DRAIN_TIME`].
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A request's body: a JSON object.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    /// As it came, to be passed on.
    pub(crate) bytes: Bytes,
    /// What it says.
    pub(crate) fields: Data,
}

/// Reads the body, or rejects with a [`Problem`].
pub(crate) fn json_object(
    limits: &HttpLimits,
) -> impl Filter<Extract = (Body,), Error = Rejection> + Clone + use<> {
    bytes(limits, media_type).and_then(|_headers, bytes| async move { parse(bytes).map_err(reject::custom) })
}

/// Reads headers and body where `accept` takes the media type, or rejects with a [`Problem`].
pub(crate) fn bytes(
    limits: &HttpLimits,
    accept: fn(&HeaderMap) -> Result<(), Problem>,
) -> impl Filter<Extract = (HeaderMap, Bytes), Error = Rejection> + Clone + use<> {
    let (limit_bytes, limit_time) = (limits.body_bytes, limits.body_read);
    warp::header::headers_cloned()
        .and(warp::body::stream())
        .and_then(move |headers: HeaderMap, body| async move {
            let accepted = accept(&headers).and_then(|()| plain(&headers));
            let read = read(&headers, accepted, body, limit_bytes, limit_time).await;
            read.map(|bytes| (headers, bytes)).map_err(reject::custom)
        })
        .untuple_one()
}

async fn read(
    headers: &HeaderMap,
    accepted: Result<(), Problem>,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + 'static,
    limit_bytes: usize,
    limit_time: Duration,
) -> Result<Bytes, Problem> {
    let refused = accepted.and_then(|()| announced_length(headers, limit_bytes));
    if let Err(problem) = refused {
        drain(body);
        return Err(problem);
    }
    let mut body = Box::pin(body);
    let deadline = Instant::now() + limit_time;
    let mut bytes = BytesMut::new();
    loop {
        match timeout_at(deadline, body.next()).await {
            Ok(Some(Ok(part))) if bytes.len() + part.remaining() > limit_bytes => {
                drain(body);
                return Err(too_large(limit_bytes));
            }
            Ok(Some(Ok(mut part))) => {
                let length = part.remaining();
                bytes.extend_from_slice(&part.copy_to_bytes(length));
            }
            Ok(Some(Err(error))) => {
                return Err(Problem::new(Kind::Malformed, format!("the body broke off: {error}")).close());
            }
            Ok(None) => return Ok(bytes.freeze()),
            Err(_) => {
                let text = format!("the body did not arrive within {} s", limit_time.as_secs_f64());
                return Err(Problem::new(Kind::RequestTimeout, text).close());
            }
        }
    }
}

fn parse(bytes: Bytes) -> Result<Body, Problem> {
    match strict_json::parse(&bytes) {
        Ok(Value::Object(fields)) => Ok(Body { bytes, fields }),
        Ok(_) => Err(Problem::field("", "the body must be a JSON object")),
        Err(message) => Err(Problem::new(Kind::Malformed, message)),
    }
}

/// The media type without its parameters, in small letters; empty if there is none.
pub(crate) fn essence(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

fn media_type(headers: &HeaderMap) -> Result<(), Problem> {
    if essence(headers) == "application/json" {
        return Ok(());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let found = if kind.is_empty() { "none".to_owned() } else { format!("`{}`", strict_json::shown(kind)) };
    let text = format!("the content type must be application/json; found {found}");
    Err(Problem::new(Kind::MediaType, text))
}

fn plain(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Problem::new(
            Kind::MediaType,
            "the body must not be compressed: no content encoding is supported",
        )),
        Some(_) | None => Ok(()),
    }
}

fn announced_length(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length > limit as u64 => Err(too_large(limit)),
        Some(_) | None => Ok(()),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("the body is longer than {limit} bytes"))
}

/// Reads on in the background while the answer goes out, within limits.
pub(crate) fn drain<B: Buf, E: Send>(body: impl Stream<Item = Result<B, E>> + Send + 'static) {
    tokio::spawn(timeout(DRAIN_TIME, async move {
        let mut body = pin!(body);
        let mut read = 0;
        while let Some(Ok(part)) = body.next().await {
            read += part.remaining();
            if read > DRAIN_BYTES {
                break;
            }
        }
    }));
}
