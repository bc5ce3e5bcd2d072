//! Participants that are held: who may go on, and what is shown of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use saga_defs::ids::SagaId;
use tokio::time::Instant;

use super::super::BATCH_INPUTS;
use super::super::batch::Input;
use super::super::participants::board::{Board, Line, Read, State};
use super::super::participants::health::Grant;
use super::super::participants::parked::{LOOK_AGAIN, Rank, Waiting};
use super::super::recovery::Recovery;
use super::super::shards::Wake;
use super::{Arrived, Lane};

/// So many of those that are let go find a place in a batch, however many records and timers came first: else those could keep
/// the participants from being asked.
const PLACES: usize = 16;
/// What is held is shown to others this often.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// What the lane reads and shows of participants.
pub(in super::super) struct Notices {
    board: Arc<Board>,
    /// How far the orders are read.
    read: Read,
    /// When they were last shown, and as what.
    last: Instant,
    states: BTreeMap<Arc<str>, State>,
}

impl Notices {
    pub(super) fn new(board: Arc<Board>, read: Read) -> Self {
        Self { board, read, last: Instant::now(), states: BTreeMap::new() }
    }
}

impl Lane {
    /// Does what operators ordered, and lets go whom the participants may be asked for now. Gives those whose commands are out
    /// already and are to be published once more, to probe their participants.
    pub(super) fn take_released(&mut self, arrived: &mut Vec<Arrived>) -> Vec<SagaId> {
        let now = self.environment.now();
        for (participant, seen) in self.notices.board.news(&mut self.notices.read) {
            tracing::info!(%participant, ?seen, "an operator's word on a participant");
            self.participants.observe(&participant, now, seen);
        }
        // The group is not heard of: what was answered meanwhile is read first.
        let asked = self.participants.to_grant(&self.parked);
        if asked.is_empty() || self.unheard {
            self.show_participants();
            return Vec::new();
        }
        let mut again = Vec::new();
        for participant in asked {
            let room = BATCH_INPUTS.saturating_sub(arrived.len()).max(PLACES);
            let waiting = self.parked.waiting(&participant);
            match self.participants.grant(&participant, now, waiting, room) {
                Grant::Go(count) => {
                    for _ in 0..count {
                        let Some(saga) = self.parked.pop(&participant) else { break };
                        arrived.extend(self.released(saga, &participant));
                    }
                }
                Grant::Probe => match self.parked.probe(&participant) {
                    Some((saga, Rank::Outstanding)) => again.push(saga),
                    Some((saga, Rank::New | Rank::Unsent | Rank::Last)) => {
                        arrived.extend(self.released(saga, &participant));
                    }
                    None => {}
                },
            }
        }
        self.show_participants();
        again
    }

    /// A saga waits for its participant; without room for one more it is looked at again later, and not before it has had its
    /// whole timeout anew.
    pub(super) fn park(&mut self, waiting: Waiting) {
        let saga = waiting.saga;
        let shard = saga.shard(self.shard_count);
        if !self.parked.park(waiting)
            && let Some(wake) = self.shards.wake(shard, saga)
        {
            let at = wake.at.min(self.environment.now().after(LOOK_AGAIN));
            self.shards.set_wake(shard, saga, Some(Wake { at, timeout_at: None, awaits_seq: None }));
        }
    }

    /// Goes on holding what those held who had the shards before.
    pub(super) fn learn_holds(&mut self) {
        self.participants.learn(&self.notices.board.elsewhere(), self.environment.now());
    }

    fn released(&self, saga: SagaId, participant: &Arc<str>) -> Option<Arrived> {
        let shard = saga.shard(self.shard_count);
        let input = || Input::Released(shard, saga, participant.clone());
        self.shards.is_readable(shard).then(|| Arrived::of_ours(input()))
    }

    /// Publishes the commands that these sagas wait for once more: the same bytes, so that no attempt is counted. A probe that
    /// the database keeps from its way is left out; the next one comes.
    pub(super) async fn ask_again(&mut self, sagas: &[SagaId]) {
        let recovery = Recovery {
            store: &*self.store,
            definitions: &self.definitions,
            records: &self.maker,
            now: self.environment.now(),
        };
        match recovery.commands_of(sagas).await {
            Ok(outgoing) => {
                for mut outgoing in outgoing {
                    // Nothing rests on its acknowledgement.
                    (outgoing.origin, outgoing.attempt) = (None, None);
                    self.publisher.send(outgoing);
                }
            }
            Err(error) => tracing::debug!(%error, "a participant is not probed now"),
        }
    }

    fn show_participants(&mut self) {
        if self.notices.last.elapsed() < SHOW_EVERY {
            return;
        }
        self.notices.last = Instant::now();
        self.notices.board.show(&self.participants, &self.parked);
        for Line { participant, state, cause, waiting, .. } in self.notices.board.lines() {
            let held = cause.filter(|_| state != State::Answering);
            if self.notices.states.get(&participant) != Some(&state) {
                match held {
                    Some(cause) => {
                        tracing::warn!(%participant, state = state.as_str(), cause = cause.as_str(), waiting, "commands are held back");
                    }
                    None if self.notices.states.contains_key(&participant) => {
                        tracing::info!(%participant, "commands are handed out again");
                    }
                    None => {}
                }
                self.notices.states.insert(participant.clone(), state);
            }
            self.metrics.participant(&participant, held.is_some(), waiting);
        }
    }
}
