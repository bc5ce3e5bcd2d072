//! What a participant shows of itself: how it is, and what it has measured.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use messaging::meters::{LOOK_FOR_PUSHES, Meters, MetersError, label};
use messaging::{Consumer, Received};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use schemas::registry::Registry;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use crate::calls::CallError;
use crate::dead_letter::{Reason, now};
use crate::intake::Incoming;
use crate::records::{Answer, Came};
use crate::service::health::{Check, Verdict, judge, trouble};

/// How a participant is, and what it has measured. One is made for a process, given to the participant's builder, and asked by
/// whoever looks: [`crate::service::observed`] has it served over HTTP.
pub struct Vitals {
    meters: Meters,
    stop: CancellationToken,
    life: Mutex<Life>,
    membership: Arc<Membership>,
    commands: Counter<u64>,
    duplicates: Counter<u64>,
    batch: Histogram<u64>,
    batch_time: Histogram<f64>,
    delay: Histogram<f64>,
    calls: Counter<u64>,
    call_time: Histogram<f64>,
    dead_letters: Counter<u64>,
    partitions: Gauge<u64>,
    poll_age: Gauge<f64>,
    database_up: Gauge<u64>,
}

/// What the worker has got so far.
#[derive(Default)]
struct Life {
    /// The worker's own; none before it is connected.
    database: Option<DatabaseConnection>,
    /// While the participant reads. Nobody else has it but the publisher.
    consumer: Option<Arc<Consumer>>,
    /// The schema registry, where there is one.
    registry: Option<Arc<Registry>>,
}

/// Where the participant stands with its consumer group. Apart from the rest: the consumer's own thread has it too, and would have
/// to end itself if it came to be the last who has the consumer.
pub(crate) struct Membership(Mutex<Group>);

enum Group {
    /// It has no partitions yet, or not any more: what it waits for.
    Waits(String),
    Member {
        /// How many are its own; none where there are more members than partitions.
        partitions: usize,
        /// Those whose next command is gone or damaged.
        standing: BTreeSet<String>,
    },
}

impl Membership {
    /// The participant is no member, and waits for this.
    pub(crate) fn waits_for(&self, what: &str) {
        *self.group() = Group::Waits(what.to_owned());
    }

    /// So many partitions are its own from now on.
    pub(crate) fn assigned(&self, partitions: usize) {
        *self.group() = Group::Member { partitions, standing: BTreeSet::new() };
    }

    /// A partition of its own stands still.
    pub(crate) fn stands_still(&self, topic: &str, partition: i32) {
        if let Group::Member { standing, .. } = &mut *self.group() {
            standing.insert(format!("{topic}/{partition} stands still, see the log"));
        }
    }

    fn partitions(&self) -> usize {
        match *self.group() {
            Group::Member { partitions, .. } => partitions,
            Group::Waits(_) => 0,
        }
    }

    fn checks(&self) -> Vec<Check> {
        match &*self.group() {
            Group::Waits(what) => vec![Check::needed("group", false, format!("not a member: {what}"))],
            Group::Member { partitions, standing } => {
                let texts: Vec<&str> = standing.iter().map(String::as_str).collect();
                let detail = if texts.is_empty() { "none stands still".to_owned() } else { texts.join("; ") };
                let member = format!("a member, with {partitions} partitions");
                vec![
                    Check::needed("group", true, member),
                    Check::helpful("partitions", texts.is_empty(), detail),
                ]
            }
        }
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vitals {
    /// Of a worker of that name, which is stopping once `stop` is cancelled.
    ///
    /// # Errors
    /// As [`Meters::new`].
    pub fn new(service: &'static str, stop: CancellationToken) -> Result<Arc<Self>, MetersError> {
        Ok(Arc::new(Self::with(Meters::new(service)?, stop)))
    }

    /// Of a participant at which nobody looks.
    pub(crate) fn unseen() -> Arc<Self> {
        Arc::new(Self::with(Meters::unread(), CancellationToken::new()))
    }

    fn with(meters: Meters, stop: CancellationToken) -> Self {
        let first = Group::Waits("the database comes first".to_owned());
        Self {
            stop,
            life: Mutex::default(),
            membership: Arc::new(Membership(Mutex::new(first))),
            commands: meters.counter(
                "participant.commands",
                "Commands handled, by what became of them; repeats are not among them.",
            ),
            duplicates: meters.counter(
                "participant.duplicates",
                "Commands that came again and did nothing: their stored reply was sent again.",
            ),
            batch: meters.sizes("participant.batch.commands", "Records taken up together."),
            batch_time: meters.seconds(
                "participant.batch.duration",
                "From a batch's records to its last commit, with calls.",
            ),
            delay: meters.seconds(
                "participant.command.delay",
                "The age of a command, by its record's timestamp, when it is taken up.",
            ),
            calls: meters
                .counter("participant.calls", "Calls to the outside, e.g. a gateway, by how they ended."),
            call_time: meters.seconds(
                "participant.call.duration",
                "Time of the calls that a batch makes for one type of command.",
            ),
            dead_letters: meters
                .counter("participant.dead_letters", "Records that became dead letters, by reason."),
            partitions: meters
                .gauge("participant.partitions", "Partitions of the command topic that are ours."),
            poll_age: meters.age("participant.poll.age", "Since when the consumer has not polled."),
            database_up: meters.gauge("participant.database.up", "Whether the database answers: 1, else 0."),
            meters,
        }
    }

    /// Whether the process works at all; one that does not should be ended.
    pub fn live(&self) -> (Verdict, Vec<Check>) {
        // Before the participant reads there is nothing that could hang: it waits.
        let checks: Vec<Check> = self.poll_age().map(Check::consumer).into_iter().collect();
        (judge("ok", &checks), checks)
    }

    /// Whether commands are served: the database answers, and the participant is a member of its group that polls.
    pub async fn ready(&self) -> (Verdict, Vec<Check>) {
        let mut checks = vec![Check::database(self.database_trouble().await)];
        checks.extend(self.membership.checks());
        checks.extend(self.poll_age().map(Check::consumer));
        checks.extend(self.life().registry.as_deref().map(Check::registry));
        checks.push(Check::stopping(self.stop.is_cancelled()));
        (judge("ready", &checks), checks)
    }

    /// Everything measured, as Prometheus text.
    pub async fn render(&self) -> String {
        self.look().await;
        self.meters.render()
    }

    /// Looks for as long as measurements are pushed, to somebody who may never ask.
    pub(crate) async fn look_for_pushes(&self) {
        let mut every = tokio::time::interval(LOOK_FOR_PUSHES);
        while self.meters.are_pushed() {
            every.tick().await;
            self.look().await;
        }
    }

    /// How it is at this moment. Not looked at by the loop that it is about: one that hangs could not say so.
    async fn look(&self) {
        let up = self.database_trouble().await.is_none();
        self.database_up.record(u64::from(up), &[]);
        if let Some(age) = self.poll_age() {
            self.poll_age.record(age.as_secs_f64(), &[]);
        }
        self.partitions.record(self.membership.partitions() as u64, &[]);
    }

    /// The meters, for a worker's own instruments beside these, and to be shut down at the end.
    pub const fn meters(&self) -> &Meters {
        &self.meters
    }

    async fn database_trouble(&self) -> Option<String> {
        let database = self.life().database.clone();
        match database {
            Some(database) => trouble(database.ping()).await,
            None => Some("it is waited for; the log says why".to_owned()),
        }
    }

    fn poll_age(&self) -> Option<Duration> {
        self.life().consumer.as_ref().map(|consumer| consumer.last_poll_age())
    }

    /// This is the worker's database.
    pub(crate) fn has_database(&self, database: &DatabaseConnection) {
        self.life().database = Some(database.clone());
    }

    /// Schemas have the ids of this registry.
    pub(crate) fn has_registry(&self, registry: Option<&Arc<Registry>>) {
        self.life().registry = registry.cloned();
    }

    /// Where it stands with its group.
    pub(crate) const fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// The participant reads from now on.
    pub(crate) fn reads(&self, consumer: Arc<Consumer>) {
        self.life().consumer = Some(consumer);
    }

    /// It does not read any more; the consumer is forgotten here, so that it can be ended.
    pub(crate) fn reads_no_more(&self) {
        self.life().consumer = None;
        self.membership.waits_for("it leaves");
    }

    /// A batch of records is taken up.
    pub(crate) fn takes(&self, records: &[Received]) {
        self.batch.record(records.len() as u64, &[]);
        let now_ms = now().unix_millis();
        for sent_ms in records.iter().filter_map(|record| record.timestamp_ms) {
            let age_ms = u64::try_from(now_ms.saturating_sub(sent_ms)).unwrap_or(0);
            self.delay.record(Duration::from_millis(age_ms).as_secs_f64(), &[]);
        }
    }

    /// A batch that was taken up then is answered.
    pub(crate) fn answered(&self, since: Instant, tally: Tally) {
        self.batch_time.record(since.elapsed().as_secs_f64(), &[]);
        for ((command, became), count) in tally.0 {
            let command = label("command", &command);
            match became {
                Some(outcome) => self.commands.add(count, &[command, KeyValue::new("outcome", outcome)]),
                None => self.duplicates.add(count, &[command]),
            }
        }
    }

    /// The outside was called for these commands.
    pub(crate) fn called<'a, A: 'a>(
        &self,
        command: &str,
        since: Instant,
        answers: impl IntoIterator<Item = &'a Result<A, CallError>>,
    ) {
        self.call_time.record(since.elapsed().as_secs_f64(), &[label("command", command)]);
        for answer in answers {
            let outcome = match answer {
                Ok(_) => "answered",
                Err(CallError::NotMade(_)) => "not_made",
                Err(CallError::Unknown(_)) => "unknown",
            };
            self.calls.add(1, &[label("command", command), KeyValue::new("outcome", outcome)]);
        }
    }

    /// A record became a dead letter.
    pub(crate) fn dead_letter(&self, reason: Reason) {
        self.dead_letters.add(1, &[KeyValue::new("reason", reason.as_str())]);
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of the commands of a batch: by type of command, of which a participant has as many as handlers, and outcome;
/// without one where it was a repeat.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<(Arc<str>, Option<&'static str>), u64>);

impl Tally {
    /// One command more.
    pub(crate) fn count(&mut self, command: &Incoming, answer: Option<&Answer>) {
        let became = match answer {
            None => Some("unanswered"),
            Some(Answer { came: Came::Again, .. }) => None,
            Some(Answer { came: Came::BeforeItsCommand, .. }) => Some("tombstoned"),
            Some(Answer { came: Came::TooLate, .. }) => Some("too_late"),
            Some(Answer { came: Came::First, outcome, .. }) => Some(outcome.as_str()),
        };
        *self.0.entry((command.headers.message_type.clone(), became)).or_default() += 1;
    }
}
