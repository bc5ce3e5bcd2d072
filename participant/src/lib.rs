//! What a saga participant is built on. A worker brings handlers with business code; this crate brings the rest:
//! a batch of commands is polled from Kafka, run in **one transaction** of the worker's own database together with what
//! is recorded about it, answered, and only then are the offsets committed.
//!
//! # What it promises
//! - **An effect happens once.** Effect and inbox row (key: the command id) commit together. A command that comes again,
//!   whyever, gets its stored reply again; its handler does not run. Two processes that work on one command at once
//!   notice each other and one starts over.
//! - **Replies and domain events are published at least once**, after the commit. A crash between commit and
//!   publication is followed by a replay, which publishes the stored reply and the stored events: so a replay always
//!   publishes both, and events may repeat; repeats carry the same `event-id` header.
//! - **A compensation may come before its command.** It then leaves a tombstone, and the late command is refused.
//! - **`failed` means that nothing happened.** Where that cannot be promised (a call to the outside without an answer),
//!   there is no reply at all, the step times out, and the orchestrator undoes it.
//! - **One bad command does not stop its neighbours.** A batch that fails is taken apart until the bad commands stand
//!   alone; those are answered `failed`. What cannot be read, or has no handler, becomes a dead letter on
//!   `saga.dead-letters`, byte for byte.
//! - While the database or the broker is away, the participant waits.
//!
//! # A worker
//! ```no_run
//! use std::sync::Arc;
//! use participant::{Command, DomainEvent, HandlerError, Message, OneByOne, Outcome, Participant, SingleHandler};
//! use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
//! use tokio_util::sync::CancellationToken;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(rename_all = "camelCase")]
//! struct SendLetter { letter_id: uuid::Uuid, text: String }
//! #[derive(serde::Serialize)]
//! #[serde(rename_all = "camelCase")]
//! struct LetterSent { letter_id: uuid::Uuid }
//! // Each message has an Avro schema of this name.
//! impl Message for SendLetter { const NAME: &'static str = "mail.SendLetter"; }
//! impl Message for LetterSent { const NAME: &'static str = "mail.LetterSent"; }
//!
//! struct Mail;
//!
//! #[async_trait::async_trait]
//! impl SingleHandler for Mail {
//!     type Command = SendLetter;
//!     type Reply = LetterSent;
//!
//!     async fn handle_one(
//!         &self,
//!         transaction: &DatabaseTransaction,
//!         command: &Command<SendLetter>,
//!     ) -> Result<Outcome<LetterSent>, HandlerError> {
//!         let SendLetter { letter_id, text } = &command.body;
//!         if text.is_empty() {
//!             return Ok(Outcome::rejected("empty", "a letter has words"));
//!         }
//!         let sql = "INSERT INTO letters (letter_id, text) VALUES ($1, $2)";
//!         let values = [(*letter_id).into(), text.clone().into()];
//!         transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
//!         let sent = LetterSent { letter_id: *letter_id };
//!         let event = DomainEvent::new("mail.sent", letter_id.to_string(), &sent);
//!         Ok(Outcome::succeeded(sent).with_event(event))
//!     }
//! }
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! // The database has the table `inbox` (migrations::participant::Inbox) beside the worker's own.
//! let database = participant::connect(&"postgres://mail@localhost/mail".into(), "mail-worker").await?;
//! let schemas = schemas::Catalog::read_dir("avro".as_ref())?;
//! let catalog = schemas::Catalog::shipped().with_sources(schemas).map_err(|errors| format!("{errors:?}"))?;
//! let kafka = messaging::KafkaSettings::plain("127.0.0.1:9092");
//! let stop = CancellationToken::new();
//! Participant::builder("mail", Arc::new(catalog))
//!     .handler(OneByOne(Mail))
//!     .publishes(["mail.sent"])
//!     .build()?
//!     .run(&kafka, database, stop)
//!     .await?;
//! # Ok(())
//! # }
//! ```
//! [`Handler`] does the same for a whole batch at once, [`ExternalHandler`] for effects outside the database,
//! [`DynamicHandler`] for messages without Rust types, and [`service`] has what a worker's program needs around it.

mod batch;
mod calls;
mod command;
pub mod crash;
mod database;
mod dead_letter;
mod dynamic;
mod erased;
mod executor;
mod handler;
mod inbox;
mod intake;
mod isolate;
mod outcome;
mod outside;
mod publisher;
mod records;
pub mod registry;
mod retry;
mod runtime;
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;
mod traces;
mod vitals;

pub use calls::{CallError, CallLimits, call_each};
pub use command::{Command, Message};
pub use database::{CONNECTIONS, connect};
pub use dead_letter::DEAD_LETTERS;
pub use dynamic::{DynamicHandler, DynamicMessage};
pub use handler::{Answered, ExternalHandler, Handler, HandlerError, OneByOne, SingleHandler};
pub use outcome::{Delivery, DomainEvent, Outcome, Refusal};
pub use retry::Stopped;
pub use runtime::{BuildError, Builder, EventTopics, Participant, ParticipantError};
pub use vitals::Vitals;
