//! Many bookings at once, over HTTP as everybody would.
//!
//! What is asked for follows from the burst's id and the booking's number alone, and each booking has an idempotency key.
//! The id is written down before the first booking: when the stack is killed in the middle, the next start asks for the
//! same bookings again, gets the same answers for those that were accepted, and no booking is made twice.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::StatusCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use saga_defs::saga::Status;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::client::{Answer, Client};
use crate::databases::Databases;
use crate::terminal::{Terminal, counted, grouped};

/// Connections that start bookings.
const CONNECTIONS: usize = 256;
/// No more starts while so many sagas are open: the load of a busy shop, not a queue of minutes.
const OPEN_SAGAS: u64 = 2_000;
/// How often the orchestrator is asked how many sagas are open.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the database is asked, which has the last word.
const COUNT_EVERY: Duration = Duration::from_millis(250);
/// How often progress is told where no bar can be drawn.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// A start that is refused for want of room, or not answered, is tried again this long.
const START_PATIENCE: Duration = Duration::from_secs(120);
const START_PAUSE: Duration = Duration::from_millis(200);
/// When no saga has ended for so long, none will. Longer than any back-off of the booking saga.
const STALLED: Duration = Duration::from_secs(150);
/// Bookings per resource, well below the capacity that a resource has.
const BOOKINGS_PER_RESOURCE: u32 = 20_000;
/// At least so many resources: one alone would be one row for all to change.
const MIN_RESOURCES: u32 = 16;

/// What a booking of the burst is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Declined,
    /// The gateway fails twice, then works.
    Unavailable,
}

impl Kind {
    /// Of every ten bookings eight are normal, one is declined, one meets an unavailable gateway.
    pub(crate) const fn of(number: u32) -> Self {
        match number % 10 {
            8 => Self::Declined,
            9 => Self::Unavailable,
            _ => Self::Normal,
        }
    }

    const fn forced(self) -> Option<&'static str> {
        match self {
            Self::Normal => None,
            Self::Declined => Some("declined"),
            Self::Unavailable => Some("unavailable"),
        }
    }

    /// How it has to end.
    pub(crate) const fn expected(self) -> Status {
        match self {
            Self::Normal | Self::Unavailable => Status::Completed,
            Self::Declined => Status::Compensated,
        }
    }
}

/// Which bookings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Burst {
    id: Uuid,
    bookings: u32,
}

impl Burst {
    /// A new burst, or the one that an earlier start of the stack did not come to the end of.
    pub(crate) fn open(file: &Path, bookings: u32, terminal: Terminal) -> Result<Self> {
        let earlier = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        if let Some(burst) = earlier.filter(|burst| burst.bookings == bookings) {
            terminal.say("  the burst that was interrupted goes on, under the same idempotency keys");
            return Ok(burst);
        }
        let burst = Self { id: Uuid::new_v4(), bookings };
        let written = std::fs::write(file, serde_json::to_vec(&burst)?);
        written.with_context(|| format!("cannot write {}", file.display()))?;
        Ok(burst)
    }

    /// It has come to its end.
    pub(crate) fn close(file: &Path) {
        // If it stays, the next burst of this size finds that all its bookings are there already.
        let _ = std::fs::remove_file(file);
    }

    /// How many bookings.
    pub(crate) fn bookings(self) -> usize {
        usize::try_from(self.bookings).unwrap_or(usize::MAX)
    }

    /// How many bookings of that kind.
    pub(crate) fn count(self, kind: Kind) -> u32 {
        let rest = (0..self.bookings % 10).filter(|number| Kind::of(*number) == kind).count();
        let whole = (0..10).filter(|number| Kind::of(*number) == kind).count();
        let rest = u32::try_from(rest).unwrap_or(0);
        self.bookings / 10 * u32::try_from(whole).unwrap_or(0) + rest
    }

    fn uuid(self, number: u128) -> Uuid {
        let bytes = self.id.as_u128().wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    fn body(self, number: u32) -> String {
        let resources = (self.bookings / BOOKINGS_PER_RESOURCE).max(MIN_RESOURCES);
        let resource = self.uuid(u128::from(number % resources) << 64);
        let (user, amount) = (self.uuid(u128::from(number) + 1), 1_000 + number % 9_000);
        format!(r#"{{"userId":"{user}","resourceId":"{resource}","amountMinor":{amount}}}"#)
    }
}

/// A booking of the burst and the saga that it became.
pub(crate) type Accepted = (u32, Uuid);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Booking {
    booking_id: Uuid,
}

/// Starts every booking and waits until all have ended, those of earlier runs too. `open` is how many of these there
/// were before the services started.
pub(crate) async fn run(
    burst: Burst,
    api: SocketAddr,
    databases: &Databases,
    open: u64,
    terminal: Terminal,
) -> Result<Vec<Accepted>> {
    let load = Load { burst, api, next: AtomicU64::new(0), answered: AtomicU64::new(0) };
    let bar = Bar::new(u64::from(burst.bookings), terminal);
    let (allow, allowed) = watch::channel(0);
    let starting = load.start_all(allowed);
    tokio::pin!(starting);
    let pacing = pace(&load, open, &allow, &bar);
    let accepted = tokio::select! {
        accepted = &mut starting => accepted?,
        never = pacing => never,
    };
    wait_for_ends(&load, databases, open, &bar).await?;
    bar.done();
    Ok(accepted)
}

/// Waits until no booking is open, or none will end any more.
pub(crate) async fn settle(databases: &Databases) -> Result<()> {
    let mut last = (u64::MAX, Instant::now());
    loop {
        let asked = Instant::now();
        let open = databases.sagas().await?.open_bookings;
        if open == 0 {
            return Ok(());
        }
        if open != last.0 {
            last = (open, Instant::now());
        } else if last.1.elapsed() > STALLED {
            return Ok(());
        }
        // Counting a large table takes its time: no more than a tenth of ours.
        tokio::time::sleep(COUNT_EVERY.max(asked.elapsed() * 9)).await;
    }
}

struct Load {
    burst: Burst,
    api: SocketAddr,
    next: AtomicU64,
    answered: AtomicU64,
}

impl Load {
    /// Starts all bookings, none before its number is allowed.
    async fn start_all(&self, allowed: watch::Receiver<u64>) -> Result<Vec<Accepted>> {
        let connections = (0..CONNECTIONS).map(|_| self.connection(allowed.clone()));
        let parts = futures::future::try_join_all(connections).await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn connection(&self, mut allowed: watch::Receiver<u64>) -> Result<Vec<Accepted>> {
        let (mut client, mut accepted) = (Client::new(self.api), Vec::new());
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(number) = u32::try_from(number).ok().filter(|number| *number < self.burst.bookings)
            else {
                return Ok(accepted);
            };
            allowed.wait_for(|allowed| u64::from(number) < *allowed).await.context("the pace was lost")?;
            accepted.push((number, self.book(&mut client, number).await?));
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn book(&self, client: &mut Client, number: u32) -> Result<Uuid> {
        let key = format!("burst-{}-{number}", self.burst.id);
        let mut headers = vec![("idempotency-key", &*key)];
        headers.extend(Kind::of(number).forced().map(|forced| ("x-forced-payment-outcome", forced)));
        let begun = Instant::now();
        loop {
            let answer = client.post("/api/bookings", &headers, self.burst.body(number)).await;
            let pause = match &answer {
                Ok(answer) if try_again(answer.status) => answer.retry_after.unwrap_or(START_PAUSE),
                Ok(answer) => {
                    let booking: Booking = answer.json().with_context(|| format!("booking {number}"))?;
                    return Ok(booking.booking_id);
                }
                Err(_) => START_PAUSE,
            };
            if begun.elapsed() > START_PATIENCE {
                let said = answer.and_then(|answer: Answer| answer.json::<Booking>().map(drop));
                return said
                    .map(|()| Uuid::nil())
                    .with_context(|| format!("booking {number} was not accepted"));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn try_again(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Allows starts as sagas end.
async fn pace(load: &Load, open_before: u64, allow: &watch::Sender<u64>, bar: &Bar) -> ! {
    let mut meter = Meter::new(load.api, open_before);
    loop {
        if let Some(open) = meter.open().await {
            let (issued, answered) =
                (load.next.load(Ordering::Relaxed), load.answered.load(Ordering::Relaxed));
            let asked = issued.min(allow.borrow().to_owned());
            allow.send_replace(asked + OPEN_SAGAS.saturating_sub(open));
            bar.show(answered, open);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// All have started: waits until all have ended. The orchestrator's meter is asked often, the database has the last word.
async fn wait_for_ends(load: &Load, databases: &Databases, open_before: u64, bar: &Bar) -> Result<()> {
    let mut meter = Meter::new(load.api, open_before);
    let answered = load.answered.load(Ordering::Relaxed);
    let mut last = (u64::MAX, Instant::now());
    while let Some(open) = meter.open().await.filter(|open| *open > 0) {
        bar.show(answered, open);
        if open != last.0 {
            last = (open, Instant::now());
        } else if last.1.elapsed() > COUNT_EVERY * 4 {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    settle(databases).await?;
    bar.show(answered, databases.sagas().await?.open_bookings);
    Ok(())
}

/// How many bookings are open, as the orchestrator counts them: costs it nothing.
struct Meter {
    client: Client,
    open_before: u64,
}

impl Meter {
    fn new(api: SocketAddr, open_before: u64) -> Self {
        Self { client: Client::new(api), open_before }
    }

    /// `None` when the orchestrator did not answer.
    async fn open(&mut self) -> Option<u64> {
        let answer = self.client.get("/metrics").await.ok()?;
        let text = std::str::from_utf8(&answer.body).ok()?;
        let begun = self.open_before + sum(text, "saga_started_total");
        Some(begun.saturating_sub(sum(text, "saga_duration_seconds_count") + sum(text, "saga_stuck_total")))
    }
}

/// The sum of all series of that name in a Prometheus text that are about bookings.
fn sum(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        let ours = labels.split(',').any(|label| label == "definition=\"booking\"");
        ours.then(|| value.parse::<f64>().ok()).flatten()
    });
    values.sum::<f64>() as u64
}

/// Progress: a bar on a terminal, a line now and then elsewhere.
struct Bar {
    bar: ProgressBar,
    bookings: u64,
    told: std::sync::Mutex<Instant>,
    terminal: Terminal,
}

impl Bar {
    fn new(bookings: u64, terminal: Terminal) -> Self {
        let target = if terminal.live { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bookings), target);
        if let Ok(style) =
            ProgressStyle::with_template("  {bar:30} {human_pos}/{human_len} ended, {msg}, {elapsed}")
        {
            bar.set_style(style);
        }
        Self { bar, bookings, told: std::sync::Mutex::new(Instant::now()), terminal }
    }

    fn show(&self, answered: u64, open: u64) {
        let ended = answered.saturating_sub(open);
        self.bar.set_message(format!("{} started", grouped(answered)));
        self.bar.set_position(ended);
        if self.terminal.live {
            return;
        }
        if let Ok(mut told) = self.told.lock()
            && told.elapsed() > TELL_EVERY
        {
            *told = Instant::now();
            let (all, started) = (counted(self.bookings, "booking"), grouped(answered));
            self.terminal.say(&format!("  {} of {all} ended, {started} started", grouped(ended)));
        }
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_exact() {
        for bookings in [1, 9, 10, 50, 1_009] {
            let burst = Burst { id: Uuid::nil(), bookings };
            let counted = |kind| (0..bookings).filter(|number| Kind::of(*number) == kind).count() as u32;
            for kind in [Kind::Normal, Kind::Declined, Kind::Unavailable] {
                assert_eq!(burst.count(kind), counted(kind), "{bookings} {kind:?}");
            }
        }
    }

    #[test]
    fn the_same_number_is_the_same_booking() {
        let burst = Burst { id: Uuid::from_u128(7), bookings: 1_000 };
        assert_eq!(burst.body(3), burst.body(3));
        let users: std::collections::HashSet<String> = (0..1_000).map(|number| burst.body(number)).collect();
        assert_eq!(users.len(), 1_000);
    }

    #[test]
    fn series_are_added_up() {
        let text = "# TYPE x_total counter\nx_total{definition=\"booking\",status=\"a\"} 3\n\
                    x_total{status=\"b\",definition=\"booking\"} 4\nx_total{definition=\"trip\"} 100\n\
                    x_total_other{definition=\"booking\"} 100\nx_total 100\n";
        assert_eq!(sum(text, "x_total"), 7);
        assert_eq!(sum(text, "y_total"), 0);
    }
}
