//! Names, durations and retries: values with rules of their own.

use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::keys::{Keys, Place, shown};
use super::problem::Problems;
use super::{MAX_ATTEMPTS, MAX_DURATION, MAX_NAME_LENGTH};
use crate::retry::RetryPolicy;

/// Names become topic names and header values, so they keep to what Kafka allows in a topic.
pub(super) fn name(
    keys: &Keys<'_>,
    key: &'static str,
    what: &str,
    problems: &mut Problems<'_>,
) -> Option<Spanned<Arc<str>>> {
    let name = keys.required(key, problems, |keys, key, problems| keys.text(key, problems))?;
    let text = *name.get_ref();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if text.is_empty() || text.len() > MAX_NAME_LENGTH || !plain || text.starts_with('.') {
        let help =
            format!("use 1 to {MAX_NAME_LENGTH} letters, digits, `-`, `_` and `.`, not beginning with a dot");
        problems.report(name.span(), format!("`{}` is no name for a {what}", shown(text)), help);
        return None;
    }
    Some(Spanned::new(name.span(), text.into()))
}

/// The full name of a message's Avro record.
pub(super) fn message(
    keys: &Keys<'_>,
    key: &'static str,
    problems: &mut Problems<'_>,
) -> Option<Spanned<Arc<str>>> {
    let name = keys.text(key, problems)?;
    if name.get_ref().is_empty() {
        let help = "give the full name of an Avro record, e.g. \"booking.ReserveBooking\"".to_owned();
        problems.report(name.span(), format!("`{key}` is empty"), help);
        return None;
    }
    Some(Spanned::new(name.span(), (*name.get_ref()).into()))
}

/// A length of time, longer than nothing.
pub(super) fn duration(
    keys: &Keys<'_>,
    key: &'static str,
    default: Duration,
    problems: &mut Problems<'_>,
) -> Duration {
    let Some(text) = keys.text(key, problems) else { return default };
    let shown = shown(text.get_ref());
    match humantime::parse_duration(text.get_ref()) {
        Ok(length) if length > Duration::ZERO && length <= MAX_DURATION => return length,
        Ok(_) => {
            let help = "make it longer than nothing and at most a year".to_owned();
            problems.report(text.span(), format!("`{key}` cannot be `{shown}`"), help);
        }
        Err(_) => {
            let help = "write e.g. 200ms, 5s, 15m, 2h".to_owned();
            problems.report(text.span(), format!("`{shown}` is not a duration"), help);
        }
    }
    default
}

/// A retry policy; what it leaves out is as in `default`.
pub(super) fn retry(
    keys: &Keys<'_>,
    key: &'static str,
    default: RetryPolicy,
    problems: &mut Problems<'_>,
) -> RetryPolicy {
    let Some(table) = keys.table(key, problems) else { return default };
    let keys = Keys::new(Place::Retry, table.get_ref(), table.span(), problems);
    let initial = duration(&keys, "initial", default.initial, problems);
    let max_attempts = keys.whole("max_attempts", 1..=MAX_ATTEMPTS, problems);
    let policy = RetryPolicy {
        max_attempts: max_attempts.map_or(default.max_attempts, Spanned::into_inner),
        initial,
        max: duration(&keys, "max", default.max.max(initial), problems),
        multiplier: keys.number("multiplier", 1.0..=100.0, problems).unwrap_or(default.multiplier),
        jitter: keys.number("jitter", 0.0..=1.0, problems).unwrap_or(default.jitter),
    };
    if policy.max < policy.initial {
        let message = format!(
            "`max` ({}) is shorter than `initial` ({})",
            humantime::format_duration(policy.max),
            humantime::format_duration(policy.initial)
        );
        problems.report(keys.span(), message, "make `max` at least as long as `initial`".to_owned());
    }
    policy
}
