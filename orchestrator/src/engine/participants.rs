//! The participants: who is asked at the moment, and who is held because it does not answer.
//!
//! [`health`] decides, purely, from what the batches observe. [`parked`] has the sagas that wait for a held participant. The
//! lane asks it for how many of them may go, and [`board`] is where it and everybody else tell each other: what operators
//! ordered, and what is held.

pub mod board;
pub mod health;
pub mod parked;

use std::collections::BTreeMap;
use std::sync::Arc;

use saga_defs::time::Timestamp;

use self::board::{Known, State};
use self::health::{Grant, Health, Limits, Seen};
use self::parked::Parked;

/// Every participant that something was observed of.
#[derive(Clone, Debug, Default)]
pub struct Participants {
    limits: Limits,
    by_name: BTreeMap<Arc<str>, Health>,
}

impl Participants {
    /// Nothing is observed yet, but that these are held.
    pub fn new(limits: Limits, held: impl IntoIterator<Item = (Arc<str>, Health)>) -> Self {
        Self { limits, by_name: held.into_iter().collect() }
    }

    /// Whether its commands are withheld.
    pub fn holds(&self, participant: &str) -> bool {
        self.by_name.get(participant).is_some_and(|health| !health.is_answering())
    }

    /// How it is; `None`: nothing was observed.
    pub fn get(&self, participant: &str) -> Option<&Health> {
        self.by_name.get(participant)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Health)> {
        self.by_name.iter()
    }

    /// Something was observed of it.
    pub fn observe(&mut self, participant: &Arc<str>, now: Timestamp, seen: Seen) {
        let limits = self.limits;
        match self.by_name.get_mut(participant) {
            Some(health) => health.observe(now, seen, &limits),
            None => {
                let mut health = Health::default();
                health.observe(now, seen, &limits);
                self.by_name.insert(participant.clone(), health);
            }
        }
    }

    /// Shards are another process's now, with some of those that were let go.
    pub fn lose_count(&mut self) {
        self.by_name.values_mut().for_each(Health::lose_count);
    }

    /// Shards were taken over: what another process has written down goes on here. A participant that has answered here since then
    /// is not held, but comes back by and by: there may be a crowd in those shards that waits for it. One that is held here
    /// already is left as it is.
    pub fn learn(&mut self, known: &[Known], now: Timestamp) {
        self.by_name.values_mut().for_each(|health| health.seek(now));
        for known in known {
            let here = self.by_name.entry(known.participant.clone()).or_default();
            if here.is_answering() {
                let answered = here.last_answer().is_some_and(|answer| answer > known.since);
                let state = if answered { State::Ramping } else { known.state };
                *here = Known { state, ..known.clone() }.health(now, &self.limits);
            }
        }
    }

    /// Those of which it is to be asked how many may go: whoever is waited for, and who is held or comes back from that, also
    /// where all that waited were answered, cancelled or given to another process. That ends a ramp, and a hold when its next
    /// probe is due.
    pub fn to_grant(&self, parked: &Parked) -> Vec<Arc<str>> {
        let mut all = parked.participants();
        let alone = self.by_name.iter().filter(|(_, health)| health.hold().is_some());
        all.extend(alone.map(|(name, _)| name.clone()).filter(|name| parked.waiting(name) == 0));
        all
    }

    /// How many of those that wait for it may go now; `room` is how many at most.
    pub fn grant(&mut self, participant: &str, now: Timestamp, waiting: usize, room: usize) -> Grant {
        let limits = self.limits;
        let health = self.by_name.get_mut(participant);
        health.map_or(Grant::Go(waiting.min(room)), |health| health.grant(now, waiting, room, &limits))
    }
}

#[cfg(test)]
mod tests;
