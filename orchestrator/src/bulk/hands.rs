//! What a driver asks to be done: one letter sent, one verb on one saga.

use std::sync::Arc;

use async_trait::async_trait;
use saga_defs::ids::{DeadLetterId, SagaId};
use uuid::Uuid;

use crate::dead_letters::edit::Edit;
use crate::engine::handle::{Expected, Verb};

/// One letter to send.
#[derive(Clone, Debug)]
pub struct SendLetter {
    /// For which action. The idempotency key follows from it and the letter.
    pub action: Uuid,
    /// Which.
    pub letter: DeadLetterId,
    /// With another value.
    pub edit: Option<Edit>,
    /// Who asked for the action.
    pub actor: Arc<str>,
    /// Why, in the operator's words.
    pub reason: Arc<str>,
}

/// One verb on one saga.
#[derive(Clone, Debug)]
pub struct ActOnSaga {
    /// For which action. The idempotency key follows from it and the saga.
    pub action: Uuid,
    /// Which.
    pub saga: SagaId,
    /// What.
    pub verb: Verb,
    /// The revision it was chosen at, where it is to be left alone at any other.
    pub expected: Option<Expected>,
    /// Who asked for the action.
    pub actor: Arc<str>,
    /// Why, in the operator's words.
    pub reason: Arc<str>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done, by this call or by an earlier one with the same key.
    Yes,
    /// It is not done, and will not be: what was said.
    No(String),
    /// Not now, or it is not known whether it is done: ask again, which does no harm.
    NotNow(String),
}

/// Whoever does it, wherever the saga is owned.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
    /// Sends one copy of a letter.
    async fn send(&self, send: SendLetter) -> Done;
    /// Whether a letter was sent for this action before; [`Done::No`]: it was not.
    async fn was_sent(&self, action: Uuid, letter: DeadLetterId) -> Done;
    /// Does a verb to a saga.
    async fn act(&self, act: ActOnSaga) -> Done;
}
