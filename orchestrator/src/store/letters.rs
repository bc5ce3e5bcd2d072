//! Dead letters, as rows.

use messaging::Headers;
use saga_defs::ids::{DeadLetterId, Direction, SagaId};
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, Value};
use uuid::Uuid;

use super::audit::AuditRow;
use super::{Store, StoreError, statement};
use crate::dead_letters::edit::Change;

/// A dead letter to keep. The record is as it was, byte for byte.
#[derive(Clone, Debug)]
pub struct LetterRow {
    /// Its id.
    pub id: DeadLetterId,
    /// Why, as a stable code.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Who gave up on it: a participant's name, or `orchestrator`.
    pub source: String,
    /// The record's topic.
    pub topic: String,
    /// The record's partition.
    pub partition: Option<i32>,
    /// The record's offset.
    pub offset: Option<i64>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
    /// The record's headers.
    pub headers: Headers,
    /// The record's timestamp.
    pub timestamp: Option<Timestamp>,
    /// The Avro record name that its header gives.
    pub message_type: Option<String>,
    /// Its saga, if known.
    pub saga: Option<SagaId>,
    /// Its step, if known.
    pub step: Option<String>,
    /// Doing or undoing, if known.
    pub direction: Option<Direction>,
    /// How often it was tried.
    pub attempts: i32,
    /// The first failure.
    pub first_failed_at: Timestamp,
    /// The last failure.
    pub last_failed_at: Timestamp,
}

/// What a batch does to a dead letter.
#[derive(Clone, Debug)]
pub enum LetterChange {
    /// Keep it; if it is there, it is there.
    Keep(LetterRow),
    /// Keep it, or open it again if it is there: the command failed once more.
    KeepOrReopen(LetterRow),
    /// An operator sent it again. It must be open.
    Redrive {
        /// Which.
        id: DeadLetterId,
        /// When.
        at: Timestamp,
        /// The operator's reason.
        reason: String,
        /// What was changed in it; `None`: it was sent as it was.
        changes: Option<Vec<Change>>,
        /// Whether the batch fails if it is not open.
        must: bool,
    },
    /// Its saga moved on.
    Resolve {
        /// Which.
        id: DeadLetterId,
        /// When.
        at: Timestamp,
    },
    /// It failed again.
    Reopen {
        /// Which.
        id: DeadLetterId,
        /// When.
        at: Timestamp,
        /// What was said this time.
        reason: String,
    },
    /// An operator put it aside. It must be open.
    Discard {
        /// Which.
        id: DeadLetterId,
        /// When.
        at: Timestamp,
        /// The operator's reason.
        reason: String,
    },
}

impl LetterChange {
    /// Whether the whole batch fails if this finds no row to change.
    pub const fn must_apply(&self) -> bool {
        matches!(self, Self::Redrive { must: true, .. } | Self::Discard { .. })
    }

    pub(super) fn statement(&self) -> Statement {
        match self {
            Self::Keep(row) => insert(row, "ON CONFLICT (id) DO NOTHING"),
            Self::KeepOrReopen(row) => insert(
                row,
                "ON CONFLICT (id) DO UPDATE SET status = 'open', reason = excluded.reason,
                     message = excluded.message, attempts = dead_letter.attempts + excluded.attempts,
                     record_value = excluded.record_value, record_headers = excluded.record_headers,
                     record_timestamp = excluded.record_timestamp,
                     last_failed_at = excluded.last_failed_at, updated_at = excluded.updated_at,
                     lineage = (dead_letter.lineage::jsonb || excluded.lineage::jsonb)::json",
            ),
            Self::Redrive { id, at, reason, changes, .. } => change(
                *id,
                Entry { at: *at, what: "redriven", reason, changes: changes.as_deref() },
                &["open"],
            ),
            Self::Resolve { id, at } => {
                change(*id, Entry::plain(*at, "resolved", "the saga moved on"), &["open", "redriven"])
            }
            Self::Reopen { id, at, reason } => change(*id, Entry::plain(*at, "open", reason), &["redriven"]),
            Self::Discard { id, at, reason } => {
                change(*id, Entry::plain(*at, "discarded", reason), &["open"])
            }
        }
    }
}

/// One entry of a letter's lineage; `what` is the letter's status from then on, or `failed` at its beginning.
struct Entry<'a> {
    at: Timestamp,
    what: &'a str,
    reason: &'a str,
    changes: Option<&'a [Change]>,
}

impl<'a> Entry<'a> {
    const fn plain(at: Timestamp, what: &'a str, reason: &'a str) -> Self {
        Self { at, what, reason, changes: None }
    }

    /// In an array, as JSON.
    fn json(&self) -> String {
        let mut entry = serde_json::json!({
            "at": self.at.to_string(), "what": self.what, "reason": without_nul(self.reason)
        });
        if let Some(changes) = self.changes {
            entry["changes"] = kept(serde_json::json!(changes));
        }
        serde_json::Value::Array(vec![entry]).to_string()
    }
}

/// A value out of a foreign record, fit for Postgres.
fn kept(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::String(text) => without_nul(&text).into(),
        serde_json::Value::Array(items) => items.into_iter().map(kept).collect(),
        serde_json::Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (without_nul(&name), kept(value))).collect()
        }
        other => other,
    }
}

/// A letter that is open again has failed again, now.
fn change(id: DeadLetterId, entry: Entry<'_>, from: &[&str]) -> Statement {
    let from: Vec<String> = from.iter().map(|&s| s.to_owned()).collect();
    statement(
        "UPDATE dead_letter SET status = $2, updated_at = $3,
             last_failed_at = CASE WHEN $2 = 'open' THEN $3 ELSE last_failed_at END,
             lineage = (lineage::jsonb || $4::text::jsonb)::json
         WHERE id = $1 AND status = ANY($5::text[])",
        vec![
            id.as_uuid().into(),
            entry.what.into(),
            entry.at.to_utc().into(),
            entry.json().into(),
            from.into(),
        ],
    )
}

/// Headers as the `record_headers` column has them: `[name, base64 or null]` each.
pub fn headers_to_json(headers: &Headers) -> serde_json::Value {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    headers.iter().map(|(name, value)| serde_json::json!([name, value.map(encode)])).collect()
}

/// The headers of a `record_headers` column; what is not such an array is left out.
pub fn headers_from_json(json: &serde_json::Value) -> Headers {
    use base64::Engine as _;
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let mut headers = Headers::new();
    for entry in json.as_array().into_iter().flatten() {
        if let Some(name) = entry.get(0).and_then(serde_json::Value::as_str) {
            let value = entry.get(1).and_then(serde_json::Value::as_str).and_then(decode);
            headers.push_nullable(name, value);
        }
    }
    headers
}

fn insert(row: &LetterRow, conflict: &str) -> Statement {
    let sql = format!(
        "INSERT INTO dead_letter (id, status, reason, message, source, topic, partition, record_offset,
             record_key, record_value, record_headers, record_timestamp, message_type, saga_id, step, direction,
             attempts, first_failed_at, last_failed_at, updated_at, lineage)
         VALUES ($1, 'open', $2, $3, $4, $5, $6, $7, $8, $9, $10::text::json, $11, $12, $13, $14, $15, $16, $17,
                 $18, $18, $19::text::json)
         {conflict}"
    );
    let values: Vec<Value> = vec![
        row.id.as_uuid().into(),
        without_nul(&row.reason).into(),
        without_nul(&row.message).into(),
        without_nul(&row.source).into(),
        without_nul(&row.topic).into(),
        row.partition.into(),
        row.offset.into(),
        row.key.clone().into(),
        row.value.clone().into(),
        headers_to_json(&row.headers).to_string().into(),
        row.timestamp.map(Timestamp::to_utc).into(),
        row.message_type.as_deref().map(without_nul).into(),
        row.saga.map(SagaId::as_uuid).into(),
        row.step.as_deref().map(without_nul).into(),
        row.direction.map(|direction| direction.as_str().to_owned()).into(),
        row.attempts.into(),
        row.first_failed_at.to_utc().into(),
        row.last_failed_at.to_utc().into(),
        Entry::plain(row.last_failed_at, "failed", &row.message).json().into(),
    ];
    statement(&sql, values)
}

/// Postgres texts have no NUL; what comes from a foreign record may.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A letter as the engine needs it to send it again.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// The letter itself.
    pub row: LetterRow,
    /// `open`, `redriven`, `resolved` or `discarded`.
    pub status: String,
}

impl Store {
    /// The letters of these ids that there are.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn letters(&self, ids: &[DeadLetterId]) -> Result<Vec<StoredLetter>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let sql = "SELECT id, status, reason, message, source, topic, partition, record_offset, record_key,
                       record_value, record_headers, record_timestamp, message_type, saga_id, step, direction,
                       attempts, first_failed_at, last_failed_at
                   FROM dead_letter WHERE id = ANY($1::uuid[])";
        let rows = self.db.query_all_raw(statement(sql, vec![ids.into()])).await?;
        rows.iter().map(stored_letter).collect()
    }

    /// Keeps letters that came over the topic; those that are there already stay as they are, and those that are a
    /// redriven letter failing again reopen that one.
    ///
    /// # Errors
    /// When the database cannot answer; nothing is kept then.
    pub async fn ingest(&self, changes: &[LetterChange]) -> Result<(), StoreError> {
        use sea_orm::TransactionTrait;
        let transaction = self.db.begin().await?;
        for change in changes {
            transaction.execute_raw(change.statement()).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Puts an open letter aside, with its audit line and key. `false`: it is not open.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the constraint `request_key_pkey` when the key is taken.
    pub async fn discard(
        &self,
        change: &LetterChange,
        audit: &AuditRow,
        key: Option<&super::commit::KeyWrite>,
    ) -> Result<bool, StoreError> {
        use sea_orm::TransactionTrait;
        let transaction = self.db.begin().await?;
        if transaction.execute_raw(change.statement()).await?.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.execute_raw(audit.statement()).await?;
        if let Some(key) = key {
            transaction.execute_raw(super::bulk::key_statement(key)).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

fn stored_letter(row: &sea_orm::QueryResult) -> Result<StoredLetter, StoreError> {
    let saga: Option<Uuid> = row.try_get("", "saga_id")?;
    let direction: Option<String> = row.try_get("", "direction")?;
    let timestamp: Option<time::OffsetDateTime> = row.try_get("", "record_timestamp")?;
    let headers: serde_json::Value = row.try_get("", "record_headers")?;
    Ok(StoredLetter {
        status: row.try_get("", "status")?,
        row: LetterRow {
            id: DeadLetterId::from_uuid(row.try_get("", "id")?),
            reason: row.try_get("", "reason")?,
            message: row.try_get("", "message")?,
            source: row.try_get("", "source")?,
            topic: row.try_get("", "topic")?,
            partition: row.try_get("", "partition")?,
            offset: row.try_get("", "record_offset")?,
            key: row.try_get("", "record_key")?,
            value: row.try_get("", "record_value")?,
            headers: headers_from_json(&headers),
            timestamp: timestamp.map(Timestamp::from_utc),
            message_type: row.try_get("", "message_type")?,
            saga: saga.map(SagaId::from_uuid),
            step: row.try_get("", "step")?,
            direction: direction.and_then(|text| text.parse().ok()),
            attempts: row.try_get("", "attempts")?,
            first_failed_at: Timestamp::from_utc(row.try_get("", "first_failed_at")?),
            last_failed_at: Timestamp::from_utc(row.try_get("", "last_failed_at")?),
        },
    })
}

/// Whether a pool answers at all.
///
/// # Errors
/// When it does not.
pub async fn ping(db: &DatabaseConnection) -> Result<(), StoreError> {
    db.execute_unprepared("SELECT 1").await?;
    Ok(())
}
