//! Sending requests: addresses, time limits, asking again.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::audit::Audit;
use crate::bookings::Bookings;
use crate::bulk::{Redrives, SagaActions};
use crate::call::Call;
use crate::dead_letters::DeadLetters;
use crate::definitions::Definitions;
use crate::error::{Error, Problem};
use crate::participants::Participants;
use crate::sagas::Sagas;

/// The header that says who acts.
const ACTOR: &str = "x-saga-actor";
/// How long an answer may take, unless the service was asked to wait itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For how long a request is repeated.
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// The wait before a repetition where the service does not name one.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// So much of an answer that is not understood is shown, in characters.
const SHOWN: usize = 200;

/// A client of one orchestrator service. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    base: Url,
    answer_limit: Duration,
    retry_limit: Duration,
}

/// The settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    url: String,
    token: Option<SecretString>,
    actor: Option<String>,
    answer_limit: Duration,
    retry_limit: Duration,
}

impl ClientBuilder {
    /// Sends this token with every request: `Authorization: Bearer …`.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(SecretString::from(token.into()));
        self
    }

    /// Says who acts with every request: `X-Saga-Actor`. It counts where the service is told to believe that header
    /// (`ACTOR_HEADER=x-saga-actor`).
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// How long the service may take to answer; 15 s unless it is set. What it is asked to wait comes on top.
    #[must_use]
    pub const fn answer_limit(mut self, limit: Duration) -> Self {
        self.answer_limit = limit;
        self
    }

    /// For how long a request is repeated after `503`, `429` and broken connections; 10 s unless it is set. The service
    /// says when (`Retry-After`); what would come later than the limit is not waited for. Zero: nothing is repeated.
    #[must_use]
    pub const fn retry_limit(mut self, limit: Duration) -> Self {
        self.retry_limit = limit;
        self
    }

    /// Makes the client. No connection is made yet.
    ///
    /// # Errors
    /// The address, the token or the actor cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let invalid = |why: String| Error::Invalid(format!("the address `{}` {why}", self.url));
        let base = Url::parse(&self.url).map_err(|error| invalid(format!("cannot be read: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(invalid("must begin with http:// or https://".to_owned()));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let text = format!("Bearer {}", token.expose_secret().trim());
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| Error::Invalid("the token has characters that no header may have".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(actor) = &self.actor {
            let value = HeaderValue::from_bytes(actor.as_bytes()).map_err(|_| {
                Error::Invalid(format!("no header may have `{}`, who acts", actor.escape_debug()))
            })?;
            headers.insert(ACTOR, value);
        }
        // Whoever installed another one keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(concat!("saga-client/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Invalid(format!("no HTTP client can be made: {error}")))?;
        let inner = Inner { http, base, answer_limit: self.answer_limit, retry_limit: self.retry_limit };
        Ok(Client { inner: Arc::new(inner) })
    }
}

impl Client {
    /// For the service at this address, e.g. `http://127.0.0.1:8080`; a path before the API's own is kept.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn new(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// With further settings.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            token: None,
            actor: None,
            answer_limit: ANSWER_LIMIT,
            retry_limit: RETRY_LIMIT,
        }
    }

    /// The service's address.
    pub fn url(&self) -> &str {
        self.inner.base.as_str()
    }

    /// Sagas of any definition.
    pub fn sagas(&self) -> Sagas {
        Sagas(self.clone())
    }

    /// Bookings: sagas of the definition `booking`, as a shop sees them.
    pub fn bookings(&self) -> Bookings {
        Bookings(self.clone())
    }

    /// Definitions.
    pub fn definitions(&self) -> Definitions {
        Definitions(self.clone())
    }

    /// Redrives of many dead letters.
    pub fn redrives(&self) -> Redrives {
        Redrives(self.clone())
    }

    /// Verbs on many sagas.
    pub fn saga_actions(&self) -> SagaActions {
        SagaActions(self.clone())
    }

    /// What operators did.
    pub fn audit(&self) -> Audit {
        Audit(self.clone())
    }

    /// Participants: who is asked at the moment.
    pub fn participants(&self) -> Participants {
        Participants(self.clone())
    }

    /// Dead letters.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters(self.clone())
    }

    /// The service's OpenAPI document.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn openapi(&self) -> Result<Value, Error> {
        self.json(Call::get("/openapi.json")).await
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let (response, route) = (self.answer(&call).await?, call.name());
        let status = response.status().as_u16();
        let bytes = response.bytes().await.map_err(|error| self.failed(error, &call))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let begins = String::from_utf8_lossy(&bytes).chars().take(SHOWN).collect::<String>();
            Error::Unexpected { route, status, found: format!("{error}; it begins with `{begins}`") }
        })
    }

    /// Sends a request and reads its answer as text.
    pub(crate) async fn text(&self, call: Call) -> Result<String, Error> {
        let response = self.answer(&call).await?;
        response.text().await.map_err(|error| self.failed(error, &call))
    }

    /// Sends a request, again if need be, until it succeeds or is refused.
    pub(crate) async fn answer(&self, call: &Call) -> Result<Response, Error> {
        let begun = Instant::now();
        loop {
            let error = match self.once(call).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // The service may name any number of seconds, also one that no clock has.
            let in_time = |wait: &Duration| begun.elapsed().saturating_add(*wait) <= self.inner.retry_limit;
            let Some(wait) = again_after(&error).filter(in_time) else { return Err(error) };
            // Nothing tells when a service has room again: it says itself how long to wait (`Retry-After`).
            sleep(wait).await;
        }
    }

    /// Opens a stream: an answer of which only the beginning has a time limit.
    pub(crate) async fn stream(&self, call: &Call) -> Result<Response, Error> {
        let limit = self.inner.answer_limit;
        let request = self.request(call)?.header(ACCEPT, "text/event-stream");
        let response = match timeout(limit, request.send()).await {
            Ok(sent) => sent.map_err(|error| self.failed(error, call))?,
            Err(_) => return Err(Error::NoAnswer { url: self.url().to_owned(), limit }),
        };
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response, call).await) }
    }

    /// How long an answer may take.
    pub(crate) fn answer_limit(&self) -> Duration {
        self.inner.answer_limit
    }

    /// For how long a request is repeated.
    pub(crate) fn retry_limit(&self) -> Duration {
        self.inner.retry_limit
    }

    async fn once(&self, call: &Call) -> Result<Response, Error> {
        let request = self.request(call)?.timeout(self.inner.answer_limit + call.wait);
        let response = request.send().await.map_err(|error| self.failed(error, call))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response, call).await) }
    }

    fn request(&self, call: &Call) -> Result<RequestBuilder, Error> {
        let mut request = self.inner.http.request(call.method.clone(), self.address(call)?);
        for (name, value) in &call.headers {
            request = request.header(name, Call::header_value(name, value)?);
        }
        if let Some((media_type, bytes)) = &call.body {
            request = request.header(CONTENT_TYPE, *media_type).body(bytes.clone());
        }
        Ok(request)
    }

    fn address(&self, call: &Call) -> Result<Url, Error> {
        let mut url = self.inner.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Invalid(format!("the address `{}` has no path", self.url())))?
            .pop_if_empty()
            .extend(call.segments());
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Ok(url)
    }

    fn failed(&self, error: reqwest::Error, call: &Call) -> Error {
        let url = self.url().to_owned();
        // The address is named once, and not with the query.
        let source = error.without_url();
        if source.is_connect() {
            Error::Unreachable { url, source }
        } else if source.is_timeout() {
            Error::NoAnswer { url, limit: self.inner.answer_limit + call.wait }
        } else {
            Error::Broken { url, source }
        }
    }

    async fn refused(&self, response: Response, call: &Call) -> Error {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => return self.failed(error, call),
        };
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(mut problem) => {
                problem.retry_after = retry_after(status, &headers);
                Error::Problem { problem: Box::new(problem), route: call.name() }
            }
            Err(_) => {
                let begins = String::from_utf8_lossy(&bytes).chars().take(SHOWN).collect::<String>();
                let found = if begins.is_empty() { "nothing".to_owned() } else { format!("`{begins}`") };
                Error::Unexpected { route: call.name(), status: status.as_u16(), found }
            }
        }
    }
}

fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let later = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    let value = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = value.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    seconds.or(later.then_some(RETRY_WAIT))
}

/// When a request may be repeated after this error; `None`: it is of no use. Everything that acts has an idempotency
/// key, so a repetition never acts twice.
fn again_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Problem { problem, .. } if matches!(problem.status, 429 | 503) => problem.retry_after,
        Error::Broken { .. } => Some(RETRY_WAIT),
        Error::Problem { .. }
        | Error::Invalid(_)
        | Error::Unreachable { .. }
        | Error::NoAnswer { .. }
        | Error::Unexpected { .. } => None,
    }
}
