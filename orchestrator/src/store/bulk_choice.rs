//! What an action is done to is chosen once, in the transaction that makes the action, and is the same from then on.

use saga_defs::saga::Status;
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, TransactionTrait, Value};
use uuid::Uuid;

use super::audit::AuditRow;
use super::bulk::{Bulk, Subject, at, key_statement};
use super::commit::KeyWrite;
use super::letter_list::LetterFilter;
use super::queries::{SagaFilter, lowest_id, margin};
use super::{ACQUIRE_TIMEOUT, StoreError, statement};

/// No action is on more than this.
pub const MAX_SELECTED: u64 = 1_000_000;

/// Which letters or sagas. Every condition that is given must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Letters that are open.
    Letters {
        /// The conditions.
        filter: LetterFilter,
        /// Only these.
        ids: Option<Vec<Uuid>>,
    },
    /// Sagas.
    Sagas {
        /// The conditions.
        filter: SagaFilter,
        /// Only these.
        ids: Option<Vec<Uuid>>,
        /// In one of these statuses.
        statuses: Vec<&'static str>,
    },
}

impl Choice {
    const fn subject(&self) -> Subject {
        match self {
            Self::Letters { .. } => Subject::Letter,
            Self::Sagas { .. } => Subject::Saga,
        }
    }
}

/// An action to make.
#[derive(Clone, Debug)]
pub struct NewAction {
    /// Its id, a UUIDv7.
    pub id: Uuid,
    /// `redrive`, `cancel`, `skip` or `retry-now`.
    pub verb: &'static str,
    /// On what.
    pub choice: Choice,
    /// Whether nothing is to be done, only looked at.
    pub dry_run: bool,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was asked for, to be shown.
    pub filter: serde_json::Value,
    /// A merge patch for every letter's value.
    pub patch: Option<serde_json::Value>,
    /// How many in a second.
    pub rate: u32,
    /// The sizes of the first steps.
    pub ramp: Vec<u32>,
    /// Now.
    pub at: Timestamp,
}

/// What became of making an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It is made, and so many are chosen.
    Yes(u32),
    /// Nothing is made: it would be on more than [`MAX_SELECTED`].
    TooMany,
}

impl Bulk {
    /// Chooses, and makes the action.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the constraint `request_key_pkey` when the key is taken.
    pub async fn make(
        &self,
        new: &NewAction,
        audit: &AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<Made, StoreError> {
        let busy = |_| StoreError::TryAgain { message: "other choices take long".to_owned() };
        let _turn = tokio::time::timeout(ACQUIRE_TIMEOUT, self.turn()).await.map_err(busy)?;
        let transaction = self.db.begin().await?;
        if let Some(key) = key {
            transaction.execute_raw(key_statement(key)).await?;
        }
        let row = transaction.query_one_raw(statement(OPEN_FROM, vec![])).await?;
        let open_from: Option<Uuid> = row.map(|row| row.try_get("", "open_from")).transpose()?;
        let (sql, values) = choice(new.id, &new.choice, open_from.unwrap_or_default());
        let chosen = transaction.execute_raw(statement(&sql, values)).await?.rows_affected();
        if chosen > MAX_SELECTED {
            transaction.rollback().await?;
            return Ok(Made::TooMany);
        }
        let chosen = u32::try_from(chosen).unwrap_or(u32::MAX);
        let sql =
            "INSERT INTO bulk_action (id, subject, verb, status, dry_run, actor, reason, filter, patch, rate,
                       ramp, selected, progress, created_at, updated_at)
                   VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8, $9, $10, $11, '{}', $12, $12)";
        let values: Vec<Value> = vec![
            new.id.into(),
            new.choice.subject().as_str().into(),
            new.verb.into(),
            new.dry_run.into(),
            new.actor.as_str().into(),
            new.reason.as_str().into(),
            new.filter.clone().into(),
            new.patch.clone().into(),
            i32::try_from(new.rate).unwrap_or(i32::MAX).into(),
            serde_json::json!(new.ramp).into(),
            i32::try_from(chosen).unwrap_or(i32::MAX).into(),
            at(new.at),
        ];
        transaction.execute_raw(statement(sql, values)).await?;
        transaction.execute_raw(audit.statement()).await?;
        transaction.commit().await?;
        Ok(Made::Yes(chosen))
    }
}

/// Copies what matches, oldest first, one more than is allowed at most. No saga below `open_from` waits for a reply or a
/// timer.
fn choice(action: Uuid, choice: &Choice, open_from: Uuid) -> (String, Vec<Value>) {
    let limit = i64::try_from(MAX_SELECTED + 1).unwrap_or(i64::MAX);
    match choice {
        Choice::Letters { filter, ids } => {
            let sql = "INSERT INTO bulk_item (action_id, place, subject_id, state)
                SELECT $1, row_number() OVER (ORDER BY id), id, 'chosen' FROM (
                    SELECT id FROM dead_letter
                    WHERE status = 'open' AND ($3::text IS NULL OR reason = $3) AND ($4::uuid IS NULL OR saga_id = $4)
                      AND ($5::uuid IS NULL OR dead_letter_group(reason, message_type, step) = $5)
                      AND ($6::uuid[] IS NULL OR id = ANY($6))
                    ORDER BY id LIMIT $2
                ) AS chosen";
            let values = vec![
                action.into(),
                limit.into(),
                filter.reason.clone().into(),
                filter.saga.map(saga_defs::ids::SagaId::as_uuid).into(),
                filter.group.into(),
                ids.clone().into(),
            ];
            (sql.to_owned(), values)
        }
        Choice::Sagas { filter, ids, statuses } => {
            let from = filter.started_after.map(|at| lowest_id(at.saturating_sub(margin())));
            let to = filter.started_before.map(|at| lowest_id(at.saturating_add(margin())));
            let names: Vec<String> = statuses.iter().map(|&status| status.to_owned()).collect();
            let values = vec![
                action.into(),
                limit.into(),
                filter.definition.clone().into(),
                names.into(),
                filter.step.clone().into(),
                filter.business_key.clone().into(),
                filter.started_after.into(),
                filter.started_before.into(),
                ids.clone().into(),
                from.unwrap_or_default().into(),
                to.unwrap_or(Uuid::max()).into(),
                open_from.into(),
            ];
            (sagas(statuses), values)
        }
    }
}

/// A stuck saga has a dead letter, and a waiting one is not below its shard's `open_from`: only who asks for ended ones
/// has every saga looked at.
fn sagas(statuses: &[&str]) -> String {
    let any = |of: &[Status]| of.iter().any(|status| statuses.contains(&status.as_str()));
    let sources = if any(&[Status::Completed, Status::Compensated]) {
        vec!["$12::uuid IS NOT NULL"]
    } else {
        let lettered = "id IN (SELECT saga_id FROM dead_letter WHERE saga_id >= $10 AND saga_id <= $11)";
        ["id >= $12"].into_iter().chain(any(&[Status::Stuck]).then_some(lettered)).collect()
    };
    let looked: Vec<String> = sources
        .iter()
        .map(|source| format!("SELECT id, revision, step FROM saga WHERE {source} {WANTED}"))
        .collect();
    format!(
        "INSERT INTO bulk_item (action_id, place, subject_id, state, revision, step)
         SELECT $1, row_number() OVER (ORDER BY id), id, 'chosen', revision, step FROM (
             {} ORDER BY id LIMIT $2
         ) AS chosen",
        looked.join(" UNION ")
    )
}

const WANTED: &str = "
AND id >= $10 AND id <= $11 AND status = ANY($4::text[]) AND ($3::text IS NULL OR definition = $3)
AND ($5::text IS NULL OR step = $5) AND ($6::text IS NULL OR business_key = $6)
AND ($7::timestamptz IS NULL OR started_at > $7) AND ($8::timestamptz IS NULL OR started_at < $8)
AND ($9::uuid[] IS NULL OR id = ANY($9))";

const OPEN_FROM: &str = "SELECT open_from FROM shard ORDER BY open_from LIMIT 1";
