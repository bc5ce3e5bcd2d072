//! The body of a registration: a definition's text as it is, or JSON that brings schemas as well.

use bytes::Bytes;
use http::HeaderMap;
use saga_defs::definition::MAX_SOURCE_BYTES;
use serde_json::Value;
use warp::{Filter, Rejection, reject};

use super::body;
use super::fields::Fields;
use super::problem::{FieldError, Kind, Problem};
use super::server::HttpLimits;
use super::strict_json;
use crate::registration::brought::Brought;
use crate::registration::{Candidate, MAX_SCHEMAS};

/// Reads the body, or rejects with a [`Problem`].
pub(crate) fn candidate(
    limits: &HttpLimits,
) -> impl Filter<Extract = (Candidate,), Error = Rejection> + Clone + use<> {
    body::bytes(limits, |headers| media(headers).map(drop)).and_then(
        |headers: HeaderMap, bytes: Bytes| async move {
            let read = match media(&headers) {
                Ok(Media::Json) => json(&bytes),
                Ok(Media::Text) => text(&bytes),
                Err(problem) => Err(problem),
            };
            read.map_err(reject::custom)
        },
    )
}

enum Media {
    Json,
    Text,
}

/// What the body is. A tool that does not say is taken to send a definition as it is.
fn media(headers: &HeaderMap) -> Result<Media, Problem> {
    let essence = body::essence(headers);
    match essence.as_str() {
        "application/json" => Ok(Media::Json),
        "" | "application/toml" | "application/x-toml" | "application/octet-stream" => Ok(Media::Text),
        text if text.starts_with("text/") => Ok(Media::Text),
        other => {
            let found = strict_json::shown(other);
            let text = format!(
                "the content type must be application/toml for a definition, or application/json for one with \
                 its schemas; found `{found}`"
            );
            Err(Problem::new(Kind::MediaType, text))
        }
    }
}

fn text(bytes: &[u8]) -> Result<Candidate, Problem> {
    let malformed = |message: String| Problem::new(Kind::Malformed, message);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| malformed(format!("the body is not UTF-8 from byte {} on", error.valid_up_to())))?;
    if text.trim().is_empty() {
        return Err(malformed("the body is empty; a definition is expected".to_owned()));
    }
    if let Some(at) = text.find('\0') {
        return Err(malformed(format!("the body contains NUL at byte {at}")));
    }
    Ok(Candidate { source: text.to_owned(), schemas: Vec::new() })
}

fn json(bytes: &[u8]) -> Result<Candidate, Problem> {
    let fields = match strict_json::parse(bytes) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(Problem::field("", "the body must be a JSON object")),
        Err(message) => return Err(Problem::new(Kind::Malformed, message)),
    };
    let mut fields = Fields::new(fields);
    let source = fields.text("definition", MAX_SOURCE_BYTES);
    let schemas = fields.optional_array("schemas", MAX_SCHEMAS).unwrap_or_default();
    let mut brought = Vec::with_capacity(schemas.len());
    for (position, schema) in schemas.into_iter().enumerate() {
        let origin = place(position);
        match schema {
            Value::String(text) => brought.push(Brought { origin, text }),
            Value::Object(_) => brought.push(Brought { origin, text: schema.to_string() }),
            other => {
                let found = strict_json::shown(&other.to_string());
                let message = format!("must be an Avro record, as an object or as a text; found {found}");
                fields.complain([FieldError::new(origin, message)]);
            }
        }
    }
    fields.done()?;
    Ok(Candidate { source: source.unwrap_or_default(), schemas: brought })
}

/// Where a schema stands in the body.
pub(crate) fn place(position: usize) -> String {
    format!("schemas[{position}]")
}
