//! Whether a cluster can be reached at all, for people who set a service up.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;

use crate::settings::{KafkaError, KafkaSettings};

/// How long one question may take; several are asked within the limit.
const QUESTION: Duration = Duration::from_secs(1);
/// How many things a client may have to say between two questions.
const HEARD_AT_ONCE: usize = 64;

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
                listen(&client);
                let said = client.context().take();
                return Err(Unreached::Silent { limit, reason: said.unwrap_or_else(|| error.to_string()) });
            }
            Err(_) => listen(&client),
        }
    }
}

/// Hears what a client has to say: why connections failed comes with a poll, one thing at a time.
fn listen(client: &BaseConsumer<LastError>) {
    for _ in 0..HEARD_AT_ONCE {
        // Nothing was subscribed to, so there is no record to lose.
        let _ = client.poll(Duration::ZERO);
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
struct LastError(Mutex<Said>);

/// The last of each kind; the first that there is says most.
#[derive(Default)]
struct Said {
    /// Why a broker refuses us.
    refused: Option<String>,
    /// Why a connection failed: what is wrong with a certificate is told here alone.
    failed: Option<String>,
    /// That all brokers are down.
    down: Option<String>,
}

impl LastError {
    fn take(&self) -> Option<String> {
        let Said { refused, failed, down } = std::mem::take(&mut *self.said());
        refused.or(failed).or(down)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for LastError {
    fn log(&self, level: RDKafkaLogLevel, _: &str, line: &str) {
        if level as i32 <= RDKafkaLogLevel::Error as i32 {
            // After the name of the thread.
            let reason = line.split_once("]: ").map_or(line, |(_, reason)| reason);
            let failed = &mut self.said().failed;
            // OpenSSL's own words come by themselves too, where librdkafka has told them already and does not repeat itself.
            let words = reason.split_once(": ").map_or(reason, |(_, words)| words);
            if !failed.as_ref().is_some_and(|before| before.contains(words)) {
                *failed = Some(reason.to_owned());
            }
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        let mut said = self.said();
        let kind = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => &mut said.down,
            _ => &mut said.refused,
        };
        *kind = Some(reason.to_owned());
    }
}

impl ConsumerContext for LastError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], told: &str) {
        let last = LastError::default();
        for line in lines {
            last.log(RDKafkaLogLevel::Error, "FAIL", &format!("[thrd:x]: {line}"));
        }
        assert_eq!(last.take().as_deref(), Some(told));
    }

    #[test]
    fn the_line_that_says_most_is_told() {
        const LONG: &str =
            "sasl_ssl://x: SSL handshake failed: error:0A000086: certificate verify failed: verify it";
        const SHORT: &str = "sasl_ssl://x: error:0A000086: certificate verify failed";
        check(&[LONG, SHORT], LONG);
        check(&[SHORT, LONG], LONG);
        check(&[LONG, SHORT, LONG], LONG);
        check(&[LONG, "sasl_ssl://x: Connection refused"], "sasl_ssl://x: Connection refused");
    }
}
