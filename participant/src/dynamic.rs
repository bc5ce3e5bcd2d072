//! Handlers of messages that no Rust type stands for: for gateways, bridges and stand-ins whose commands are known only
//! when the program runs.

use std::sync::Arc;

use async_trait::async_trait;
use saga_defs::Data;
use schemas::Catalog;
use sea_orm::DatabaseTransaction;
use serde::Serialize;

use crate::command::{Command, Message};
use crate::erased::{AnyCommand, Broken, Effect, EncodedReply, Local, Speaks, guarded};
use crate::erased::{all_typed, encode_all, typed, undone};
use crate::handler::HandlerError;
use crate::outcome::{Outcome, Refusal, to_data};

/// A message as a name and fields.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicMessage {
    /// The Avro full name, e.g. `booking.ReserveBooking`.
    pub name: Arc<str>,
    /// The fields, in the JSON form of the schema catalogue.
    pub fields: Data,
}

/// Handles commands of any number of types, one command at a time, inside the transaction that also records them; as
/// [`SingleHandler`](crate::SingleHandler) does for one type.
#[async_trait]
pub trait DynamicHandler: Send + Sync + 'static {
    /// Makes the effect of `command` and answers it. The reply must fit the schema of its name, or the command fails.
    async fn handle_one(
        &self,
        transaction: &DatabaseTransaction,
        command: &Command<DynamicMessage>,
    ) -> Result<Outcome<DynamicMessage>, HandlerError>;

    /// As [`Handler::nothing_to_undo`](crate::Handler::nothing_to_undo).
    fn nothing_to_undo(&self, _command: &Command<DynamicMessage>) -> Option<DynamicMessage> {
        None
    }
}

/// A message in the form that is encoded, whether it has a Rust type or not.
pub(crate) trait Body {
    /// The Avro full name.
    fn name(&self) -> &str;
    /// The fields, or why there are none.
    fn data(&self) -> Result<Data, String>;
}

impl<M: Message + Serialize> Body for M {
    fn name(&self) -> &str {
        M::NAME
    }

    fn data(&self) -> Result<Data, String> {
        to_data(self)
    }
}

impl Body for DynamicMessage {
    fn name(&self) -> &str {
        &self.name
    }

    fn data(&self) -> Result<Data, String> {
        Ok(self.fields.clone())
    }
}

/// A [`DynamicHandler`] as the loop knows handlers.
pub(crate) struct Untyped<H>(pub(crate) H);

impl<H: DynamicHandler> Speaks for Untyped<H> {
    fn parse(&self, head: Command<()>, name: &str, fields: Data) -> Result<AnyCommand, String> {
        Ok(Box::new(head.with_body(DynamicMessage { name: name.into(), fields })))
    }

    fn nothing_to_undo(&self, catalog: &Catalog, command: &AnyCommand) -> Result<EncodedReply, Refusal> {
        undone(catalog, self.0.nothing_to_undo(typed(command)?))
    }
}

#[async_trait]
impl<H: DynamicHandler> Local for Untyped<H> {
    async fn handle(
        &self,
        catalog: &Catalog,
        transaction: &DatabaseTransaction,
        commands: &[&AnyCommand],
    ) -> Result<Vec<Effect>, Broken> {
        let commands = all_typed::<DynamicMessage>(commands).map_err(Broken::Handler)?;
        let work = async {
            let mut outcomes = Vec::with_capacity(commands.len());
            for command in &commands {
                outcomes.push(self.0.handle_one(transaction, command).await?);
            }
            Ok(outcomes)
        };
        encode_all(catalog, commands.len(), guarded(work).await?)
    }
}
