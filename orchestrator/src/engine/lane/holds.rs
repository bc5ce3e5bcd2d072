//! Participants that are held: who may go on, and what is shown of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use saga_defs::ids::SagaId;
use tokio::time::Instant;

use super::super::BATCH_INPUTS;
use super::super::batch::Input;
use super::super::participants::board::{Board, Line, Read};
use super::super::participants::health::Grant;
use super::super::participants::parked::Rank;
use super::super::recovery::Recovery;
use super::{Arrived, Lane};

/// What is held is shown to others this often.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// What the lane reads and shows of participants.
pub(in super::super) struct Notices {
    board: Arc<Board>,
    /// How far the orders are read.
    read: Read,
    /// When they were last shown, and as what.
    last: Instant,
    states: BTreeMap<Arc<str>, String>,
}

impl Notices {
    pub(super) fn new(board: Arc<Board>, read: Read) -> Self {
        Self { board, read, last: Instant::now(), states: BTreeMap::new() }
    }
}

impl Lane {
    /// Does what operators ordered, and lets go whom the participants may be asked for now.
    pub(super) async fn take_released(&mut self, arrived: &mut Vec<Arrived>) {
        let now = self.environment.now();
        for (participant, seen) in self.notices.board.news(&mut self.notices.read) {
            tracing::info!(%participant, ?seen, "an operator's word on a participant");
            self.participants.observe(&participant, now, seen);
        }
        // The group is not heard of: what was answered meanwhile is read first.
        let mut asked = self.parked.participants();
        // One that comes back may have answered all that waited for it: nobody is left to let go, and that ends the ramp.
        let back = self
            .participants
            .iter()
            .filter(|(name, health)| health.ramping_since().is_some() && self.parked.waiting(name) == 0);
        asked.extend(back.map(|(name, _)| name.clone()));
        if asked.is_empty() || self.unheard {
            return self.show_participants();
        }
        let mut again = Vec::new();
        for participant in asked {
            let room = BATCH_INPUTS.saturating_sub(arrived.len());
            let waiting = self.parked.waiting(&participant);
            match self.participants.grant(&participant, now, waiting, room) {
                Grant::Go(count) => {
                    for _ in 0..count {
                        let Some((saga, _)) = self.parked.pop(&participant) else { break };
                        arrived.extend(self.released(saga));
                    }
                }
                Grant::Probe => match self.parked.pop(&participant) {
                    Some((saga, Rank::Outstanding)) => {
                        self.parked.park(participant, saga, Rank::Outstanding);
                        again.push(saga);
                    }
                    Some((saga, Rank::Unsent | Rank::Last)) => arrived.extend(self.released(saga)),
                    None => {}
                },
            }
        }
        self.ask_again(&again).await;
        self.show_participants();
    }

    fn released(&self, saga: SagaId) -> Option<Arrived> {
        let shard = saga.shard(self.shard_count);
        self.shards.is_readable(shard).then(|| Arrived::of_ours(Input::Released(shard, saga)))
    }

    /// Publishes the commands that these sagas wait for once more: the same bytes, so that no attempt is counted. A probe that
    /// the database keeps from its way is left out; the next one comes.
    async fn ask_again(&mut self, sagas: &[SagaId]) {
        if sagas.is_empty() {
            return;
        }
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
            let held = cause.filter(|_| state != "answering");
            if self.notices.states.get(&participant) != Some(&state) {
                match held {
                    Some(cause) => {
                        tracing::warn!(%participant, state, cause = cause.as_str(), waiting, "commands are held back");
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
