//! Arguments that several commands take.

use std::fs;
use std::io::{self, Read as _};
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;

/// How much of a list.
#[derive(Args, Clone, Debug)]
pub(crate) struct Extent {
    /// Shows at most so many
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) limit: u32,
    /// Shows all of them
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

/// Why somebody acts.
#[derive(Args, Clone, Debug)]
pub(crate) struct Because {
    /// Why; it is kept in the audit
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// The same key acts once; drawn if it is left out
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// Whether to wait for the end of a saga.
#[derive(Args, Clone, Debug)]
pub(crate) struct Waiting {
    /// Waits until it has ended or is stuck
    #[arg(long)]
    pub(crate) wait: bool,
    /// Shows every transition until it has ended or is stuck
    #[arg(long, conflicts_with = "wait")]
    pub(crate) watch: bool,
    /// Waits so long at most
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// Words that the service knows, for completion and for a good complaint.
pub(crate) fn one_of(words: &'static [&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(words)
}

/// A moment (RFC 3339), or how long ago it was.
pub(crate) fn moment(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        "a moment such as 2026-11-22T19:58:53Z, or how long ago such as 2h, is expected".to_owned()
    })?;
    OffsetDateTime::now_utc()
        .checked_sub(ago.try_into().unwrap_or(time::Duration::MAX))
        .ok_or("too long ago".to_owned())
}

/// A JSON object: the text itself, `@FILE`, or `-` for standard input.
pub(crate) fn object(text: &str, argument: &str) -> Result<Map<String, Value>, Failure> {
    let unreadable = |error: io::Error| Failure::usage(format!("{argument}: {text} cannot be read: {error}"));
    let json = match text.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).map_err(unreadable)?,
        None if text == "-" => {
            let mut read = String::new();
            io::stdin().read_to_string(&mut read).map_err(unreadable)?;
            read
        }
        None => text.to_owned(),
    };
    match serde_json::from_str(&json) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Failure::usage(format!("{argument} must be a JSON object"))),
        Err(error) => Err(Failure::usage(format!("{argument} is no JSON: {error}")).next(format!(
            "{argument} takes an object such as '{{\"a\": 1}}', @FILE, or - for standard input"
        ))),
    }
}
