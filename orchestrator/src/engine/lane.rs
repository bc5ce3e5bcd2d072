//! The lane: the one loop that moves sagas. Inputs in, one decision, one commit, then answers and commands out.

mod arrived;
mod attention;
mod gather;
mod holds;
mod memory;
mod objection;
mod stopped;
mod takeover;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use messaging::headers::{read_traceparent, redrive_of};
use messaging::pace::Pace;
use messaging::{ConsumerEvent, Received, telemetry};
use participant::crash::{self, Point};
use saga_defs::ids::{SagaId, Shard, ShardCount};
use saga_defs::saga::{Refusal, Saga};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::arrived::answer;
pub(super) use self::arrived::{Arrived, Asker};
use self::attention::Attention;
use self::memory::Memory;
use self::objection::Objection;
use super::batch::{Batch, Held, Input};
use super::bus::Group;
use super::environment::Environment;
use super::handle::{Asked, Shown};
use super::participants::Participants;
use super::participants::parked::Parked;
use super::publisher::{Outgoing, Publisher, Settled};
use super::rebalance::Rebalance;
use super::records::RecordMaker;
use super::shards::Shards;
use super::storage::Storage;
use super::{EngineParts, EngineSettings};
use crate::definitions::Definitions;
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::commit::Committed;
use crate::store::shards::Claimant;

/// How long to wait before asking a database again that could not carry a statement out.
const DATABASE_PAUSE: Duration = Duration::from_millis(200);
/// An idle lane saves a watermark that has moved after this long.
const IDLE_SAVE: Duration = Duration::from_secs(1);
/// A lane that lost shards without a rebalance ends after this long, so that its process starts anew and joins the group
/// again: what it has read of them meanwhile must be read again. A rebalance that is on its way comes sooner.
const ORPHAN_LIMIT: Duration = Duration::from_secs(30);

/// Where everything that happens comes from.
pub(super) struct Sources {
    pub(super) records: mpsc::Receiver<ConsumerEvent>,
    pub(super) requests: mpsc::Receiver<Asked>,
    pub(super) rebalances: mpsc::UnboundedReceiver<Rebalance>,
    pub(super) group: Arc<dyn Group>,
}

/// The loop's memory.
pub struct Lane {
    pub(super) store: Arc<dyn Storage>,
    pub(super) environment: Arc<dyn Environment>,
    pub(super) definitions: Definitions,
    pub(super) maker: RecordMaker,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: EngineSettings,
    /// As whom it claims shards.
    pub(super) claimant: Claimant,
    pub(super) shard_count: ShardCount,
    pub(super) sources: Sources,
    pub(super) publisher: Publisher,
    pub(super) shown: Arc<Shown>,
    pub(super) shards: Shards,
    pub(super) sagas: Memory,
    pub(super) waiters: BTreeMap<SagaId, Vec<oneshot::Sender<Saga>>>,
    pub(super) unread: VecDeque<(u64, Instant, Received)>,
    pub(super) slice: gather::Slice,
    pub(super) early: Vec<Arrived>,
    /// What [`Lane::next`] has taken while it waits for something else.
    pub(super) gathered: Vec<Arrived>,
    pub(super) pace: Pace,
    pub(super) last_save: Instant,
    pub(super) stopped: Vec<(Shard, String)>,
    /// Since when shards are missing that the group still gives to us.
    pub(super) orphaned: Option<Instant>,
    /// Whether the group is not heard of: our shards are ours until the fence or the next assignment says otherwise, but
    /// nothing of them is read.
    pub(super) unheard: bool,
    /// Whether it has just begun to turn again.
    pub(super) attention: Attention,
    /// When stopped shards were last looked at.
    pub(super) last_look: Instant,
    /// Starts that wait for a shard or for room.
    pub(super) held: VecDeque<Asked>,
    /// How participants are, and whom they keep waiting.
    pub(super) participants: Participants,
    pub(super) parked: Parked,
    pub(super) notices: holds::Notices,
}

/// How a commit of some inputs ended.
enum Outcome {
    Done,
    ShardsLost,
    DecideAgain,
    LetterMoved,
    Objected(Objection),
}

impl Lane {
    pub(super) fn new(parts: EngineParts, sources: Sources, publisher: Publisher, shown: Arc<Shown>) -> Self {
        let (participants, read) = parts.board.begin(parts.environment.now());
        let (high, low) = parts.environment.random();
        let claimant = Claimant::new(&parts.settings.advertise_url, Uuid::from_u64_pair(high, low));
        Self {
            claimant,
            participants,
            parked: Parked::default(),
            notices: holds::Notices::new(parts.board, read),
            maker: RecordMaker::new(parts.definitions.catalog(), &parts.settings),
            store: parts.store,
            environment: parts.environment,
            definitions: parts.definitions,
            metrics: parts.metrics,
            settings: parts.settings,
            shard_count: parts.shard_count,
            sources,
            publisher,
            shown,
            shards: Shards::default(),
            sagas: Memory::default(),
            waiters: BTreeMap::new(),
            unread: VecDeque::new(),
            slice: gather::Slice::new(),
            early: Vec::new(),
            gathered: Vec::new(),
            pace: Pace::new(Instant::now().into_std()),
            last_save: Instant::now(),
            stopped: Vec::new(),
            orphaned: None,
            unheard: false,
            attention: Attention::since(Instant::now()),
            last_look: Instant::now(),
            held: VecDeque::new(),
        }
    }

    /// Runs until told to stop; then finishes what is in hand.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let orphaned = self.orphaned.is_some_and(|since| since.elapsed() > ORPHAN_LIMIT);
            // While the group is not heard of, no rebalance can come.
            if orphaned && !self.unheard {
                tracing::error!(
                    "shards that the group gives to this process are owned by another or by nobody"
                );
                return;
            }
            let arrived = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                arrived = self.next() => arrived,
            };
            if arrived.is_empty() {
                // Not given up for a stop: it could happen later than the last one, which knows more.
                self.save_watermarks().await;
            } else {
                self.process(arrived).await;
            }
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.process(gathered).await;
        self.shown.stopping.store(true, Ordering::Relaxed);
        self.shown.update(|health| health.stopping = true);
        self.finish().await;
    }

    /// Decides, commits, answers and publishes; whatever goes wrong, every input is dealt with in the end.
    pub(super) async fn process(&mut self, arrived: Vec<Arrived>) {
        let mut groups = VecDeque::from([arrived]);
        while let Some(mut group) = groups.pop_front() {
            // Who has been told that nothing happened must be right.
            group.retain(|arrived| !arrived.is_given_up());
            if group.is_empty() {
                continue;
            }
            self.load(&group).await;
            match self.attempt(&mut group).await {
                Outcome::Done => {}
                Outcome::ShardsLost => {
                    // What belongs to shards that are still ours goes on; the rest is answered or left to its owner.
                    self.reclaim().await;
                    groups.push_front(group);
                }
                Outcome::DecideAgain => groups.push_front(group),
                Outcome::LetterMoved if group.len() == 1 => groups.push_front(group),
                Outcome::Objected(objection) if group.len() == 1 => {
                    if let Some(again) = self.object(group, &objection) {
                        groups.push_front(vec![again]);
                    }
                }
                Outcome::Objected(_) | Outcome::LetterMoved => {
                    // One saga's rows are refused, one input comes upon a defect, or two want one letter: halve until
                    // each is alone, so that its neighbours go on and it sees what the others have done.
                    let second = group.split_off(group.len() / 2);
                    groups.push_front(second);
                    groups.push_front(group);
                }
            }
        }
    }

    async fn attempt(&mut self, group: &mut [Arrived]) -> Outcome {
        self.maker.use_catalog(self.definitions.catalog());
        let letters = match self.letters(group).await {
            Ok(letters) => letters,
            Err(error) => return self.pause(&error).await,
        };
        let taken_keys = match self.taken_keys(group).await {
            Ok(taken) => taken,
            Err(error) => return self.pause(&error).await,
        };
        let batch = match self.decide(group, &letters, &taken_keys) {
            Ok(batch) => batch,
            Err(objection) => return Outcome::Objected(objection),
        };
        let begun = Instant::now();
        crash::pass(Point::BatchDecided);
        match self.commit(&batch).await {
            Ok(Committed::Yes) => {
                crash::pass(Point::BatchCommitted);
                self.metrics.batch(batch.writes.journal.len(), begun.elapsed());
                self.carry_out(batch, group);
                crash::pass(Point::BatchCarriedOut);
                self.metrics.handled(group.iter().map(|arrived| arrived.at.into_std()));
                Outcome::Done
            }
            Ok(Committed::Fenced) => Outcome::ShardsLost,
            Ok(Committed::LetterMoved) => Outcome::LetterMoved,
            Err(StoreError::Refused { message, constraint, .. }) => {
                Outcome::Objected(Objection::Database { message, constraint })
            }
            Err(error @ (StoreError::TryAgain { .. } | StoreError::Row(_))) => self.pause(&error).await,
            Err(StoreError::Unknown(error)) => {
                tracing::warn!(%error, "a commit was not answered; finding out whether it happened");
                if self.resolve_unknown(&batch).await {
                    self.carry_out(batch, group);
                    Outcome::Done
                } else {
                    Outcome::DecideAgain
                }
            }
        }
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        if batch.writes.shards.is_empty() {
            return Ok(Committed::Yes);
        }
        self.store.commit(&batch.writes).await
    }

    async fn pause(&self, error: &StoreError) -> Outcome {
        self.database_trouble(error);
        tokio::time::sleep(DATABASE_PAUSE).await;
        Outcome::DecideAgain
    }

    pub(super) fn database_trouble(&self, error: &StoreError) {
        let text = match error {
            StoreError::Unknown(source) => source.to_string(),
            StoreError::TryAgain { message } | StoreError::Refused { message, .. } => message.clone(),
            StoreError::Row(error) => error.to_string(),
        };
        tracing::warn!(error = %text, "the database is in trouble; trying again");
        self.shown.update(|health| health.database = Some(text));
    }

    /// The batch is durable: memory follows, clients are answered, commands go out.
    fn carry_out(&mut self, batch: Batch, group: &mut [Arrived]) {
        self.shown.update(|health| health.database = None);
        for advance in &batch.writes.shards {
            if let Some(owned) = self.shards.get_mut(advance.shard) {
                owned.follow(advance);
            }
        }
        for (shard, saga, wake) in batch.rearmed {
            self.shards.set_wake(shard, saga, wake);
        }
        self.participants = batch.participants;
        // A shard that was lost while the commit was unanswered: its owner does the rest.
        for waiting in batch.parked {
            if self.shards.get(waiting.saga.shard(self.shard_count)).is_some() {
                self.park(waiting);
            }
        }
        let ours = |shard: Shard| self.shards.get(shard).is_some();
        let moved: Vec<_> = batch.moved.into_iter().filter(|(_, moved)| ours(moved.shard)).collect();
        let outgoing: Vec<Outgoing> = batch
            .outgoing
            .into_iter()
            .filter(|outgoing| outgoing.origin.is_none_or(|origin| ours(origin.shard())))
            .collect();
        for (id, moved) in moved {
            self.shards.set_wake(moved.shard, id, moved.wake);
            match moved.parked {
                Some(waiting) => self.park(waiting),
                None => self.parked.unpark(id),
            }
            self.remember(id, moved.held);
        }
        for origin in outgoing.iter().filter_map(|outgoing| outgoing.origin) {
            self.shards.begin_publish(origin);
        }
        for outgoing in outgoing {
            self.publisher.send(outgoing);
        }
        for (position, reply) in batch.replies {
            if let Some(asker) = group.get_mut(position).and_then(|arrived| arrived.asker.take()) {
                answer(asker, reply);
            }
        }
        self.count(&batch.facts);
        if let Some(recorder) = telemetry::recorder() {
            batch.spans.committed(SystemTime::now()).for_each(|span| recorder.record(span));
        }
    }

    /// Keeps a saga in memory while something may happen to it soon, and tells those who wait for its end.
    fn remember(&mut self, id: SagaId, held: Held) {
        if held.saga.current().is_none() {
            self.sagas.remove(id);
            for waiter in self.waiters.remove(&id).unwrap_or_default() {
                // A client that has gone away does not listen any more.
                let _ = waiter.send((*held.saga).clone());
            }
        } else {
            self.sagas.insert(id, held);
        }
        while let Some(oldest) = self.sagas.oldest_too_many() {
            let waited_for = self.waiters.get_mut(&oldest).is_some_and(|waiters| {
                waiters.retain(|waiter| !waiter.is_closed());
                !waiters.is_empty()
            });
            if waited_for {
                self.sagas.keep(oldest);
                return;
            }
            self.waiters.remove(&oldest);
            self.sagas.remove(oldest);
        }
    }

    pub(super) fn saga_of(&self, input: &Input) -> Option<SagaId> {
        match input {
            Input::Record(_, record) => record.headers.text("saga-id").and_then(|text| text.parse().ok()),
            Input::Act(act) => Some(act.saga),
            Input::Due(_, saga)
            | Input::Released(_, saga, _)
            | Input::Refused(saga, _, _)
            | Input::Quarantine(saga, _) => Some(*saga),
            Input::Start(..) | Input::Letter(_) | Input::CopyRefused(..) => None,
        }
    }

    /// Takes the delivery reports: watermarks move, timeouts begin, refused commands come back as inputs.
    pub(super) fn settle(&mut self) -> Vec<Arrived> {
        let mut refused = Vec::new();
        let now = self.environment.now();
        for settled in self.publisher.settle() {
            let (outgoing, placed, problem) = match settled {
                Settled::Acknowledged(outgoing, placed) => (outgoing, placed.offset, None),
                Settled::Refused(outgoing, code, text) => (outgoing, -1, Some((code, text))),
            };
            crash::pass(Point::RecordAcknowledged);
            if let Some(origin) = outgoing.origin {
                self.shards.end_publish(origin);
            }
            match (outgoing.attempt, problem) {
                (Some(sent), None) => {
                    let (shard, seq) = sent.row;
                    self.shards.confirmed(shard, sent.saga, seq, now.after(sent.timeout), placed);
                }
                (Some(sent), Some((_, text))) if sent.doubt => {
                    // An earlier copy may have arrived: only its silence can tell, and the next attempt's refusal is one
                    // of a command in doubt.
                    let trace = read_traceparent(&outgoing.record.headers).map(|parent| parent.trace());
                    tracing::error!(saga = %sent.saga, trace, topic = %outgoing.record.topic, text,
                        "the broker refuses a command that it may have taken before; its timeout runs from here");
                    let (shard, seq) = sent.row;
                    self.shards.confirmed(shard, sent.saga, seq, now.after(sent.timeout), placed);
                }
                (Some(sent), Some((code, text))) => {
                    let cause = Refusal::new(code, text);
                    refused.push(Arrived::of_ours(Input::Refused(sent.saga, sent.at, cause)));
                }
                (None, Some((_, text))) => {
                    if let (Some(letter), Some(origin)) =
                        (redrive_of(&outgoing.record.headers), outgoing.origin)
                    {
                        refused.push(Arrived::of_ours(Input::CopyRefused(
                            origin.shard(),
                            letter,
                            text.clone(),
                        )));
                    }
                    tracing::error!(topic = %outgoing.record.topic, text, "the broker refuses a record; it is left out");
                }
                (None, None) => {}
            }
        }
        let trouble = self.publisher.trouble().map(str::to_owned);
        self.shown.update(|health| health.broker = trouble);
        self.shown.beat();
        self.shown.unpublished.store(self.publisher.in_flight(), Ordering::Relaxed);
        self.shown.full.store(self.publisher.is_full(), Ordering::Relaxed);
        self.metrics.publish(self.publisher.in_flight());
        let oldest = self.shards.oldest_open().map_or(Duration::ZERO, |started| now.since(started));
        self.metrics.waiting(self.shards.open_count(), oldest);
        refused
    }
}
