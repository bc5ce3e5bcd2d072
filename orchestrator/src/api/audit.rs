//! What operators did: who, when, what, to what, why, and what it was before and afterwards.

use std::sync::Arc;

use http::StatusCode;
use saga_defs::ids::DeadLetterId;
use saga_defs::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::app::App;
use super::document::Problems;
use super::mount::Asked;
use super::problem::{Answer, json};
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use crate::store::audit::AuditFilter;
use crate::store::entities::audit::Model;

/// One thing that somebody did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditEntry {
    #[schema(format = Uuid)]
    id: String,
    #[schema(format = DateTime)]
    at: String,
    /// Who.
    actor: String,
    /// What: `cancel`, `redrive`, `skip`, `retry-now`, `redrive-dead-letter`, `discard`, `register` and the like.
    action: String,
    #[schema(required, format = Uuid)]
    saga_id: Option<String>,
    #[schema(required, format = Uuid)]
    dead_letter_id: Option<String>,
    /// Why, in the words of who did it.
    reason: String,
    /// What was acted on as it was before, in short; null where there was nothing, or where that was not kept.
    #[schema(required, value_type = Option<Object>)]
    before: Option<Value>,
    /// The same, afterwards.
    #[schema(required, value_type = Option<Object>)]
    after: Option<Value>,
    /// Which chain the entry is in: a shard, or -1.
    chain: i32,
    /// Its place in the chain, without a gap from 1 on.
    seq: i64,
    /// SHA-256 in hexadecimal, of the entry and of the hash of the one before it in its chain.
    hash: String,
}

impl AuditEntry {
    fn of(row: Model) -> Self {
        let state = |text: Option<String>| {
            text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)))
        };
        Self {
            id: row.id.to_string(),
            at: Timestamp::from_utc(row.at).to_string(),
            actor: row.actor,
            action: row.verb,
            saga_id: row.saga_id.map(|id| id.to_string()),
            dead_letter_id: row.dead_letter_id.map(|id| id.to_string()),
            reason: row.reason,
            before: state(row.state_before),
            after: state(row.state_after),
            chain: row.chain,
            seq: row.chain_seq,
            hash: row.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// Some entries of the audit, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditPage {
    items: Vec<AuditEntry>,
    /// Ask again with it for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Lists what was done to sagas, dead letters and definitions, newest first.
#[utoipa::path(
    get, path = "/api/audit", tag = "Operators", operation_id = "listAudit",
    params(
        ("actor" = Option<String>, Query, description = "By this one."),
        ("action" = Option<String>, Query, description = "Of this kind, e.g. `cancel`."),
        ("sagaId" = Option<String>, Query, format = Uuid, description = "On this saga."),
        ("deadLetterId" = Option<String>, Query, format = Uuid, description = "On this dead letter."),
        ("after" = Option<String>, Query, format = DateTime, description = "Later than this."),
        ("before" = Option<String>, Query, format = DateTime, description = "Earlier than this."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = AuditPage), Problems),
)]
pub(crate) async fn list_audit(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let filter = AuditFilter {
        actor: query.text("actor"),
        verb: query.text("action"),
        saga: query.saga_id("sagaId"),
        letter: query.uuid("deadLetterId").map(DeadLetterId::from_uuid),
        after: query.time("after"),
        before: query.time("before"),
    };
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let below = query.cursor(Page::Audit);
    query.done()?;
    // One more than asked for tells whether there is another page.
    let mut rows = app.api.reads.audit(&filter, below, limit + 1).await?;
    let more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = rows.last().filter(|_| more).map(|row| Page::after_audit(row.id));
    let items = rows.into_iter().map(AuditEntry::of).collect();
    Ok(json(StatusCode::OK, &AuditPage { items, next_cursor }))
}
