//! The orchestrator's HTTP API, as clients see it.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use saga_defs::ids::SagaId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::wait::{SOON, eventually};

/// No request of a scenario takes longer.
const REQUEST_LIMIT: Duration = Duration::from_secs(40);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("no JSON: {} {}", self.status, self.text))
    }

    /// The body as JSON, if the status is this one.
    ///
    /// # Errors
    /// It is another, or the body is no JSON.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{status} was expected, not {}: {}", self.status, self.text);
        self.json()
    }

    /// A header as text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The problem document, in one line: status, the end of its type, and the wrong fields.
    ///
    /// # Errors
    /// It is not a problem document as RFC 9457 has it.
    pub fn problem(&self) -> Result<String> {
        let body = self.json()?;
        ensure!(self.header("content-type") == "application/problem+json", "{:?}", self.headers);
        for member in ["type", "title", "detail"] {
            ensure!(body[member].as_str().is_some_and(|text| !text.is_empty()), "no {member} in {body}");
        }
        ensure!(body["status"] == json!(self.status), "{} but {body}", self.status);
        let kind =
            body["type"].as_str().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default().to_owned();
        let errors = body["errors"].as_array().into_iter().flatten();
        let fields: Vec<&str> = errors.filter_map(|error| error["field"].as_str()).collect();
        let fields = if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(", ")) };
        Ok(format!("{} {kind}{fields}", self.status))
    }
}

/// One orchestrator's API.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
}

/// A booking to be asked for.
#[derive(Debug, Clone)]
pub struct BookingRequest {
    /// Who books.
    pub user: Uuid,
    /// What is booked.
    pub resource: Uuid,
    /// `x-forced-payment-outcome`.
    pub forced: Option<&'static str>,
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// `Prefer: wait=…`.
    pub wait_s: Option<u32>,
}

impl Default for BookingRequest {
    fn default() -> Self {
        Self { user: Uuid::new_v4(), resource: Uuid::new_v4(), forced: None, key: None, wait_s: None }
    }
}

impl BookingRequest {
    /// With a forced outcome of the payment.
    pub fn forced(outcome: &'static str) -> Self {
        Self { forced: Some(outcome), ..Self::default() }
    }

    /// Of this resource.
    pub fn of(resource: Uuid) -> Self {
        Self { resource, ..Self::default() }
    }

    /// The same with an idempotency key.
    pub fn keyed(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The body.
    pub fn body(&self) -> Value {
        json!({"userId": self.user, "resourceId": self.resource})
    }
}

impl Api {
    /// At this address, e.g. `http://127.0.0.1:8080`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into() }
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to be completed by the caller.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.base))
    }

    /// Asks.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        send(self.request(Method::GET, path)).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// Posts JSON under an idempotency key.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn post_keyed(&self, path: &str, body: &Value, key: &str) -> Result<Answer> {
        send(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    /// Asks for a booking.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn book(&self, booking: &BookingRequest) -> Result<Answer> {
        let mut request = self.request(Method::POST, "/api/bookings").json(&booking.body());
        if let Some(outcome) = booking.forced {
            request = request.header("x-forced-payment-outcome", outcome);
        }
        if let Some(key) = &booking.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(wait) = booking.wait_s {
            request = request.header("prefer", format!("wait={wait}"));
        }
        send(request).await
    }

    /// Starts a booking and gives its saga's id.
    ///
    /// # Errors
    /// It is not accepted.
    pub async fn start_booking(&self, booking: &BookingRequest) -> Result<SagaId> {
        id(&self.book(booking).await?.expect(201)?, "bookingId")
    }

    /// Starts a saga and gives its id.
    ///
    /// # Errors
    /// It is not accepted.
    pub async fn start_saga(&self, definition: &str, input: Value) -> Result<SagaId> {
        let body = json!({"definition": definition, "input": input});
        id(&self.post("/api/sagas", &body).await?.expect(201)?, "sagaId")
    }

    /// Shows a saga.
    ///
    /// # Errors
    /// It is not there.
    pub async fn saga(&self, saga: SagaId) -> Result<Value> {
        self.get(&format!("/api/sagas/{saga}")).await?.expect(200)
    }

    /// A verb of operators.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn act(&self, saga: SagaId, verb: &str) -> Result<Answer> {
        self.post(&format!("/api/sagas/{saga}/{verb}"), &json!({"reason": format!("to see {verb} work")}))
            .await
    }

    /// Waits until a saga has this status, and shows it.
    ///
    /// # Errors
    /// It does not come to it.
    pub async fn saga_is(&self, saga: SagaId, status: &str) -> Result<Value> {
        self.saga_is_within(saga, status, SOON).await
    }

    /// As [`Api::saga_is`], with a limit of the caller's.
    ///
    /// # Errors
    /// It does not come to it.
    pub async fn saga_is_within(&self, saga: SagaId, status: &str, limit: Duration) -> Result<Value> {
        let mut last = Value::Null;
        let what = format!("saga {saga} is {status}");
        let wait = eventually(&what, limit, async || {
            // While a database or process is away there is no answer: that is looked at again.
            match self.get(&format!("/api/sagas/{saga}")).await {
                Ok(answer) if answer.status == 200 => last = answer.json()?,
                Ok(_) | Err(_) => return Ok(None),
            }
            Ok((last["status"] == status).then_some(()))
        });
        wait.await.with_context(|| format!("it was last {last}"))?;
        Ok(last)
    }

    /// The dead letters of a saga, newest first.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn letters_of(&self, saga: SagaId) -> Result<Vec<Value>> {
        let page = self.get(&format!("/api/dead-letters?sagaId={saga}")).await?.expect(200)?;
        Ok(page["items"].as_array().cloned().unwrap_or_default())
    }

    /// One dead letter with everything that is known about it.
    ///
    /// # Errors
    /// It is not there.
    pub async fn letter(&self, id: &str) -> Result<Value> {
        self.get(&format!("/api/dead-letters/{id}")).await?.expect(200)
    }
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// There is no answer.
pub async fn send(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, text: response.text().await? })
}

/// A saga's id out of a body.
///
/// # Errors
/// It is not there.
pub fn id(body: &Value, member: &str) -> Result<SagaId> {
    let text = body[member].as_str().with_context(|| format!("no {member} in {body}"))?;
    text.parse().with_context(|| format!("{member} in {body}"))
}

fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Somebody else may have installed it: that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().timeout(REQUEST_LIMIT).no_proxy();
        builder.build().unwrap_or_else(|error| panic!("no HTTP client: {error}"))
    })
}
