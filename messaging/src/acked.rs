//! Publishing until it is acknowledged.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::producer::{Deliveries, DeliveryFailure, NotTaken, Placed, Producer, WarmUpError};
use crate::record::Record;
use crate::settings::{KafkaError, KafkaSettings};

/// The wait for room in a full queue.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(2);
/// The first wait before records of unknown fate are sent again; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait before records are sent again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Not everything was published. Records may have been written all the same, any of them.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A record is larger than the client or the broker allows. When the client sees it, nothing was sent.
    #[error("record {index} (topic {topic}) is too large: {text}")]
    TooLarge {
        /// Which of the records, from 0.
        index: usize,
        /// Where it should have gone.
        topic: Arc<str>,
        /// The limit, or the broker's words.
        text: String,
    },
    /// The broker will never take a record: no such topic or partition, or it is invalid.
    #[error("record {index} (topic {topic}) was refused: {text}")]
    Refused {
        /// Which of the records, from 0.
        index: usize,
        /// Where it should have gone.
        topic: Arc<str>,
        /// The broker's words.
        text: String,
    },
    /// We were told to stop before everything was acknowledged.
    #[error("stopped before everything was acknowledged")]
    Stopped,
    /// The producer failed for good and cannot be replaced.
    #[error("the producer cannot be replaced")]
    Producer(#[source] KafkaError),
}

/// A producer that is done with a record only when the broker has acknowledged it.
pub struct AckedProducer {
    producer: Arc<Producer>,
    rounds: Arc<Rounds>,
}

impl AckedProducer {
    /// Starts a producer. It collects records for up to `linger` before it sends them.
    ///
    /// # Errors
    /// A property is not allowed, or the thread cannot be started. A broker that is away is not an error here.
    pub fn start(settings: &KafkaSettings, linger: Duration) -> Result<Self, KafkaError> {
        let rounds = Arc::new(Rounds::default());
        let producer = Arc::new(Producer::start(settings, linger, rounds.clone())?);
        Ok(Self { producer, rounds })
    }

    /// As [`Producer::warm_up`].
    ///
    /// # Errors
    /// The broker does not answer within `limit`, or a topic does not exist.
    pub async fn warm_up(&self, topics: &[&str], limit: Duration) -> Result<(), WarmUpError> {
        self.producer.warm_up(topics, limit).await
    }

    /// How many records are on their way.
    pub fn in_flight(&self) -> usize {
        self.producer.in_flight()
    }

    /// Publishes all records and returns where they are, in the same order. Each is written at least once. Records of
    /// one call with the same topic and partition (or key) keep their order: when the fate of one is unknown, it and
    /// all later ones of its partition are sent again. Waits as long as the broker is away. Calls may overlap.
    ///
    /// # Errors
    /// A record that can never be written, or `stop` was cancelled first.
    pub async fn publish<R: Borrow<Record> + Sync>(
        &self,
        records: impl AsRef<[R]>,
        stop: &CancellationToken,
    ) -> Result<Vec<Placed>, PublishError> {
        let records: Vec<&Record> = records.as_ref().iter().map(Borrow::borrow).collect();
        check_sizes(&records)?;
        let mut placed: Vec<Option<Placed>> = vec![None; records.len()];
        let mut open: Vec<usize> = (0..records.len()).collect();
        let mut wait = FIRST_WAIT;
        while !open.is_empty() {
            let outcomes = self.round(&records, &open, stop).await?;
            let mut failed = Vec::new();
            for (&index, outcome) in open.iter().zip(outcomes) {
                match outcome {
                    Ok(place) => placed[index] = Some(place),
                    Err(failure) => failed.push((index, failure)),
                }
            }
            let fatal = failed.iter().any(|(_, failure)| matches!(failure, DeliveryFailure::Fatal(_)));
            open = to_send_again(&records, &open, failed)?;
            if open.is_empty() {
                break;
            }
            if fatal {
                self.rebuild().await?;
            }
            tokio::select! {
                () = stop.cancelled() => return Err(PublishError::Stopped),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
            }
        }
        Ok(placed.into_iter().flatten().collect())
    }

    /// Sends the records with these indexes once and waits for all outcomes.
    async fn round(
        &self,
        records: &[&Record],
        open: &[usize],
        stop: &CancellationToken,
    ) -> Result<Vec<Outcome>, PublishError> {
        let round = self.rounds.begin(open.len());
        for (slot, &index) in open.iter().enumerate() {
            let token = round.token(slot);
            loop {
                let failure = match self.producer.offer(records[index], token) {
                    Ok(()) => break,
                    Err(NotTaken::QueueFull) => {
                        tokio::select! {
                            () = stop.cancelled() => return Err(PublishError::Stopped),
                            () = tokio::time::sleep(FULL_QUEUE_WAIT) => continue,
                        }
                    }
                    Err(NotTaken::TooLarge) => {
                        DeliveryFailure::TooLarge("larger than the client allows".to_owned())
                    }
                    Err(NotTaken::Refused(text)) => DeliveryFailure::Refused(text),
                    Err(NotTaken::Fatal(text)) => DeliveryFailure::Fatal(text),
                };
                round.state.settle(slot, Err(failure));
                break;
            }
        }
        tokio::select! {
            () = stop.cancelled() => Err(PublishError::Stopped),
            () = round.state.finished() => Ok(round.state.take()),
        }
    }

    /// After a fatal error. In the background: the old producer takes its time to give up its records.
    async fn rebuild(&self) -> Result<(), PublishError> {
        let producer = self.producer.clone();
        match tokio::task::spawn_blocking(move || producer.rebuild()).await {
            Ok(rebuilt) => rebuilt.map_err(PublishError::Producer),
            Err(_) => Err(PublishError::Stopped),
        }
    }
}

/// Of what was sent: everything from the first failure of its lane on. An error if something cannot be sent at all.
fn to_send_again(
    records: &[&Record],
    sent: &[usize],
    failed: Vec<(usize, DeliveryFailure)>,
) -> Result<Vec<usize>, PublishError> {
    let mut lanes: HashMap<Lane<'_>, usize> = HashMap::new();
    for (index, failure) in failed {
        let topic = records[index].topic.clone();
        match failure {
            DeliveryFailure::TooLarge(text) => return Err(PublishError::TooLarge { index, topic, text }),
            DeliveryFailure::Refused(text) => return Err(PublishError::Refused { index, topic, text }),
            DeliveryFailure::Unknown(text) | DeliveryFailure::Fatal(text) => {
                let first = lanes.entry(lane(records[index])).or_insert(index);
                if *first == index {
                    tracing::warn!(topic = &*topic, text, "records are not acknowledged and are sent again");
                }
            }
        }
    }
    let again = |index: &usize| lanes.get(&lane(records[*index])).is_some_and(|first| first <= index);
    Ok(sent.iter().copied().filter(again).collect())
}

/// What must keep its order.
#[derive(PartialEq, Eq, Hash)]
enum Lane<'a> {
    Partition(&'a str, i32),
    Key(&'a str, Option<&'a [u8]>),
}

fn lane(record: &Record) -> Lane<'_> {
    match record.partition {
        Some(partition) => Lane::Partition(&record.topic, partition),
        None => Lane::Key(&record.topic, record.key.as_deref()),
    }
}

/// So that nothing is sent when something cannot be.
fn check_sizes(records: &[&Record]) -> Result<(), PublishError> {
    for (index, record) in records.iter().enumerate() {
        if let Err(text) = record.check_size() {
            return Err(PublishError::TooLarge { index, topic: record.topic.clone(), text });
        }
    }
    Ok(())
}

type Outcome = Result<Placed, DeliveryFailure>;

/// All rounds that are on their way, by number. A token is the round's number and the record's slot in it.
#[derive(Default)]
struct Rounds {
    open: Mutex<HashMap<u32, Arc<RoundState>>>,
    last: AtomicU32,
}

struct Round {
    number: u32,
    state: Arc<RoundState>,
    rounds: Arc<Rounds>,
}

struct RoundState {
    outcomes: Mutex<Vec<Option<Outcome>>>,
    left: AtomicUsize,
    done: Notify,
}

impl Rounds {
    fn begin(self: &Arc<Self>, records: usize) -> Round {
        let state = Arc::new(RoundState {
            outcomes: Mutex::new(vec![None; records]),
            left: AtomicUsize::new(records),
            done: Notify::new(),
        });
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        locked(&self.open).insert(number, state.clone());
        Round { number, state, rounds: self.clone() }
    }
}

impl Deliveries for Rounds {
    fn delivered(&self, token: u64, outcome: Outcome) {
        let number = (token >> 32) as u32;
        let slot = token as u32 as usize;
        // A round that was given up is not there any more.
        let round = locked(&self.open).get(&number).cloned();
        if let Some(round) = round {
            round.settle(slot, outcome);
        }
    }
}

impl Round {
    fn token(&self, slot: usize) -> u64 {
        (u64::from(self.number) << 32) | slot as u64
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        locked(&self.rounds.open).remove(&self.number);
    }
}

impl RoundState {
    fn settle(&self, slot: usize, outcome: Outcome) {
        let mut outcomes = locked(&self.outcomes);
        let Some(place @ None) = outcomes.get_mut(slot) else {
            return;
        };
        *place = Some(outcome);
        drop(outcomes);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    async fn finished(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
    }

    fn take(&self) -> Vec<Outcome> {
        locked(&self.outcomes).drain(..).flatten().collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
