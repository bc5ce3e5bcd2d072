//! Where the lane and everybody else tell each other about participants: operators' orders one way, what is held the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use saga_defs::ids::SagaId;
use saga_defs::time::Timestamp;

use super::Participants;
use super::health::{Cause, Health, Hold, Limits, Seen};
use super::parked::Parked;

/// An operator's last word on a participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// On whom.
    pub participant: Arc<str>,
    /// Whether it is paused.
    pub paused: bool,
    /// Which word on it this is, from 1.
    pub revision: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// How a participant is; the furthest from answering last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is asked.
    Answering,
    /// It comes back, and is asked a little more each second.
    Ramping,
    /// It does not answer, and is sent a probe now and then.
    Held,
    /// An operator said that it is asked nothing.
    Paused,
}

impl State {
    const ALL: [Self; 4] = [Self::Answering, Self::Ramping, Self::Held, Self::Paused];

    /// Of one that is as its process observed.
    pub const fn of(health: &Health) -> Self {
        match health {
            Health::Answering { .. } => Self::Answering,
            Health::Held(Hold { cause: Cause::Operator, .. }) => Self::Paused,
            Health::Held(_) => Self::Held,
            Health::Ramping { .. } => Self::Ramping,
        }
    }

    /// As in the API and the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answering => "answering",
            Self::Ramping => "ramping",
            Self::Held => "held",
            Self::Paused => "paused",
        }
    }

    /// The state of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A participant, as one process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub participant: Arc<str>,
    /// How it is.
    pub state: State,
    /// Why it is held.
    pub cause: Option<Cause>,
    /// Since when it is held.
    pub since: Option<Timestamp>,
    /// How many sagas wait for it.
    pub waiting: u64,
    /// The oldest of them.
    pub oldest: Option<SagaId>,
    /// Its last good answer.
    pub last_answer: Option<Timestamp>,
    /// When one command is let through to it.
    pub next_probe: Option<Timestamp>,
}

impl Line {
    /// Of one that answers, as far as is known.
    pub fn answering(participant: Arc<str>) -> Self {
        Self::of(&participant, &Health::default(), &Parked::default())
    }

    /// Whether it is held, or comes back from that.
    pub const fn is_held(&self) -> bool {
        self.since.is_some()
    }

    fn of(participant: &Arc<str>, health: &Health, parked: &Parked) -> Self {
        let hold = health.hold();
        let probe = |hold: &Hold| {
            let probed = matches!(health, Health::Held(_)) && hold.cause != Cause::Operator;
            probed.then_some(hold.next_probe)
        };
        Self {
            participant: participant.clone(),
            state: State::of(health),
            cause: hold.map(|hold| hold.cause),
            since: hold.map(|hold| hold.since),
            waiting: parked.waiting(participant) as u64,
            oldest: parked.oldest(participant),
            last_answer: health.last_answer(),
            next_probe: hold.and_then(probe),
        }
    }
}

/// A hold that was written down, before this process began or by another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of whom.
    pub participant: Arc<str>,
    /// How it was.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
}

impl Known {
    /// How it is for one who goes on: held where it was held, else coming back. An operator's pause is no hold of its own: whether
    /// it goes on is in the orders, and where it does not those who waited come back by and by.
    pub fn health(&self, now: Timestamp, limits: &Limits) -> Health {
        let hold = Hold::known(self.since, self.cause, now, limits);
        match self.state {
            State::Held => Health::Held(hold),
            State::Answering | State::Ramping | State::Paused => Health::coming_back(hold, now),
        }
    }
}

/// What one process and its operators know of participants.
#[derive(Debug, Default)]
pub struct Board {
    limits: Limits,
    known: Vec<Known>,
    inner: Mutex<Inner>,
    /// What other processes have written down.
    elsewhere: Mutex<Vec<Known>>,
    /// Rises with every change of the orders.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    orders: BTreeMap<Arc<str>, Order>,
    lines: Vec<Line>,
}

/// How far the lane has read the orders.
#[derive(Debug, Default)]
pub struct Read {
    version: u64,
    revisions: BTreeMap<Arc<str>, i64>,
}

impl Board {
    /// With what is known at the start.
    pub fn new(limits: Limits, orders: Vec<Order>, known: Vec<Known>) -> Self {
        let orders = orders.into_iter().map(|order| (order.participant.clone(), order)).collect();
        let inner = Mutex::new(Inner { orders, lines: Vec::new() });
        Self { limits, known, inner, elsewhere: Mutex::default(), version: AtomicU64::new(0) }
    }

    /// How participants are before anything is observed: as was written down, and as operators said.
    pub fn begin(&self, now: Timestamp) -> (Participants, Read) {
        let held =
            self.known.iter().map(|known| (known.participant.clone(), known.health(now, &self.limits)));
        let mut participants = Participants::new(self.limits, held);
        let mut read = Read { version: self.version.load(Ordering::Acquire), ..Read::default() };
        for order in self.orders() {
            read.revisions.insert(order.participant.clone(), order.revision);
            if order.paused {
                participants.observe(&order.participant, order.at, Seen::Paused);
            }
        }
        (participants, read)
    }

    /// What operators have ordered since then.
    pub fn news(&self, read: &mut Read) -> Vec<(Arc<str>, Seen)> {
        let version = self.version.load(Ordering::Acquire);
        if version == read.version {
            return Vec::new();
        }
        read.version = version;
        let mut news = Vec::new();
        for order in self.orders() {
            let before = read.revisions.insert(order.participant.clone(), order.revision);
            if before.is_none_or(|before| before < order.revision) {
                let seen = if order.paused { Seen::Paused } else { Seen::Resumed };
                news.push((order.participant, seen));
            }
        }
        news
    }

    /// The orders as they are now; an older one of a participant does not replace a newer one.
    pub fn order(&self, orders: Vec<Order>) {
        let Ok(mut inner) = self.inner.lock() else { return };
        let mut changed = false;
        for order in orders {
            let newer = inner.orders.get(&order.participant).is_none_or(|old| old.revision < order.revision);
            if newer {
                inner.orders.insert(order.participant.clone(), order);
                changed = true;
            }
        }
        if changed {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// What other processes hold now, or held when they were last heard of.
    pub fn hear(&self, known: Vec<Known>) {
        if let Ok(mut elsewhere) = self.elsewhere.lock() {
            *elsewhere = known;
        }
    }

    /// What other processes hold now, or held when they were last heard of.
    pub fn elsewhere(&self) -> Vec<Known> {
        self.elsewhere.lock().map(|elsewhere| elsewhere.clone()).unwrap_or_default()
    }

    /// All orders.
    pub fn orders(&self) -> Vec<Order> {
        self.inner.lock().map(|inner| inner.orders.values().cloned().collect()).unwrap_or_default()
    }

    /// Shows how participants are in the lane's memory.
    pub fn show(&self, participants: &Participants, parked: &Parked) {
        let lines = participants.iter().map(|(name, health)| Line::of(name, health, parked)).collect();
        if let Ok(mut inner) = self.inner.lock() {
            inner.lines = lines;
        }
    }

    /// How participants are in the lane's memory; a participant that nothing was observed of is not there.
    pub fn lines(&self) -> Vec<Line> {
        self.inner.lock().map(|inner| inner.lines.clone()).unwrap_or_default()
    }
}
