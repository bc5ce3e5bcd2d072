//! A worker whose commands say in a note what is to happen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use participant::{
    Answered, CallError, Command, DomainEvent, ExternalHandler, Handler, HandlerError, Message, Outcome,
    Participant, ParticipantError, Refusal,
};
use saga_defs::ids::CommandId;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::stack::Stack;

pub(crate) const COMMANDS: &str = "shop.commands";
/// The topic of the domain events.
pub(crate) const DONE: &str = "shop.done";

macro_rules! notes {
    ($($type:ident $name:literal)*) => {$(
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub(crate) struct $type { pub(crate) note: String }
        impl Message for $type { const NAME: &'static str = $name; }
    )*};
}

notes!(Put "shop.Put" Take "shop.Take" Ring "shop.Ring" Unring "shop.Unring" Done "shop.Done");

/// What the tests and the worker share.
#[derive(Clone)]
pub(crate) struct Shop {
    /// Handlers with the note `gate` wait here.
    pub(crate) gate: Arc<Semaphore>,
    /// A permit for every handler that has come to the gate.
    pub(crate) arrived: Arc<Semaphore>,
    /// How often the bell was rung and unrung, per key of the ringing.
    pub(crate) bell: Arc<Mutex<HashMap<CommandId, (u32, u32)>>>,
    /// The sizes of the batches that `Put` was called with.
    pub(crate) batches: Arc<Mutex<Vec<usize>>>,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            arrived: Arc::new(Semaphore::new(0)),
            bell: Arc::default(),
            batches: Arc::default(),
        }
    }

    pub(crate) fn run(&self, stack: &Stack) -> Running {
        let participant = Participant::builder("shop", stack.catalog.clone())
            .handler(PutHandler(self.clone()))
            .handler(TakeHandler)
            .external_handler(RingHandler(self.clone()))
            .external_handler(UnringHandler(self.clone()))
            .publishes([DONE])
            .build()
            .unwrap();
        let (kafka, url, stop) = (stack.kafka.clone(), stack.database_url.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let database = participant::connect(&url.into(), "shop").await.unwrap();
            participant.run(&kafka, database, stopped).await
        });
        Running { task, stop }
    }

    /// Waits until a handler stands at the gate.
    pub(crate) async fn somebody_at_the_gate(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    async fn stand_at_the_gate(&self) {
        self.arrived.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
    }

    /// How often the bell was rung and unrung for a command.
    pub(crate) fn rings(&self, ring: CommandId) -> (u32, u32) {
        self.bell.lock().unwrap().get(&ring).copied().unwrap_or_default()
    }
}

/// A participant at work.
pub(crate) struct Running {
    task: JoinHandle<Result<(), ParticipantError>>,
    stop: CancellationToken,
}

impl Running {
    /// Stops it as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it where it stands, as a crash does.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn effects<'a, T: 'a>(
    transaction: &DatabaseTransaction,
    kind: &str,
    commands: impl Iterator<Item = (&'a Command<T>, String)>,
) -> Result<(), HandlerError> {
    let (sagas, notes): (Vec<Uuid>, Vec<String>) =
        commands.map(|(command, note)| (command.saga_id.as_uuid(), note)).unzip();
    let sql = "INSERT INTO effects (saga_id, kind, note) SELECT saga, $3, note \
               FROM unnest($1::uuid[], $2::text[]) AS new(saga, note)";
    let values = [sagas.into(), notes.into(), kind.into()];
    transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
    Ok(())
}

fn done(note: &str) -> Outcome<Done> {
    let reply = Done { note: note.to_owned() };
    let event = DomainEvent::new(DONE, "key", &reply);
    Outcome::succeeded(reply).with_event(event)
}

struct PutHandler(Shop);

#[async_trait]
impl Handler for PutHandler {
    type Command = Put;
    type Reply = Done;

    async fn handle(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<Put>],
    ) -> Result<Vec<Outcome<Done>>, HandlerError> {
        self.0.batches.lock().unwrap().push(commands.len());
        let happens = commands.iter().filter(|command| !["reject", "not now"].contains(&&*command.body.note));
        effects(transaction, "put", happens.map(|command| (*command, command.body.note.clone()))).await?;
        let mut outcomes = Vec::new();
        for command in commands {
            outcomes.push(match &*command.body.note {
                "reject" => Outcome::rejected("no", "not today"),
                "not now" => Outcome::Failed(Refusal::new("busy", "later")),
                "error" => return Err(HandlerError::Failed("it broke".to_owned())),
                "panic" => panic!("the handler has had enough"),
                "lose" => done("lost").losing_reply(),
                "gate" => {
                    self.0.stand_at_the_gate().await;
                    done("through the gate")
                }
                note => done(note),
            });
        }
        if commands.iter().any(|command| command.body.note == "miscount") {
            outcomes.pop();
        }
        Ok(outcomes)
    }
}

struct TakeHandler;

#[async_trait]
impl Handler for TakeHandler {
    type Command = Take;
    type Reply = Done;

    async fn handle(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<Take>],
    ) -> Result<Vec<Outcome<Done>>, HandlerError> {
        effects(transaction, "take", commands.iter().map(|command| (*command, String::new()))).await?;
        Ok(commands.iter().map(|_| Outcome::succeeded(Done { note: "taken".to_owned() })).collect())
    }

    fn nothing_to_undo(&self, _: &Command<Take>) -> Option<Done> {
        Some(Done { note: "nothing to take".to_owned() })
    }
}

struct RingHandler(Shop);

#[async_trait]
impl ExternalHandler for RingHandler {
    type Command = Ring;
    type Reply = Done;
    type Answer = String;

    async fn claim(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<Ring>],
    ) -> Result<(), HandlerError> {
        effects(transaction, "claim", commands.iter().map(|command| (*command, String::new()))).await
    }

    async fn call(&self, commands: &[&Command<Ring>]) -> Vec<Result<String, CallError>> {
        let mut answers = Vec::new();
        for command in commands {
            let note = command.body.note.as_str();
            let refusal = || Refusal::new("bell_unavailable", note);
            if note == "not made" {
                answers.push(Err(CallError::NotMade(refusal())));
                continue;
            }
            if note == "lost" {
                answers.push(Err(CallError::Unknown(refusal())));
                continue;
            }
            if note == "reject" {
                answers.push(Ok(note.to_owned()));
                continue;
            }
            self.0.bell.lock().unwrap().entry(command.id).or_default().0 = 1;
            match note {
                "unknown" => {
                    answers.push(Err(CallError::Unknown(refusal())));
                    continue;
                }
                "panic" => panic!("the rope broke"),
                "gate" => self.0.stand_at_the_gate().await,
                _ => {}
            }
            answers.push(Ok(note.to_owned()));
        }
        answers
    }

    async fn settle(
        &self,
        transaction: &DatabaseTransaction,
        answered: &[Answered<'_, Ring, String>],
    ) -> Result<Vec<Outcome<Done>>, HandlerError> {
        let rung = answered.iter().filter(|answered| answered.answer != "reject");
        let notes = rung.map(|answered| (answered.command, answered.answer.clone()));
        effects(transaction, "put", notes).await?;
        let outcome = |answer: &str| match answer {
            "reject" => Outcome::rejected("no", "not today"),
            note => done(note),
        };
        Ok(answered.iter().map(|answered| outcome(answered.answer)).collect())
    }
}

struct UnringHandler(Shop);

#[async_trait]
impl ExternalHandler for UnringHandler {
    type Command = Unring;
    type Reply = Done;
    type Answer = bool;

    async fn claim(&self, _: &DatabaseTransaction, _: &[&Command<Unring>]) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn call(&self, commands: &[&Command<Unring>]) -> Vec<Result<bool, CallError>> {
        let mut bell = self.0.bell.lock().unwrap();
        let unring = commands.iter().map(|command| {
            if command.body.note == "lost" {
                return Err(CallError::Unknown(Refusal::new("bell_unavailable", "lost")));
            }
            let rung = bell.get_mut(&command.forward_id());
            Ok(rung.map(|(_, unrung)| *unrung = 1).is_some())
        });
        unring.collect()
    }

    async fn settle(
        &self,
        transaction: &DatabaseTransaction,
        answered: &[Answered<'_, Unring, bool>],
    ) -> Result<Vec<Outcome<Done>>, HandlerError> {
        effects(transaction, "take", answered.iter().map(|answered| (answered.command, String::new())))
            .await?;
        Ok(answered.iter().map(|_| Outcome::succeeded(Done { note: "unrung".to_owned() })).collect())
    }

    fn nothing_to_undo(&self, _: &Command<Unring>) -> Option<Done> {
        Some(Done { note: "never rung".to_owned() })
    }
}
