//! Whether a cluster can be reached at all, for people who set a service up.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;

use crate::settings::{KafkaError, KafkaSettings};

/// How long one question may take; several are asked within the limit.
const QUESTION: Duration = Duration::from_secs(1);

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its brokers, `host:port`.
    pub brokers: Vec<String>,
    /// How many topics this client may see.
    pub topics: usize,
}

/// Asks a cluster who it is, for as long as `limit`. Blocks.
///
/// # Errors
/// A property is wrong; or nobody answers in time, in librdkafka's words, without any password.
pub fn cluster(settings: &KafkaSettings, limit: Duration) -> Result<Cluster, Unreached> {
    let until = Instant::now() + limit;
    let client: BaseConsumer<LastError> = settings
        .consumer("config-check")?
        .create_with_context(LastError::default())
        .map_err(|source| KafkaError::client("consumer", source))?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match client.fetch_metadata(None, QUESTION.min(left.max(Duration::from_millis(1)))) {
            Ok(metadata) => {
                let brokers = metadata.brokers().iter();
                return Ok(Cluster {
                    brokers: brokers.map(|broker| format!("{}:{}", broker.host(), broker.port())).collect(),
                    topics: metadata.topics().len(),
                });
            }
            Err(error) if left.is_zero() => {
                // The reasons of failed connections come with a poll.
                let _ = client.poll(Duration::ZERO);
                let said = client.context().take();
                return Err(Unreached::Silent { limit, reason: said.unwrap_or_else(|| error.to_string()) });
            }
            Err(_) => {
                let _ = client.poll(Duration::ZERO);
            }
        }
    }
}

/// A cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// No client can be made.
    #[error(transparent)]
    Settings(#[from] KafkaError),
    /// Nobody has answered.
    #[error("no answer within {} s: {reason}", limit.as_secs())]
    Silent {
        /// How long it was asked.
        limit: Duration,
        /// What librdkafka said last.
        reason: String,
    },
}

/// Keeps what a client says went wrong, and logs nothing: whoever asks is told.
#[derive(Default)]
struct LastError(Mutex<Option<String>>);

impl LastError {
    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for LastError {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: ClientError, reason: &str) {
        // That all are down says less than why the last one is.
        let all_down = rdkafka::types::RDKafkaErrorCode::AllBrokersDown;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if error.rdkafka_error_code() != Some(all_down) || last.is_none() {
            *last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for LastError {}
