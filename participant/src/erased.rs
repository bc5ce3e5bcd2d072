//! Handlers with their types taken off, so that one loop can run them all; replies and events come out encoded.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use saga_defs::Data;
use schemas::Catalog;
use sea_orm::{DatabaseTransaction, DbErr};

use crate::calls::CallError;
use crate::command::{Command, Message};
use crate::dynamic::Body;
use crate::handler::{Answered, ExternalHandler, Handler, HandlerError};
use crate::inbox::StoredEvent;
use crate::outcome::{Delivery, DomainEvent, Outcome, Refusal};

/// A `Command<T>` of some handler.
pub(crate) type AnyCommand = Box<dyn Any + Send + Sync>;
/// An answer of some external handler.
pub(crate) type AnyAnswer = Box<dyn Any + Send + Sync>;

/// An outcome whose reply and events are encoded.
#[derive(Debug)]
pub(crate) enum Effect {
    Succeeded(EncodedReply),
    Rejected(EncodedReply),
    Failed(Refusal),
}

/// A reply as it is recorded and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedReply {
    pub(crate) message_type: Arc<str>,
    pub(crate) value: Vec<u8>,
    pub(crate) lost: bool,
    pub(crate) events: Vec<StoredEvent>,
}

/// Why a batch of one handler did not work.
#[derive(Debug)]
pub(crate) enum Broken {
    /// A statement failed; whether the database is away is still to be told apart.
    Database(DbErr),
    /// The handler refused, panicked, answered nonsense, or its reply does not fit its schema.
    Handler(Refusal),
}

impl From<HandlerError> for Broken {
    fn from(error: HandlerError) -> Self {
        match error {
            HandlerError::Database(error) => Self::Database(error),
            HandlerError::Failed(text) => Self::Handler(Refusal::new("handler_failed", text)),
        }
    }
}

/// What every handler can do, whatever its kind.
pub(crate) trait Speaks: Send + Sync {
    /// The fields of a command's body as the handler's own type, with the command's head.
    fn parse(&self, head: Command<()>, name: &str, fields: Data) -> Result<AnyCommand, String>;
    /// The reply to a compensation with nothing to undo, if the handler has one.
    fn nothing_to_undo(&self, catalog: &Catalog, command: &AnyCommand) -> Result<EncodedReply, Refusal>;
}

/// A [`Handler`] without its types.
#[async_trait]
pub(crate) trait Local: Speaks {
    async fn handle(
        &self,
        catalog: &Catalog,
        transaction: &DatabaseTransaction,
        commands: &[&AnyCommand],
    ) -> Result<Vec<Effect>, Broken>;
}

/// An [`ExternalHandler`] without its types.
#[async_trait]
pub(crate) trait External: Speaks {
    async fn claim(&self, transaction: &DatabaseTransaction, commands: &[&AnyCommand]) -> Result<(), Broken>;
    /// `Err` when the handler panicked or did not answer each command.
    async fn call(&self, commands: &[&AnyCommand]) -> Result<Vec<Result<AnyAnswer, CallError>>, Refusal>;
    async fn settle(
        &self,
        catalog: &Catalog,
        transaction: &DatabaseTransaction,
        answered: &[(&AnyCommand, &AnyAnswer)],
    ) -> Result<Vec<Effect>, Broken>;
}

/// A handler of either kind.
#[derive(Clone)]
pub(crate) enum AnyHandler {
    Local(Arc<dyn Local>),
    External(Arc<dyn External>),
}

impl AnyHandler {
    pub(crate) fn local<H: Handler>(handler: H) -> Self {
        Self::Local(Arc::new(LocalHandler(handler)))
    }

    pub(crate) fn external<H: ExternalHandler>(handler: H) -> Self {
        Self::External(Arc::new(OutsideHandler(handler)))
    }

    pub(crate) fn speaks(&self) -> &dyn Speaks {
        match self {
            Self::Local(handler) => handler.as_ref(),
            Self::External(handler) => handler.as_ref(),
        }
    }
}

struct LocalHandler<H>(H);
struct OutsideHandler<H>(H);

impl<H: Handler> Speaks for LocalHandler<H> {
    fn parse(&self, head: Command<()>, _name: &str, fields: Data) -> Result<AnyCommand, String> {
        parse::<H::Command>(head, fields)
    }

    fn nothing_to_undo(&self, catalog: &Catalog, command: &AnyCommand) -> Result<EncodedReply, Refusal> {
        undone(catalog, self.0.nothing_to_undo(typed(command)?))
    }
}

impl<H: ExternalHandler> Speaks for OutsideHandler<H> {
    fn parse(&self, head: Command<()>, _name: &str, fields: Data) -> Result<AnyCommand, String> {
        parse::<H::Command>(head, fields)
    }

    fn nothing_to_undo(&self, catalog: &Catalog, command: &AnyCommand) -> Result<EncodedReply, Refusal> {
        undone(catalog, self.0.nothing_to_undo(typed(command)?))
    }
}

#[async_trait]
impl<H: Handler> Local for LocalHandler<H> {
    async fn handle(
        &self,
        catalog: &Catalog,
        transaction: &DatabaseTransaction,
        commands: &[&AnyCommand],
    ) -> Result<Vec<Effect>, Broken> {
        let typed = all_typed::<H::Command>(commands).map_err(Broken::Handler)?;
        let outcomes = guarded(self.0.handle(transaction, &typed)).await?;
        encode_all(catalog, typed.len(), outcomes)
    }
}

#[async_trait]
impl<H: ExternalHandler> External for OutsideHandler<H> {
    async fn claim(&self, transaction: &DatabaseTransaction, commands: &[&AnyCommand]) -> Result<(), Broken> {
        let typed = all_typed::<H::Command>(commands).map_err(Broken::Handler)?;
        guarded(self.0.claim(transaction, &typed)).await
    }

    async fn call(&self, commands: &[&AnyCommand]) -> Result<Vec<Result<AnyAnswer, CallError>>, Refusal> {
        let typed = all_typed::<H::Command>(commands)?;
        let work = AssertUnwindSafe(self.0.call(&typed)).catch_unwind();
        let answers = work.await.map_err(|panic| panicked(panic.as_ref()))?;
        if answers.len() != typed.len() {
            return Err(miscounted(typed.len(), answers.len()));
        }
        Ok(answers.into_iter().map(|answer| answer.map(|answer| Box::new(answer) as AnyAnswer)).collect())
    }

    async fn settle(
        &self,
        catalog: &Catalog,
        transaction: &DatabaseTransaction,
        answered: &[(&AnyCommand, &AnyAnswer)],
    ) -> Result<Vec<Effect>, Broken> {
        let typed = answered.iter().map(|(command, answer)| {
            let answer = answer.downcast_ref::<H::Answer>().ok_or_else(other_handlers)?;
            Ok(Answered { command: typed(command)?, answer })
        });
        let typed: Vec<_> = typed.collect::<Result<_, Refusal>>().map_err(Broken::Handler)?;
        let outcomes = guarded(self.0.settle(transaction, &typed)).await?;
        encode_all(catalog, typed.len(), outcomes)
    }
}

/// A handler's work: its panic is a refusal like any other.
pub(crate) async fn guarded<T>(work: impl Future<Output = Result<T, HandlerError>>) -> Result<T, Broken> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    Ok(done.map_err(|panic| Broken::Handler(panicked(panic.as_ref())))??)
}

fn parse<T>(head: Command<()>, fields: Data) -> Result<AnyCommand, String>
where
    T: Message + serde::de::DeserializeOwned,
{
    let body: T =
        serde_json::from_value(serde_json::Value::Object(fields)).map_err(|error| error.to_string())?;
    Ok(Box::new(head.with_body(body)))
}

pub(crate) fn typed<T: 'static>(command: &AnyCommand) -> Result<&Command<T>, Refusal> {
    command.downcast_ref().ok_or_else(other_handlers)
}

pub(crate) fn all_typed<'a, T: 'static>(commands: &[&'a AnyCommand]) -> Result<Vec<&'a Command<T>>, Refusal> {
    commands.iter().map(|command| typed(command)).collect()
}

fn other_handlers() -> Refusal {
    Refusal::new("handler_failed", "the command or answer belongs to another handler")
}

fn miscounted(commands: usize, answers: usize) -> Refusal {
    Refusal::new("handler_failed", format!("the handler got {commands} commands and gave {answers} answers"))
}

fn panicked(panic: &(dyn Any + Send)) -> Refusal {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Refusal::new("handler_panicked", format!("the handler panicked: {text}"))
}

pub(crate) fn undone<R: Body>(catalog: &Catalog, reply: Option<R>) -> Result<EncodedReply, Refusal> {
    let reply = reply.ok_or_else(|| {
        Refusal::new(
            "nothing_to_undo",
            "the handler of this command has no reply for a compensation of nothing",
        )
    })?;
    encode_reply(catalog, &reply, Vec::new(), Delivery::Sent)
}

pub(crate) fn encode_all<R: Body>(
    catalog: &Catalog,
    commands: usize,
    outcomes: Vec<Outcome<R>>,
) -> Result<Vec<Effect>, Broken> {
    if outcomes.len() != commands {
        return Err(Broken::Handler(miscounted(commands, outcomes.len())));
    }
    let encoded = outcomes.into_iter().map(|outcome| {
        Ok(match outcome {
            Outcome::Succeeded { reply, events, delivery } => {
                Effect::Succeeded(encode_reply(catalog, &reply, events, delivery)?)
            }
            Outcome::Rejected { refusal, events } => {
                Effect::Rejected(encode_reply(catalog, &refusal, events, Delivery::Sent)?)
            }
            Outcome::Failed(refusal) => Effect::Failed(refusal),
        })
    });
    encoded.collect::<Result<_, Refusal>>().map_err(Broken::Handler)
}

pub(crate) fn encode_reply<R: Body>(
    catalog: &Catalog,
    reply: &R,
    events: Vec<DomainEvent>,
    delivery: Delivery,
) -> Result<EncodedReply, Refusal> {
    let value = encode(catalog, reply.name(), reply.data())?;
    let events = events.into_iter().map(|event| {
        let value = encode(catalog, event.message_type, event.body)?;
        Ok(StoredEvent { topic: event.topic, key: event.key, message_type: event.message_type.into(), value })
    });
    let events = events.collect::<Result<_, Refusal>>()?;
    Ok(EncodedReply {
        message_type: Arc::from(reply.name()),
        value,
        lost: delivery == Delivery::Lost,
        events,
    })
}

fn encode(catalog: &Catalog, name: &str, fields: Result<Data, String>) -> Result<Vec<u8>, Refusal> {
    let unencodable =
        |why: String| Refusal::new("reply_not_encodable", format!("{name} cannot be encoded: {why}"));
    let fields = fields.map_err(unencodable)?;
    catalog.encode(name, &fields).map_err(|error| unencodable(error.to_string()))
}
