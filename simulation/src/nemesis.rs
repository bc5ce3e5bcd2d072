//! What goes wrong on a large scale: processes die, freeze and are replaced, the database and the broker are away, the
//! group changes its mind.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::group::Group;
use crate::orchestrator::Slot;
use crate::worker::{Participant, Place};
use crate::world::World;

/// The longest between two disasters.
const BETWEEN_MS: u64 = 4_000;
/// How long a process is frozen, most of the time and now and then; the first is about as long as a session of the group.
const FROZEN_MS: (u64, u64) = (8_000, 45_000);
/// How long the database or the broker is away.
const AWAY_MS: (u64, u64) = (4_000, 40_000);

/// Everything that may be struck.
pub struct Nemesis {
    /// The world.
    pub world: Arc<World>,
    /// The group of the orchestrators.
    pub group: Arc<Group>,
    /// Orchestrators.
    pub slots: Vec<Arc<Slot>>,
    /// Workers.
    pub places: Vec<Arc<Place>>,
    /// Participants.
    pub participants: Vec<Arc<Participant>>,
}

impl Nemesis {
    /// Strikes for so long.
    pub async fn strike(&self, length: Duration) {
        let end = Instant::now() + length;
        let new_brokers = self.world.dice.once_in(3);
        loop {
            sleep(self.world.dice.millis(50, BETWEEN_MS)).await;
            if Instant::now() >= end {
                return;
            }
            match self.world.dice.below(12) {
                0..7 => self.strike_process(),
                7 => self.world.take_database_away(self.length(AWAY_MS)),
                8 => self.world.broker.take_away(self.length(AWAY_MS)),
                9 => self.group.rebalance(),
                10 if new_brokers => self.replace_broker(),
                _ => self.strike_worker(),
            }
        }
    }

    fn length(&self, (usual_ms, seldom_ms): (u64, u64)) -> Duration {
        let most = if self.world.dice.once_in(6) { seldom_ms } else { usual_ms };
        self.world.dice.millis(100, most)
    }

    fn strike_process(&self) {
        let Some(slot) = self.world.dice.pick(&self.slots) else { return };
        let Some(running) = slot.running() else { return };
        let process = &running.process;
        match self.world.dice.below(7) {
            0..2 => {
                self.world.note(format_args!("{process:?} is killed"));
                process.kill();
            }
            2..5 => {
                self.world.note(format_args!("{process:?} is frozen"));
                process.freeze(self.length(FROZEN_MS));
            }
            5 => running.stop(),
            _ => {
                process.freeze(self.length(FROZEN_MS));
                slot.abandon();
            }
        }
    }

    fn strike_worker(&self) {
        if self.world.dice.once_in(4) {
            if let Some(participant) = self.world.dice.pick(&self.participants) {
                participant.rebalance();
            }
            return;
        }
        let Some(process) = self.world.dice.pick(&self.places).and_then(|place| place.running()) else {
            return;
        };
        if self.world.dice.once_in(2) {
            process.kill();
        } else {
            process.freeze(self.length(FROZEN_MS));
        }
    }

    /// An embedded broker is gone with all it had, and everybody who was connected to it starts anew.
    fn replace_broker(&self) {
        self.world.note(format_args!("another broker"));
        self.world.broker.replace(&self.world.dice);
        self.slots.iter().for_each(|slot| slot.kill_all());
        for process in self.places.iter().filter_map(|place| place.running()) {
            process.kill();
        }
    }
}
