//! The audit: what operators did, written in the transaction that acts. Rows are chained by the database as they come
//! in: each has the hash of itself and of the row before it, see the migration `audit_chain`. `verify` walks the chains.

use saga_defs::ids::{DeadLetterId, SagaId, Shard};
use saga_defs::time::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::entities::audit;
use super::queries::{Reads, lowest_id, margin};
use super::{StoreError, statement};

/// The chain of what concerns no shard.
pub const NO_SHARD: i32 = -1;

/// One line of the audit.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Its id, a UUIDv7.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What, e.g. `cancel`.
    pub verb: &'static str,
    /// To which saga.
    pub saga: Option<SagaId>,
    /// To which letter.
    pub letter: Option<DeadLetterId>,
    /// Why.
    pub reason: String,
    /// Whose commit it is written in. Rows of one chain wait for each other, so a shard's are written by its owner.
    pub shard: Option<Shard>,
    /// What was acted on, before; JSON.
    pub before: Option<serde_json::Value>,
    /// The same, afterwards.
    pub after: Option<serde_json::Value>,
}

impl AuditRow {
    /// Somebody did something now, for that reason.
    pub fn new(at: Timestamp, actor: &str, verb: &'static str, reason: &str) -> Self {
        Self {
            id: Uuid::now_v7(),
            at,
            actor: actor.to_owned(),
            verb,
            saga: None,
            letter: None,
            reason: reason.to_owned(),
            shard: None,
            before: None,
            after: None,
        }
    }

    /// To this saga, if there is one.
    #[must_use]
    pub fn of_saga(self, saga: Option<SagaId>) -> Self {
        Self { saga, ..self }
    }

    /// To this letter, if there is one.
    #[must_use]
    pub fn of_letter(self, letter: Option<DeadLetterId>) -> Self {
        Self { letter, ..self }
    }

    /// In a commit of this shard's owner.
    #[must_use]
    pub fn of_shard(self, shard: Option<Shard>) -> Self {
        Self { shard, ..self }
    }

    /// What was acted on, before and afterwards.
    #[must_use]
    pub fn changing(
        self,
        before: impl Into<Option<serde_json::Value>>,
        after: impl Into<Option<serde_json::Value>>,
    ) -> Self {
        Self { before: before.into(), after: after.into(), ..self }
    }

    pub(super) fn statement(&self) -> Statement {
        let text = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
        statement(
            "INSERT INTO audit (id, at, actor, verb, saga_id, dead_letter_id, reason, chain, state_before, state_after)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            vec![
                self.id.into(),
                self.at.to_utc().into(),
                self.actor.as_str().into(),
                self.verb.into(),
                self.saga.map(SagaId::as_uuid).into(),
                self.letter.map(DeadLetterId::as_uuid).into(),
                self.reason.as_str().into(),
                self.shard.map_or(NO_SHARD, |shard| i32::from(shard.0)).into(),
                text(&self.before).into(),
                text(&self.after).into(),
            ],
        )
    }
}

/// A row of the audit as it is hashed.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the columns, as the entity describes them")]
pub struct Hashed<'a> {
    pub chain: i32,
    pub seq: i64,
    pub id: Uuid,
    pub at_micros: i64,
    pub actor: &'a str,
    pub verb: &'a str,
    pub saga: Option<Uuid>,
    pub letter: Option<Uuid>,
    pub reason: &'a str,
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
}

impl Hashed<'_> {
    /// Its hash, given that of the row before: the same as the database's function `audit_append` takes.
    pub fn hash(&self, previous: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(previous);
        let mut field = |text: Option<&str>| match text {
            Some(text) => hash.update(format!("{}:{text},", text.len())),
            None => hash.update("-,"),
        };
        let [saga, letter] = [self.saga, self.letter].map(|id| id.map(|id| id.to_string()));
        field(Some(&self.chain.to_string()));
        field(Some(&self.seq.to_string()));
        field(Some(&self.id.to_string()));
        field(Some(&self.at_micros.to_string()));
        field(Some(self.actor));
        field(Some(self.verb));
        field(saga.as_deref());
        field(letter.as_deref());
        field(Some(self.reason));
        field(self.before);
        field(self.after);
        hash.finalize().into()
    }
}

/// Which rows of the audit to list. Every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of this actor.
    pub actor: Option<String>,
    /// This verb.
    pub verb: Option<String>,
    /// On this saga.
    pub saga: Option<SagaId>,
    /// On this letter.
    pub letter: Option<DeadLetterId>,
    /// Later than this.
    pub after: Option<OffsetDateTime>,
    /// Earlier than this.
    pub before: Option<OffsetDateTime>,
}

impl Reads {
    /// At most `limit` rows of the audit, newest first, from below `below`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        below: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<audit::Model>, StoreError> {
        use audit::Column;
        let mut query = audit::Entity::find().order_by_desc(Column::Id).limit(limit);
        if let Some(id) = below {
            query = query.filter(Column::Id.lt(id));
        }
        if let Some(actor) = &filter.actor {
            query = query.filter(Column::Actor.eq(actor.as_str()));
        }
        if let Some(verb) = &filter.verb {
            query = query.filter(Column::Verb.eq(verb.as_str()));
        }
        if let Some(saga) = filter.saga {
            query = query.filter(Column::SagaId.eq(saga.as_uuid()));
        }
        if let Some(letter) = filter.letter {
            query = query.filter(Column::DeadLetterId.eq(letter.as_uuid()));
        }
        // A range of time is a range of ids, so that the walk begins and ends near it.
        if let Some(at) = filter.after {
            let from = lowest_id(at.saturating_sub(margin()));
            query = query.filter(Column::Id.gte(from)).filter(Column::At.gt(at));
        }
        if let Some(at) = filter.before {
            let to = lowest_id(at.saturating_add(margin()));
            query = query.filter(Column::Id.lt(to)).filter(Column::At.lt(at));
        }
        Ok(query.all(self.db()).await?)
    }
}
