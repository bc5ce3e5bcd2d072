//! What others may ask of the engine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{DeadLetterId, Revision, SagaId, Shard, ShardCount};
use saga_defs::machine::Why;
use saga_defs::saga::{Saga, Status};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::bus::Group;
use super::environment::Environment;
use super::shards::Wake;
use super::storage::Storage;
use crate::dead_letters::edit::Edit;
use crate::store::StoreError;
use crate::store::audit::AuditRow;
use crate::store::commit::KeyWrite;
use crate::store::letters::LetterChange;

/// After this long a request that the engine refused for lack of room may come again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A saga to start.
#[derive(Clone, Debug)]
pub struct StartSaga {
    /// Its recipe.
    pub definition: Arc<Definition>,
    /// Its input, checked against the definition's input schema.
    pub input: Data,
    /// The client's own name for it.
    pub business_key: Option<Arc<str>>,
    /// The client's W3C trace.
    pub traceparent: Option<Arc<str>>,
    /// The client's idempotency key.
    pub key: Option<RequestKey>,
}

/// An idempotency key and what was asked under it, both as SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Of the `Idempotency-Key` header.
    pub key_hash: [u8; 32],
    /// Of method, route and body.
    pub request_hash: [u8; 32],
}

/// What an operator may do to a saga.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Stop going forward, compensate.
    Cancel,
    /// Try the stuck command again, attempts from 1.
    Redrive {
        /// Values for the command's fields, checked against its schema.
        input: Option<Data>,
    },
    /// Take the stuck step or compensation as done.
    Skip,
    /// Do not wait for the back-off.
    RetryNow,
}

impl Verb {
    /// As in the API and the audit.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Redrive { .. } => "redrive",
            Self::Skip => "skip",
            Self::RetryNow => "retry-now",
        }
    }
}

/// An operator's verb on a saga.
#[derive(Clone, Debug)]
pub struct Act {
    /// Which saga.
    pub saga: SagaId,
    /// What.
    pub verb: Verb,
    /// Why, in the operator's words.
    pub reason: Arc<str>,
    /// Who.
    pub actor: Arc<str>,
    /// The revision that whoever acts has seen; `None`: they act whatever it is.
    pub expected: Option<Expected>,
    /// The client's idempotency key.
    pub key: Option<RequestKey>,
}

/// What a saga's revision must be for a verb to act: one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(pub Vec<u32>);

/// What an operator may do to a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub enum LetterVerb {
    /// Send one copy.
    Redrive {
        /// The edited value, checked; `None` sends the original.
        edit: Option<Edit>,
    },
    /// Put it aside.
    Discard,
}

/// An operator's verb on a dead letter.
#[derive(Clone, Debug)]
pub struct ActOnLetter {
    /// Which letter.
    pub letter: DeadLetterId,
    /// What.
    pub verb: LetterVerb,
    /// Why, in the operator's words.
    pub reason: Arc<str>,
    /// Who.
    pub actor: Arc<str>,
    /// The client's idempotency key.
    pub key: Option<RequestKey>,
}

/// Why a saga was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No room, no shard, or no database at the moment.
    #[error("the orchestrator cannot take the start now")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// The idempotency key has been used.
    #[error("the idempotency key has been used")]
    KeyTaken,
    /// The database refuses the saga's data.
    #[error("the database refuses the saga: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// A defect of the orchestrator, which its log describes; nothing was done.
    #[error("a defect of the orchestrator; its log describes it")]
    Defect,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// Why a verb did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// There is no such saga or letter.
    #[error("not found")]
    NotFound,
    /// The saga's state does not allow it.
    #[error("not allowed in this state")]
    NotAllowed {
        /// Why not.
        why: Why,
        /// The saga's status.
        status: Status,
    },
    /// The saga has moved on since whoever acts has seen it.
    #[error("the saga is at another revision")]
    MovedOn {
        /// Its revision.
        revision: Revision,
    },
    /// The letter is not open.
    #[error("the letter is not open")]
    LetterNotOpen {
        /// What it is.
        status: String,
    },
    /// Another process owns the saga.
    #[error("another process owns the saga")]
    NotHere {
        /// Its base URL, if known.
        owner: Option<String>,
    },
    /// The idempotency key has been used.
    #[error("the idempotency key has been used")]
    KeyTaken,
    /// The database refuses it.
    #[error("the database refuses it: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// No room, no shard, or no database at the moment.
    #[error("the orchestrator cannot do it now")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// A defect of the orchestrator, which its log describes; nothing was done.
    #[error("a defect of the orchestrator; its log describes it")]
    Defect,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// What became of waiting for a saga's end.
#[derive(Clone, Debug, PartialEq)]
pub enum Waited {
    /// It ended.
    Ended(Box<Saga>),
    /// It has not ended yet.
    NotYet,
    /// It is not waited for here: it has ended before, or another process owns it. Look at its row.
    Unknown,
}

/// What the owner of a saga has in memory of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// When it wakes by itself; `None`: it waits for nothing.
    pub wake: Option<Wake>,
    /// Where the command lies that it waits for the reply to, in its partition. Known from the delivery report, so not
    /// for what an owner before has published.
    pub offset: Option<i64>,
}

/// How the engine is.
#[derive(Clone, Debug, Default)]
pub struct EngineHealth {
    /// The last database trouble, while it lasts.
    pub database: Option<String>,
    /// The last broker trouble, while it lasts.
    pub broker: Option<String>,
    /// How many shards are ours.
    pub shards_owned: usize,
    /// How many there are.
    pub shard_count: u16,
    /// How long ago the consumer polled, or the lane was at work, whichever is longer ago.
    pub consumer_poll_age: Duration,
    /// Shards that stopped, each with why.
    pub stopped_shards: Vec<(Shard, String)>,
    /// How many records the broker has not acknowledged.
    pub unpublished: usize,
    /// Whether so much waits for the broker that no starts are taken.
    pub full: bool,
    /// Whether the service is stopping.
    pub stopping: bool,
}

pub(super) type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// A request, and when it came.
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) request: Request,
}

impl Asked {
    fn now(request: Request) -> Self {
        Self { at: Instant::now(), request }
    }
}

pub(super) enum Request {
    Start(Box<StartSaga>, Answer<Saga, StartError>),
    Act(Box<Act>, Answer<Saga, ActError>),
    Letter(Box<ActOnLetter>, Answer<(), ActError>),
    Wait(SagaId, oneshot::Sender<Saga>),
    Look(SagaId, oneshot::Sender<Option<Looked>>),
}

/// What the lane shows of itself.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) health: Mutex<EngineHealth>,
    pub(super) unpublished: AtomicUsize,
    pub(super) full: AtomicBool,
    pub(super) stopping: AtomicBool,
    /// When the lane was last seen at work.
    last_beat: Mutex<Option<Instant>>,
}

impl Shown {
    /// The lane is alive.
    pub(super) fn beat(&self) {
        if let Ok(mut beat) = self.last_beat.lock() {
            *beat = Some(Instant::now());
        }
    }

    fn beat_age(&self) -> Duration {
        let beat = self.last_beat.lock().ok().and_then(|beat| *beat);
        beat.map_or(Duration::ZERO, |beat| beat.elapsed())
    }

    /// Whether the database is in trouble.
    fn has_no_database(&self) -> bool {
        self.health.lock().is_ok_and(|health| health.database.is_some())
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut EngineHealth)) {
        if let Ok(mut health) = self.health.lock() {
            change(&mut health);
        }
    }
}

/// The engine, as others see it. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) requests: mpsc::Sender<Asked>,
    pub(super) shown: Arc<Shown>,
    pub(super) store: Arc<dyn Storage>,
    pub(super) environment: Arc<dyn Environment>,
    pub(super) shard_count: ShardCount,
    pub(super) answer_limit: Duration,
    pub(super) group: Weak<dyn Group>,
}

impl EngineHandle {
    /// Starts a saga; it is durable when this returns.
    ///
    /// # Errors
    /// Nothing was started, except that a [`StartError::Busy`] after a lost connection may leave one: an idempotency
    /// key tells.
    pub async fn start(&self, start: StartSaga) -> Result<Saga, StartError> {
        let busy = || StartError::Busy { retry_after: RETRY_AFTER };
        if self.shown.stopping.load(Ordering::Relaxed) {
            return Err(StartError::Stopping);
        }
        if self.shown.full.load(Ordering::Relaxed) || self.shown.has_no_database() {
            return Err(busy());
        }
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Asked::now(Request::Start(Box::new(start), answer))).map_err(|_| busy())?;
        match tokio::time::timeout(self.answer_limit, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    /// Waits until a saga of this process ends, at most this long.
    pub async fn wait_for_end(&self, saga: SagaId, limit: Duration) -> Waited {
        let (answer, answered) = oneshot::channel();
        if self.requests.try_send(Asked::now(Request::Wait(saga, answer))).is_err() {
            return Waited::Unknown;
        }
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(saga)) => Waited::Ended(Box::new(saga)),
            Ok(Err(_)) => Waited::Unknown,
            Err(_) => Waited::NotYet,
        }
    }

    /// What is in memory of a saga. Asks at most this long.
    ///
    /// # Errors
    /// [`ActError::NotHere`] with the owner, or why nobody can say.
    pub async fn look(&self, saga: SagaId, limit: Duration) -> Result<Looked, ActError> {
        let (answer, answered) = oneshot::channel();
        let busy = || ActError::Busy { retry_after: RETRY_AFTER };
        self.requests.try_send(Asked::now(Request::Look(saga, answer))).map_err(|_| busy())?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(Some(looked))) => Ok(looked),
            Ok(Ok(None)) => Err(self.not_here(saga).await),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    /// Does an operator's verb to a saga; it is durable when this returns.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn act(&self, act: Act) -> Result<Saga, ActError> {
        let saga = act.saga;
        let (answer, answered) = oneshot::channel();
        match self.ask(Request::Act(Box::new(act), answer), answered).await {
            Err(ActError::NotHere { owner: None }) => Err(self.not_here(saga).await),
            other => other,
        }
    }

    /// Does an operator's verb to a dead letter; it is durable when this returns.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn act_on_letter(&self, act: ActOnLetter) -> Result<(), ActError> {
        if act.verb == LetterVerb::Discard {
            return self.discard(&act).await;
        }
        let letter = act.letter;
        let (answer, answered) = oneshot::channel();
        match self.ask(Request::Letter(Box::new(act), answer), answered).await {
            Err(ActError::NotHere { owner: None }) => {
                let stored = self.store.letters(&[letter]).await.map_err(away)?;
                match stored.first().and_then(|stored| stored.row.saga) {
                    Some(saga) => Err(self.not_here(saga).await),
                    None => Err(ActError::NotHere { owner: None }),
                }
            }
            other => other,
        }
    }

    /// How the engine is.
    pub fn health(&self) -> EngineHealth {
        let mut health = self.shown.health.lock().map(|health| health.clone()).unwrap_or_default();
        let polled = self.group.upgrade().map(|group| group.last_poll_age()).unwrap_or_default();
        health.consumer_poll_age = polled.max(self.shown.beat_age());
        health.unpublished = self.shown.unpublished.load(Ordering::Relaxed);
        health.full = self.shown.full.load(Ordering::Relaxed);
        health
    }

    async fn ask<T>(
        &self,
        request: Request,
        answered: oneshot::Receiver<Result<T, ActError>>,
    ) -> Result<T, ActError> {
        let busy = || ActError::Busy { retry_after: RETRY_AFTER };
        if self.shown.stopping.load(Ordering::Relaxed) {
            return Err(ActError::Stopping);
        }
        if self.shown.has_no_database() {
            return Err(busy());
        }
        self.requests.try_send(Asked::now(request)).map_err(|_| busy())?;
        match tokio::time::timeout(self.answer_limit, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    async fn not_here(&self, saga: SagaId) -> ActError {
        match self.store.owner(saga.shard(self.shard_count)).await {
            Ok(owner) => ActError::NotHere { owner },
            Err(error) => away(error),
        }
    }

    /// Discarding moves no saga, so any process may do it.
    async fn discard(&self, act: &ActOnLetter) -> Result<(), ActError> {
        let at = self.environment.now();
        let change = LetterChange::Discard { id: act.letter, at, reason: act.reason.to_string() };
        let audit = AuditRow::new(at, &act.actor, "discard", &act.reason)
            .of_letter(Some(act.letter))
            .changing(serde_json::json!({ "status": "open" }), serde_json::json!({ "status": "discarded" }));
        let key = act.key.map(|key| KeyWrite {
            key_hash: key.key_hash,
            request_hash: key.request_hash,
            saga: Uuid::nil(),
            at,
        });
        match self.store.discard(&change, &audit, key.as_ref()).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let stored = self.store.letters(&[act.letter]).await.map_err(away)?;
                let status = stored.into_iter().next().map(|stored| stored.status);
                Err(status.map_or(ActError::NotFound, |status| ActError::LetterNotOpen { status }))
            }
            Err(error) => Err(away(error)),
        }
    }
}

/// What a failed statement means for a verb.
fn away(error: StoreError) -> ActError {
    match error {
        StoreError::Refused { constraint: Some(name), .. } if name == "request_key_pkey" => {
            ActError::KeyTaken
        }
        StoreError::Refused { message, .. } => ActError::Refused { message },
        StoreError::Unknown(_) | StoreError::TryAgain { .. } | StoreError::Row(_) => {
            ActError::Busy { retry_after: RETRY_AFTER }
        }
    }
}
