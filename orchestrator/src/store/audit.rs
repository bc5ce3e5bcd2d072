//! The audit: what operators did, written in the transaction that acts.

use saga_defs::ids::{DeadLetterId, SagaId};
use saga_defs::time::Timestamp;
use sea_orm::Statement;
use uuid::Uuid;

use super::statement;

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

    pub(super) fn statement(&self) -> Statement {
        statement(
            "INSERT INTO audit (id, at, actor, verb, saga_id, dead_letter_id, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            vec![
                self.id.into(),
                self.at.to_utc().into(),
                self.actor.as_str().into(),
                self.verb.into(),
                self.saga.map(SagaId::as_uuid).into(),
                self.letter.map(DeadLetterId::as_uuid).into(),
                self.reason.as_str().into(),
            ],
        )
    }
}
