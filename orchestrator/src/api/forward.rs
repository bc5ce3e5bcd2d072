//! Passing an operator's verb on to the process that owns the saga.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use messaging::TraceParent;
use messaging::headers::name::TRACEPARENT;
use warp::reply::Response;

use super::actor::ActorHeader;
use super::app::etag;
use super::body::Body;
use super::mount::Asked;
use super::problem::{Answer, Kind, Problem, chain};
use crate::engine::handle::Expected;

/// Marks a request that was passed on once, so that two processes that each take the other for the owner do not pass
/// it to and fro.
const FORWARDED: &str = "x-saga-forwarded";

/// What of a request goes along.
const REQUEST_HEADERS: [&str; 5] =
    ["content-type", "idempotency-key", "if-match", "x-request-id", "traceparent"];
/// What of the answer comes back.
const RESPONSE_HEADERS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::ETAG, header::LOCATION, header::RETRY_AFTER];
/// No owner's answer is longer than this.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// What a client waits before it asks again while a shard changes hands.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Asks other processes.
pub(crate) struct Forwarder {
    client: reqwest::Client,
    /// What says who acts, here and there.
    actor: Option<ActorHeader>,
}

impl Forwarder {
    /// With that limit for a whole exchange.
    pub(crate) fn new(limit: Duration, actor: Option<ActorHeader>) -> Result<Self, reqwest::Error> {
        // Needed before any client can be built; a second installation is refused, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(limit)
            .connect_timeout(limit / 4)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, actor })
    }

    /// The owner's answer to this request; `503` if there is no owner to ask, or it does not answer.
    pub(crate) async fn relay(&self, owner: Option<&str>, asked: &Asked, body: &Body) -> Answer {
        let Some(owner) = owner.filter(|_| !asked.headers.contains_key(FORWARDED)) else {
            let text = "no process owns this saga's shard at the moment; ask again";
            return Err(Problem::new(Kind::Elsewhere, text).retry_after(RETRY_AFTER));
        };
        let url = format!("{}{}", owner.trim_end_matches('/'), asked.target);
        let mut request = self.client.post(url).header(FORWARDED, "1").body(body.bytes.clone());
        let actor = self.actor.iter().map(|header| header.name().as_str());
        for name in REQUEST_HEADERS.into_iter().chain(actor) {
            if let Some(value) = asked.headers.get(name) {
                request = request.header(name, value);
            }
        }
        let unreachable = |error: reqwest::Error| {
            tracing::warn!(
                owner,
                error = chain(&error),
                "a request could not be passed on to the saga's owner"
            );
            let text = "the process that owns this saga did not answer; whether the request was carried out is not \
                        known: ask again with the same Idempotency-Key";
            Problem::new(Kind::Elsewhere, text).retry_after(RETRY_AFTER)
        };
        let answer = request.send().await.map_err(unreachable)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(unreachable)?;
        if body.len() > MAX_ANSWER_BYTES {
            return Err(Problem::new(Kind::Internal, "the owner's answer is too long to be passed on"));
        }
        Ok(relayed(status, &headers, body))
    }
}

/// An owner's answer to a request of our own.
pub(crate) enum Told {
    /// Its status, and the problem's `detail` if it is one.
    Answer(StatusCode, String),
    /// None; whether the request was carried out is not known.
    Nothing(String),
}

impl Forwarder {
    /// Asks an owner for something that it does once per key, and only at these revisions if there are any.
    pub(crate) async fn post(
        &self,
        owner: &str,
        target: &str,
        key: &str,
        actor: &str,
        expected: Option<&Expected>,
        body: &saga_defs::Data,
    ) -> Told {
        let url = format!("{}{target}", owner.trim_end_matches('/'));
        let mut request = self.client.post(url).header(FORWARDED, "1").header("idempotency-key", key);
        // Nobody asked for a trace of what goes on by itself: done here it has none either.
        let unwanted = TraceParent { flags: 0, ..TraceParent::root() };
        request = request.header(TRACEPARENT, unwanted.to_string());
        for revision in expected.iter().flat_map(|expected| &expected.0) {
            request = request.header(header::IF_MATCH, etag((*revision).into()));
        }
        if let Some((name, value)) = self.actor.as_ref().and_then(|header| header.telling(actor)) {
            request = request.header(name, value);
        }
        let request = request.json(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Told::Nothing(chain(&error)),
        };
        let status = answer.status();
        match answer.json::<serde_json::Value>().await {
            Ok(body) => Told::Answer(status, body["detail"].as_str().unwrap_or_default().to_owned()),
            Err(error) => Told::Nothing(chain(&error)),
        }
    }

    /// The owner's answer to this question, if it has one. It is asked once: nobody passes a question on twice.
    pub(crate) async fn look(&self, owner: &str, asked: &Asked) -> Option<Response> {
        if asked.headers.contains_key(FORWARDED) {
            return None;
        }
        let url = format!("{}{}", owner.trim_end_matches('/'), asked.target);
        let mut request = self.client.get(url).header(FORWARDED, "1");
        // The same question: its span there hangs below the one here.
        if let Some(traceparent) = asked.headers.get(TRACEPARENT) {
            request = request.header(TRACEPARENT, traceparent);
        }
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.ok().filter(|body| body.len() <= MAX_ANSWER_BYTES)?;
        (status == StatusCode::OK).then(|| relayed(status, &headers, body))
    }
}

fn relayed(status: StatusCode, headers: &http::HeaderMap<HeaderValue>, body: bytes::Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    for name in RESPONSE_HEADERS {
        if let Some(value) = headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
