//! The sagas that wait for a held participant: their ids only. Their commands are in the journal, or are built when they may
//! go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use saga_defs::ids::SagaId;
use saga_defs::saga::{State, Try};

use super::super::batch::Held;

/// In which order the sagas of a participant are taken to probe it, the oldest of each first: what a probe costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Its command is yet to be sent: a probe that fails takes one of several attempts.
    Unsent,
    /// Its command is out, and its timeout stands still.
    Outstanding,
    /// Its last attempt is yet to be sent.
    Last,
}

const RANKS: [Rank; 3] = [Rank::Unsent, Rank::Outstanding, Rank::Last];

impl Rank {
    /// Of a saga that waits; `None` if it waits for no participant.
    pub fn of(held: &Held) -> Option<Self> {
        match &held.saga.state {
            State::Awaiting(_) => Some(Self::Outstanding),
            State::Backoff { next, .. } if is_last(held, *next) => Some(Self::Last),
            State::Backoff { .. } => Some(Self::Unsent),
            State::Stuck { .. } | State::Completed | State::Compensated => None,
        }
    }
}

fn is_last(held: &Held, at: Try) -> bool {
    let policy = held.definition.step(at.step).map(|step| match at.direction {
        saga_defs::ids::Direction::Forward => &step.retry,
        saga_defs::ids::Direction::Compensation => &step.compensation_retry,
    });
    policy.is_some_and(|policy| policy.is_last(at.attempt))
}

/// The sagas that wait, by participant.
#[derive(Debug, Default)]
pub struct Parked {
    queues: BTreeMap<Arc<str>, [BTreeSet<SagaId>; RANKS.len()]>,
}

impl Parked {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The participants that somebody waits for.
    pub fn participants(&self) -> Vec<Arc<str>> {
        self.queues.keys().cloned().collect()
    }

    /// This saga waits for that participant.
    pub fn park(&mut self, participant: Arc<str>, saga: SagaId, rank: Rank) {
        let queue = self.queues.entry(participant).or_default();
        for ids in queue.iter_mut() {
            ids.remove(&saga);
        }
        queue[rank as usize].insert(saga);
    }

    /// It waits for nobody any more.
    pub fn unpark(&mut self, saga: SagaId) {
        for queue in self.queues.values_mut() {
            for ids in queue.iter_mut() {
                ids.remove(&saga);
            }
        }
        self.drop_empty();
    }

    /// Only those of which this is so are ours still.
    pub fn retain(&mut self, ours: impl Fn(SagaId) -> bool) {
        for ids in self.queues.values_mut().flatten() {
            ids.retain(|&id| ours(id));
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.queues.retain(|_, queue| queue.iter().any(|ids| !ids.is_empty()));
    }

    /// Takes the next that waits for it.
    pub fn pop(&mut self, participant: &str) -> Option<(SagaId, Rank)> {
        let queue = self.queues.get_mut(participant)?;
        let next = RANKS.into_iter().find_map(|rank| Some((queue[rank as usize].pop_first()?, rank)));
        if queue.iter().all(BTreeSet::is_empty) {
            self.queues.remove(participant);
        }
        next
    }

    /// How many wait for it.
    pub fn waiting(&self, participant: &str) -> usize {
        self.queues.get(participant).map_or(0, |queue| queue.iter().map(BTreeSet::len).sum())
    }

    /// The oldest of them.
    pub fn oldest(&self, participant: &str) -> Option<SagaId> {
        self.queues.get(participant)?.iter().filter_map(|ids| ids.first().copied()).min()
    }
}
