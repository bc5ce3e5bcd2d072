//! The load: clients that ask for bookings and wait for their ends, on one thread.
//!
//! In an open loop a booking is asked for when it is due, whether or not those before have been answered, and its latency
//! counts from when it was due: a stack that is too slow is not spared by clients that wait for it. In a closed loop so
//! many clients ask one booking after the other.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use futures::stream::{FuturesUnordered, StreamExt};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::LocalSet;
use uuid::Uuid;

use super::booking::{Booking, Bookings, Kind, said};
use super::client::Connection;
use super::timer::Timer;
use crate::random::Random;

/// Between two looks at what is due: at a high rate a few starts go out together, which costs less.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// The load goes on so long after the window, so that the last sagas of the window do not have an easier time.
const COOL_DOWN: Duration = Duration::from_millis(500);
/// In a closed loop so many starts a second are made beside it that wait for their acceptance only, to measure that.
const PROBES_PER_S: f64 = 20.0;
/// In an open loop one start of so many waits for its acceptance only.
const PROBE_OF: u64 = 20;
/// A client that was refused waits before it asks for the next booking.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// Latencies are kept from a microsecond to this, with three digits.
const LONGEST: Duration = Duration::from_secs(120);

/// How starts follow each other in an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    /// As independent clients arrive: gaps of an exponential distribution
    Poisson,
    /// At equal distances
    Even,
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pace {
    /// An open loop: so many starts a second.
    Rate(f64),
    /// A closed loop: so many clients, each with one booking at a time.
    Open(usize),
}

/// One run of the load.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) arrivals: Arrivals,
    /// The first start.
    pub(crate) begin: Instant,
    /// When measuring begins.
    pub(crate) measured: Instant,
    /// When measuring ends.
    pub(crate) end: Instant,
    pub(crate) seed: u64,
    /// At most so many connections to all orchestrators together.
    pub(crate) connections: usize,
    pub(crate) apis: Vec<SocketAddr>,
    /// A closed loop ends when so many have been asked for.
    pub(crate) limit: Option<u64>,
    /// Whether some starts wait for their acceptance only.
    pub(crate) probes: bool,
    /// What normal bookings took, for whoever looks on.
    pub(crate) recent: Recent,
}

/// Times from start to end, in microseconds, that are taken out while the load goes on.
pub(crate) type Recent = Arc<Mutex<Histogram<u64>>>;

/// Without a time.
pub(crate) fn recent() -> Result<Recent> {
    Ok(Arc::new(Mutex::new(histogram()?)))
}

/// Takes out what has come since the last time.
pub(crate) fn taken(recent: &Recent) -> Histogram<u64> {
    let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = recent.clone();
    recent.reset();
    taken
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, u64::try_from(LONGEST.as_micros())?, 3)?)
}

/// What the clients saw.
pub(crate) struct Tally {
    /// From when a start was due to the answer with its end, in microseconds: sagas of the window.
    pub(crate) all: Histogram<u64>,
    /// Those of normal bookings.
    pub(crate) normal: Histogram<u64>,
    /// From when a start was due to `201`, for those that wait for nothing else.
    pub(crate) accepted: Histogram<u64>,
    /// How long after it was due a start was sent.
    pub(crate) late: Histogram<u64>,
    /// Sent in the window.
    pub(crate) started: u64,
    /// Ends that the clients heard of, by second of the window.
    pub(crate) by_second: Vec<u64>,
    /// Ends that had not come when the wait for them was over.
    pub(crate) not_ended: u64,
    /// Requests that failed, by what was said.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Every booking that was accepted, before and after the window too.
    pub(crate) bookings: Vec<(Uuid, Kind)>,
}

impl Tally {
    fn new(window: Duration) -> Result<Self> {
        let seconds = usize::try_from(window.as_secs().max(1))?;
        Ok(Self {
            all: histogram()?,
            normal: histogram()?,
            accepted: histogram()?,
            late: histogram()?,
            started: 0,
            by_second: vec![0; seconds],
            not_ended: 0,
            failures: BTreeMap::new(),
            bookings: Vec::new(),
        })
    }
}

/// Runs a load to its end and comes back when every client has its answer; blocks.
pub(crate) fn run(plan: Plan, bookings: &mut Bookings) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The load has the bookings to itself while it runs, but tasks want to own what they use.
    let taken = std::mem::replace(bookings, Bookings::new(0, 1, super::booking::Mix::Normal, false));
    let load = Rc::new(Load::new(plan, taken)?);
    let result = runtime.block_on(LocalSet::new().run_until(load.clone().run()));
    let load = Rc::into_inner(load).context("a client is still at work")?;
    *bookings = load.bookings.into_inner();
    result.map(|()| load.tally.into_inner())
}

/// A booking and when it was to be asked for.
struct Job {
    due: Instant,
    booking: Booking,
}

struct Load {
    plan: Plan,
    bookings: RefCell<Bookings>,
    tally: RefCell<Tally>,
    /// By orchestrator: connections without a request.
    idle: Vec<RefCell<Vec<Connection>>>,
    /// By orchestrator: what is due while all connections are in use.
    waiting: Vec<RefCell<VecDeque<Job>>>,
    /// By orchestrator: connections that there are.
    connections: Vec<Cell<usize>>,
    issued: Cell<u64>,
}

impl Load {
    fn new(plan: Plan, bookings: Bookings) -> Result<Self> {
        ensure!(!plan.apis.is_empty(), "no orchestrator to ask");
        let tally = Tally::new(plan.end - plan.measured)?;
        let each = || plan.apis.iter();
        Ok(Self {
            bookings: RefCell::new(bookings),
            tally: RefCell::new(tally),
            idle: each().map(|_| RefCell::default()).collect(),
            waiting: each().map(|_| RefCell::default()).collect(),
            connections: each().map(|_| Cell::new(0)).collect(),
            issued: Cell::new(0),
            plan,
        })
    }

    async fn run(self: Rc<Self>) -> Result<()> {
        match self.plan.pace {
            Pace::Rate(rate) => {
                let probes = self.plan.probes;
                self.open_loop(rate, |number| !probes || number % PROBE_OF != 0).await
            }
            Pace::Open(clients) => {
                let closed: FuturesUnordered<_> = (0..clients).map(|number| self.client(number)).collect();
                if !self.plan.probes {
                    closed.collect::<()>().await;
                    return Ok(());
                }
                let probes = self.clone().open_loop(PROBES_PER_S, |_| false);
                tokio::join!(closed.collect::<()>(), probes).1
            }
        }
    }

    /// Starts what is due when it is due; comes back when everything is answered.
    async fn open_loop(self: Rc<Self>, rate: f64, waits: impl Fn(u64) -> bool) -> Result<()> {
        let timer = Timer::new()?;
        let mut gaps = Random::seeded(self.plan.seed ^ 0x6170_7061_7265);
        let (mut due, end) = (self.plan.begin, self.plan.end + COOL_DOWN);
        let mut tasks = FuturesUnordered::new();
        let mut number = 0;
        while due < end {
            let now = Instant::now();
            while due <= now && due < end {
                tasks.extend(self.clone().dispatch(due, waits(number)));
                number += 1;
                let gap = match self.plan.arrivals {
                    Arrivals::Even => 1.0,
                    Arrivals::Poisson => gaps.exponential(),
                };
                due += Duration::from_secs_f64(gap / rate);
            }
            let wake = timer.until(due.max(now + LOOK_EVERY));
            tokio::pin!(wake);
            loop {
                tokio::select! {
                    woken = &mut wake => break woken?,
                    Some(_) = tasks.next() => {}
                }
            }
        }
        while tasks.next().await.is_some() {}
        Ok(())
    }

    /// Sends a booking on its way, if there is a connection for it; else the next that is free takes it.
    fn dispatch(self: Rc<Self>, due: Instant, waits: bool) -> Option<tokio::task::JoinHandle<()>> {
        let booking = self.bookings.borrow_mut().next(waits);
        let number = self.issued.replace(self.issued.get() + 1);
        let job = Job { due, booking };
        let at = usize::try_from(number).unwrap_or(0) % self.plan.apis.len();
        let connection = self.idle[at].borrow_mut().pop();
        let limit = self.plan.connections / self.plan.apis.len();
        if connection.is_none() && self.connections[at].get() >= limit {
            self.waiting[at].borrow_mut().push_back(job);
            return None;
        }
        Some(tokio::task::spawn_local(self.work(at, connection, job)))
    }

    /// Sees to a booking, and to those that wait for a connection.
    async fn work(self: Rc<Self>, at: usize, mut connection: Option<Connection>, mut job: Job) {
        if connection.is_none() {
            self.connections[at].set(self.connections[at].get() + 1);
        }
        loop {
            self.ask(at, &mut connection, &job).await;
            let Some(next) = self.waiting[at].borrow_mut().pop_front() else { break };
            job = next;
        }
        match connection {
            Some(connection) => self.idle[at].borrow_mut().push(connection),
            None => self.connections[at].set(self.connections[at].get() - 1),
        }
    }

    /// One client of a closed loop.
    async fn client(&self, number: usize) {
        let (mut connection, at) = (None, number % self.plan.apis.len());
        while Instant::now() < self.plan.end && self.is_wanted() {
            let booking = self.bookings.borrow_mut().next(true);
            let due = Instant::now();
            if !self.ask(at, &mut connection, &Job { due, booking }).await {
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }

    /// Counts a start, if there is one left.
    fn is_wanted(&self) -> bool {
        let issued = self.issued.get();
        let wanted = self.plan.limit.is_none_or(|limit| issued < limit);
        self.issued.set(issued + u64::from(wanted));
        wanted
    }

    /// Asks for a booking and takes down what came of it; false if it was not accepted.
    async fn ask(&self, at: usize, connection: &mut Option<Connection>, job: &Job) -> bool {
        match self.exchange(at, connection, job).await {
            Ok(()) => true,
            Err(error) => {
                let said = error.root_cause().to_string();
                *self.tally.borrow_mut().failures.entry(said).or_default() += 1;
                false
            }
        }
    }

    async fn exchange(&self, at: usize, slot: &mut Option<Connection>, job: &Job) -> Result<()> {
        let mut connection = match slot.take() {
            Some(connection) if connection.is_open() => connection,
            _ => Connection::open(self.plan.apis[at]).await?,
        };
        job.booking.write(&mut connection.request);
        let measured = (self.plan.measured..self.plan.end).contains(&job.due);
        if measured {
            let mut tally = self.tally.borrow_mut();
            tally.started += 1;
            tally.late.saturating_record(micros(job.due.elapsed()));
        }
        let (status, body) = connection.exchange().await?;
        let answered = Instant::now();
        let said = match status {
            200 | 201 => Some(said(body)?),
            _ => None,
        };
        *slot = Some(connection);
        let said = said.with_context(|| format!("status {status}"))?;
        let mut tally = self.tally.borrow_mut();
        tally.bookings.push((said.saga, job.booking.kind));
        if job.booking.waits && said.ended {
            let second = answered.checked_duration_since(self.plan.measured).map(|since| since.as_secs());
            let second = second.and_then(|second| usize::try_from(second).ok());
            if let Some(count) = second.and_then(|second| tally.by_second.get_mut(second)) {
                *count += 1;
            }
        }
        if !measured {
            return Ok(());
        }
        let took = micros(answered - job.due);
        if !job.booking.waits {
            tally.accepted.saturating_record(took);
        } else {
            // One that has not ended in time is in the figures as one that took so long: it would flatter them to leave it out.
            tally.not_ended += u64::from(!said.ended);
            tally.all.saturating_record(took);
            if job.booking.kind == Kind::Normal {
                tally.normal.saturating_record(took);
                let mut recent = self.plan.recent.lock().unwrap_or_else(PoisonError::into_inner);
                recent.saturating_record(took);
            }
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
