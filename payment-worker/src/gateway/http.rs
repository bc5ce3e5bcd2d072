//! A gateway behind HTTP: `POST /charges` and `POST /refunds`, each with an `Idempotency-Key`.
//!
//! | answer | meaning |
//! | --- | --- |
//! | 2xx | done |
//! | 404 to a refund | nothing to refund |
//! | other 4xx | a charge is declined; a refund is refused, and tried again later |
//! | 408, 429, 503, no connection | unavailable, certainly not made |
//! | other 5xx, anything else, no answer in time, an answer that is too large | unavailable, may have been made |
//!
//! What is unavailable is tried again with the same key, until the call's time is up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backoff::ExponentialBackoffBuilder;
use futures::future::join_all;
use http::StatusCode;
use participant::{CallError, Refusal};
use reqwest::{Client, Request, Response, Url};
use saga_defs::ids::CommandId;
use serde_json::json;
use tower::limit::ConcurrencyLimit;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use super::{Charge, Charged, GATEWAY_UNAVAILABLE, Gateway, Refund, Refunded};

/// The largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The first wait before a call is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How much of an answer is quoted, in characters.
const QUOTED_CHARACTERS: usize = 200;

/// The bounds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// How many calls may run at once.
    pub concurrency: usize,
    /// How long one try may take.
    pub try_timeout: Duration,
    /// After this long no further try begins. Below a step's timeout, so that the answer is still waited for.
    pub call_time: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            concurrency: 64,
            try_timeout: Duration::from_millis(1500),
            call_time: Duration::from_millis(2500),
        }
    }
}

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the client for the payment gateway cannot be made")]
pub struct GatewayClientError(#[source] reqwest::Error);

/// The status and the beginning of the body.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    body: String,
}

/// No answer, or none that can be read.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error(transparent)]
    Transport(#[from] reqwest::Error),
    #[error("the answer is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
}

type Exchange = ConcurrencyLimit<Timeout<BoxCloneSyncService<Request, Answer, ExchangeError>>>;

/// See the module.
#[derive(Debug, Clone)]
pub struct HttpGateway {
    client: Client,
    exchange: Exchange,
    charges: Url,
    refunds: Url,
    call_time: Duration,
}

impl HttpGateway {
    /// A gateway below `base`, e.g. `https://payments.example/v1`.
    ///
    /// # Errors
    /// No TLS set-up can be made.
    pub fn new(base: &Url, limits: HttpLimits) -> Result<Self, GatewayClientError> {
        // Another part of the process may have chosen already; either choice serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.try_timeout)
            .build()
            .map_err(GatewayClientError)?;
        let sender = client.clone();
        let exchange = service_fn(move |request| {
            let client = sender.clone();
            async move { read(client.execute(request).await?).await }
        });
        // A call waits for its turn outside the timeout.
        let exchange = ServiceBuilder::new()
            .concurrency_limit(limits.concurrency.max(1))
            .timeout(limits.try_timeout)
            .service(BoxCloneSyncService::new(exchange));
        let (charges, refunds) = (below(base, "charges"), below(base, "refunds"));
        Ok(Self { client, exchange, charges, refunds, call_time: limits.call_time })
    }

    /// Posts until there is an answer that is not "unavailable", or the time is up.
    async fn post<T>(
        &self,
        url: &Url,
        key: CommandId,
        body: &serde_json::Value,
        judge: impl Fn(&Answer) -> Option<Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(FIRST_WAIT)
            .with_max_elapsed_time(Some(self.call_time))
            .build();
        let perhaps_made = AtomicBool::new(false);
        let last = backoff::future::retry(policy, || async {
            match self.try_once(url, key, body).await {
                Ok(answer) => match judge(&answer) {
                    Some(Ok(done)) => Ok(done),
                    Some(Err(error)) => Err(backoff::Error::permanent(error)),
                    None => Err(backoff::Error::transient(unavailable(&answer, &perhaps_made))),
                },
                Err(error) => Err(backoff::Error::transient(not_answered(error.as_ref(), &perhaps_made))),
            }
        });
        // One try without an answer is enough: from then on nobody can say that nothing happened.
        last.await.map_err(|error| match error {
            CallError::NotMade(refusal) if perhaps_made.load(Ordering::Relaxed) => {
                CallError::Unknown(refusal)
            }
            error => error,
        })
    }

    async fn try_once(
        &self,
        url: &Url,
        key: CommandId,
        body: &serde_json::Value,
    ) -> Result<Answer, BoxError> {
        let request =
            self.client.post(url.clone()).header("Idempotency-Key", key.to_string()).json(body).build()?;
        self.exchange.clone().oneshot(request).await
    }

    async fn charge(&self, charge: &Charge) -> Result<Charged, CallError> {
        let body = json!({
            "amountMinor": charge.amount_minor,
            "currency": charge.currency,
            "reference": charge.reference,
        });
        self.post(&self.charges, charge.key, &body, |answer| match class(answer.status) {
            Class::Done => Some(Ok(Charged::Done)),
            Class::Refused => Some(Ok(Charged::Declined { why: quoted(answer) })),
            Class::Unavailable => None,
        })
        .await
    }

    async fn refund(&self, refund: &Refund) -> Result<Refunded, CallError> {
        let body = json!({ "charge": refund.charge.to_string() });
        self.post(&self.refunds, refund.key, &body, |answer| match class(answer.status) {
            Class::Done => Some(Ok(Refunded::Done)),
            Class::Refused if answer.status == StatusCode::NOT_FOUND => Some(Ok(Refunded::NothingToRefund)),
            Class::Refused => Some(Err(CallError::NotMade(Refusal::new("refund_refused", quoted(answer))))),
            Class::Unavailable => None,
        })
        .await
    }
}

#[async_trait]
impl Gateway for HttpGateway {
    async fn charge_all(&self, charges: &[Charge]) -> Vec<Result<Charged, CallError>> {
        join_all(charges.iter().map(|charge| self.charge(charge))).await
    }

    async fn refund_all(&self, refunds: &[Refund]) -> Vec<Result<Refunded, CallError>> {
        join_all(refunds.iter().map(|refund| self.refund(refund))).await
    }
}

enum Class {
    Done,
    Refused,
    Unavailable,
}

fn class(status: StatusCode) -> Class {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Class::Unavailable,
        status if status.is_success() => Class::Done,
        status if status.is_client_error() => Class::Refused,
        _ => Class::Unavailable,
    }
}

/// An answer that says "not now".
fn unavailable(answer: &Answer, perhaps_made: &AtomicBool) -> CallError {
    let refusal = Refusal::new(GATEWAY_UNAVAILABLE, quoted(answer));
    let not_made =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if not_made.contains(&answer.status) {
        return CallError::NotMade(refusal);
    }
    perhaps_made.store(true, Ordering::Relaxed);
    CallError::Unknown(refusal)
}

/// No answer at all, or none that can be read.
fn not_answered(
    error: &(dyn std::error::Error + Send + Sync + 'static),
    perhaps_made: &AtomicBool,
) -> CallError {
    let transport = match error.downcast_ref() {
        Some(ExchangeError::Transport(error)) => Some(error),
        Some(ExchangeError::TooLarge) | None => error.downcast_ref::<reqwest::Error>(),
    };
    let text = match transport {
        // Not the text as it is: it holds the address, which may hold a password.
        Some(error) if error.is_connect() => "no connection to the gateway".to_owned(),
        Some(_) => "the connection to the gateway broke".to_owned(),
        None => format!("no answer from the gateway: {error}"),
    };
    let refusal = Refusal::new(GATEWAY_UNAVAILABLE, text);
    if transport.is_some_and(|error| error.is_connect() || error.is_builder()) {
        return CallError::NotMade(refusal);
    }
    perhaps_made.store(true, Ordering::Relaxed);
    CallError::Unknown(refusal)
}

fn quoted(answer: &Answer) -> String {
    let body: String = answer.body.chars().take(QUOTED_CHARACTERS).collect();
    format!("the gateway answered {}: {body}", answer.status)
}

async fn read(mut response: Response) -> Result<Answer, ExchangeError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(ExchangeError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// `base` with one more part to its path.
fn below(base: &Url, part: &str) -> Url {
    let mut url = base.clone();
    let path = format!("{}/{part}", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}
