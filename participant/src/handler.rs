//! What a worker writes: handlers, one per type of command.

use async_trait::async_trait;
use sea_orm::{DatabaseTransaction, DbErr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::calls::CallError;
use crate::command::{Command, Message};
use crate::outcome::Outcome;

/// Why a handler could not handle its batch. The batch is rolled back and taken apart; a command that fails alone is
/// answered `failed`, the others go on. If the database is away, the whole batch is tried again instead.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// A statement failed.
    #[error("a statement of the handler failed: {0}")]
    Database(#[from] DbErr),
    /// Anything else, in the handler's own words.
    #[error("{0}")]
    Failed(String),
}

/// Handles the commands of one type inside the transaction that also records them.
///
/// Of one batch a handler gets all its commands at once, at most one per saga, each command id once. Statements over
/// `unnest` arrays make a batch cost little more than one command. Nothing else may be touched but `transaction`: it
/// may be rolled back and the same commands handed in again, alone or with others.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The command's message.
    type Command: Message + DeserializeOwned;
    /// The reply's message.
    type Reply: Message + Serialize;

    /// Makes the effects of `commands` and answers each, in the same order.
    async fn handle(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<Self::Command>],
    ) -> Result<Vec<Outcome<Self::Reply>>, HandlerError>;

    /// The reply to a compensation whose forward command never took effect here. Handlers of commands that compensate
    /// must give one; without it such a compensation is answered `failed`, which is seen, where a guess would not be.
    fn nothing_to_undo(&self, _command: &Command<Self::Command>) -> Option<Self::Reply> {
        None
    }
}

/// Like [`Handler`], one command at a time: simple, and at a round trip per statement and command.
#[async_trait]
pub trait SingleHandler: Send + Sync + 'static {
    /// The command's message.
    type Command: Message + DeserializeOwned;
    /// The reply's message.
    type Reply: Message + Serialize;

    /// Makes the effect of `command` and answers it.
    async fn handle_one(
        &self,
        transaction: &DatabaseTransaction,
        command: &Command<Self::Command>,
    ) -> Result<Outcome<Self::Reply>, HandlerError>;

    /// As [`Handler::nothing_to_undo`].
    fn nothing_to_undo(&self, _command: &Command<Self::Command>) -> Option<Self::Reply> {
        None
    }
}

/// Makes a [`Handler`] of a [`SingleHandler`].
#[derive(Debug, Clone)]
pub struct OneByOne<H>(pub H);

#[async_trait]
impl<H: SingleHandler> Handler for OneByOne<H> {
    type Command = H::Command;
    type Reply = H::Reply;

    async fn handle(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<Self::Command>],
    ) -> Result<Vec<Outcome<Self::Reply>>, HandlerError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(self.0.handle_one(transaction, command).await?);
        }
        Ok(outcomes)
    }

    fn nothing_to_undo(&self, command: &Command<Self::Command>) -> Option<Self::Reply> {
        self.0.nothing_to_undo(command)
    }
}

/// Handles commands whose effect lies outside this worker's database, such as a charge at a payment gateway.
///
/// Three parts, so that no call is made inside a transaction: `claim` and the mark "claimed" are committed, then `call`
/// runs, then `settle` and the recorded reply are committed. A crash between them leaves the mark, and the command,
/// delivered again, starts over: so the outside must take the command id as idempotency key.
#[async_trait]
pub trait ExternalHandler: Send + Sync + 'static {
    /// The command's message.
    type Command: Message + DeserializeOwned;
    /// The reply's message.
    type Reply: Message + Serialize;
    /// What the outside answered.
    type Answer: Send + Sync + 'static;

    /// Writes down what is about to be asked. May run several times for one command before it is settled.
    async fn claim(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<Self::Command>],
    ) -> Result<(), HandlerError>;

    /// Asks the outside, and gives an answer for each command in the same order; see [`CallError`] for what it may say
    /// instead, and [`call_each`](crate::call_each) for calls one by one.
    async fn call(&self, commands: &[&Command<Self::Command>]) -> Vec<Result<Self::Answer, CallError>>;

    /// Writes down what was answered, and says what became of each command, in the same order. [`Outcome::Failed`] is a
    /// promise that nothing happened outside, at this attempt or an earlier one.
    async fn settle(
        &self,
        transaction: &DatabaseTransaction,
        answered: &[Answered<'_, Self::Command, Self::Answer>],
    ) -> Result<Vec<Outcome<Self::Reply>>, HandlerError>;

    /// As [`Handler::nothing_to_undo`].
    fn nothing_to_undo(&self, _command: &Command<Self::Command>) -> Option<Self::Reply> {
        None
    }
}

/// A command and what the outside answered to it.
#[derive(Debug)]
pub struct Answered<'a, C, A> {
    /// The command.
    pub command: &'a Command<C>,
    /// The answer.
    pub answer: &'a A,
}
