//! What is measured: `/metrics` reads it as Prometheus text, and OTLP where that is asked for.
//!
//! Label values come from definitions, from closed lists, or are cut to a small number of distinct ones, so that nobody
//! outside can make the number of series grow.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use messaging::meters::{Meters, MetersError, label};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, UpDownCounter};
use saga_defs::ids::Direction;
use saga_defs::saga::Status;

use crate::engine::handle::EngineHealth;
use crate::retention::Removed;

/// Distinct reasons of dead letters that get a series of their own; later ones count as `other`.
const MAX_REASONS: usize = 32;

/// Every instrument of the service. Calls are cheap and never fail.
pub struct Metrics {
    meters: Meters,
    started: Counter<u64>,
    ended: Histogram<f64>,
    stuck: Counter<u64>,
    steps: Histogram<f64>,
    retries: Counter<u64>,
    batch: Histogram<u64>,
    commit: Histogram<f64>,
    ignored: Counter<u64>,
    dead_letters: Counter<u64>,
    panics: Counter<u64>,
    in_flight: Gauge<u64>,
    shards: Gauge<u64>,
    handled: Histogram<f64>,
    requests: Histogram<f64>,
    removed: Counter<u64>,
    journal_age: Gauge<u64>,
    unpartitioned: Gauge<u64>,
    inbox_delay: Histogram<f64>,
    now: Levels,
    many: Many,
    streams: Streams,
    reasons: Mutex<BTreeSet<String>>,
}

/// How much waits at the moment, and how old the oldest of it is.
struct Levels {
    waiting: Gauge<u64>,
    oldest: Gauge<f64>,
    open_letters: Gauge<u64>,
    oldest_letter: Gauge<u64>,
    stuck_sagas: Gauge<u64>,
    poll_age: Gauge<f64>,
    dependencies: Gauge<u64>,
    held: Gauge<u64>,
    held_back: Gauge<u64>,
}

/// What becomes of acts on many.
struct Many {
    driven: UpDownCounter<i64>,
    items: Counter<u64>,
    ended: Counter<u64>,
}

impl Many {
    fn new(meters: &Meters) -> Self {
        let driven = meters.meter().i64_up_down_counter("saga.bulk.driven");
        let items = "What became of letters and sagas that redrives and saga actions chose.";
        let ended = "Redrives and saga actions that send nothing more, by how they ended.";
        Self {
            driven: driven
                .with_description("Redrives and saga actions that this process drives at the moment.")
                .build(),
            items: meters.counter("saga.bulk.items", items),
            ended: meters.counter("saga.bulk.ended", ended),
        }
    }
}

/// Clients that listen to events.
struct Streams {
    open: UpDownCounter<i64>,
    cut: Counter<u64>,
}

impl Streams {
    fn new(meters: &Meters) -> Self {
        let open = meters.meter().i64_up_down_counter("saga.event_streams");
        let cut = "Event streams that were cut: the client read too slowly.";
        Self {
            open: open.with_description("Clients that listen to events, by what they listen to.").build(),
            cut: meters.counter("saga.event_streams.cut", cut),
        }
    }
}

impl Levels {
    fn new(meters: &Meters) -> Self {
        let gauge = |name, about| meters.gauge(name, about);
        let age = |name, about| meters.age(name, about);
        Self {
            waiting: gauge(
                "saga.in_flight",
                "Sagas of this process's shards that wait for a reply or a timer.",
            ),
            oldest: age("saga.in_flight.oldest_age", "The age of the oldest of them."),
            open_letters: gauge(
                "saga.dead_letters.open",
                "Dead letters nobody has decided about, 10,000 at most; every process counts all of them.",
            ),
            oldest_letter: meters
                .meter()
                .u64_gauge("saga.dead_letters.oldest_age")
                .with_unit("s")
                .with_description("The age of the oldest of them.")
                .build(),
            stuck_sagas: gauge(
                "saga.stuck.open",
                "Stuck sagas that open dead letters belong to; every process counts all of them.",
            ),
            poll_age: age(
                "saga.poll.age",
                "Since when the consumer has not polled, or the engine's loop not turned.",
            ),
            held: gauge(
                "saga.participant.held",
                "Whether this process holds commands to the participant back, as it does not answer or is paused: 1, else 0.",
            ),
            held_back: gauge(
                "saga.participant.waiting",
                "Sagas of this process that wait for a held participant.",
            ),
            dependencies: gauge("saga.dependency.up", "Whether database and broker answer: 1, else 0."),
        }
    }
}

impl Metrics {
    /// Read as [`Meters::new`] says.
    ///
    /// # Errors
    /// As [`Meters::new`].
    pub fn new() -> Result<Arc<Self>, MetersError> {
        Ok(Arc::new(Self::instruments(Meters::new("orchestrator")?)))
    }

    fn instruments(meters: Meters) -> Self {
        let counter = |name, about| meters.counter(name, about);
        let seconds = |name, about| meters.seconds(name, about);
        Self {
            started: counter("saga.started", "Sagas accepted."),
            ended: seconds(
                "saga.duration",
                "From start to end, by outcome; its count is the number of ends.",
            ),
            stuck: counter("saga.stuck", "Times that a saga came to wait for an operator."),
            steps: seconds("saga.step.duration", "From a command's first attempt to its outcome."),
            retries: counter("saga.retries", "Attempts of a command after its first."),
            batch: meters.sizes("saga.batch.transitions", "Transitions in one commit."),
            commit: seconds("saga.commit.duration", "Time of one commit."),
            ignored: counter(
                "saga.ignored",
                "Events that did nothing: duplicates, late and foreign replies.",
            ),
            dead_letters: counter("saga.dead_letters", "Dead letters kept."),
            panics: counter("saga.panics", "Decisions that panicked: a defect, which the log describes."),
            in_flight: meters
                .gauge("saga.publish.in_flight", "Commands handed to Kafka and not acknowledged yet."),
            shards: meters
                .gauge("saga.shards", "Shards of this process: owned, and of these stopped by an error."),
            handled: seconds(
                "saga.input.duration",
                "From the arrival of a reply, a request or a timer to the commit of what it leads to.",
            ),
            requests: seconds(
                "http.server.request.duration",
                "Time of one HTTP request, by route and status.",
            ),
            removed: counter("saga.retention.removed", "What has left at its age, by what it is."),
            journal_age: meters
                .meter()
                .u64_gauge("saga.journal.age")
                .with_unit("s")
                .with_description("Since when the journal is kept.")
                .build(),
            unpartitioned: meters
                .meter()
                .u64_gauge("saga.journal.unpartitioned")
                .with_description("Rows of the journal for whose day there is no partition, 10,000 at most.")
                .build(),
            inbox_delay: seconds(
                "saga.inbox.delay",
                "The age of a reply, by its record's timestamp, when it is taken from the inbox.",
            ),
            now: Levels::new(&meters),
            many: Many::new(&meters),
            streams: Streams::new(&meters),
            reasons: Mutex::new(BTreeSet::new()),
            meters,
        }
    }

    /// A saga was accepted.
    pub fn saga_started(&self, definition: &str) {
        self.started.add(1, &[label("definition", definition)]);
    }

    /// A saga ended, `took` after its start.
    pub fn saga_ended(&self, definition: &str, status: Status, took: Duration) {
        let labels = [label("definition", definition), KeyValue::new("status", status.as_str())];
        self.ended.record(took.as_secs_f64(), &labels);
    }

    /// A saga waits for an operator.
    pub fn stuck(&self, definition: &str, step: &str) {
        self.stuck.add(1, &[label("definition", definition), label("step", step)]);
    }

    /// A step came to an outcome, `took` after its first attempt.
    pub fn step_finished(&self, definition: &str, step: &str, outcome: &'static str, took: Duration) {
        let labels =
            [label("definition", definition), label("step", step), KeyValue::new("outcome", outcome)];
        self.steps.record(took.as_secs_f64(), &labels);
    }

    /// A command is tried again.
    pub fn retry(&self, definition: &str, step: &str, direction: Direction) {
        let direction = KeyValue::new("direction", direction.as_str());
        self.retries.add(1, &[label("definition", definition), label("step", step), direction]);
    }

    /// A batch was committed.
    pub fn batch(&self, transitions: usize, commit: Duration) {
        self.batch.record(transitions as u64, &[]);
        self.commit.record(commit.as_secs_f64(), &[]);
    }

    /// An event did nothing.
    pub fn ignored(&self, why: &'static str) {
        self.ignored.add(1, &[KeyValue::new("why", why)]);
    }

    /// A decision panicked.
    pub fn panicked(&self) {
        self.panics.add(1, &[]);
    }

    /// A dead letter was kept. Reasons may come from other services' headers, so their number is bounded here.
    pub fn dead_letter(&self, reason: &str) {
        self.dead_letters.add(1, &[label("reason", self.known_reason(reason))]);
    }

    fn known_reason<'a>(&self, reason: &'a str) -> &'a str {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if reason.is_empty() || reason.len() > 64 || !reason.chars().all(plain) {
            return "other";
        }
        let Ok(mut known) = self.reasons.lock() else { return "other" };
        if known.contains(reason) {
            return reason;
        }
        if known.len() >= MAX_REASONS {
            return "other";
        }
        known.insert(reason.to_owned());
        reason
    }

    /// How many commands are handed to Kafka and not acknowledged.
    pub fn publish(&self, in_flight: usize) {
        self.in_flight.record(in_flight as u64, &[]);
    }

    /// How many shards this process owns, and how many of them an error stopped.
    pub fn shards(&self, owned: usize, stopped: usize) {
        self.shards.record(owned as u64, &[KeyValue::new("state", "owned")]);
        self.shards.record(stopped as u64, &[KeyValue::new("state", "stopped")]);
    }

    /// How many sagas wait for a reply or a timer, and how old the oldest of them is.
    pub fn waiting(&self, sagas: usize, oldest: Duration) {
        self.now.waiting.record(sagas as u64, &[]);
        self.now.oldest.record(oldest.as_secs_f64(), &[]);
    }

    /// Whether a participant is held, and how many sagas wait for it then.
    pub fn participant(&self, participant: &str, held: bool, waiting: u64) {
        let labels = [label("participant", participant)];
        self.now.held.record(u64::from(held), &labels);
        self.now.held_back.record(waiting, &labels);
    }

    /// A reply of this age was taken from the inbox; `None`: its record has no timestamp.
    pub fn inbox_delay(&self, age: Option<Duration>) {
        if let Some(age) = age {
            self.inbox_delay.record(age.as_secs_f64(), &[]);
        }
    }

    /// What waits for an operator: open dead letters, stuck sagas they belong to, the age of the oldest in seconds.
    pub fn backlog(&self, open_letters: u64, stuck_sagas: u64, oldest_letter_s: u64) {
        self.now.open_letters.record(open_letters, &[]);
        self.now.stuck_sagas.record(stuck_sagas, &[]);
        self.now.oldest_letter.record(oldest_letter_s, &[]);
    }

    /// Whether they are pushed, to somebody who may never ask.
    pub(crate) const fn are_pushed(&self) -> bool {
        self.meters.are_pushed()
    }

    /// How the engine is at this moment.
    pub fn health(&self, health: &EngineHealth) {
        self.now.poll_age.record(health.consumer_poll_age.as_secs_f64(), &[]);
        for (name, trouble) in [("database", &health.database), ("broker", &health.broker)] {
            self.now.dependencies.record(u64::from(trouble.is_none()), &[KeyValue::new("dependency", name)]);
        }
    }

    /// What arrived at these times is committed.
    pub fn handled(&self, arrivals: impl IntoIterator<Item = Instant>) {
        let now = Instant::now();
        for arrived in arrivals {
            self.handled.record(now.duration_since(arrived).as_secs_f64(), &[]);
        }
    }

    /// A pass of the retention removed this.
    pub fn removed(&self, removed: &Removed) {
        let Removed { days, sagas, keys, letters, actions } = *removed;
        for (what, count) in [
            ("journal_day", days),
            ("saga", sagas),
            ("request_key", keys),
            ("dead_letter", letters),
            ("bulk_action", actions),
        ] {
            self.removed.add(count, &[KeyValue::new("what", what)]);
        }
    }

    /// The oldest day of the journal began so long ago.
    pub fn journal_age(&self, age: Duration) {
        self.journal_age.record(age.as_secs(), &[]);
    }

    /// So many rows of the journal are in its default partition.
    pub fn unpartitioned(&self, rows: u64) {
        self.unpartitioned.record(rows, &[]);
    }

    /// An HTTP request was answered. `route` is the template, not the path.
    pub(crate) fn request(&self, method: &'static str, route: &Arc<str>, status: u16, took: Duration) {
        let labels = [
            KeyValue::new("method", method),
            KeyValue::new("route", route.clone()),
            KeyValue::new("status", i64::from(status)),
        ];
        self.requests.record(took.as_secs_f64(), &labels);
    }

    /// A client more (1) or less (-1) listens to events of this: `saga`, `sagas` or `action`.
    pub(crate) fn event_stream(&self, of: &'static str, more: i64) {
        self.streams.open.add(more, &[KeyValue::new("of", of)]);
    }

    /// A client that listened was cut off.
    pub(crate) fn event_stream_cut(&self, of: &'static str) {
        self.streams.cut.add(1, &[KeyValue::new("of", of)]);
    }

    /// A redrive or saga action more (1) or less (-1) is driven here. `action` is `redrive` or a verb on sagas.
    pub(crate) fn bulk_driven(&self, action: &str, more: i64) {
        self.many.driven.add(more, &[label("action", action)]);
    }

    /// So many of those that an act on many chose came to this: `sent`, `succeeded`, `failed_again`, `passed_over`.
    pub(crate) fn bulk_items(&self, action: &str, outcome: &'static str, count: u64) {
        self.many.items.add(count, &[label("action", action), KeyValue::new("outcome", outcome)]);
    }

    /// An act on many sends nothing more: `completed`, `stopped` or `cancelled`.
    pub(crate) fn bulk_ended(&self, action: &str, status: &str) {
        self.many.ended.add(1, &[label("action", action), label("status", status)]);
    }

    /// All of it as Prometheus text.
    pub fn render(&self) -> String {
        self.meters.render()
    }

    /// Pushes what was measured last, where it is pushed at all, for as long as `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        self.meters.shutdown(limit).await;
    }
}

#[cfg(test)]
mod tests;
