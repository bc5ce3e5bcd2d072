//! Retention: what has come to its age leaves. Which rows those are stands in [`crate::store::retention`]; this is the order
//! and the pace.

use std::sync::Arc;
use std::time::Duration;

use saga_defs::time::Timestamp;
use secrecy::SecretString;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::clock;
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::retention::{Day, DayDropped, Retention, Step, age_limit, needed_from};

/// How often it is looked whether something has come to its age.
const EVERY: Duration = Duration::from_secs(3_600);
/// Between two attempts to drop a day whose lock was not to be had.
const DROP_PAUSE: Duration = Duration::from_secs(1);
/// So often a day is tried in one pass; the next pass goes on.
const DROP_ATTEMPTS: u32 = 20;
/// Between two batches of removed rows, so that they never take more than a part of the disk's time.
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// What one pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Days of the journal.
    pub days: u64,
    /// Ended sagas.
    pub sagas: u64,
    /// Idempotency keys.
    pub keys: u64,
    /// Closed dead letters.
    pub letters: u64,
    /// Actions over many, and each of what they chose.
    pub actions: u64,
}

/// Removes what has come to its age.
pub struct Retainer {
    store: Retention,
    days: u32,
    metrics: Arc<Metrics>,
    /// Rows before this have been removed.
    removed_before: Option<OffsetDateTime>,
}

impl Retainer {
    /// Keeps everything for `days`, counted from a saga's end.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(url: &SecretString, days: u32, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        Ok(Self { store: Retention::connect(url).await?, days, metrics, removed_before: None })
    }

    /// Looks now and then, until told to stop. What goes wrong is logged and tried again the next time.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.pass(clock::now()) => passed,
            };
            match passed {
                Ok(removed) if removed == Removed::default() => {}
                Ok(Removed { days, sagas, keys, letters, actions }) => tracing::info!(
                    days,
                    sagas,
                    keys,
                    letters,
                    actions,
                    age_days = self.days,
                    "removed what has come to its age"
                ),
                Err(error) => tracing::warn!(%error, "what has come to its age was not all removed"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Removes what has come to its age at `now`.
    ///
    /// # Errors
    /// When the database does not answer; what is removed by then stays removed.
    pub async fn pass(&mut self, now: Timestamp) -> Result<Removed, StoreError> {
        self.metrics.unpartitioned(self.store.unpartitioned().await?);
        let cutoff = age_limit(now, self.days);
        let mut removed = Removed { days: self.drop_days(cutoff).await?, ..Removed::default() };
        let mut before = cutoff;
        if let Some(oldest) = self.store.days().await?.first() {
            let age = now.to_utc() - oldest.from;
            self.metrics.journal_age(age.max(time::Duration::ZERO).unsigned_abs());
            before = before.min(oldest.from);
        }
        if self.removed_before.is_none_or(|done| done < before)
            && self.remove_rows(before, &mut removed).await?
        {
            self.removed_before = Some(before);
        }
        self.metrics.removed(&removed);
        Ok(removed)
    }

    /// Drops days from the oldest on, up to the first that something still needs; never the newest.
    async fn drop_days(&self, cutoff: OffsetDateTime) -> Result<u64, StoreError> {
        let mut days: Vec<Day> = self.store.days().await?;
        days.pop();
        days.retain(|day| day.to <= cutoff);
        let Some(last) = days.last() else { return Ok(0) };
        let kept = self.store.oldest_kept(cutoff, last.to).await?;
        let needed = kept.map(needed_from);
        let mut dropped = 0;
        for day in &days {
            if needed.is_some_and(|needed| needed < day.to) {
                let saga = kept.map(|saga| saga.to_string());
                tracing::warn!(
                    saga,
                    day = day.partition,
                    "a saga that is open, or has an open dead letter, keeps the journal from this day on"
                );
                break;
            }
            if !self.drop_day(day).await? {
                break;
            }
            dropped += 1;
        }
        Ok(dropped)
    }

    async fn drop_day(&self, day: &Day) -> Result<bool, StoreError> {
        for _ in 0..DROP_ATTEMPTS {
            match self.store.drop_day(day).await? {
                DayDropped::Yes => return Ok(true),
                DayDropped::Unpublished => {
                    tracing::warn!(
                        day = day.partition,
                        "records of this day are not published yet; it stays"
                    );
                    return Ok(false);
                }
                DayDropped::Busy => tokio::time::sleep(DROP_PAUSE).await,
            }
        }
        tracing::info!(day = day.partition, "somebody reads the journal; this day leaves later");
        Ok(false)
    }

    /// Keys first, then their sagas, then letters, for which no saga must be there any more, then what was asked for
    /// in numbers. `false`: another process is at it.
    async fn remove_rows(&self, before: OffsetDateTime, removed: &mut Removed) -> Result<bool, StoreError> {
        let mut page = 0;
        loop {
            match self.store.remove_keys(before, page).await? {
                Step::More(count, next) => (removed.keys, page) = (removed.keys + count, next),
                Step::End(count) => break removed.keys += count,
                Step::Busy => return Ok(false),
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        let mut after = Uuid::nil();
        loop {
            match self.store.remove_sagas(before, after).await? {
                Step::More(count, last) => (removed.sagas, after) = (removed.sagas + count, last),
                Step::End(count) => break removed.sagas += count,
                Step::Busy => return Ok(false),
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        let mut after = Uuid::nil();
        loop {
            match self.store.remove_letters(before, after).await? {
                Step::More(count, last) => (removed.letters, after) = (removed.letters + count, last),
                Step::End(count) => break removed.letters += count,
                Step::Busy => return Ok(false),
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        loop {
            match self.store.remove_actions(before).await? {
                Step::More(count, ()) => removed.actions += count,
                Step::End(count) => break removed.actions += count,
                Step::Busy => return Ok(false),
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        Ok(true)
    }
}
