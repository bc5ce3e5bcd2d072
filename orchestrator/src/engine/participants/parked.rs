//! The sagas that wait for a held participant: their ids only. Their commands are in the journal, or are built when they may
//! go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use saga_defs::ids::{Attempt, DefinitionRef, Direction, SagaId, StepIndex};
use saga_defs::saga::{State, Try};

use super::super::batch::Held;

/// So many sagas wait at a time, for all participants together. Of those beyond it is looked [later](LOOK_AGAIN) whether there is
/// room, or whether they may go.
pub const PARKED_SAGAS: usize = 500_000;
/// How long a saga for which there is no room waits before it is looked at again. Each look may load it from the database.
pub const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// In which order the sagas of a participant are let go, the oldest of each first. Those come first that it has never been asked
/// about: of the others some wait because it cannot serve them, and a few of them at the head would hold back everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Its command was never sent: a probe that fails takes one of several attempts.
    New,
    /// Its next attempt is yet to be sent: a probe that fails takes one of several.
    Unsent,
    /// Its command is out, and its timeout stands still.
    Outstanding,
    /// Its last attempt is yet to be sent.
    Last,
}

const RANKS: [Rank; 4] = [Rank::New, Rank::Unsent, Rank::Outstanding, Rank::Last];

impl Rank {
    /// Of a saga that waits; `None` if it waits for no participant.
    pub fn of(held: &Held) -> Option<Self> {
        match &held.saga.state {
            State::Awaiting(_) => Some(Self::Outstanding),
            State::Backoff { next, .. } if is_last(held, *next) => Some(Self::Last),
            State::Backoff { next, .. } if next.attempt == Attempt::FIRST && next.redrive == 0 => {
                Some(Self::New)
            }
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

/// A kind of command. One kind may fail while others succeed, so none may stand before all others: each has its turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Of which recipe.
    pub definition: DefinitionRef,
    /// Of which step.
    pub step: StepIndex,
    /// Doing or undoing it.
    pub direction: Direction,
}

/// A saga that waits for a participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For whom.
    pub participant: Arc<str>,
    /// Which one.
    pub saga: SagaId,
    /// When it has its turn.
    pub rank: Rank,
    /// What it is to be asked.
    pub kind: Kind,
}

impl Waiting {
    /// As what a saga waits; `None` if it waits for no participant.
    pub fn of(held: &Held) -> Option<Self> {
        let (rank, at) = (Rank::of(held)?, held.saga.current()?);
        let participant = held.definition.step(at.step)?.participant.clone();
        let definition = held.definition.id.clone();
        let kind = Kind { definition, step: at.step, direction: at.direction };
        Some(Self { participant, saga: held.saga.id, rank, kind })
    }
}

/// The sagas that wait, by participant.
#[derive(Debug, Default)]
pub struct Parked {
    queues: BTreeMap<Arc<str>, [Queue; RANKS.len()]>,
}

/// The sagas of one rank.
#[derive(Debug, Default)]
struct Queue {
    kinds: BTreeMap<Kind, Lot>,
    /// Whose turn it was.
    last: Option<Kind>,
}

/// The sagas of one kind, of which there is one at least.
#[derive(Debug, Default)]
struct Lot {
    ids: BTreeSet<SagaId>,
    /// Which of them was last let go to probe the participant.
    probed: Option<SagaId>,
}

impl Lot {
    /// The next one to probe with: each has its turn, so that one which nothing can serve does not keep the others from it.
    fn next_probe(&mut self) -> Option<SagaId> {
        let after = self.probed.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.ids.range((after, Bound::Unbounded)).next().or_else(|| self.ids.first());
        self.probed = next.copied();
        self.probed
    }
}

impl Queue {
    /// The kind whose turn it is.
    fn turn(&mut self) -> Option<Kind> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.kinds.range::<Kind, _>((after, Bound::Unbounded));
        let next = behind.next().or_else(|| self.kinds.first_key_value()).map(|(kind, _)| kind.clone());
        self.last.clone_from(&next);
        next
    }

    fn pop(&mut self) -> Option<SagaId> {
        let kind = self.turn()?;
        let next = self.kinds.get_mut(&kind)?.ids.pop_first();
        self.drop_empty();
        next
    }

    fn probe(&mut self, rank: Rank) -> Option<SagaId> {
        let kind = self.turn()?;
        let lot = self.kinds.get_mut(&kind)?;
        let next = lot.next_probe()?;
        if rank != Rank::Outstanding {
            lot.ids.remove(&next);
            self.drop_empty();
        }
        Some(next)
    }

    fn remove(&mut self, saga: SagaId) {
        if self.kinds.values_mut().any(|lot| lot.ids.remove(&saga)) {
            self.drop_empty();
        }
    }

    fn drop_empty(&mut self) {
        self.kinds.retain(|_, lot| !lot.ids.is_empty());
    }

    fn len(&self) -> usize {
        self.kinds.values().map(|lot| lot.ids.len()).sum()
    }

    fn oldest(&self) -> Option<SagaId> {
        self.kinds.values().filter_map(|lot| lot.ids.first().copied()).min()
    }
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

    /// This saga waits, and for nobody else; whether there was room.
    #[must_use = "without room it is looked at again later"]
    pub fn park(&mut self, waiting: Waiting) -> bool {
        let Waiting { participant, saga, rank, kind } = waiting;
        self.unpark(saga);
        let all: usize = self.queues.values().flatten().map(Queue::len).sum();
        let room = all < PARKED_SAGAS;
        if room {
            let queues = self.queues.entry(participant).or_default();
            queues[rank as usize].kinds.entry(kind).or_default().ids.insert(saga);
        }
        room
    }

    /// It waits for nobody any more.
    pub fn unpark(&mut self, saga: SagaId) {
        for queue in self.queues.values_mut().flatten() {
            queue.remove(saga);
        }
        self.drop_empty();
    }

    /// Only those of which this is so are ours still.
    pub fn retain(&mut self, ours: impl Fn(SagaId) -> bool) {
        for queue in self.queues.values_mut().flatten() {
            for lot in queue.kinds.values_mut() {
                lot.ids.retain(|&id| ours(id));
            }
            queue.drop_empty();
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.queues.retain(|_, queues| queues.iter().any(|queue| !queue.kinds.is_empty()));
    }

    /// Takes the next that waits for it.
    pub fn pop(&mut self, participant: &str) -> Option<SagaId> {
        let next = self.queues.get_mut(participant)?.iter_mut().find_map(Queue::pop);
        self.drop_empty();
        next
    }

    /// The next to probe it with. One whose command is out waits on; any other is taken.
    pub fn probe(&mut self, participant: &str) -> Option<(SagaId, Rank)> {
        let queues = self.queues.get_mut(participant)?;
        let next = RANKS.into_iter().find_map(|rank| Some((queues[rank as usize].probe(rank)?, rank)));
        self.drop_empty();
        next
    }

    /// How many wait for it.
    pub fn waiting(&self, participant: &str) -> usize {
        self.queues.get(participant).map_or(0, |queues| queues.iter().map(Queue::len).sum())
    }

    /// The oldest of them.
    pub fn oldest(&self, participant: &str) -> Option<SagaId> {
        self.queues.get(participant)?.iter().filter_map(Queue::oldest).min()
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use saga_defs::time::Timestamp;

    use super::*;

    fn saga(n: u8) -> SagaId {
        SagaId::new(Timestamp::from_unix_millis(1_700_000_000_000 + i64::from(n)), [0; 10])
    }

    /// Sagas by number, rank, and the step that they are at.
    fn parked(all: &[(u8, Rank, u16)]) -> Parked {
        let mut parked = Parked::default();
        for &(n, rank, step) in all {
            assert!(parked.park(waiting(n, rank, step)));
        }
        parked
    }

    fn waiting(n: u8, rank: Rank, step: u16) -> Waiting {
        let definition = DefinitionRef { name: "booking".into(), version: 1 };
        let kind = Kind { definition, step: StepIndex(step), direction: Direction::Forward };
        Waiting { participant: "payment".into(), saga: saga(n), rank, kind }
    }

    /// Takes so many with `next`, and says which.
    fn taken(times: usize, mut next: impl FnMut() -> Option<SagaId>) -> String {
        let name = |id: SagaId| (0..=u8::MAX).find(|&n| saga(n) == id).expect("one of ours").to_string();
        let names: Vec<String> = (0..times).map(|_| next().map_or_else(|| "-".to_owned(), name)).collect();
        names.join(" ")
    }

    #[test]
    fn those_that_were_never_asked_about_go_first() {
        let ranks = [Rank::Last, Rank::Unsent, Rank::Outstanding, Rank::New, Rank::New];
        let all: Vec<_> = (1..).zip(ranks).map(|(n, rank)| (n, rank, 1)).collect();
        let mut parked = parked(&all);
        assert_snapshot!(taken(6, || parked.pop("payment")), @"4 5 2 3 1 -");
        assert!(parked.is_empty());
    }

    #[test]
    fn probes_take_turns_although_those_that_failed_come_back() {
        let mut parked = parked(&[(1, Rank::Unsent, 1), (2, Rank::Unsent, 1), (3, Rank::Unsent, 1)]);
        let probes = taken(5, || {
            let (saga, rank) = parked.probe("payment")?;
            let n = (1..=3).find(|&n| super::tests::saga(n) == saga)?;
            assert!(parked.park(waiting(n, rank, 1)));
            Some(saga)
        });
        assert_snapshot!(probes, @"1 2 3 1 2");
    }

    #[test]
    fn a_kind_of_command_that_fails_does_not_keep_another_from_its_turn() {
        let mut all: Vec<_> = (1..=20).map(|n| (n, Rank::New, 1)).collect();
        all.push((99, Rank::New, 2));
        assert_snapshot!(taken(4, { let mut parked = parked(&all); move || Some(parked.probe("payment")?.0) }), @"1 99 2 3");
        assert_snapshot!(taken(4, { let mut parked = parked(&all); move || parked.pop("payment") }), @"1 99 2 3");
    }

    #[test]
    fn what_is_out_is_asked_about_in_turns_and_waits_on() {
        let mut parked = parked(&[(1, Rank::Outstanding, 1), (2, Rank::Outstanding, 1)]);
        assert_snapshot!(taken(3, || Some(parked.probe("payment")?.0)), @"1 2 1");
        assert_eq!(parked.waiting("payment"), 2);
    }

    #[test]
    fn a_saga_waits_for_one_participant() {
        let mut parked = parked(&[(1, Rank::New, 1)]);
        assert!(parked.park(Waiting { participant: "booking".into(), ..waiting(1, Rank::New, 1) }));
        assert_eq!((parked.waiting("payment"), parked.waiting("booking")), (0, 1));
        parked.unpark(saga(1));
        assert!(parked.is_empty());
    }
}
