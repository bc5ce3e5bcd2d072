//! Request headers with a meaning: `Idempotency-Key`, `Prefer`, `traceparent`, `x-forced-payment-outcome`.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use messaging::TraceParent;
use tokio::time::Instant;

use super::mount::Asked;
use super::problem::{FieldError, Kind, Problem};
use super::strict_json::shown;

/// Nobody is made to wait longer than this by `Prefer: wait`.
pub(crate) const MAX_WAIT_SECONDS: u64 = 30;
/// Characters of an idempotency key.
pub(crate) const MAX_KEY_LENGTH: usize = 255;
/// The outcomes that a demo may force on a payment.
pub(crate) const FORCED_OUTCOMES: [&str; 4] = ["declined", "unavailable", "down", "no_reply"];

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const FORCED_OUTCOME: &str = "x-forced-payment-outcome";

/// The client's idempotency key: one header of visible ASCII.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && text.len() <= MAX_KEY_LENGTH && values.next().is_none() {
        return Ok(Some(text));
    }
    let message = format!("must be given once, with 1 to {MAX_KEY_LENGTH} visible ASCII characters");
    Err(bad_header(Kind::BadHeader, "Idempotency-Key", message))
}

/// A client's wish to be answered when the saga has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// As it is honoured.
    pub(crate) seconds: u64,
    /// When the answer is due.
    pub(crate) until: Instant,
}

impl Wait {
    /// How long is left.
    pub(crate) fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The `wait` preference (RFC 7240). One that cannot be understood is ignored, as the RFC says.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Wait> {
    let seconds = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .find_map(wait_seconds)?
        .min(MAX_WAIT_SECONDS);
    Some(Wait { seconds, until: Instant::now() + Duration::from_secs(seconds) })
}

fn wait_seconds(preference: &str) -> Option<u64> {
    let (name, value) = preference.split(';').next()?.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("wait") {
        return None;
    }
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(value);
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // So many digits that they do not fit: longer than the cap in any case.
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

/// The client's trace, if its header is well-formed (W3C Trace Context, version 00); anything else is ignored.
pub(crate) fn traceparent(asked: &Asked) -> Option<Arc<str>> {
    let text = asked.header("traceparent")?;
    well_formed(text).map(|_| text.into())
}

/// Only version 00: what later ones mean is not known.
pub(crate) fn well_formed(text: &str) -> Option<TraceParent> {
    text.starts_with("00-").then(|| TraceParent::parse(text).ok())?
}

/// The outcome that the client forces on the payment, where that is allowed.
pub(crate) fn forced_outcome(headers: &HeaderMap, allowed: bool) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(FORCED_OUTCOME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if !allowed {
        return Err(forced_not_allowed(FORCED_OUTCOME));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    if FORCED_OUTCOMES.contains(&&*text) && values.next().is_none() {
        return Ok(Some(text.into_owned()));
    }
    let message = format!("must be one of {}; found `{}`", FORCED_OUTCOMES.join(", "), shown(&text));
    Err(bad_header(Kind::ForcedOutcome, FORCED_OUTCOME, message))
}

/// The answer to a forced outcome where it is not allowed; `place` is the header or field.
pub(crate) fn forced_not_allowed(place: &str) -> Problem {
    let text = "is honoured only where the service was started with ALLOW_FORCED_OUTCOMES=true";
    bad_header(Kind::ForcedOutcome, place, text.to_owned())
}

fn bad_header(kind: Kind, name: &str, message: String) -> Problem {
    Problem::fields(kind, vec![FieldError::new(name, message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_read_as_the_rfc_says() {
        for (text, expected) in [
            ("wait=5", Some(5)),
            ("Wait = 5", Some(5)),
            ("respond-async, wait=10", Some(10)),
            ("wait=\"7\"; x=y", Some(7)),
            ("wait=1, wait=9", Some(1)),
            ("wait=0", Some(0)),
            ("wait=99999999999999999999999", Some(u64::MAX)),
            ("wait", None),
            ("wait=", None),
            ("wait=-1", None),
            ("wait=1.5", None),
            ("wait=soon", None),
            ("waits=5", None),
            ("", None),
        ] {
            assert_eq!(text.split(',').find_map(wait_seconds), expected, "{text}");
        }
    }
}
