//! Where a batch comes from: records, requests, due timers and delivery reports, as many as have arrived.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use messaging::{ConsumerEvent, Received};
use saga_defs::ids::{DeadLetterId, SagaId, Shard};
use saga_defs::time::Timestamp;
use tokio::time::Instant;

use super::super::batch::{Fact, Held, Input};
use super::super::handle::{Asked, Looked, Request};
use super::super::rebalance::Rebalance;
use super::super::traces;
use super::super::{BATCH_INPUTS, REQUEST_QUEUE, SLICE, SLICE_STARTS};
use super::{Arrived, Asker, DATABASE_PAUSE, IDLE_SAVE, Lane};
use crate::store::StoreError;
use crate::store::letters::StoredLetter;

/// Delivery reports are looked at this often, or whenever something else happens: commands are on their way already, so
/// nothing waits for a report but the watermark and the clock of a timeout.
const REPORTS_EVERY: Duration = Duration::from_millis(20);
/// Who waits for a held participant is looked at this often.
const LET_GO_EVERY: Duration = Duration::from_millis(100);
/// At most this many due timers in one batch, so that a crowd of them leaves room for replies.
const DUE_LIMIT: usize = BATCH_INPUTS / 2;

/// The shard that starts draw their ids for at the moment.
pub(in super::super) struct Slice {
    shard: Option<Shard>,
    until: Instant,
    starts: u32,
}

impl Slice {
    pub(in super::super) fn new() -> Self {
        Self { shard: None, until: Instant::now(), starts: 0 }
    }
}

impl Lane {
    /// Waits a little for something to do and takes all of it, up to a batch; nothing, if nothing has come. Where it is given up
    /// half-way, what it has taken is in [`Lane::gathered`]: some of it, as a command that was refused, comes only once.
    pub(super) async fn next(&mut self) -> Vec<Arrived> {
        self.wait().await;
        self.attention.turn(Instant::now());
        self.look_for_resumed().await;
        self.gathered = self.settle();
        self.take_rebalances().await;
        let mut arrived = std::mem::take(&mut self.gathered);
        self.take_records(&mut arrived);
        self.take_due(&mut arrived);
        let probes = self.take_released(&mut arrived);
        self.take_requests(&mut arrived);
        if !probes.is_empty() {
            self.gathered = arrived;
            self.ask_again(&probes).await;
            arrived = std::mem::take(&mut self.gathered);
        }
        if !arrived.is_empty() {
            self.gathered = arrived;
            self.let_grow().await;
            arrived = std::mem::take(&mut self.gathered);
            self.take_records(&mut arrived);
            self.take_requests(&mut arrived);
            self.pace.begin(Instant::now().into_std(), arrived.len());
        }
        arrived
    }

    async fn wait(&mut self) {
        if !self.unread.is_empty() {
            return;
        }
        let until_due =
            self.shards.next_wake().filter(|_| self.timers_fire()).map(|at| at.since(self.environment.now()));
        let longest = match self.publisher.in_flight() {
            0 if self.parked.is_empty() => IDLE_SAVE,
            0 => LET_GO_EVERY,
            _ => REPORTS_EVERY,
        };
        let idle = until_due.unwrap_or(longest).min(longest);
        let reports = self.publisher.reports();
        let wait_for_room = self.publisher.is_blocked() || !self.held.is_empty();
        tokio::select! {
            biased;
            Some(rebalance) = self.sources.rebalances.recv() => self.rebalance(rebalance).await,
            Some(event) = self.sources.records.recv() => self.unread_event(event),
            Some(request) = self.sources.requests.recv(), if self.held.len() < REQUEST_QUEUE => self.early_request(request),
            () = reports.arrived(), if wait_for_room => {}
            () = tokio::time::sleep(idle) => {}
        }
    }

    /// While batches are small and more is coming, a commit is the dear part: let some more arrive first.
    async fn let_grow(&self) {
        let pause = self.pace.pause(Instant::now().into_std());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    async fn take_rebalances(&mut self) {
        while let Ok(rebalance) = self.sources.rebalances.try_recv() {
            self.rebalance(rebalance).await;
        }
    }

    async fn rebalance(&mut self, rebalance: Rebalance) {
        match rebalance {
            Rebalance::Assigned { generation, shards, inbox, answer } => {
                (self.orphaned, self.unheard) = (None, false);
                self.stopped.clear();
                // Those that we kept while the group was not heard of, and that others have now.
                let others: Vec<Shard> =
                    self.shards.ids().into_iter().filter(|id| !shards.contains(id)).collect();
                self.let_go(&others);
                let offsets = self.take_over(&shards, generation, inbox.as_deref()).await;
                // The consumer's thread has given up waiting: it reads none of these partitions.
                if answer.send(offsets).is_err() {
                    self.let_go(&shards);
                }
            }
            Rebalance::Lost => {
                tracing::warn!(
                    "the group is not heard of: starts and verbs go on, replies and timers wait for it"
                );
                self.unheard = true;
            }
            Rebalance::Revoked { shards, done } => {
                (self.orphaned, self.unheard) = (None, false);
                self.stopped.clear();
                self.let_go(&shards);
                let _ = done.send(());
            }
        }
    }

    fn unread_event(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Records(polled) => {
                let (generation, at) = (polled.generation, Instant::from_std(polled.at));
                self.unread.extend(polled.records.into_iter().map(|record| (generation, at, record)));
            }
            ConsumerEvent::OffsetVanished { generation, partition, text, .. } => {
                let shard = Shard(u16::try_from(partition).unwrap_or(u16::MAX));
                // One of an earlier assignment says nothing about where the shard is read from now.
                if self.shards.get(shard).is_some_and(|owned| owned.generation == generation) {
                    self.stop_shard(shard, &text);
                }
            }
            ConsumerEvent::Failed(text) => {
                tracing::warn!(text, "the consumer has trouble; it goes on by itself");
                self.shown.update(|health| health.broker = Some(text));
            }
        }
    }

    fn take_records(&mut self, arrived: &mut Vec<Arrived>) {
        let now = self.environment.now();
        while arrived.len() < BATCH_INPUTS {
            if self.unread.is_empty() {
                match self.sources.records.try_recv() {
                    Ok(event) => self.unread_event(event),
                    Err(_) => return,
                }
            }
            let Some((generation, at, record)) = self.unread.pop_front() else { continue };
            let sent = record.timestamp_ms.map(Timestamp::from_unix_millis);
            if let Some(input) = self.of_this_assignment(generation, record) {
                self.metrics.inbox_delay(sent.map(|sent| now.since(sent)));
                arrived.push(Arrived { input, at, asker: None });
            }
        }
    }

    /// Not while the group is not heard of, nor just after the lane stood still.
    fn timers_fire(&self) -> bool {
        !self.unheard && !self.attention.is_waking(Instant::now())
    }

    /// Records of an earlier assignment are read again by whoever owns the shard now.
    fn of_this_assignment(&self, generation: u64, record: Received) -> Option<Input> {
        let shard = Shard(u16::try_from(record.partition).ok()?);
        let owned = self.shards.get(shard)?;
        (owned.generation == generation).then_some(Input::Record(shard, record))
    }

    fn take_due(&self, arrived: &mut Vec<Arrived>) {
        // The replies that wait at the broker are read before an attempt is said to have timed out.
        if !self.timers_fire() {
            return;
        }
        let room = BATCH_INPUTS.saturating_sub(arrived.len()).min(DUE_LIMIT);
        for (shard, saga) in self.shards.due(self.environment.now(), room) {
            arrived.push(Arrived::of_ours(Input::Due(shard, saga)));
        }
    }

    fn take_requests(&mut self, arrived: &mut Vec<Arrived>) {
        arrived.append(&mut self.early);
        while arrived.len() < BATCH_INPUTS
            && self.may_start()
            && let Some(request) = self.held.pop_front()
        {
            arrived.extend(self.request(request));
        }
        while arrived.len() < BATCH_INPUTS && self.held.len() < REQUEST_QUEUE {
            let Ok(request) = self.sources.requests.try_recv() else { return };
            arrived.extend(self.request(request));
        }
    }

    /// Starts wait while no shard is ours, or the broker has taken too little; verbs do not.
    fn may_start(&self) -> bool {
        self.shards.readable().next().is_some() && !self.publisher.is_full()
    }

    fn early_request(&mut self, request: Asked) {
        let arrived = self.request(request);
        self.early.extend(arrived);
    }

    fn request(&mut self, asked: Asked) -> Option<Arrived> {
        let at = asked.at;
        match asked.request {
            Request::Start(start, answer) => {
                // A client that has gone away before its turn did not start anything.
                if answer.is_closed() {
                    return None;
                }
                if !self.may_start() {
                    self.held.push_back(Asked { at, request: Request::Start(start, answer) });
                    return None;
                }
                let id = self.draw_id()?;
                Some(Arrived { input: Input::Start(id, start), at, asker: Some(Asker::Start(answer)) })
            }
            Request::Act(act, answer) => {
                Some(Arrived { input: Input::Act(act), at, asker: Some(Asker::Act(answer)) })
            }
            Request::Letter(act, answer) => {
                Some(Arrived { input: Input::Letter(act), at, asker: Some(Asker::Letter(answer)) })
            }
            Request::Look(saga, answer) => {
                let shard = saga.shard(self.shard_count);
                let wake = self.shards.wake(shard, saga);
                let offset = self.shards.offset(shard, saga);
                let ours = self.shards.get(shard).map(|_| Looked { wake, offset });
                // A client that has gone away does not listen any more.
                let _ = answer.send(ours);
                None
            }
            Request::Wait(saga, answer) => {
                // Not in memory: it has ended, or is not ours. Dropping the answer says so.
                if self.sagas.contains(saga) {
                    let waiters = self.waiters.entry(saga).or_default();
                    waiters.retain(|waiter| !waiter.is_closed());
                    waiters.push(answer);
                }
                None
            }
        }
    }

    /// Draws ids until one lands on the slice's shard.
    fn draw_id(&mut self) -> Option<SagaId> {
        let over = self.slice.until <= Instant::now() || self.slice.starts >= SLICE_STARTS;
        let shard = match self.slice.shard.filter(|&shard| !over && self.shards.is_readable(shard)) {
            Some(shard) => shard,
            None => {
                let mut ids: Vec<Shard> = self.shards.readable().collect();
                ids.sort_unstable();
                let after = self.slice.shard;
                let next = ids.iter().copied().find(|&id| after.is_none_or(|after| id > after));
                let shard = next.or_else(|| ids.first().copied())?;
                self.slice = Slice { shard: Some(shard), until: Instant::now() + SLICE, starts: 0 };
                shard
            }
        };
        self.slice.starts += 1;
        let now = self.environment.now();
        // Drawn once, then counted on: asking the system for chance is dearer than hashing an id.
        let (high, mut low) = self.environment.random();
        loop {
            let mut bytes = [0_u8; 10];
            bytes[..2].copy_from_slice(&high.to_be_bytes()[..2]);
            bytes[2..].copy_from_slice(&low.to_be_bytes());
            // The id's variant takes the place of that of the drawn one.
            bytes[2] = high.to_be_bytes()[2];
            let id = SagaId::new(now, bytes);
            if id.shard(self.shard_count) == shard {
                return Some(id);
            }
            low = low.wrapping_add(1);
        }
    }

    /// Loads the sagas that the inputs name and that are not in memory.
    pub(super) async fn load(&mut self, group: &[Arrived]) {
        self.learn(group).await;
        let mut wanted = HashSet::new();
        for arrived in group {
            let Some(id) = self.saga_of(&arrived.input) else { continue };
            let ours = self.shards.get(id.shard(self.shard_count)).is_some();
            if ours && !self.sagas.contains(id) {
                wanted.insert(id);
            }
        }
        let wanted: Vec<SagaId> = wanted.into_iter().collect();
        self.load_sagas(&wanted).await;
    }

    /// A reply may be written with a schema that another process published a moment ago: one look before it becomes a
    /// dead letter.
    async fn learn(&self, group: &[Arrived]) {
        let catalog = self.definitions.catalog();
        let unknown = |arrived: &Arrived| match &arrived.input {
            Input::Record(_, record) => {
                !record.value.as_deref().is_none_or(|value| catalog.knows_writer(value))
            }
            _ => false,
        };
        if group.iter().any(unknown)
            && let Err(error) = self.definitions.refresh(&*self.store).await
        {
            self.database_trouble(&error);
        }
    }

    /// Loads sagas; asks until the database answers.
    async fn load_sagas(&mut self, wanted: &[SagaId]) {
        if wanted.is_empty() {
            return;
        }
        loop {
            match self.try_load(wanted).await {
                Ok(()) => return,
                Err(error) => {
                    self.database_trouble(&error);
                    tokio::time::sleep(DATABASE_PAUSE).await;
                }
            }
        }
    }

    async fn try_load(&mut self, wanted: &[SagaId]) -> Result<(), StoreError> {
        for (id, saga) in self.store.sagas(wanted).await? {
            match self.definitions.find(&*self.store, &saga.definition).await? {
                Some(definition) => {
                    self.sagas.insert(id, Held { saga: saga.into(), definition });
                }
                None => {
                    tracing::error!(saga = %id, trace = traces::of_saga(&saga).trace(), definition = %saga.definition,
                    "the definition of a saga is not known; the saga is left alone")
                }
            }
        }
        Ok(())
    }

    /// Loads the letters that the inputs name, and their sagas.
    pub(super) async fn letters(
        &mut self,
        group: &[Arrived],
    ) -> Result<HashMap<DeadLetterId, StoredLetter>, StoreError> {
        let ids: Vec<DeadLetterId> = group
            .iter()
            .filter_map(|arrived| match &arrived.input {
                Input::Letter(act) => Some(act.letter),
                _ => None,
            })
            .collect();
        let letters = self.store.letters(&ids).await?;
        let sagas: Vec<SagaId> = letters
            .iter()
            .filter_map(|stored| stored.row.saga)
            .filter(|id| self.shards.get(id.shard(self.shard_count)).is_some() && !self.sagas.contains(*id))
            .collect();
        if !sagas.is_empty() {
            self.try_load(&sagas).await?;
        }
        Ok(letters.into_iter().map(|stored| (stored.row.id, stored)).collect())
    }

    /// Which keys of the starts have been used before. One look-up for the batch: a look-up a request would cost more
    /// than the start itself. A key that is used at this very moment elsewhere is found by the commit.
    pub(super) async fn taken_keys(&self, group: &[Arrived]) -> Result<HashSet<Vec<u8>>, StoreError> {
        let key = |arrived: &Arrived| match &arrived.input {
            Input::Start(_, start) => start.key.map(|key| key.key_hash),
            _ => None,
        };
        let hashes: Vec<[u8; 32]> = group.iter().filter_map(key).collect();
        self.store.taken_keys(&hashes).await
    }

    pub(super) fn count(&self, facts: &[Fact]) {
        for fact in facts {
            match fact {
                Fact::Started(definition) => self.metrics.saga_started(definition),
                Fact::Ended(definition, status, took) => self.metrics.saga_ended(definition, *status, *took),
                Fact::Stuck(definition, step) => self.metrics.stuck(definition, step),
                Fact::Retried(definition, step, direction) => {
                    self.metrics.retry(definition, step, *direction)
                }
                Fact::StepEnded(definition, step, outcome, took) => {
                    self.metrics.step_finished(definition, step, outcome, *took);
                }
                Fact::Ignored(why) => self.metrics.ignored(why),
                Fact::Letter(reason) => self.metrics.dead_letter(reason),
            }
        }
    }
}
