//! Participants that the scenarios bring along, one for any name in any definition, built on the same crate as anybody's.
//! A stand-in knows what it is to do from definitions and schemas alone: it does what it is told, keeps a ledger of
//! effects, and answers with made-up replies.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use messaging::KafkaSettings;
use migrations::apply;
use migrations::participant::Inbox;
use participant::{Command, DynamicHandler, DynamicMessage, HandlerError, Outcome, Participant, Refusal};
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{Direction, SagaId};
use schemas::{Catalog, FieldType, RecordShape};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use sea_orm_migration::prelude::{DynIden, IntoIden, MigrationTrait, MigratorTrait};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::made_up;

/// The reply to every compensation.
const UNDONE: &str = "saga.Undone";

/// What a stand-in does with a command.
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
    /// Does it when [`StandIn::go_on`] is said; whatever else comes waits as well.
    Wait,
}

/// What a stand-in is to be.
#[derive(Debug, Clone, Copy)]
pub struct Role<'a> {
    /// The participant's name.
    pub name: &'a str,
    /// Its commands are those of its steps here.
    pub definitions: &'a [Definition],
    /// A command that it does not understand, as an old release would not.
    pub without: Option<&'a str>,
}

/// A running stand-in.
pub struct StandIn {
    /// Its database: the tables `inbox` and `ledger`.
    pub database: Database,
    manners: Arc<Manners>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl StandIn {
    /// Starts a stand-in with a fresh database, or goes on with that of another one.
    ///
    /// # Errors
    /// The database or the participant is not to be had.
    pub async fn start(
        kafka: KafkaSettings,
        catalog: Arc<Catalog>,
        role: Role<'_>,
        database: Option<Database>,
    ) -> Result<Self> {
        let database = match database {
            Some(database) => database,
            None => Database::fresh().await?,
        };
        apply::apply::<Tables>(database.connection()).await?;
        database.execute(LEDGER).await?;
        let mut replies = replies(role);
        replies.retain(|command, _| role.without != Some(&**command));
        let gate = Semaphore::new(0);
        let manners = Arc::new(Manners { gate, told: Mutex::default(), texts: Mutex::default() });
        let commands: Vec<String> = replies.keys().cloned().collect();
        let player = Player { catalog: catalog.clone(), replies, manners: manners.clone() };
        let participant =
            Participant::builder(role.name, catalog).dynamic_handler(commands, player).build()?;
        let connection = participant::connect(&database.url().into(), "stand-in").await?;
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (stop, name) = (stop.clone(), role.name.to_owned());
            async move {
                if let Err(error) = participant.run(&kafka, connection, stop).await {
                    eprintln!("the stand-in for {name} ended: {error}");
                }
            }
        });
        Ok(Self { database, manners, stop, running })
    }

    /// From now on somebody's commands of this type are handled so, one after the other; the last manner stays. Whose a
    /// command is stands in one of its texts, or, if it has none, in those of its saga's first command here.
    pub fn handle(&self, who: &str, command: &str, manners: &[Manner]) {
        let mut told = self.manners.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((who.to_owned(), command.to_owned()), manners.iter().rev().copied().collect());
    }

    /// Lets one command go on that waits, or will.
    pub fn go_on(&self) {
        self.manners.gate.add_permits(1);
    }

    /// What was done for a saga, in order; a command that was done twice is there twice.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ledger(&self, saga: SagaId) -> Result<String> {
        let query = "SELECT done AS text FROM ledger WHERE saga_id = $1 ORDER BY number";
        let done = self.database.texts(query, vec![saga.as_uuid().into()]).await?;
        Ok(if done.is_empty() { "nothing".to_owned() } else { done.join(", ") })
    }

    /// How often each step of a saga is done and not undone, where that is not 0: `hold-flight: 1`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn left(&self, saga: SagaId) -> Result<Vec<String>> {
        let query = "SELECT step || ': ' || sum(change) AS text FROM ledger WHERE saga_id = $1 \
                     GROUP BY step HAVING sum(change) <> 0 ORDER BY step";
        self.database.texts(query, vec![saga.as_uuid().into()]).await
    }

    /// Stops in good order and gives the database back.
    ///
    /// # Errors
    /// It broke.
    pub async fn stop(mut self) -> Result<Database> {
        self.stop.cancel();
        (&mut self.running).await.context("the stand-in")?;
        Ok(self.database.clone())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.cancel();
        crate::stack::wait_blocking(|| self.running.is_finished());
    }
}

/// `change` is 1 where a step was done, -1 where it was undone.
const LEDGER: &str = "CREATE TABLE IF NOT EXISTS ledger (\
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, command_id uuid NOT NULL, saga_id uuid NOT NULL, \
    step text NOT NULL, change int NOT NULL, done text NOT NULL)";

struct Tables;

#[async_trait]
impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Inbox)]
    }

    fn migration_table_name() -> DynIden {
        "stand_in_migrations".into_iden()
    }
}

/// The reply to each command of a role.
fn replies(role: Role<'_>) -> BTreeMap<String, String> {
    let steps = role.definitions.iter().flat_map(|definition| &definition.steps);
    let mut replies = BTreeMap::new();
    for step in steps.filter(|step| *step.participant == *role.name) {
        replies.insert(step.command.to_string(), step.reply.to_string());
        if let StepKind::Compensatable { compensation } = &step.kind {
            replies.insert(compensation.to_string(), UNDONE.to_owned());
        }
    }
    replies
}

struct Manners {
    /// Has a permit for each command that waits and may go on.
    gate: Semaphore,
    /// Whose commands of which type, and how the next ones are handled, the next one last.
    told: Mutex<HashMap<(String, String), Vec<Manner>>>,
    /// The texts of each saga's first command.
    texts: Mutex<HashMap<SagaId, Vec<String>>>,
}

impl Manners {
    fn next(&self, saga: SagaId, command: &str, texts: &[String]) -> Manner {
        let mut known = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.entry(saga).or_insert_with(|| texts.to_vec());
        let texts = if texts.is_empty() { &*first } else { texts };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let key =
            texts.iter().map(|who| (who.clone(), command.to_owned())).find(|key| told.contains_key(key));
        match key.and_then(|key| told.get_mut(&key)) {
            Some(manners) if manners.len() > 1 => manners.pop().unwrap_or(Manner::Do),
            Some(manners) => manners.last().copied().unwrap_or(Manner::Do),
            None => Manner::Do,
        }
    }
}

/// Handles all commands of a stand-in.
struct Player {
    catalog: Arc<Catalog>,
    replies: BTreeMap<String, String>,
    manners: Arc<Manners>,
}

impl Player {
    fn shape(&self, name: &str) -> Result<&RecordShape, HandlerError> {
        self.catalog.record(name).ok_or_else(|| HandlerError::Failed(format!("there is no schema {name}")))
    }

    fn reply(&self, command: &DynamicMessage) -> Result<DynamicMessage, HandlerError> {
        let name = self.replies.get(&*command.name).map_or(UNDONE, String::as_str);
        let (shape, of_command) = (self.shape(name)?, self.shape(&command.name)?);
        let fields = made_up::reply(shape, of_command, &command.fields, &self.whose(command)?);
        Ok(DynamicMessage { name: name.into(), fields })
    }

    /// The first text of a command. Replies carry it on, so that whose the next command is stands in that one too.
    fn whose(&self, command: &DynamicMessage) -> Result<String, HandlerError> {
        Ok(self.texts(command)?.into_iter().next().unwrap_or_else(|| "nobody".to_owned()))
    }

    /// The values of a command's texts, ids apart.
    fn texts(&self, command: &DynamicMessage) -> Result<Vec<String>, HandlerError> {
        let fields = self.shape(&command.name)?.fields().iter();
        let texts = fields.filter(|field| *field.ty() == FieldType::String);
        let values = texts.filter_map(|field| command.fields.get(field.name())?.as_str());
        Ok(values.map(str::to_owned).collect())
    }
}

#[async_trait]
impl DynamicHandler for Player {
    async fn handle_one(
        &self,
        transaction: &DatabaseTransaction,
        command: &Command<DynamicMessage>,
    ) -> Result<Outcome<DynamicMessage>, HandlerError> {
        let name = command.body.name.rsplit('.').next().unwrap_or(&command.body.name);
        let texts = self.texts(&command.body)?;
        let manner = self.manners.next(command.saga_id, name, &texts);
        match manner {
            Manner::Reject => return Ok(Outcome::rejected("closed", "it is closed for you")),
            Manner::Fail => return Ok(Outcome::Failed(Refusal::new("busy", "the line is busy"))),
            Manner::Wait => match self.manners.gate.acquire().await {
                Ok(permit) => permit.forget(),
                Err(closed) => return Err(HandlerError::Failed(closed.to_string())),
            },
            Manner::Do | Manner::LoseReply => {}
        }
        let done = texts.first().map_or_else(|| name.to_owned(), |who| format!("{name} for {who}"));
        let change = match command.direction {
            Direction::Forward => 1,
            Direction::Compensation => -1,
        };
        let (id, saga) = (command.id.as_uuid(), command.saga_id.as_uuid());
        let values = [id.into(), saga.into(), (*command.step).into(), change.into(), done.into()];
        let insert =
            "INSERT INTO ledger (command_id, saga_id, step, change, done) VALUES ($1, $2, $3, $4, $5)";
        transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, insert, values)).await?;
        let outcome = Outcome::succeeded(self.reply(&command.body)?);
        Ok(if manner == Manner::LoseReply { outcome.losing_reply() } else { outcome })
    }

    fn nothing_to_undo(&self, command: &Command<DynamicMessage>) -> Option<DynamicMessage> {
        self.reply(&command.body).ok()
    }
}
