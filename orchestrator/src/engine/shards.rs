//! The shards this process owns: their numbers, their waiting sagas, their timers.

mod offset;

use std::collections::{BTreeMap, BTreeSet};

use saga_defs::definition::Definition;
use saga_defs::ids::{SagaId, Shard};
use saga_defs::saga::{Saga, State};
use saga_defs::time::Timestamp;
use uuid::Uuid;

use self::offset::Offset;
use super::publisher::Origin;
use crate::store::commit::ShardAdvance;
use crate::store::shards::Claimed;

/// `open_from` of a shard in which nothing waits: no id is above it.
pub const NOTHING_OPEN: Uuid = Uuid::max();

/// One owned shard.
#[derive(Debug)]
pub struct Owned {
    /// Ours under this epoch.
    pub epoch: i64,
    /// The next sequence number of its journal.
    pub next_seq: i64,
    /// The next offset of its partition to read.
    pub inbox_offset: i64,
    /// Records of earlier rebalances have another number and are not looked at.
    pub generation: u64,
    /// The `published_seq` in the row.
    saved_published: i64,
    /// The `republish` in the row.
    saved_republish: bool,
    /// How many records of each journal row are not yet acknowledged.
    unpublished: BTreeMap<i64, u32>,
    /// How many commands that were published again for a new broker are not yet acknowledged.
    again: u32,
    /// The sagas that wait for a reply or a timer.
    open: BTreeMap<SagaId, Slot>,
    /// Nothing of its partition is read, so that none of its timers fires: an attempt may well have been answered.
    stopped: bool,
}

/// When a waiting saga wakes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The earliest of what may wake it.
    pub at: Timestamp,
    /// When its current attempt times out; `None` until the command's publication is confirmed, and outside attempts.
    pub timeout_at: Option<Timestamp>,
    /// The journal row whose command it awaits the publication of.
    pub awaits_seq: Option<i64>,
}

/// A [`Wake`] as it is kept: of a million waiting sagas each byte is a megabyte.
#[derive(Clone, Copy, Debug)]
struct Slot {
    at: Timestamp,
    until: Until,
}

/// What an attempt waits for: its publication, and afterwards its timeout. Never both.
#[derive(Clone, Copy, Debug)]
enum Until {
    Nothing,
    Published { seq: i64 },
    Timeout { at: Timestamp, offset: Offset },
}

impl From<Wake> for Slot {
    fn from(wake: Wake) -> Self {
        let until = match (wake.awaits_seq, wake.timeout_at) {
            (Some(seq), _) => Until::Published { seq },
            (None, Some(at)) => Until::Timeout { at, offset: Offset::UNKNOWN },
            (None, None) => Until::Nothing,
        };
        Self { at: wake.at, until }
    }
}

impl From<Slot> for Wake {
    fn from(slot: Slot) -> Self {
        let (awaits_seq, timeout_at) = match slot.until {
            Until::Nothing => (None, None),
            Until::Published { seq } => (Some(seq), None),
            Until::Timeout { at, .. } => (None, Some(at)),
        };
        Self { at: slot.at, timeout_at, awaits_seq }
    }
}

/// A timer, in the order of its time. Bytes instead of numbers, since those would be padded to 32.
type Timer = (SortedTime, Shard, SagaId);

/// A [`Timestamp`] whose bytes are in the order of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct SortedTime([u8; 8]);

impl SortedTime {
    const fn new(at: Timestamp) -> Self {
        Self((at.unix_millis() ^ i64::MIN).to_be_bytes())
    }

    const fn get(self) -> Timestamp {
        Timestamp::from_unix_millis(i64::from_be_bytes(self.0) ^ i64::MIN)
    }
}

impl Owned {
    /// A shard as it was claimed.
    pub const fn new(claimed: &Claimed, generation: u64) -> Self {
        Self {
            epoch: claimed.epoch,
            next_seq: claimed.next_seq,
            inbox_offset: claimed.inbox_offset,
            generation,
            saved_published: claimed.published_seq,
            saved_republish: claimed.republish,
            unpublished: BTreeMap::new(),
            again: 0,
            open: BTreeMap::new(),
            stopped: false,
        }
    }

    /// Everything up to here has been acknowledged by the broker.
    pub fn published_seq(&self) -> i64 {
        self.unpublished.first_key_value().map_or(self.next_seq - 1, |(seq, _)| seq - 1)
    }

    /// Whether the broker may lack commands that sagas wait for. What is above the watermark does not count: it is
    /// published again in any case.
    pub const fn republish(&self) -> bool {
        self.again > 0
    }

    /// Whether an idle shard's row is behind.
    pub fn must_save(&self) -> bool {
        (self.published_seq(), self.republish()) != (self.saved_published, self.saved_republish)
    }

    /// The row is as this commit has left it.
    pub const fn follow(&mut self, advance: &ShardAdvance) {
        self.next_seq = advance.next_seq;
        self.inbox_offset = advance.inbox_offset;
        self.saved_published = advance.published_seq;
        self.saved_republish = advance.republish;
    }

    fn begin_publish(&mut self, origin: Origin) {
        match origin {
            Origin::Row(_, seq) => *self.unpublished.entry(seq).or_default() += 1,
            Origin::Again(_) => self.again += 1,
        }
    }

    fn end_publish(&mut self, origin: Origin) {
        match origin {
            Origin::Row(_, seq) => {
                if let Some(count) = self.unpublished.get_mut(&seq) {
                    *count -= 1;
                    if *count == 0 {
                        self.unpublished.remove(&seq);
                    }
                }
            }
            Origin::Again(_) => self.again = self.again.saturating_sub(1),
        }
    }

    /// Whether a commit without an answer happened, as the shard's row tells; `None` if that commit moves none of the row's
    /// numbers, so that the row looks the same either way.
    pub fn tells(&self, advance: &ShardAdvance, row: &Claimed) -> Option<bool> {
        let moved = (advance.next_seq, advance.inbox_offset);
        (moved != (self.next_seq, self.inbox_offset)).then_some(moved == (row.next_seq, row.inbox_offset))
    }

    /// The smallest waiting saga's id once `closed` wait no more and `opened` do.
    pub fn open_from(&self, closed: impl Fn(SagaId) -> bool, opened: Option<SagaId>) -> Uuid {
        let still = self.open.keys().copied().find(|&id| !closed(id));
        match (still, opened) {
            (Some(a), Some(b)) => a.min(b).as_uuid(),
            (Some(one), None) | (None, Some(one)) => one.as_uuid(),
            (None, None) => NOTHING_OPEN,
        }
    }

    /// How many sagas wait.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The sagas that wait, in order.
    pub fn waiting(&self) -> impl Iterator<Item = SagaId> {
        self.open.keys().copied()
    }

    /// A saga that was found waiting, before the shard is taken in.
    pub fn found(&mut self, saga: SagaId, wake: Wake) {
        self.open.insert(saga, wake.into());
    }
}

/// All owned shards, and their timers in one order.
#[derive(Debug, Default)]
pub struct Shards {
    owned: BTreeMap<Shard, Owned>,
    by_time: BTreeSet<Timer>,
}

impl Shards {
    /// The shard, if it is ours.
    pub fn get(&self, shard: Shard) -> Option<&Owned> {
        self.owned.get(&shard)
    }

    /// The shard, if it is ours.
    pub fn get_mut(&mut self, shard: Shard) -> Option<&mut Owned> {
        self.owned.get_mut(&shard)
    }

    /// Takes a shard in, with the timers of what waits in it.
    pub fn insert(&mut self, shard: Shard, owned: Owned) {
        self.remove(shard);
        let timer = |(&saga, slot): (&SagaId, &Slot)| (SortedTime::new(slot.at), shard, saga);
        self.by_time.append(&mut owned.open.iter().map(timer).collect());
        self.owned.insert(shard, owned);
    }

    /// Lets a shard go, with all its timers.
    pub fn remove(&mut self, shard: Shard) {
        if self.owned.remove(&shard).is_some() {
            self.by_time.retain(|&(_, of, _)| of != shard);
        }
    }

    /// Nothing of the shard is read until it is taken in anew: it gets no new sagas, and its timers wait.
    pub fn stop(&mut self, shard: Shard) {
        if let Some(owned) = self.owned.get_mut(&shard) {
            owned.stopped = true;
            self.by_time.retain(|&(_, of, _)| of != shard);
        }
    }

    /// Whether the shard is ours and is read.
    pub fn is_readable(&self, shard: Shard) -> bool {
        self.owned.get(&shard).is_some_and(|owned| !owned.stopped)
    }

    /// Those of ours that are read.
    pub fn readable(&self) -> impl Iterator<Item = Shard> {
        self.owned.iter().filter(|(_, owned)| !owned.stopped).map(|(&shard, _)| shard)
    }

    /// A record is handed to the producer.
    pub fn begin_publish(&mut self, origin: Origin) {
        if let Some(owned) = self.owned.get_mut(&origin.shard()) {
            owned.begin_publish(origin);
        }
    }

    /// A record is acknowledged, or refused for good.
    pub fn end_publish(&mut self, origin: Origin) {
        if let Some(owned) = self.owned.get_mut(&origin.shard()) {
            owned.end_publish(origin);
        }
    }

    /// Which are ours, in order.
    pub fn ids(&self) -> Vec<Shard> {
        self.owned.keys().copied().collect()
    }

    /// All of ours.
    pub fn iter(&self) -> impl Iterator<Item = (Shard, &Owned)> {
        self.owned.iter().map(|(&shard, owned)| (shard, owned))
    }

    /// Sets when a saga wakes; `None`: it waits no more.
    pub fn set_wake(&mut self, shard: Shard, saga: SagaId, wake: Option<Wake>) {
        let Some(owned) = self.owned.get_mut(&shard) else { return };
        let before = match wake {
            Some(wake) => {
                if !owned.stopped {
                    self.by_time.insert((SortedTime::new(wake.at), shard, saga));
                }
                let mut slot = Slot::from(wake);
                // A saga that was woken too early still waits for the same attempt.
                if let Until::Timeout { at, offset } = &mut slot.until
                    && let Some(Slot { until: Until::Timeout { at: same, offset: known }, .. }) =
                        owned.open.get(&saga)
                    && at == same
                {
                    *offset = *known;
                }
                owned.open.insert(saga, slot)
            }
            None => owned.open.remove(&saga),
        };
        if let Some(before) = before
            && wake.is_none_or(|wake| wake.at != before.at)
        {
            self.by_time.remove(&(SortedTime::new(before.at), shard, saga));
        }
    }

    /// When a saga wakes.
    pub fn wake(&self, shard: Shard, saga: SagaId) -> Option<Wake> {
        self.owned.get(&shard).and_then(|owned| owned.open.get(&saga)).map(|&slot| slot.into())
    }

    /// Where the command lies that a saga waits for the reply to, if that is known.
    pub fn offset(&self, shard: Shard, saga: SagaId) -> Option<i64> {
        match self.owned.get(&shard)?.open.get(&saga)?.until {
            Until::Timeout { offset, .. } => offset.get(),
            Until::Nothing | Until::Published { .. } => None,
        }
    }

    /// The publication of this row's command at that offset is confirmed: its timeout runs from now.
    pub fn confirmed(&mut self, shard: Shard, saga: SagaId, seq: i64, timeout_at: Timestamp, offset: i64) {
        let Some(wake) = self.wake(shard, saga) else { return };
        if wake.awaits_seq == Some(seq) {
            let at = wake.at.min(timeout_at);
            let confirmed = Wake { at, timeout_at: Some(timeout_at), awaits_seq: None };
            self.set_wake(shard, saga, Some(confirmed));
            if let Some(slot) = self.owned.get_mut(&shard).and_then(|owned| owned.open.get_mut(&saga)) {
                slot.until = Until::Timeout { at: timeout_at, offset: Offset::new(offset) };
            }
        }
    }

    /// When the next saga wakes.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.by_time.first().map(|&(at, _, _)| at.get())
    }

    /// The sagas whose time has come, at most `limit`. They stay until their wake is set anew.
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<(Shard, SagaId)> {
        self.by_time
            .iter()
            .take_while(|&&(at, _, _)| at.get() <= now)
            .take(limit)
            .map(|&(_, shard, saga)| (shard, saga))
            .collect()
    }

    /// How many sagas wait.
    pub fn open_count(&self) -> usize {
        self.by_time.len()
    }

    /// When the oldest saga that waits was started, as its id says.
    pub fn oldest_open(&self) -> Option<Timestamp> {
        let oldest = self.owned.values().filter_map(|owned| owned.open.keys().next()).min()?;
        // The first 48 bits of an id are its time in milliseconds.
        let millis = i64::try_from(oldest.as_uuid().as_u128() >> 80).ok()?;
        Some(Timestamp::from_unix_millis(millis))
    }
}

/// A time that never comes.
const NEVER: Timestamp = Timestamp::from_unix_millis(i64::MAX);

/// When a saga wakes by itself after a move at `now`; `None` if it waits for nothing. `seq` is the journal row that
/// asked for its command, if that move did. A deadline that has passed counts no more: it had its chance.
pub fn wake_of(definition: &Definition, saga: &Saga, now: Timestamp, seq: Option<i64>) -> Option<Wake> {
    let deadline = deadline_of(definition, saga, now);
    match &saga.state {
        State::Completed | State::Compensated | State::Stuck { .. } => None,
        State::Backoff { until, .. } => {
            let at = deadline.map_or(*until, |deadline| deadline.min(*until));
            Some(Wake { at, timeout_at: None, awaits_seq: None })
        }
        State::Awaiting(at) => {
            let timeout = definition.step(at.step).map(|step| now.after(step.timeout));
            // Without a publication to wait for (a saga that was loaded), the timeout runs from here.
            let timeout_at = if seq.is_some() { None } else { timeout };
            let at = [deadline, timeout_at].into_iter().flatten().min().unwrap_or(NEVER);
            Some(Wake { at, timeout_at, awaits_seq: seq })
        }
    }
}

fn deadline_of(definition: &Definition, saga: &Saga, now: Timestamp) -> Option<Timestamp> {
    saga.deadline(definition).filter(|&at| at > now)
}

/// When a saga wakes whose participant is held: at its deadline only, if that does not stand still. Its attempt's time stands still.
pub fn parked_wake(definition: &Definition, saga: &Saga, now: Timestamp, before: Option<Wake>) -> Wake {
    let at = deadline_of(definition, saga, now).unwrap_or(NEVER);
    Wake { at, timeout_at: before.and_then(|wake| wake.timeout_at), awaits_seq: None }
}

/// What a saga row says under `wake_at`: for a command that is out, when it would time out if it were published at once.
pub fn shown_wake(definition: &Definition, saga: &Saga, now: Timestamp) -> Option<Timestamp> {
    wake_of(definition, saga, now, None).map(|wake| wake.at)
}

#[cfg(test)]
mod tests;
