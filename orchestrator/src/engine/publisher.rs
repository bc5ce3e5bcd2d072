//! Hands committed records to the producer and keeps each until it is acknowledged.
//!
//! A delivery whose outcome is not known is sent again (same bytes, same command id), and nothing later of the same key is
//! sent before it ([`Lines`]); a record too large for the broker is given back, since no repetition helps; a producer that
//! has failed for good is rebuilt and everything outstanding of it sent again.

mod lines;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use messaging::{DeliveryFailure, KafkaError, KafkaSettings, Placed, Producer, Record, SendError};
use saga_defs::ids::{SagaId, Shard};
use saga_defs::saga::Try;

use self::lines::Lines;
use super::bus::Outlet;
use super::deliveries::DeliveryQueue;
use super::records::{CODE_REFUSED, CODE_TOO_LARGE};
use super::{EVENTS, INBOX, MAX_UNPUBLISHED, MAX_UNPUBLISHED_BYTES};

/// How long commands wait for others before they are sent: not at all, they come in batches, and sagas wait for them.
pub const LINGER: Duration = Duration::ZERO;
/// How long announcements are gathered. Nobody waits for them, and each request to the broker costs about as much as ten
/// records in it.
pub const ANNOUNCEMENT_LINGER: Duration = Duration::from_millis(50);

/// A committed record on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What to send.
    pub record: Record,
    /// What its acknowledgement is counted for; `None` if nothing rests on it.
    pub origin: Option<Origin>,
    /// The attempt whose timeout runs from the confirmed publication.
    pub attempt: Option<SentAttempt>,
}

/// What the acknowledgement of a record is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The journal row that asked for it: the watermark passes that row when the broker has all its records.
    Row(Shard, i64),
    /// A command below the watermark that is published again for a new broker: `republish` is cleared when the broker
    /// has all of the shard's.
    Again(Shard),
}

impl Origin {
    /// Whose row it is about.
    pub const fn shard(self) -> Shard {
        match self {
            Self::Row(shard, _) | Self::Again(shard) => shard,
        }
    }
}

/// The attempt that a record carries.
#[derive(Clone, Copy, Debug)]
pub struct SentAttempt {
    /// Whose.
    pub saga: SagaId,
    /// The journal row that asked for it.
    pub row: (Shard, i64),
    /// Which.
    pub at: Try,
    /// Its time limit.
    pub timeout: Duration,
    /// Whether the same bytes may have been written before: then a refusal does not say that nothing happened.
    pub doubt: bool,
}

/// What became of a record.
#[derive(Debug)]
pub enum Settled {
    /// The broker has it, there.
    Acknowledged(Outgoing, Placed),
    /// It was not written and never will be: why, as a stable code and in words.
    Refused(Outgoing, &'static str, String),
}

/// Which producer a record goes through.
#[derive(Clone, Copy)]
enum Kind {
    /// Commands, letters and copies: somebody waits for them.
    Command,
    /// A saga's start or end.
    Announcement,
}

impl Kind {
    fn of(record: &Record) -> Self {
        if &*record.topic == EVENTS { Self::Announcement } else { Self::Command }
    }
}

/// A producer and what is yet to be handed to it.
struct Channel {
    outlet: Box<dyn Outlet>,
    /// Those whose turn it is, in order.
    waiting: VecDeque<u64>,
    /// Those that come after another.
    lines: Lines,
}

impl Channel {
    fn over(outlet: Box<dyn Outlet>) -> Self {
        Self { outlet, waiting: VecDeque::new(), lines: Lines::default() }
    }
}

/// The records in flight.
pub struct Publisher {
    commands: Channel,
    /// For [`EVENTS`]: a producer of its own, so that what waits in one holds up nothing in the other.
    announcements: Channel,
    queue: Arc<DeliveryQueue>,
    in_flight: HashMap<u64, Outgoing>,
    /// How long they are together.
    bytes: usize,
    next_token: u64,
    /// The last delivery failure, until a delivery succeeds.
    trouble: Option<String>,
}

impl Publisher {
    /// With producers of its own, made ready so that the first delivery is fast, see [`Producer::warm_up`].
    ///
    /// # Errors
    /// When a setting is refused.
    pub async fn start(settings: &KafkaSettings, warm_up: Duration) -> Result<Self, KafkaError> {
        let queue = Arc::new(DeliveryQueue::default());
        let producer = Producer::start(settings, LINGER, queue.clone())?;
        let announcer = Producer::start(settings, ANNOUNCEMENT_LINGER, queue.clone())?;
        // The first delivery of a new idempotent producer takes half a second; have that behind us.
        let commands = producer.warm_up(&[INBOX], warm_up);
        if let Err(error) = tokio::try_join!(commands, announcer.warm_up(&[EVENTS], warm_up)) {
            tracing::warn!(%error, "the producer is not warm yet; the first commands may be slow");
        }
        Ok(Self::over(Box::new(producer), Box::new(announcer), queue))
    }

    /// Over these producers, which report to `queue`.
    pub fn over(producer: Box<dyn Outlet>, announcer: Box<dyn Outlet>, queue: Arc<DeliveryQueue>) -> Self {
        Self {
            commands: Channel::over(producer),
            announcements: Channel::over(announcer),
            queue,
            in_flight: HashMap::new(),
            bytes: 0,
            next_token: 0,
            trouble: None,
        }
    }

    /// Where reports arrive.
    pub fn reports(&self) -> Arc<DeliveryQueue> {
        self.queue.clone()
    }

    /// How many records are not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether so much is not acknowledged that nothing may be begun that would add to it.
    pub fn is_full(&self) -> bool {
        self.in_flight.len() >= MAX_UNPUBLISHED || self.bytes >= MAX_UNPUBLISHED_BYTES
    }

    /// Whether records wait here: the producer's queue is full, or a command comes after one that is not acknowledged.
    /// Announcements that come after others do not count, as nobody waits for them.
    pub fn is_blocked(&self) -> bool {
        !self.commands.waiting.is_empty()
            || !self.announcements.waiting.is_empty()
            || self.commands.lines.behind() > 0
    }

    /// The last delivery failure, until a delivery succeeds.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Sends a record: now, or as soon as there is room and everything earlier of its key is acknowledged.
    pub fn send(&mut self, outgoing: Outgoing) {
        let token = self.next_token;
        self.next_token += 1;
        let record = &outgoing.record;
        let kind = Kind::of(record);
        let goes = self.channel(kind).lines.join(record, token);
        self.bytes += outgoing.record.length();
        self.in_flight.insert(token, outgoing);
        if goes {
            self.channel(kind).waiting.push_back(token);
            self.push();
        }
    }

    /// Hands over what waits, in order, until the producer's queue is full; announcements apart.
    pub fn push(&mut self) {
        for kind in [Kind::Command, Kind::Announcement] {
            while let Some(&token) = self.channel(kind).waiting.front() {
                if !self.hand_over(kind, token) {
                    break;
                }
                self.channel(kind).waiting.pop_front();
            }
        }
    }

    /// Whether the record is off our hands: taken, or given back, or forgotten meanwhile.
    fn hand_over(&mut self, kind: Kind, token: u64) -> bool {
        let Some(outgoing) = self.in_flight.get(&token) else { return true };
        let producer = match kind {
            Kind::Command => &self.commands.outlet,
            Kind::Announcement => &self.announcements.outlet,
        };
        match producer.send(&outgoing.record, token) {
            Ok(()) => return true,
            Err(SendError::QueueFull) => return false,
            Err(SendError::Other(text)) if producer.is_fatal() => {
                self.trouble = Some(text);
                self.rebuild();
                return false;
            }
            Err(SendError::TooLarge) => {
                self.give_back(token, DeliveryFailure::TooLarge("larger than the producer takes".to_owned()));
            }
            // No such partition, or the like: nothing behind it may wait for it.
            Err(SendError::Other(text)) => self.give_back(token, DeliveryFailure::Refused(text)),
        }
        true
    }

    /// A record that was not even taken is reported like one that the broker refuses.
    fn give_back(&self, token: u64, why: DeliveryFailure) {
        messaging::Deliveries::delivered(&*self.queue, token, Err(why));
    }

    const fn channel(&mut self, kind: Kind) -> &mut Channel {
        match kind {
            Kind::Command => &mut self.commands,
            Kind::Announcement => &mut self.announcements,
        }
    }

    /// Takes a record that is acknowledged or refused: the next of its key may go.
    fn take(&mut self, token: u64) -> Option<Outgoing> {
        let outgoing = self.in_flight.remove(&token)?;
        self.bytes -= outgoing.record.length();
        let channel = self.channel(Kind::of(&outgoing.record));
        let next = channel.lines.leave(&outgoing.record);
        channel.waiting.extend(next);
        Some(outgoing)
    }

    /// Takes the reports that have arrived.
    pub fn settle(&mut self) -> Vec<Settled> {
        let mut settled = Vec::new();
        for (token, outcome) in self.queue.take() {
            match outcome {
                Ok(placed) => {
                    self.trouble = None;
                    let known = self.take(token);
                    settled.extend(known.map(|outgoing| Settled::Acknowledged(outgoing, placed)));
                }
                Err(DeliveryFailure::TooLarge(text)) => {
                    let refused = self.take(token);
                    settled.extend(refused.map(|outgoing| Settled::Refused(outgoing, CODE_TOO_LARGE, text)));
                }
                Err(DeliveryFailure::Refused(text)) => {
                    let refused = self.take(token);
                    settled.extend(refused.map(|outgoing| Settled::Refused(outgoing, CODE_REFUSED, text)));
                }
                Err(DeliveryFailure::Unknown(text) | DeliveryFailure::Fatal(text)) => {
                    self.trouble = Some(text);
                    if let Some(outgoing) = self.in_flight.get_mut(&token) {
                        outgoing.attempt.iter_mut().for_each(|sent| sent.doubt = true);
                        let kind = Kind::of(&outgoing.record);
                        self.channel(kind).waiting.push_back(token);
                    }
                }
            }
        }
        if self.commands.outlet.is_fatal() || self.announcements.outlet.is_fatal() {
            self.rebuild();
        }
        self.push();
        settled
    }

    /// Forgets what a shard that is no longer ours wanted to publish.
    pub fn forget(&mut self, shard: Shard) {
        self.in_flight.retain(|_, outgoing| outgoing.origin.is_none_or(|origin| origin.shard() != shard));
        self.bytes = self.in_flight.values().map(|outgoing| outgoing.record.length()).sum();
        for channel in [&mut self.commands, &mut self.announcements] {
            channel.waiting.extend(channel.lines.retain(|token| self.in_flight.contains_key(&token)));
        }
    }

    fn rebuild(&mut self) {
        tracing::warn!(
            "a producer has failed for good; it is rebuilt and everything outstanding of it sent again"
        );
        // The one that works stays as it is.
        let rebuilt = self.commands.outlet.rebuild().and_then(|()| self.announcements.outlet.rebuild());
        if let Err(error) = rebuilt {
            self.trouble = Some(error.to_string());
        }
    }
}
