//! Clients that ask for a booking when it is due, whatever became of those before, ask again under the same key when they
//! were not told that it was accepted, and remember everything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use saga_defs::ids::SagaId;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::field::lock;
use crate::api::{Api, BookingRequest, id};
use crate::load::End;
use crate::oracle::evidence::Start;
use crate::random::Random;
use crate::stack::Stack;

/// How long a client waits for an answer before it asks somebody else.
const ANSWER: Duration = Duration::from_secs(8);
/// How long a client goes on asking for one booking.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two requests for the same booking.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1_500));
/// One client of so many gives up when it is refused for the first time.
const GIVES_UP: u64 = 20;
/// One client of so many asks once more after it was told that its booking was accepted.
const ASKS_AGAIN: u64 = 10;
/// More bookings than this are not waited for at once: a client's machine has its limits too.
const MOST_AT_ONCE: usize = 1_000;
const RESOURCES: usize = 20;

/// The clients of a run.
pub(crate) struct Clients {
    rate: f64,
    seed: u64,
    stop: CancellationToken,
    gentle: AtomicBool,
    log: Mutex<Vec<Start>>,
    /// A resource of which there is nothing left.
    pub(crate) sold_out: Uuid,
}

impl Clients {
    /// So many starts a second, which follow from a seed.
    pub(crate) fn new(rate: u32, seed: u64) -> Self {
        let (stop, log) = (CancellationToken::new(), Mutex::default());
        let sold_out = Random::seeded(!seed).uuid();
        Self { rate: f64::from(rate), seed, stop, gentle: AtomicBool::new(false), log, sold_out }
    }

    /// From now on only bookings that go well. Of those before, some are at their last attempts by now; where they are the only
    /// ones left, a participant that cannot serve them looks as one that is away, and is asked ever less.
    pub(crate) fn become_gentle(&self) {
        self.gentle.store(true, Ordering::Relaxed);
    }

    /// No further bookings; those asked for are brought to an answer.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// What the clients remember so far.
    pub(crate) fn log(&self) -> Vec<Start> {
        lock(&self.log).clone()
    }

    /// How many starts were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        lock(&self.log).iter().filter(|start| !start.accepted.is_empty()).count()
    }

    /// Books until it is stopped.
    pub(crate) async fn run(&self, stack: &Stack) {
        let mut random = Random::seeded(self.seed);
        let resources: Vec<Uuid> = (0..RESOURCES).map(|_| random.uuid()).collect();
        let mut under_way = FuturesUnordered::new();
        let mut due = Instant::now();
        let mut number = 0;
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep_until(due) => {
                    due += Duration::from_secs_f64(random.exponential() / self.rate);
                    if under_way.len() < MOST_AT_ONCE {
                        // A quarter of all want the same.
                        let wanted = if random.once_in(4) { &resources[..1] } else { &resources[..] };
                        let resource = random.pick(wanted).copied().unwrap_or_default();
                        let (own, user) = (Random::seeded(random.next()), random.uuid());
                        under_way.push(self.book(stack, own, self.wish(number, user, resource), None));
                        number += 1;
                    }
                }
                Some(()) = under_way.next() => {}
            }
        }
        while under_way.next().await.is_some() {}
    }

    /// So many bookings more, all at once, that are asked for here first.
    pub(crate) async fn burst(&self, stack: &Stack, random: &mut Random, count: u64, first: &Api) {
        let resource = random.uuid();
        let bookings = (0..count).map(|number| {
            let (own, user) = (Random::seeded(random.next()), random.uuid());
            self.book(stack, own, self.wish(number, user, resource), Some(first.clone()))
        });
        bookings.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    /// The booking of that number, and how it has to end.
    fn wish(&self, number: u64, user: Uuid, resource: Uuid) -> (BookingRequest, Option<End>) {
        let kind = if self.gentle.load(Ordering::Relaxed) { 0 } else { number % 40 };
        let (forced, end) = match kind {
            3 | 13 | 23 | 33 => (Some("declined"), Some(End::Compensated)),
            7 | 17 | 27 => (Some("unavailable"), Some(End::Completed)),
            19 => (None, Some(End::Compensated)),
            29 => (Some("down"), Some(End::Compensated)),
            // In doubt in the end, unless a worker that dies lets its reply be found.
            37 => (Some("no_reply"), None),
            _ => (None, Some(End::Completed)),
        };
        let resource = if kind == 19 { self.sold_out } else { resource };
        (BookingRequest { user, resource, forced, key: Some(user.to_string()), wait_s: None }, end)
    }

    /// Sees one booking to its acceptance, asking `first` before anybody else.
    async fn book(
        &self,
        stack: &Stack,
        mut random: Random,
        (booking, end): (BookingRequest, Option<End>),
        mut first: Option<Api>,
    ) {
        let user = Some(booking.user);
        let at = {
            let mut log = lock(&self.log);
            log.push(Start { user, end, ..Start::default() });
            log.len() - 1
        };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            lock(&self.log)[at].requests += 1;
            let api = first.take().or_else(|| random.pick(&stack.apis()).cloned());
            let answer = match api {
                Some(api) => ask(&api, &booking).await,
                None => Answer::None,
            };
            match answer {
                Answer::Accepted(saga) => {
                    let first = {
                        let accepted = &mut lock(&self.log)[at].accepted;
                        accepted.push(saga);
                        accepted.len() == 1
                    };
                    if !(first && random.once_in(ASKS_AGAIN)) {
                        return;
                    }
                }
                Answer::Odd(text) => {
                    lock(&self.log)[at].odd.push(text);
                    return;
                }
                Answer::None => {
                    let accepted = !lock(&self.log)[at].accepted.is_empty();
                    if accepted || random.once_in(GIVES_UP) {
                        return;
                    }
                    sleep(random.between(PAUSE.0, PAUSE.1)).await;
                }
            }
        }
    }
}

enum Answer {
    Accepted(SagaId),
    /// There was none, or one that says: later.
    None,
    /// One that no client expects.
    Odd(String),
}

async fn ask(api: &Api, booking: &BookingRequest) -> Answer {
    let Ok(Ok(answer)) = timeout(ANSWER, api.book(booking)).await else { return Answer::None };
    let saga = answer.json().and_then(|body| id(&body, "bookingId"));
    match (answer.status, saga) {
        (200 | 201, Ok(saga)) => Answer::Accepted(saga),
        _ if !answer.header("retry-after").is_empty() => Answer::None,
        (status, _) => Answer::Odd(format!("{status}: {}", answer.text)),
    }
}
