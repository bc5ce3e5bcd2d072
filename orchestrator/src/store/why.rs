//! What the API asks in order to say what sagas wait for: when and where a command was decided, and what everything open
//! waits for together.

use saga_defs::ids::SagaId;
use saga_defs::saga::{Effect, Try};
use saga_defs::time::Timestamp;
use sea_orm::ConnectionTrait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::queries::{Reads, begun};
use super::{StoreError, statement};

/// So many sagas are looked at from the oldest that waits on, from the newest back, by their open dead letters, and by
/// those that were put aside: four times this, however many are open. Each costs the database about 16 us of a processor,
/// most of it for reading its body.
pub const LOOKED_AT: i64 = 500;

/// When and where an attempt's command was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Which shard.
    pub shard: i32,
    /// When.
    pub at: Timestamp,
    /// Whether the owner has noted that the broker has it. It may have it all the same: the note comes later.
    pub noted: bool,
}

/// Open sagas that wait for the same.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, as the API describes them")]
pub struct Cause {
    pub definition: String,
    pub version: i32,
    pub status: String,
    /// `reply`, `retry` or `operator`.
    pub waits_for: String,
    pub step: i32,
    pub direction: String,
    pub code: Option<String>,
    pub sagas: i64,
    pub oldest: OffsetDateTime,
    pub example: Uuid,
}

/// What was looked at, and what it waits for.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    /// In no order.
    pub causes: Vec<Cause>,
    /// Whether every saga was looked at that may wait for a reply or a timer.
    pub all_waiting: bool,
    /// Whether every dead letter was looked at that is open or was put aside.
    pub all_letters: bool,
}

impl Reads {
    /// When the current attempt's command was decided; `None` if its journal row is not among the saga's last ones.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn decided(&self, saga: SagaId, current: Try) -> Result<Option<Decided>, StoreError> {
        let values = vec![saga.as_uuid().into(), begun(saga).into()];
        for row in &self.db().query_all_raw(statement(LAST_ROWS, values)).await? {
            let effects: String = row.try_get("", "effects")?;
            let effects: Vec<Effect> = serde_json::from_str(&effects).unwrap_or_default();
            if effects.contains(&Effect::Send(current)) {
                let noted: bool = row.try_get("", "noted")?;
                let at = Timestamp::from_utc(row.try_get("", "at")?);
                return Ok(Some(Decided { shard: row.try_get("", "shard")?, at, noted }));
            }
        }
        Ok(None)
    }

    /// What open sagas wait for, counted by cause, among a bounded number of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn causes(&self) -> Result<Causes, StoreError> {
        let rows = self.db().query_all_raw(statement(CAUSES, vec![LOOKED_AT.into()])).await?;
        let mut found = Causes::default();
        for row in &rows {
            found.all_waiting = row.try_get("", "all_waiting")?;
            found.all_letters = row.try_get("", "all_letters")?;
            let Some(definition) = row.try_get("", "definition")? else { continue };
            found.causes.push(Cause {
                definition,
                version: row.try_get("", "version")?,
                status: row.try_get("", "status")?,
                waits_for: row.try_get("", "waits_for")?,
                step: row.try_get("", "step")?,
                direction: row.try_get("", "direction")?,
                code: row.try_get("", "code")?,
                sagas: row.try_get("", "sagas")?,
                oldest: row.try_get("", "oldest")?,
                example: row.try_get("", "example")?,
            });
        }
        Ok(found)
    }
}

const LAST_ROWS: &str = "
SELECT j.shard, j.at, j.effects, j.seq <= s.published_seq AS noted
FROM journal j JOIN shard s ON s.id = j.shard
WHERE j.saga_id = $1 AND j.at >= $2 ORDER BY j.revision DESC LIMIT 20";

/// Waiting sagas are not below their shard's `open_from`; a stuck one has a dead letter, which is open or was put aside.
/// So neither needs an index of its own, nor a look at every saga there ever was. What is materialised is read once: a body
/// is taken apart once.
const CAUSES: &str = "
WITH waiting AS (
    SELECT coalesce((SELECT open_from FROM shard ORDER BY open_from LIMIT 1),
                    '00000000-0000-0000-0000-000000000000'::uuid) AS id
), oldest AS MATERIALIZED (
    SELECT id, definition, version, status, updated_at, finished_at, body FROM saga
    WHERE id >= (SELECT id FROM waiting) ORDER BY id LIMIT $1
), newest AS MATERIALIZED (
    SELECT id, definition, version, status, updated_at, finished_at, body FROM saga
    WHERE id >= (SELECT id FROM waiting) ORDER BY id DESC LIMIT $1
), letters AS MATERIALIZED (
    SELECT l.saga_id AS id FROM dead_letter l WHERE l.status = 'open' ORDER BY l.id DESC LIMIT $1
), discarded AS MATERIALIZED (
    SELECT l.id FROM (
        SELECT group_id FROM dead_letter_tally WHERE status = 'discarded' GROUP BY group_id HAVING sum(letters) > 0
    ) AS g CROSS JOIN LATERAL (
        SELECT saga_id AS id FROM dead_letter
        WHERE dead_letter_group(reason, message_type, step) = g.group_id AND status = 'discarded'
        ORDER BY dead_letter.id DESC LIMIT $1
    ) AS l LIMIT $1
), looked AS (
    SELECT * FROM oldest UNION ALL SELECT * FROM newest WHERE id > (SELECT id FROM oldest ORDER BY id DESC LIMIT 1)
    UNION ALL SELECT id, definition, version, status, updated_at, finished_at, body FROM saga
        WHERE id IN (SELECT id FROM letters UNION SELECT id FROM discarded EXCEPT SELECT id FROM oldest EXCEPT SELECT id FROM newest)
), open AS MATERIALIZED (
    SELECT id, definition, version, status, updated_at, body::jsonb AS body FROM looked WHERE finished_at IS NULL
), placed AS MATERIALIZED (
    SELECT id, definition, version, status, updated_at, body->'steps' AS steps, body->'state' AS state
    FROM open
), caused AS (
    SELECT id, definition, version, status, updated_at,
        CASE WHEN state ? 'awaiting' THEN 'reply' WHEN state ? 'backoff' THEN 'retry'
             ELSE 'operator' END AS waits_for,
        coalesce(state->'awaiting', state->'backoff'->'next', state->'stuck'->'at') AS at, state, steps
    FROM placed
), named AS (
    SELECT *, (at->>'step')::int AS step, at->>'direction' AS direction,
        coalesce(state->'stuck'->'cause'->>'code', steps->(at->>'step')::int->'e'->>'code') AS code
    FROM caused
), counted AS (
    SELECT definition, version, status, waits_for, step, direction, code, count(*) AS sagas,
        min(updated_at) AS oldest, (array_agg(id ORDER BY updated_at))[1] AS example
    FROM named GROUP BY definition, version, status, waits_for, step, direction, code
)
SELECT seen.*, counted.*
FROM (SELECT (SELECT count(*) FROM oldest) < $1
             OR (SELECT max(id::text) FROM oldest) >= (SELECT min(id::text) FROM newest) AS all_waiting,
             (SELECT count(*) FROM letters) < $1 AND (SELECT count(*) FROM discarded) < $1 AS all_letters) AS seen
LEFT JOIN counted ON true";
