//! A participant that the scenarios bring along, built on the same crate as anybody's: a travel agency that does what
//! it is told to each traveller's commands, and keeps a ledger of what it did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use messaging::KafkaSettings;
use migrations::apply;
use migrations::participant::Inbox;
use participant::{Command, HandlerError, Message, OneByOne, Outcome, Participant, Refusal, SingleHandler};
use schemas::Catalog;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use sea_orm_migration::prelude::{DynIden, IntoIden, MigrationTrait, MigratorTrait};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::Database;

/// What the agency does with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Does it.
    Do,
    /// Refuses: business rules.
    Reject,
    /// Cannot, at the moment.
    Fail,
    /// Does it; the reply is lost.
    LoseReply,
}

/// Which commands the agency understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skill {
    /// All of them.
    All,
    /// Not `BookTrain`: an old release.
    NoTrains,
}

type Manners = Arc<Mutex<HashMap<(String, &'static str), Vec<Manner>>>>;

/// A running agency.
pub struct Agency {
    /// Its database: the tables `inbox` and `ledger`.
    pub database: Database,
    manners: Manners,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Agency {
    /// Starts an agency with a fresh database, or goes on with one of another agency's.
    ///
    /// # Errors
    /// The database or the participant is not to be had.
    pub async fn start(
        kafka: KafkaSettings,
        catalog: Arc<Catalog>,
        skill: Skill,
        database: Option<Database>,
    ) -> Result<Self> {
        let database = match database {
            Some(database) => database,
            None => Database::fresh().await?,
        };
        apply::apply::<Tables>(database.connection()).await?;
        database.execute(LEDGER).await?;
        let manners = Manners::default();
        let mut builder = Participant::builder("travel", catalog)
            .handler(Desk::<CancelTrain>::handler(&manners))
            .handler(Desk::<BookHotel>::handler(&manners))
            .handler(Desk::<CancelHotel>::handler(&manners))
            .handler(Desk::<IssueTickets>::handler(&manners))
            .handler(Desk::<SendPostcard>::handler(&manners));
        if skill == Skill::All {
            builder = builder.handler(Desk::<BookTrain>::handler(&manners));
        }
        let participant = builder.build()?;
        let connection = participant::connect(&database.url().into(), "travel-agency").await?;
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move {
                if let Err(error) = participant.run(&kafka, connection, stop).await {
                    eprintln!("the travel agency ended: {error}");
                }
            }
        });
        Ok(Self { database, manners, stop, running })
    }

    /// From now on a traveller's commands of this type are handled so, one after the other; the last manner stays.
    pub fn handle(&self, traveller: &str, command: &'static str, manners: &[Manner]) {
        let mut all = self.manners.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((traveller.to_owned(), command), manners.iter().rev().copied().collect());
    }

    /// What was done for a saga, in order; a command that was done twice is there twice.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ledger(&self, saga: saga_defs::ids::SagaId) -> Result<String> {
        let query = "SELECT done AS text FROM ledger WHERE saga_id = $1 ORDER BY number";
        let done = self.database.texts(query, vec![saga.as_uuid().into()]).await?;
        Ok(if done.is_empty() { "nothing".to_owned() } else { done.join(", ") })
    }

    /// Stops in good order and gives the database back.
    ///
    /// # Errors
    /// It broke.
    pub async fn stop(mut self) -> Result<Database> {
        self.stop.cancel();
        (&mut self.running).await.context("the travel agency")?;
        Ok(self.database.clone())
    }
}

impl Drop for Agency {
    fn drop(&mut self) {
        self.stop.cancel();
        crate::stack::wait_blocking(|| self.running.is_finished());
    }
}

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS ledger (\
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, saga_id uuid NOT NULL, done text NOT NULL)";

struct Tables;

#[async_trait]
impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Inbox)]
    }

    fn migration_table_name() -> DynIden {
        "travel_migrations".into_iden()
    }
}

/// A command of the agency's: its reply when it is done, and whether there may be nothing to undo.
trait Task: Message + for<'a> Deserialize<'a> {
    type Reply: Message + Serialize;
    fn traveller(&self) -> &str;
    fn reply(&self) -> Self::Reply;
}

/// Handles one type of command.
struct Desk<T> {
    manners: Manners,
    task: std::marker::PhantomData<fn() -> T>,
}

impl<T: Task> Desk<T> {
    fn handler(manners: &Manners) -> OneByOne<Self> {
        OneByOne(Self { manners: manners.clone(), task: std::marker::PhantomData })
    }

    fn manner(&self, traveller: &str) -> Manner {
        let mut all = self.manners.lock().unwrap_or_else(PoisonError::into_inner);
        let short = T::NAME.rsplit('.').next().unwrap_or(T::NAME);
        match all.get_mut(&(traveller.to_owned(), short)) {
            Some(manners) if manners.len() > 1 => manners.pop().unwrap_or(Manner::Do),
            Some(manners) => manners.last().copied().unwrap_or(Manner::Do),
            None => Manner::Do,
        }
    }
}

#[async_trait]
impl<T: Task> SingleHandler for Desk<T> {
    type Command = T;
    type Reply = T::Reply;

    async fn handle_one(
        &self,
        transaction: &DatabaseTransaction,
        command: &Command<T>,
    ) -> Result<Outcome<T::Reply>, HandlerError> {
        let manner = self.manner(command.body.traveller());
        match manner {
            Manner::Reject => return Ok(Outcome::rejected("closed", "the agency is closed for you")),
            Manner::Fail => return Ok(Outcome::Failed(Refusal::new("busy", "the line is busy"))),
            Manner::Do | Manner::LoseReply => {}
        }
        let done =
            format!("{} for {}", T::NAME.rsplit('.').next().unwrap_or(T::NAME), command.body.traveller());
        let values = [command.saga_id.as_uuid().into(), done.into()];
        let insert = "INSERT INTO ledger (saga_id, done) VALUES ($1, $2)";
        transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, insert, values)).await?;
        let outcome = Outcome::succeeded(command.body.reply());
        Ok(if manner == Manner::LoseReply { outcome.losing_reply() } else { outcome })
    }

    fn nothing_to_undo(&self, command: &Command<T>) -> Option<T::Reply> {
        Some(command.body.reply())
    }
}

macro_rules! tasks {
    ($($command:ident { $($more:ident: $type:ty)? } -> $reply:ident { $($field:ident: $value:literal)? };)*) => {$(
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct $command {
            #[expect(dead_code, reason = "part of the message")]
            saga_id: Uuid,
            traveller: String,
            $(#[expect(dead_code, reason = "part of the message")] $more: $type,)?
        }

        #[derive(Debug, Serialize)]
        struct $reply { $($field: &'static str,)? }

        impl Message for $command {
            const NAME: &'static str = concat!("travel.", stringify!($command));
        }

        impl Message for $reply {
            const NAME: &'static str = concat!("travel.", stringify!($reply));
        }

        impl Task for $command {
            type Reply = $reply;

            fn traveller(&self) -> &str {
                &self.traveller
            }

            fn reply(&self) -> $reply {
                $reply { $($field: $value,)? }
            }
        }
    )*};
}

tasks! {
    BookTrain {} -> TrainBooked { seat: "12A" };
    CancelTrain {} -> TrainCancelled {};
    BookHotel { seat: String } -> HotelBooked { room: "7" };
    CancelHotel {} -> HotelCancelled {};
    IssueTickets {} -> TicketsIssued {};
    SendPostcard {} -> PostcardSent {};
}
