//! A small world in which everything is well: three bookings, of which one completes (A), one is declined (B) and one is
//! in doubt and undone in two steps (C); one record of a stranger that became a dead letter, and one command that did. The
//! journal is the real machine's.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use messaging::headers::{CommandHeaders, DeadLetterHeaders, OutcomeKind, ReplyHeaders};
use messaging::{Headers, Received};
use orchestrator::store::body::{body_of, json};
use orchestrator::store::snapshot::{JournalLine, SagaLine, ShardLine, Small};
use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{Attempt, CommandId, DeadLetterId, Direction, SagaId, ShardCount};
use saga_defs::machine::{self, Moment, Moved, Transition};
use saga_defs::saga::{Effect, Event, Outcome, Refusal, Saga, State, Try};
use saga_defs::time::Timestamp;
use schemas::Catalog;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::load::End;
use crate::oracle::evidence::{
    Evidence, Letter, Line, Place, Planted, Start, Tolerance, Topic, Trace, Units, Update,
};

/// It completes.
pub(super) const A: SagaId = SagaId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000a));
/// Its payment is declined.
pub(super) const B: SagaId = SagaId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000b));
/// Its payment is in doubt.
pub(super) const C: SagaId = SagaId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000c));

const RECIPE: &str = include_str!("../../../../definitions/hasty-booking.toml");
const SHARDS: u16 = 4;
/// Between two transitions.
const BEAT: Duration = Duration::from_millis(10);
/// Longer than any step waits.
const LONG: Duration = Duration::from_secs(2);

/// When it began.
pub(super) fn begun() -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000)
}

/// See the module.
pub(super) struct Town {
    pub(super) evidence: Evidence,
    recipe: Definition,
    catalog: Arc<Catalog>,
    now: Timestamp,
}

impl Town {
    pub(super) fn healthy() -> Self {
        let shard = |id| ShardLine { id, next_seq: 1, published_seq: 0, open_from: Uuid::nil() };
        let small = Small {
            shard_count: Some(i32::from(SHARDS)),
            shards: (0..i32::from(SHARDS)).map(shard).collect(),
            definitions: vec![("hasty-booking".to_owned(), 1, RECIPE.to_owned())],
            journal_from: None,
            journal_rows: 0,
            chain_ends: Vec::new(),
            keys_without_saga: Vec::new(),
        };
        let evidence = Evidence {
            starts: Vec::new(),
            tolerance: Tolerance::None,
            small,
            journal: Vec::new(),
            sagas: Vec::new(),
            letters: Vec::new(),
            audit: Vec::new(),
            keys: vec![A, B, C],
            read: BTreeMap::new(),
            updates: Vec::new(),
            traces: HashMap::new(),
            units: vec![Units { resource: Uuid::nil(), taken: 1, bookings: 1 }],
            recorded: BTreeMap::from([("booking", HashSet::new()), ("payment", HashSet::new())]),
            topics: BTreeMap::new(),
            kept: Vec::new(),
            planted: Vec::new(),
            calm: Vec::new(),
            used: Vec::new(),
        };
        let recipe = Definition::parse(RECIPE).unwrap();
        let mut town = Self { evidence, recipe, catalog: Catalog::shipped(), now: begun() };
        town.book(A, End::Completed, |_| Answer::Done);
        town.book(B, End::Compensated, |at| match (at.step.0, at.direction) {
            (1, Direction::Forward) => Answer::Declined,
            _ => Answer::Done,
        });
        town.book(C, End::Compensated, |at| match (at.step.0, at.direction) {
            (1, Direction::Forward) => Answer::None,
            _ => Answer::Done,
        });
        town.leave_traces();
        town.stray();
        for topic in town.evidence.topics.values_mut() {
            topic.records.sort_by_key(|record| (record.partition, record.offset));
        }
        town.evidence.topics.values_mut().for_each(|topic| topic.whole = true);
        town
    }

    /// Runs a saga to its end.
    fn book(&mut self, id: SagaId, end: End, answer: impl Fn(Try) -> Answer) {
        let user = Uuid::from_u128(id.as_uuid().as_u128() + 0x100);
        let input = json!({"userId": user, "resourceId": Uuid::nil()});
        let Value::Object(input) = input else { unreachable!() };
        let event = Event::Started { input: input.clone(), business_key: None, traceparent: None };
        let mut moved = machine::start(&self.recipe, id, &input, None, None, self.now);
        self.take_down(&event, &moved);
        while let Some(at) = moved.saga.current() {
            let event = match (&moved.saga.state, answer(at)) {
                (State::Backoff { next, .. }, _) => Event::RetryDue(*next),
                (_, Answer::None) => Event::TimedOut(at),
                (_, Answer::Done) => self.reply(id, at, OutcomeKind::Succeeded),
                (_, Answer::Declined) => self.reply(id, at, OutcomeKind::Rejected),
            };
            self.now = self.now.after(if matches!(event, Event::Replied { .. }) { BEAT } else { LONG });
            let moment = Moment::of(&moved.saga, self.now);
            let Transition::Moved(next) = machine::transition(&self.recipe, &moved.saga, &event, moment)
            else {
                panic!("{event:?} moves nothing")
            };
            moved = next;
            self.take_down(&event, &moved);
        }
        self.evidence.sagas.push(self.row(&moved.saga));
        self.evidence.starts.push(Start {
            user: Some(user),
            end: Some(end),
            accepted: vec![id],
            requests: 1,
            odd: Vec::new(),
        });
    }

    /// A transition, as the journal and the topics have it.
    fn take_down(&mut self, event: &Event, moved: &Moved) {
        let saga = &moved.saga;
        let shard = i32::from(saga.id.shard(ShardCount::new(SHARDS).unwrap()).0);
        let row = &mut self.evidence.small.shards[usize::try_from(shard).unwrap()];
        let seq = row.next_seq;
        (row.next_seq, row.published_seq) = (seq + 1, seq);
        let sent = moved.effects.iter().find_map(|effect| match effect {
            Effect::Send(at) => Some(*at),
            _ => None,
        });
        let body = sent.map(|at| format!("{:?} {}", at.step, at.direction.as_str()).into_bytes());
        for effect in &moved.effects {
            self.publish(saga, shard, effect, body.as_deref());
        }
        let row = JournalLine {
            saga: saga.id.as_uuid(),
            revision: i32::try_from(saga.revision.0).unwrap(),
            shard,
            seq,
            at: self.now,
            status: saga.status().as_str().into(),
            event: json(event).into(),
            effects: json(&moved.effects).into(),
            body_bytes: i32::try_from(body.as_ref().map_or(0, Vec::len)).unwrap(),
        };
        self.evidence.journal.push(Line { row, body });
        let (epoch, process) = if seq < 3 { (1, "orchestrator-1") } else { (2, "orchestrator-2") };
        let update = Update {
            at: self.now,
            shard,
            epoch,
            process: process.to_owned(),
            seq: (seq, seq + 1),
            published: seq - 1,
        };
        self.evidence.updates.push(update);
    }

    fn publish(&mut self, saga: &Saga, shard: i32, effect: &Effect, body: Option<&[u8]>) {
        let announce = |kind: &str, more: Value| {
            let mut fields = json!({"sagaId": saga.id.to_string(), "definition": "hasty-booking",
                "version": 1, "businessKey": null, "at": self.now.unix_millis()});
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            self.catalog.encode(kind, fields.as_object().unwrap()).unwrap()
        };
        match effect {
            Effect::Send(at) => {
                let step = &self.recipe.steps[at.step.at()];
                let topic = format!("{}.commands", step.participant);
                let participant: &'static str =
                    if &*step.participant == "booking" { "booking" } else { "payment" };
                let command_id = CommandId::derive(saga.id, &step.name, at.direction);
                let headers = CommandHeaders {
                    saga_id: saga.id,
                    definition: saga.definition.clone(),
                    step: step.name.clone(),
                    direction: at.direction,
                    command_id,
                    attempt: at.attempt,
                    redrive: at.redrive,
                    reply_topic: "saga.inbox".into(),
                    reply_partition: shard,
                    deadline: self.now,
                    message_type: "x.X".into(),
                    traceparent: None,
                };
                self.evidence.recorded.get_mut(participant).unwrap().insert(command_id);
                self.put(&topic, shard, saga.id, body.map(<[u8]>::to_vec), headers.write());
            }
            Effect::AnnounceStart => {
                let value = announce("saga.SagaStarted", json!({}));
                self.put("saga.events", shard % 2, saga.id, Some(value), Headers::new());
            }
            Effect::AnnounceEnd { status } => {
                let value =
                    announce("saga.SagaEnded", json!({"status": status.as_str(), "reasonCode": null}));
                self.put("saga.events", shard % 2, saga.id, Some(value), Headers::new());
            }
            _ => {}
        }
    }

    /// A participant's answer, on the inbox and as the event that it becomes.
    fn reply(&mut self, saga: SagaId, at: Try, outcome: OutcomeKind) -> Event {
        let step = self.recipe.steps[at.step.at()].name.clone();
        let command_id = CommandId::derive(saga, &step, at.direction);
        let headers = ReplyHeaders {
            saga_id: saga,
            command_id,
            outcome,
            echo: None,
            message_type: "x.X".into(),
            traceparent: None,
        };
        let shard = i32::from(saga.shard(ShardCount::new(SHARDS).unwrap()).0);
        self.put("saga.inbox", shard, saga, Some(b"reply".to_vec()), headers.write());
        *self.evidence.read.entry(shard).or_default() += 1;
        let outcome = match outcome {
            OutcomeKind::Rejected => Outcome::Rejected { refusal: Refusal::new("payment_declined", "no") },
            _ => Outcome::Succeeded { fields: Data::new() },
        };
        Event::Replied { command_id, echo: None, outcome }
    }

    fn put(&mut self, topic: &str, partition: i32, key: SagaId, value: Option<Vec<u8>>, headers: Headers) {
        let dump: &mut Topic = self.evidence.topics.entry(topic.to_owned()).or_default();
        let offset = dump.records.iter().filter(|record| record.partition == partition).count();
        dump.records.push(Received {
            topic: topic.into(),
            partition,
            offset: i64::try_from(offset).unwrap(),
            timestamp_ms: Some(self.now.unix_millis()),
            key: Some(key.to_string().into_bytes()),
            value,
            headers,
        });
    }

    fn row(&self, saga: &Saga) -> SagaLine {
        SagaLine {
            id: saga.id.as_uuid(),
            shard: i32::from(saga.id.shard(ShardCount::new(SHARDS).unwrap()).0),
            definition: saga.definition.name.clone(),
            version: 1,
            business_key: None,
            revision: i32::try_from(saga.revision.0).unwrap(),
            status: saga.status().as_str().into(),
            step: None,
            wake_at: None,
            started_at: saga.started_at,
            updated_at: saga.updated_at,
            finished_at: saga.finished_at,
            body: body_of(saga).into(),
        }
    }

    /// What the participants have, and what they tell everyone.
    fn leave_traces(&mut self) {
        let cancelled = Some("cancelled".to_owned());
        let done = |payments: &str, charges| Trace {
            booking: Some("confirmed".to_owned()),
            payments: vec![payments.to_owned()],
            charges,
            ..Trace::default()
        };
        let undone = Trace { booking: cancelled, cancelled_at: Some(self.now), ..done("failed", 0) };
        let (refunds, refunded_at) = (1, Some(begun()));
        let refunded = Trace {
            refunds,
            refunded_at,
            charges: 1,
            payments: vec!["refunded".to_owned()],
            ..undone.clone()
        };
        self.evidence.traces = HashMap::from([(A, done("completed", 1)), (B, undone), (C, refunded)]);
        for (topic, saga) in [
            (booking_worker::CREATED, A),
            (booking_worker::CONFIRMED, A),
            (payment_worker::COMPLETED, A),
            (booking_worker::CANCELLED, B),
            (booking_worker::CANCELLED, C),
        ] {
            let mut headers = Headers::new();
            headers.push("event-id", "one");
            self.put(topic, 0, saga, None, headers);
        }
    }

    /// A record that nobody can read, and its dead letter.
    fn stray(&mut self) {
        let mut headers = Headers::new();
        headers.push_nullable("x-odd", None::<&[u8]>);
        let stranger = SagaId::from_uuid(Uuid::from_u128(0x99));
        self.put("saga.inbox", 3, stranger, Some(b"garbage".to_vec()), headers.clone());
        *self.evidence.read.entry(3).or_default() += 1;
        let record = self.evidence.topics["saga.inbox"].records.last().unwrap().clone();
        let place = Place::of(&record);
        let id = DeadLetterId::from_uuid(Uuid::from_u128(0x77));
        let added = DeadLetterHeaders {
            id,
            reason: "undecodable".into(),
            message: "it is garbage".to_owned(),
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            source: "orchestrator".into(),
            attempts: 1,
            first_failed_at: self.now,
            last_failed_at: self.now,
            saga_id: None,
            step: None,
            redrive_of: None,
        };
        self.put("saga.dead-letters", 0, stranger, record.value.clone(), added.write(&headers));
        self.evidence.kept.push(Letter {
            id: id.as_uuid(),
            reason: "undecodable".to_owned(),
            place: Some(place.clone()),
            key: record.key,
            value: record.value,
            headers,
        });
        let command = CommandHeaders {
            saga_id: A,
            definition: self.recipe.id.clone(),
            step: "charge-payment".into(),
            direction: Direction::Forward,
            command_id: CommandId::derive(A, "charge-payment", Direction::Forward),
            attempt: Attempt::FIRST,
            redrive: 0,
            reply_topic: "saga.inbox".into(),
            reply_partition: 3,
            deadline: self.now,
            message_type: "x.X".into(),
            traceparent: None,
        };
        let (headers, id) = (command.write(), DeadLetterId::from_uuid(Uuid::from_u128(0x78)));
        let mut told = headers.clone();
        told.push("saga-dlq-original-headers", headers.len().to_string());
        told.push_text("saga-dlq-id", id);
        self.put("saga.dead-letters", 1, A, Some(b"charge".to_vec()), told);
        self.evidence.kept.push(Letter {
            id: id.as_uuid(),
            reason: "gateway_unavailable".to_owned(),
            place: None,
            key: Some(A.to_string().into_bytes()),
            value: Some(b"charge".to_vec()),
            headers,
        });
        self.evidence.planted.push(Planted { place, letter: &["undecodable"] });
    }

    /// A line with the names of sagas and commands in place of their ids, cut where it gets long.
    pub(super) fn in_words(&self, line: &str) -> String {
        const CUT: usize = 240;
        let mut line = line.to_owned();
        for (saga, letter) in [(A, "A"), (B, "B"), (C, "C")] {
            line = line.replace(&saga.to_string(), letter);
            for (step, direction) in self.recipe.steps.iter().flat_map(|step| {
                [Direction::Forward, Direction::Compensation].map(|direction| (step, direction))
            }) {
                let command = CommandId::derive(saga, &step.name, direction).to_string();
                let undo = if direction == Direction::Forward { "" } else { "undoing of " };
                line = line.replace(&command, &format!("{letter}'s {undo}{}", step.name));
            }
        }
        let whole = line.chars().count() <= CUT;
        let cut: String = line.chars().take(CUT).collect();
        if whole { cut } else { format!("{cut}…") }
    }
}

enum Answer {
    Done,
    Declined,
    None,
}
