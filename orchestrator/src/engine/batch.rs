//! A batch: inputs and what they come to. Pure: it reads what is in memory and says what to write, to answer and to
//! publish; nothing of it happens before the commit.

mod draft;
pub use draft::ShardEffect;
mod holds;
mod inputs;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use messaging::Received;
use saga_defs::definition::Definition;
use saga_defs::ids::{DeadLetterId, SagaId, Shard, ShardCount};
use saga_defs::saga::{Refusal, Saga, Status, Try};
use saga_defs::time::Timestamp;

use super::handle::{Act, ActError, ActOnLetter, StartError, StartSaga};
use super::participants::Participants;
use super::participants::parked::Waiting;
use super::publisher::Outgoing;
use super::records::RecordMaker;
use super::shards::{Shards, Wake};
use super::traces::Spans;
use crate::definitions::Definitions;
use crate::store::commit::Writes;
use crate::store::letters::StoredLetter;

/// A saga in memory, with its recipe.
#[derive(Clone, Debug)]
pub struct Held {
    /// The saga, as committed.
    pub saga: Arc<Saga>,
    /// Its recipe.
    pub definition: Arc<Definition>,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A record of the inbox.
    Record(Shard, Received),
    /// A client starts a saga; its id is drawn already.
    Start(SagaId, Box<StartSaga>),
    /// An operator acts on a saga.
    Act(Box<Act>),
    /// An operator acts on a dead letter.
    Letter(Box<ActOnLetter>),
    /// A saga's time has come.
    Due(Shard, SagaId),
    /// A saga that waited for its participant may go on.
    Released(Shard, SagaId, Arc<str>),
    /// The broker does not take a command.
    Refused(SagaId, Try, Refusal),
    /// The broker does not take the copy of a letter.
    CopyRefused(Shard, DeadLetterId, String),
    /// The database refused what this saga would have become.
    Quarantine(SagaId, Refusal),
}

/// What a client is told.
#[derive(Debug)]
pub enum Reply {
    /// About a start.
    Started(Result<Saga, StartError>),
    /// About a verb on a saga.
    Acted(Result<Saga, ActError>),
    /// About a verb on a letter.
    Letter(Result<(), ActError>),
}

/// What is counted once the batch is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A saga began.
    Started(Arc<str>),
    /// A saga ended after this long.
    Ended(Arc<str>, Status, Duration),
    /// A saga is stuck on this step.
    Stuck(Arc<str>, Arc<str>),
    /// A command was tried again.
    Retried(Arc<str>, Arc<str>, saga_defs::ids::Direction),
    /// A step ended so, after this long.
    StepEnded(Arc<str>, Arc<str>, &'static str, Duration),
    /// Something did nothing.
    Ignored(&'static str),
    /// A dead letter was kept.
    Letter(String),
}

/// A saga that the batch moves.
#[derive(Clone, Debug)]
pub struct MovedSaga {
    /// Its shard.
    pub shard: Shard,
    /// The saga afterwards, with its recipe.
    pub held: Held,
    /// When it wakes then.
    pub wake: Option<Wake>,
    /// Whom it waits for, where that participant is held.
    pub parked: Option<Waiting>,
    /// Whether this batch makes it.
    pub new: bool,
}

/// What inputs come to.
#[derive(Debug, Default)]
pub struct Batch {
    /// What to write. Without shards there is nothing to commit.
    pub writes: Writes,
    /// The sagas as they will be.
    pub moved: HashMap<SagaId, MovedSaga>,
    /// Due sagas that nothing happened to: when they wake next.
    pub rearmed: Vec<(Shard, SagaId, Option<Wake>)>,
    /// Due sagas that nothing happened to and whose participants are held.
    pub parked: Vec<Waiting>,
    /// How participants are, after what the inputs tell of them.
    pub participants: Participants,
    /// What to publish after the commit, in order.
    pub outgoing: Vec<Outgoing>,
    /// What to tell whom, by the input's position.
    pub replies: Vec<(usize, Reply)>,
    /// What to count.
    pub facts: Vec<Fact>,
    /// What to write down of traces.
    pub spans: Spans,
}

/// What a decision may look at.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Our shards.
    pub shards: &'a Shards,
    /// How many shards there are.
    pub shard_count: ShardCount,
    /// The sagas in memory; every saga that the inputs name and that exists is there.
    pub sagas: &'a HashMap<SagaId, Held>,
    /// The letters that the inputs name.
    pub letters: &'a HashMap<DeadLetterId, StoredLetter>,
    /// The idempotency keys of starts that have been used before.
    pub taken_keys: &'a HashSet<Vec<u8>>,
    /// The recipes.
    pub definitions: &'a Definitions,
    /// Makes records.
    pub records: &'a RecordMaker,
    /// How participants are.
    pub participants: &'a Participants,
    /// The broker's incarnation.
    pub incarnation: &'a str,
    /// Now.
    pub now: Timestamp,
    /// Whether spans are written down.
    pub traced: bool,
}

impl Batch {
    /// Decides what the inputs come to, in their order.
    pub fn decide<'a>(context: Context<'a>, inputs: impl IntoIterator<Item = (usize, &'a Input)>) -> Self {
        let mut draft = draft::Draft::new(context);
        for (position, input) in inputs {
            draft.take(position, input);
        }
        draft.finish()
    }
}
