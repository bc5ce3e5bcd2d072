//! Shards come and go: claiming, letting go, and finding out what became of a commit.

use std::time::Duration;

use participant::crash::{self, Point};
use saga_defs::ids::{SagaId, Shard};
use tokio::time::Instant;

use super::super::INBOX;
use super::super::batch::Batch;
use super::super::recovery::{Recovered, Recovery};
use super::{DATABASE_PAUSE, Lane};
use crate::store::StoreError;
use crate::store::commit::{Committed, ShardAdvance, Writes};
use crate::store::shards::Claimed;

/// How long a stopping lane waits for its last records to be acknowledged.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// Why a shard is not read whose offset is of a topic that is no more.
const OTHER_TOPIC: &str = "saga.inbox was deleted and made again, and what had not been read of it is gone";
/// The shortest time between two watermark-only commits.
const SAVE_EVERY: Duration = Duration::from_millis(500);

impl Lane {
    /// Claims shards and makes them ready; says where to read each of them.
    pub(super) async fn take_over(
        &mut self,
        shards: &[Shard],
        generation: u64,
        inbox: Option<&str>,
    ) -> Vec<Option<i64>> {
        let begun = Instant::now();
        let claimed = self.claim_until_answered(shards, inbox).await;
        crash::pass(Point::ShardsClaimed);
        let recovered = self.recover_until_answered(&claimed, generation).await;
        crash::pass(Point::ShardsRecovered);
        for recovered in recovered {
            self.take_in(recovered);
        }
        if !claimed.is_empty() {
            self.learn_holds();
            let (count, took) = (claimed.len(), begun.elapsed());
            tracing::info!(shards = count, open = self.shards.open_count(), ?took, "took over");
        }
        for claim in claimed.iter().filter(|claim| claim.other_topic) {
            self.stop_shard(claim.shard, OTHER_TOPIC);
        }
        self.show_shards();
        let offset = |shard: &Shard| {
            let owned = self.shards.get(*shard)?;
            self.shards.is_readable(*shard).then_some(owned.inbox_offset)
        };
        shards.iter().map(offset).collect()
    }

    fn take_in(&mut self, recovered: Recovered) {
        let shard = recovered.shard;
        self.let_go_of(shard);
        self.shards.insert(shard, recovered.owned);
        for outgoing in &recovered.outgoing {
            if let Some(origin) = outgoing.origin {
                self.shards.begin_publish(origin);
            }
            // Its timeout runs from the publication that is now to come.
            if let Some(sent) = outgoing.attempt
                && let Some(wake) = self.shards.wake(shard, sent.saga)
            {
                let wake =
                    super::super::shards::Wake { timeout_at: None, awaits_seq: Some(sent.row.1), ..wake };
                self.shards.set_wake(shard, sent.saga, Some(wake));
            }
        }
        for outgoing in recovered.outgoing {
            self.publisher.send(outgoing);
            crash::pass(Point::RecordRepublished);
        }
    }

    async fn claim_until_answered(&mut self, shards: &[Shard], inbox: Option<&str>) -> Vec<Claimed> {
        loop {
            match self.store.claim(shards, &self.claimant, &self.settings.incarnation, inbox).await {
                Ok(claimed) => {
                    self.shown.update(|health| health.database = None);
                    return claimed;
                }
                Err(error) => self.wait_for_database(&error).await,
            }
        }
    }

    async fn recover_until_answered(&self, claimed: &[Claimed], generation: u64) -> Vec<Recovered> {
        loop {
            let recovery = Recovery {
                store: &*self.store,
                definitions: &self.definitions,
                records: &self.maker,
                now: self.environment.now(),
            };
            match recovery.recover(claimed, generation).await {
                Ok(recovered) => {
                    self.shown.update(|health| health.database = None);
                    return recovered;
                }
                Err(error) => self.wait_for_database(&error).await,
            }
        }
    }

    async fn wait_for_database(&self, error: &StoreError) {
        self.database_trouble(error);
        tokio::time::sleep(DATABASE_PAUSE).await;
    }

    /// Whether a commit that was not answered happened. Raising the epochs of the shards that are still ours waits for a
    /// statement that may be running, keeps it from happening later, and shows how far the journal is. A shard that is
    /// ours no more is let go: its owner knows.
    pub(super) async fn resolve_unknown(&mut self, batch: &Batch) -> bool {
        let advances = &batch.writes.shards;
        let mut held: Vec<(Shard, i64)> = advances.iter().map(|a| (a.shard, a.epoch)).collect();
        let renewed = loop {
            match self.store.renew(&held).await {
                Ok(renewed) => break renewed,
                Err(error) => {
                    self.wait_for_database(&error).await;
                    held = self.after_lost_renewal(held).await;
                }
            }
        };
        let row = |shard: Shard| renewed.iter().find(|claim| claim.shard == shard);
        let mut lost = Vec::new();
        let mut told = Vec::new();
        for advance in advances {
            match (row(advance.shard), self.shards.get_mut(advance.shard)) {
                (Some(claim), Some(owned)) => {
                    owned.epoch = claim.epoch;
                    told.extend(owned.tells(advance, claim));
                }
                _ => lost.push(advance.shard),
            }
        }
        self.shown.update(|health| health.database = None);
        if !lost.is_empty() {
            tracing::warn!(?lost, "shards were taken over by another process meanwhile");
            self.let_go(&lost);
            self.orphaned.get_or_insert_with(Instant::now);
        }
        // One statement wrote all of the batch or nothing, so every shard tells the same. If none tells, what is left of
        // the batch is decided again: it only opens dead letters, which can be done twice.
        !told.is_empty() && told.into_iter().all(|happened| happened)
    }

    /// A renewal that was not answered may have raised epochs: then they are one higher than we knew. So they are where
    /// somebody else has raised them, of whom nobody but the row's claimant knows.
    async fn after_lost_renewal(&self, held: Vec<(Shard, i64)>) -> Vec<(Shard, i64)> {
        let ids: Vec<Shard> = held.iter().map(|(shard, _)| *shard).collect();
        loop {
            match self.store.epochs_of_owner(&ids, &self.claimant).await {
                Ok(epochs) => {
                    let known = |(shard, epoch)| (shard, epochs.get(&shard).copied().unwrap_or(epoch));
                    return held.into_iter().map(known).collect();
                }
                Err(error) => self.wait_for_database(&error).await,
            }
        }
    }

    /// The fence did not hold for some shard. Find out which are still ours; the inputs of the others belong to their
    /// new owners, who read them again.
    pub(super) async fn reclaim(&mut self) {
        let ids = self.shards.ids();
        let lost = loop {
            match self.store.epochs(&ids).await {
                Ok(epochs) => {
                    let held = |shard: &Shard| {
                        let mine = self.shards.get(*shard).map(|owned| (owned.epoch, owned.next_seq));
                        epochs.get(shard).copied() == mine
                    };
                    break ids.iter().copied().filter(|shard| !held(shard)).collect::<Vec<_>>();
                }
                Err(error) => self.wait_for_database(&error).await,
            }
        };
        self.orphaned.get_or_insert_with(Instant::now);
        if lost.is_empty() {
            tracing::error!("a commit was fenced, but no shard has changed hands; all shards are let go");
            self.let_go(&ids);
            return;
        }
        tracing::warn!(
            ?lost,
            "shards were taken over by another process; nothing more of them is published here"
        );
        self.let_go(&lost);
    }

    /// Forgets shards: nothing more of them is published or moved here.
    pub(super) fn let_go(&mut self, shards: &[Shard]) {
        for &shard in shards {
            self.let_go_of(shard);
        }
        self.participants.lose_count();
        self.show_shards();
    }

    fn let_go_of(&mut self, shard: Shard) {
        self.shards.remove(shard);
        self.publisher.forget(shard);
        let count = self.shard_count;
        let of_shard = |id: &SagaId| id.shard(count) == shard;
        self.parked.retain(|id| !of_shard(&id));
        self.sagas.retain(|id| !of_shard(&id));
        self.waiters.retain(|id, _| !of_shard(id));
    }

    pub(super) fn show_shards(&self) {
        let owned = self.shards.ids().len();
        let stopped = self.stopped.clone();
        self.metrics.shards(owned, stopped.len());
        self.shown.update(|health| {
            health.shards_owned = owned;
            health.stopped_shards = stopped;
        });
    }

    /// A lane with nothing to do saves watermarks that have moved, and tells the group how far it has read.
    pub(super) async fn save_watermarks(&mut self) {
        if self.last_save.elapsed() < SAVE_EVERY {
            return;
        }
        self.last_save = Instant::now();
        self.store.rest().await;
        self.look_for_database().await;
        self.show_offsets();
        let advances: Vec<ShardAdvance> = self
            .shards
            .iter()
            .filter(|(_, owned)| owned.must_save())
            .map(|(shard, owned)| ShardAdvance {
                shard,
                epoch: owned.epoch,
                first_seq: owned.next_seq,
                next_seq: owned.next_seq,
                published_seq: owned.published_seq(),
                inbox_offset: owned.inbox_offset,
                open_from: owned.open_from(|_| false, None),
                republish: owned.republish(),
            })
            .collect();
        if advances.is_empty() {
            return;
        }
        let writes = Writes { shards: advances, ..Writes::default() };
        // Nothing rests on it: a watermark that is not saved means publishing a little more after a take-over.
        crash::pass(Point::WatermarkMoved);
        match self.store.commit(&writes).await {
            Ok(Committed::Yes) => {
                crash::pass(Point::WatermarkSaved);
                for advance in writes.shards {
                    if let Some(owned) = self.shards.get_mut(advance.shard) {
                        owned.follow(&advance);
                    }
                }
            }
            Ok(Committed::Fenced) => self.reclaim().await,
            Ok(Committed::LetterMoved) | Err(_) => {}
        }
    }

    /// Starts are refused while the database is away; with nothing to commit, somebody must notice that it is back.
    async fn look_for_database(&self) {
        let away = self.shown.health.lock().is_ok_and(|health| health.database.is_some());
        if away && self.store.ping().await.is_ok() {
            self.shown.update(|health| health.database = None);
        }
    }

    /// For lag displays only: what counts is the offset in the shard row.
    pub(super) fn show_offsets(&self) {
        let offsets: Vec<_> = self
            .shards
            .iter()
            .map(|(shard, owned)| (INBOX.into(), i32::from(shard.0), owned.inbox_offset))
            .collect();
        if !offsets.is_empty() {
            self.sources.group.commit(&offsets);
        }
    }

    /// Stopping: what is committed is published, as far as the broker takes it in time; the rest the next owner does.
    pub(super) async fn finish(&mut self) {
        let deadline = Instant::now() + LAST_FLUSH;
        let reports = self.publisher.reports();
        while self.publisher.in_flight() > 0 && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = tokio::time::timeout(left, reports.arrived()).await;
            // What the broker refuses must be kept before the watermark passes it.
            let refused = self.settle();
            self.process(refused).await;
        }
        self.last_save = Instant::now().checked_sub(SAVE_EVERY).unwrap_or_else(Instant::now);
        self.save_watermarks().await;
    }
}
