//! Shards that stand still: their partition cannot be read on, and only an operator may say from where to.

use std::time::Duration;

use saga_defs::ids::Shard;
use tokio::time::Instant;

use super::Lane;

/// How often the rows of shards that stand still are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Lane {
    /// Nothing more of the shard's partition is read. Its sagas keep their state, its timers wait, new sagas go to other
    /// shards.
    pub(super) fn stop_shard(&mut self, shard: Shard, cause: &str) {
        let text = format!(
            "its partition cannot be read on ({cause}); `orchestrator shards list` shows what there is to read, \
             `orchestrator shards resume --shard {shard} --from earliest|latest|OFFSET --reason …` goes on from there"
        );
        tracing::error!(%shard, "shard {shard} stands still: {text}");
        self.shards.stop(shard);
        let count = self.shard_count;
        self.parked.retain(|id| id.shard(count) != shard);
        self.stopped.retain(|(other, _)| *other != shard);
        self.stopped.push((shard, text));
        self.show_shards();
    }

    /// Whoever says from where to go on raises the shard's epoch. To read it anew the group has to be joined anew.
    pub(super) async fn look_for_resumed(&mut self) {
        if self.stopped.is_empty() || self.last_look.elapsed() < LOOK_EVERY {
            return;
        }
        self.last_look = Instant::now();
        let ids: Vec<Shard> = self.stopped.iter().map(|(shard, _)| *shard).collect();
        // A database that is away is asked again.
        let Ok(epochs) = self.store.epochs(&ids).await else { return };
        let is_mine = |shard: &Shard| {
            let mine = self.shards.get(*shard).map(|owned| owned.epoch);
            epochs.get(shard).map(|(epoch, _)| *epoch) == mine
        };
        let resumed: Vec<Shard> = ids.iter().copied().filter(|shard| !is_mine(shard)).collect();
        if resumed.is_empty() {
            return;
        }
        tracing::info!(?resumed, "shards are to be read on from somewhere else; joining the group anew");
        self.stopped.retain(|(shard, _)| !resumed.contains(shard));
        self.let_go(&resumed);
        self.orphaned.get_or_insert_with(Instant::now);
        self.sources.group.rejoin();
    }
}
