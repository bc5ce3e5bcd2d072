//! The loop of a consumer's poll thread: poll, collect, hand out.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::mpsc;

use crate::bootstrap::Silence;
use crate::consumer::{
    Assignments, BATCH_BYTES, COMMIT_INTERVAL, ConsumerEvent, ConsumerLimits, Offsets, Polled, Progress,
    Quiet, StartAt, list_with,
};
use crate::events::{Event, EventQueue, Place};
use crate::record::Received;
use crate::settings::KafkaSettings;

/// How long a poll waits for the first record of a round. Bounds how long a stop takes.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// How long a poll waits while a batch is held back.
const HELD_POLL_WAIT: Duration = Duration::from_millis(5);
/// How long to wait for room in the queue before the partitions are paused. A pause throws away what was fetched ahead,
/// and after it librdkafka takes up to a second to fetch again; so it is not for a batch that takes a little longer. A
/// rebalance and commits of offsets are that much late.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a failure is told at most.
const FAILURE_INTERVAL: Duration = Duration::from_secs(1);
/// How long one question for offsets may take at an assignment; it is repeated until there is an answer.
const OFFSET_QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// The wait between two such questions.
const OFFSET_QUESTION_PAUSE: Duration = Duration::from_millis(100);

/// The poll thread's own state; nobody else touches it, so there are no locks.
pub(crate) struct Poller<'c> {
    client: &'c BaseConsumer<Quiet>,
    progress: &'c Progress,
    assignments: Arc<dyn Assignments>,
    limits: ConsumerLimits,
    out: mpsc::Sender<ConsumerEvent>,
    embedded: bool,
    /// Of the current assignment; 0 before the first.
    generation: u64,
    /// All partitions that the group gave us.
    owned: Vec<Place>,
    /// Those of them that are read.
    reading: Vec<Place>,
    /// Those whose offset does not exist.
    vanished: Vec<Place>,
    /// Collected in this round.
    batch: Vec<Received>,
    batch_bytes: usize,
    /// Events that found no room in the queue yet, oldest first: at most one batch and one event per partition.
    held: VecDeque<ConsumerEvent>,
    paused: bool,
    last_failure: Option<Instant>,
    last_commit: Instant,
    /// Of the group: it has given us no assignment, not even an empty one.
    silence: Silence,
    assigned: bool,
}

impl<'c> Poller<'c> {
    pub(crate) fn new(
        client: &'c BaseConsumer<Quiet>,
        progress: &'c Progress,
        assignments: Arc<dyn Assignments>,
        limits: ConsumerLimits,
        out: mpsc::Sender<ConsumerEvent>,
        settings: &KafkaSettings,
    ) -> Self {
        Self {
            client,
            progress,
            assignments,
            limits,
            out,
            embedded: settings.is_embedded(),
            generation: 0,
            owned: Vec::new(),
            reading: Vec::new(),
            vanished: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            held: VecDeque::new(),
            paused: false,
            last_failure: None,
            last_commit: Instant::now(),
            silence: Silence::new(&settings.bootstrap_servers),
            assigned: false,
        }
    }

    /// Runs until told to stop or until nobody listens any more.
    pub(crate) fn run(mut self) {
        let Some(mut events) = EventQueue::of(self.client) else {
            tracing::error!("a consumer without a group");
            return;
        };
        while !self.progress.stopping() && !self.out.is_closed() {
            self.progress.polled();
            if self.progress.rejoins() {
                self.rejoin();
            }
            self.round(&mut events);
            self.listen();
            self.close_batch();
            self.hand_out();
            if self.last_commit.elapsed() >= COMMIT_INTERVAL {
                self.commit();
            }
        }
        self.revoke();
    }

    /// Commits the offsets that have come in since the last time.
    fn commit(&mut self) {
        let mut offsets = self.progress.offsets();
        let offsets = &mut offsets.to_commit;
        if offsets.is_empty() {
            return;
        }
        self.last_commit = Instant::now();
        let committed = list_with(offsets.iter().map(|(place, next)| at(place, *next)))
            .and_then(|list| self.client.commit(&list, CommitMode::Async));
        offsets.clear();
        if let Err(error) = committed {
            tracing::debug!(%error, "offsets were not committed");
        }
    }

    /// Sees to it that a group that has gone silent is heard again.
    fn listen(&mut self) {
        if self.assigned {
            self.silence.broken();
        } else {
            // SAFETY: the client is alive for as long as we borrow it.
            unsafe { self.silence.goes_on(self.client.client().native_ptr()) };
        }
    }

    /// Leaves the group and joins it again.
    fn rejoin(&mut self) {
        let topics = self.client.subscription();
        let rejoined = topics.and_then(|topics| {
            self.client.unsubscribe();
            let topics: Vec<String> =
                topics.elements().iter().map(|element| element.topic().to_owned()).collect();
            self.client.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())
        });
        if let Err(error) = rejoined {
            self.failed(format!("cannot join the group anew: {error}"));
        }
    }

    /// Waits for something to happen, then takes what is there, up to a full batch.
    fn round(&mut self, events: &mut EventQueue<'_, Quiet>) {
        let mut wait = if self.held.is_empty() { POLL_WAIT } else { HELD_POLL_WAIT };
        while let Some(event) = events.poll(wait) {
            wait = Duration::ZERO;
            self.take(event);
            let full =
                self.batch.len() >= self.limits.batch_records.max(1) || self.batch_bytes >= BATCH_BYTES;
            if full || self.progress.stopping() {
                break;
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Record(record) => {
                if !has(&self.vanished, &record.topic, record.partition) {
                    self.batch_bytes += record.size_bytes();
                    self.batch.push(record);
                }
            }
            Event::Assigned(places) => self.assign(places),
            Event::Revoked => {
                self.assigned = false;
                self.give_up(self.client.assignment_lost());
                if let Err(error) = self.client.unassign() {
                    self.failed(format!("cannot let go of partitions: {error}"));
                }
            }
            // After a damaged batch librdkafka would go on with the next one, as if there had been nothing.
            Event::Error {
                code: RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::BadMessage,
                text,
                place: Some(place),
            } => self.vanished(place, text),
            Event::Error { text, place: Some((topic, partition)), .. } => {
                self.failed(format!("{topic} [{partition}]: {text}"));
            }
            Event::Error { text, place: None, .. } => self.failed(text),
            Event::Committed(RDKafkaErrorCode::NoError) | Event::Served => {}
            Event::Committed(code) => tracing::debug!(%code, "offsets were not committed"),
        }
    }

    /// A new generation: asks where to start and starts there.
    fn assign(&mut self, places: Vec<Place>) {
        // An eager assignment follows a revocation; should one be missing, the old generation ends here all the same.
        self.revoke();
        self.assigned = true;
        self.generation += 1;
        self.owned = places;
        self.progress.offsets().owned = self.owned.iter().cloned().collect();
        let starts = self.assignments.assigned(self.generation, &self.owned);
        let resolved = self.resolve(&starts);
        self.reading = resolved.iter().map(|(place, _)| place.clone()).collect();
        let assigned = list_with(resolved.iter().map(|(place, offset)| at(place, *offset)))
            .and_then(|list| self.client.assign(&list));
        if let Err(error) = assigned {
            self.failed(format!("cannot take the partitions of generation {}: {error}", self.generation));
        }
    }

    fn revoke(&mut self) {
        self.give_up(false);
    }

    /// Ends the current generation: what was collected under it is dropped, whoever owns the partitions next reads it.
    fn give_up(&mut self, lost: bool) {
        self.commit();
        *self.progress.offsets() = Offsets::default();
        self.batch.clear();
        self.batch_bytes = 0;
        self.held.clear();
        // A paused partition would stay paused when it comes back.
        self.pause(false);
        let vanished = std::mem::take(&mut self.vanished);
        self.pause_or_resume(&vanished, false);
        self.reading.clear();
        let owned = std::mem::take(&mut self.owned);
        if owned.is_empty() {
            return;
        }
        if lost {
            self.assignments.lost(self.generation, &owned);
        } else {
            self.assignments.revoked(self.generation, &owned);
        }
    }

    /// Turns the answers into offsets. Asks the broker until it answers, or until we have to stop.
    fn resolve(&mut self, starts: &[StartAt]) -> Vec<(Place, i64)> {
        let mut resolved = Vec::with_capacity(starts.len());
        let mut unknown = Vec::new();
        for (place, start) in self.owned.iter().zip(starts) {
            match start {
                StartAt::Offset(offset) => resolved.push((place.clone(), *offset)),
                StartAt::CommittedOrEarliest => unknown.push(place.clone()),
                StartAt::Skip => {}
            }
        }
        if unknown.is_empty() {
            return resolved;
        }
        while !self.progress.stopping() {
            match self.committed_or_earliest(&unknown) {
                Ok(known) => {
                    resolved.extend(known);
                    return resolved;
                }
                Err(error) => self.failed(format!("cannot ask for committed offsets: {error}")),
            }
            // Whoever waits for the broker is alive, and may have to go back to the configured addresses.
            self.progress.polled();
            // SAFETY: the client is alive for as long as we borrow it.
            unsafe { self.silence.goes_on(self.client.client().native_ptr()) };
            std::thread::sleep(OFFSET_QUESTION_PAUSE);
        }
        Vec::new()
    }

    fn committed_or_earliest(&self, places: &[Place]) -> Result<Vec<(Place, i64)>, ClientError> {
        let asked = list_with(places.iter().map(|place| at(place, 0)))?;
        let committed = self.client.committed_offsets(asked, OFFSET_QUESTION_TIMEOUT)?;
        let mut known = Vec::with_capacity(places.len());
        for (topic, partition) in places {
            let element = committed.find_partition(topic, *partition);
            if let Some(element) = &element {
                element.error()?;
            }
            let offset = match element.map(|e| e.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // Asking the embedded broker for its low watermark would wait half a second for a zero.
                _ if self.embedded => 0,
                _ => self.client.fetch_watermarks(topic, *partition, OFFSET_QUESTION_TIMEOUT)?.0,
            };
            known.push(((topic.clone(), *partition), offset));
        }
        Ok(known)
    }

    fn vanished(&mut self, (topic, partition): Place, text: String) {
        if !has(&self.reading, &topic, partition) {
            return;
        }
        // Not resumed after a pause either: it must not go on by itself somewhere else.
        self.reading.retain(|(t, p)| *p != partition || **t != *topic);
        // Nor is it fetched: a damaged batch would come again and again.
        self.pause_or_resume(&[(topic.clone(), partition)], true);
        self.vanished.push((topic.clone(), partition));
        self.close_batch();
        let generation = self.generation;
        self.held.push_back(ConsumerEvent::OffsetVanished { generation, topic, partition, text });
    }

    fn failed(&mut self, text: String) {
        tracing::debug!(%text, "consumer");
        let now = Instant::now();
        if self.last_failure.is_some_and(|last| now.duration_since(last) < FAILURE_INTERVAL) {
            return;
        }
        self.last_failure = Some(now);
        // If there is no room, nobody is short of news.
        let _ = self.out.try_send(ConsumerEvent::Failed(text));
    }

    fn close_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.batch_bytes = 0;
        let records = std::mem::take(&mut self.batch);
        let (generation, at) = (self.generation, Instant::now());
        self.held.push_back(ConsumerEvent::Records(Polled { generation, at, records }));
    }

    /// Moves what is held into the queue. Without room, waits a little, then pauses the partitions and keeps polling.
    fn hand_out(&mut self) {
        while let Some(event) = self.held.pop_front() {
            let patience = if self.paused { Duration::ZERO } else { PATIENCE };
            let Some(permit) = self.room(patience) else {
                self.held.push_front(event);
                self.pause(true);
                return;
            };
            permit.send(event);
        }
        self.pause(false);
    }

    /// A place in the queue, waiting for it at most this long and not when told to stop. This thread belongs to no
    /// runtime, so it parks itself.
    fn room(&self, patience: Duration) -> Option<mpsc::Permit<'_, ConsumerEvent>> {
        match self.out.try_reserve() {
            Ok(permit) => return Some(permit),
            Err(_) if patience.is_zero() => return None,
            Err(_) => {}
        }
        let deadline = Instant::now() + patience;
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut reserve = pin!(self.out.reserve());
        loop {
            if let Poll::Ready(permit) = reserve.as_mut().poll(&mut Context::from_waker(&waker)) {
                return permit.ok();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.progress.stopping() {
                return None;
            }
            std::thread::park_timeout(left.min(POLL_WAIT));
        }
    }

    fn pause(&mut self, pause: bool) {
        if self.paused == pause {
            return;
        }
        self.paused = pause;
        self.pause_or_resume(&self.reading.clone(), pause);
    }

    fn pause_or_resume(&mut self, places: &[Place], pause: bool) {
        if places.is_empty() {
            return;
        }
        let result = list_with(places.iter().map(|place| at(place, 0)))
            .and_then(|list| if pause { self.client.pause(&list) } else { self.client.resume(&list) });
        if let Err(error) = result {
            self.failed(format!("cannot pause or resume partitions: {error}"));
        }
    }
}

fn has(places: &[Place], topic: &str, partition: i32) -> bool {
    places.iter().any(|(t, p)| *p == partition && **t == *topic)
}

fn at((topic, partition): &Place, offset: i64) -> (&str, i32, i64) {
    (topic, *partition, offset)
}

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
