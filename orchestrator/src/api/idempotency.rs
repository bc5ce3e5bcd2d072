//! Idempotency keys: one key acts once, and whoever repeats it gets the first answer.

use http::HeaderMap;
use saga_defs::Data;
use sha2::{Digest, Sha256};

use super::preferences::idempotency_key;
use super::problem::{Kind, Problem};
use crate::engine::handle::RequestKey;
use crate::store::queries::{Reads, RecordedKey};

/// The key of a request, if it has one. What was asked is its route and everything else that has a meaning (`subject`),
/// and the body without regard to the order and spacing of its JSON.
pub(crate) fn request_key(
    headers: &HeaderMap,
    route: &str,
    subject: &str,
    body: &Data,
) -> Result<Option<RequestKey>, Problem> {
    Ok(idempotency_key(headers)?.map(|key| key_of(key, route, subject, body)))
}

/// The same of a key that is known.
pub(crate) fn key_of(key: &str, route: &str, subject: &str, body: &Data) -> RequestKey {
    let mut request = Sha256::new();
    for part in [route.as_bytes(), subject.as_bytes()] {
        request.update((part.len() as u64).to_be_bytes());
        request.update(part);
    }
    // A map is in order of name, so this is the same for the same fields.
    request.update(serde_json::to_vec(body).unwrap_or_default());
    RequestKey { key_hash: Sha256::digest(key.as_bytes()).into(), request_hash: request.finalize().into() }
}

/// What the key did before, if it acted.
pub(crate) async fn before(reads: &Reads, key: Option<&RequestKey>) -> Result<Option<RecordedKey>, Problem> {
    let Some(key) = key else { return Ok(None) };
    match reads.request_key(&key.key_hash).await? {
        Some(recorded) if recorded.request_hash == key.request_hash => Ok(Some(recorded)),
        Some(_) => {
            let text = "this Idempotency-Key was used for another request; use a new key for a new request";
            Err(Problem::new(Kind::KeyReused, text))
        }
        None => Ok(None),
    }
}

/// The engine said that the key has been used: by whom and for what?
pub(crate) async fn taken(reads: &Reads, key: Option<&RequestKey>) -> Result<RecordedKey, Problem> {
    before(reads, key).await?.ok_or_else(|| {
        let text = "another request with this Idempotency-Key is under way; ask again";
        Problem::new(Kind::Busy, text).retry_after(std::time::Duration::from_secs(1))
    })
}
