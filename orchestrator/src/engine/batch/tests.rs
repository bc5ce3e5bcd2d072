//! What inputs come to, as lines: what is written, published and answered.

mod holds;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use messaging::headers::{OutcomeKind, ReplyHeaders, redriven_copy};
use messaging::{Headers, Received};
use saga_defs::Data;
use saga_defs::Shipped;
use saga_defs::ids::{CommandId, DeadLetterId, Direction, SagaId, Shard, ShardCount};
use saga_defs::time::Timestamp;
use schemas::Catalog;
use serde_json::json;
use uuid::Uuid;

use super::super::handle::{Act, ActOnLetter, LetterVerb, RequestKey, StartSaga, Verb};
use super::super::participants::Participants;
use super::super::participants::parked::Parked;
use super::super::publisher::Origin;
use super::super::records::RecordMaker;
use super::super::shards::{Owned, Shards};
use super::super::{EngineSettings, INBOX};
use super::{Batch, Context, Held, Input, Reply};
use crate::definitions::Definitions;
use crate::store::letters::{LetterChange, LetterRow, StoredLetter};
use crate::store::shards::Claimed;

const START: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

/// An engine's memory without its shell: batches are taken as committed.
struct World {
    shards: Shards,
    sagas: HashMap<SagaId, Held>,
    letters: HashMap<DeadLetterId, StoredLetter>,
    definitions: Definitions,
    maker: RecordMaker,
    count: ShardCount,
    taken_keys: HashSet<Vec<u8>>,
    participants: Participants,
    parked: Parked,
    now: Timestamp,
    offset: i64,
}

impl World {
    fn new() -> Self {
        let settings = EngineSettings {
            advertise_url: "http://here".into(),
            incarnation: "broker".into(),
            command_partitions: 1,
            event_partitions: 1,
            answer_limit: std::time::Duration::from_secs(1),
        };
        let mut shards = Shards::default();
        let claimed = Claimed {
            shard: Shard(0),
            epoch: 1,
            next_seq: 1,
            published_seq: 0,
            inbox_offset: 0,
            open_from: Uuid::nil(),
            republish: false,
            other_topic: false,
        };
        shards.insert(Shard(0), Owned::new(&claimed, 1));
        Self {
            shards,
            sagas: HashMap::new(),
            letters: HashMap::new(),
            definitions: Definitions::of([Shipped::named("booking").unwrap().definition()]),
            maker: RecordMaker::new(Catalog::shipped(), &settings),
            count: ShardCount::new(1).unwrap(),
            taken_keys: HashSet::new(),
            participants: Participants::default(),
            parked: Parked::default(),
            now: START,
            offset: 0,
        }
    }

    fn decide(&mut self, inputs: &[Input]) -> Batch {
        let context = Context {
            shards: &self.shards,
            shard_count: self.count,
            sagas: &self.sagas,
            letters: &self.letters,
            taken_keys: &self.taken_keys,
            definitions: &self.definitions,
            records: &self.maker,
            participants: &self.participants,
            incarnation: "broker",
            now: self.now,
            traced: false,
        };
        let batch = Batch::decide(context, inputs.iter().enumerate());
        for advance in &batch.writes.shards {
            let owned = self.shards.get_mut(advance.shard).unwrap();
            (owned.next_seq, owned.inbox_offset) = (advance.next_seq, advance.inbox_offset);
        }
        for &(shard, id, wake) in &batch.rearmed {
            self.shards.set_wake(shard, id, wake);
        }
        self.participants = batch.participants.clone();
        for waiting in &batch.parked {
            assert!(self.parked.park(waiting.clone()));
        }
        for (id, moved) in &batch.moved {
            match moved.parked.clone() {
                Some(waiting) => assert!(self.parked.park(waiting)),
                None => self.parked.unpark(*id),
            }
            self.shards.set_wake(moved.shard, *id, moved.wake);
            self.sagas.insert(*id, moved.held.clone());
        }
        batch
    }

    fn start(&self, n: u8) -> Input {
        let input =
            json!({"userId": Uuid::nil(), "resourceId": Uuid::nil(), "amountMinor": 5, "currency": "EUR"});
        let start = StartSaga {
            definition: self.definitions.newest("booking").unwrap(),
            input: input.as_object().unwrap().clone(),
            business_key: None,
            traceparent: None,
            key: None,
        };
        Input::Start(id(n), Box::new(start))
    }

    fn record(&mut self, headers: Headers, value: Option<Vec<u8>>) -> Input {
        let record = Received {
            topic: INBOX.into(),
            partition: 0,
            offset: self.offset,
            timestamp_ms: Some(START.unix_millis()),
            key: None,
            value,
            headers,
        };
        self.offset += 1;
        Input::Record(Shard(0), record)
    }

    fn reply(&mut self, n: u8, step: &str, message_type: &str, outcome: OutcomeKind, fields: Data) -> Input {
        let headers = ReplyHeaders {
            saga_id: id(n),
            command_id: CommandId::derive(id(n), step, Direction::Forward),
            outcome,
            echo: None,
            message_type: message_type.into(),
            traceparent: None,
        };
        let value = self.maker.catalog().encode(message_type, &fields).unwrap();
        self.record(headers.write(), Some(value))
    }

    fn reserved(&mut self, n: u8) -> Input {
        let fields = json!({"bookingId": id(n).to_string(), "reservedAt": 1}).as_object().unwrap().clone();
        self.reply(n, "reserve-booking", "booking.BookingReserved", OutcomeKind::Succeeded, fields)
    }

    /// An open letter of a record that nobody could read, said to be about that saga.
    fn letter(&mut self, saga: Option<SagaId>) -> DeadLetterId {
        let garbage = self.record(Headers::new(), Some(b"garbage".to_vec()));
        let batch = self.decide(&[garbage]);
        let LetterChange::Keep(row) = &batch.writes.letters[0] else { panic!("{:?}", batch.writes.letters) };
        let row = LetterRow { saga, ..row.clone() };
        let id = row.id;
        self.letters.insert(id, StoredLetter { row, status: "open".to_owned() });
        id
    }

    fn redrive(&self, letter: DeadLetterId) -> Input {
        Input::Letter(Box::new(ActOnLetter {
            letter,
            verb: LetterVerb::Redrive { edit: None },
            reason: "r".into(),
            actor: "a".into(),
            key: Some(RequestKey { key_hash: [1; 32], request_hash: [2; 32] }),
        }))
    }
}

fn id(n: u8) -> SagaId {
    SagaId::new(START, [n; 10])
}

fn act(saga: SagaId, verb: Verb) -> Input {
    let (reason, actor): (Arc<str>, Arc<str>) = ("because".into(), "somebody".into());
    Input::Act(Box::new(Act { saga, verb, reason, actor, expected: None, key: None }))
}

/// A batch in words.
fn told(batch: &Batch) -> String {
    let mut lines = String::new();
    for row in &batch.writes.journal {
        let event: serde_json::Value = serde_json::from_str(&row.event).unwrap();
        let kind = event["type"].as_str().unwrap();
        writeln!(lines, "journal {} {kind}: {}", row.seq, row.status).unwrap();
    }
    for (what, sagas) in [("insert", &batch.writes.inserts), ("update", &batch.writes.updates)] {
        for saga in sagas {
            let step = saga.step.as_deref().unwrap_or_default();
            writeln!(lines, "{what} saga at {step} revision {}", saga.revision.0).unwrap();
        }
    }
    for letter in &batch.writes.letters {
        let LetterChange::Keep(row) = letter else { panic!("{letter:?}") };
        writeln!(lines, "letter {}: {}", row.reason, row.message).unwrap();
    }
    for outgoing in &batch.outgoing {
        let seq = match outgoing.origin {
            Some(Origin::Row(_, seq)) => seq.to_string(),
            Some(Origin::Again(_)) | None => "-".to_owned(),
        };
        let record = &outgoing.record;
        let message = record.headers.text("message-type").unwrap_or("-");
        writeln!(lines, "publish {seq} to {}: {message}", record.topic).unwrap();
    }
    for (_, reply) in &batch.replies {
        let told = match reply {
            Reply::Started(result) => {
                result.as_ref().map(|saga| saga.revision.0).map_err(ToString::to_string)
            }
            Reply::Acted(result) => result.as_ref().map(|saga| saga.revision.0).map_err(|e| format!("{e:?}")),
            Reply::Letter(result) => result.as_ref().map(|()| 0).map_err(ToString::to_string),
        };
        writeln!(lines, "answer {told:?}").unwrap();
    }
    for advance in &batch.writes.shards {
        let (seq, offset) = (advance.next_seq, advance.inbox_offset);
        writeln!(lines, "shard {}: next {seq}, offset {offset}", advance.shard).unwrap();
    }
    for fact in &batch.facts {
        if let super::Fact::Ignored(why) = fact {
            writeln!(lines, "ignored: {why}").unwrap();
        }
    }
    lines
}

#[test]
fn a_start_is_journalled_published_and_answered() {
    let mut world = World::new();
    let start = world.start(1);
    insta::assert_snapshot!(told(&world.decide(&[start])), @"
    journal 1 started: running
    insert saga at reserve-booking revision 1
    publish 1 to saga.events: saga.SagaStarted
    publish 1 to booking.commands: booking.ReserveBooking
    answer Ok(1)
    shard 0: next 2, offset 0
    ");
}

#[test]
fn a_key_starts_one_saga() {
    let mut world = World::new();
    world.taken_keys.insert(vec![2; 32]);
    let with_key = |n: u8, key: u8| {
        let mut start = world.start(n);
        if let Input::Start(_, start) = &mut start {
            start.key = Some(RequestKey { key_hash: [key; 32], request_hash: [0; 32] });
        }
        start
    };
    let inputs = [with_key(1, 1), with_key(2, 1), with_key(3, 2)];
    let batch = world.decide(&inputs);
    assert_eq!((batch.writes.inserts.len(), batch.writes.keys.len()), (1, 1));
    let answers: Vec<String> =
        told(&batch).lines().filter(|l| l.starts_with("answer")).map(str::to_owned).collect();
    let taken = "answer Err(\"the idempotency key has been used\")";
    assert_eq!(answers, ["answer Ok(1)", taken, taken]);
}

#[test]
fn several_events_of_one_saga_in_one_batch_are_one_row_and_all_their_lines() {
    let mut world = World::new();
    let inputs = [world.start(1), world.reserved(1), world.reserved(1)];
    insta::assert_snapshot!(told(&world.decide(&inputs)), @"
    journal 1 started: running
    journal 2 replied: running
    insert saga at charge-payment revision 2
    publish 1 to saga.events: saga.SagaStarted
    publish 1 to booking.commands: booking.ReserveBooking
    publish 2 to payment.commands: payment.ChargePayment
    answer Ok(1)
    shard 0: next 3, offset 2
    ignored: late
    ");
}

#[test]
fn a_record_nobody_can_use_is_a_letter_and_its_neighbour_goes_on() {
    let mut world = World::new();
    let start = world.start(1);
    world.decide(&[start]);
    let garbage = world.record(Headers::new(), Some(b"garbage".to_vec()));
    let unknown = world.reserved(9);
    let fine = world.reserved(1);
    insta::assert_snapshot!(told(&world.decide(&[garbage, unknown, fine])), @r"
    journal 2 export_letter: none
    journal 3 export_letter: none
    journal 4 replied: running
    update saga at charge-payment revision 2
    letter undecodable: header saga-id is missing; allowed: a UUID with hyphens
    letter unknown_saga: there is no saga 01a3185c-5000-7909-8909-090909090909
    publish 2 to saga.dead-letters: -
    publish 3 to saga.dead-letters: booking.BookingReserved
    publish 4 to payment.commands: payment.ChargePayment
    shard 0: next 5, offset 3
    ");
}

#[test]
fn a_record_read_before_is_not_read_again() {
    let mut world = World::new();
    let (start, reply) = (world.start(1), world.reserved(1));
    world.decide(&[start, reply]);
    world.offset = 0;
    let again = world.reserved(1);
    insta::assert_snapshot!(told(&world.decide(&[again])), @"ignored: read_before");
}

#[test]
fn a_command_that_cannot_be_built_ends_the_step_in_the_same_batch() {
    let mut world = World::new();
    let mut start = world.start(1);
    if let Input::Start(_, start) = &mut start {
        start.input.remove("userId");
    }
    insta::assert_snapshot!(told(&world.decide(&[start])), @r"
    journal 1 started: running
    journal 2 unsendable: compensated
    insert saga at  revision 2
    publish 1 to saga.events: saga.SagaStarted
    publish 2 to saga.events: saga.SagaEnded
    answer Ok(2)
    shard 0: next 3, offset 0
    ");
}

#[test]
fn a_verb_on_a_saga_of_another_process_is_not_for_us() {
    let mut world = World::new();
    world.count = ShardCount::new(64).unwrap();
    let foreign = (0..).map(id).find(|id| id.shard(world.count) != Shard(0)).unwrap();
    insta::assert_snapshot!(told(&world.decide(&[act(foreign, Verb::Cancel)])), @"answer Err(\"NotHere { owner: None }\")");
}

#[test]
fn a_timeout_runs_from_the_confirmed_publication() {
    let mut world = World::new();
    let start = world.start(1);
    world.decide(&[start]);
    world.now = START.after(std::time::Duration::from_secs(60));
    let due = |world: &World| world.shards.due(world.now, 10).len();
    assert_eq!(due(&world), 0, "a minute without a confirmation burns no attempt");
    let confirmed_at = world.now;
    world.shards.confirmed(Shard(0), id(1), 1, confirmed_at.after(std::time::Duration::from_secs(5)), 40);
    world.now = confirmed_at.after(std::time::Duration::from_millis(4_999));
    assert_eq!(due(&world), 0);
    world.now = confirmed_at.after(std::time::Duration::from_secs(5));
    assert_eq!(due(&world), 1);
    insta::assert_snapshot!(told(&world.decide(&[Input::Due(Shard(0), id(1))])), @r"
    journal 2 timed_out: running
    update saga at reserve-booking revision 2
    shard 0: next 3, offset 0
    ");
}

#[test]
fn the_letter_of_a_record_is_the_same_when_it_is_read_again() {
    let mut world = World::new();
    let mut ids: Vec<DeadLetterId> = Vec::new();
    for _ in 0..2 {
        world.offset = 7;
        let garbage = world.record(Headers::new(), None);
        let mut fresh = World::new();
        let batch = fresh.decide(&[garbage]);
        if let LetterChange::Keep(row) = &batch.writes.letters[0] {
            ids.push(row.id);
        }
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_key_names_the_saga_that_was_moved_under_it() {
    let mut world = World::new();
    let start = world.start(1);
    world.decide(&[start]);
    let saga_of_key = |saga| {
        let mut world = World { sagas: world.sagas.clone(), ..World::new() };
        let letter = world.letter(saga);
        let redrive = world.redrive(letter);
        world.decide(&[redrive]).writes.keys[0].saga
    };
    assert_eq!(saga_of_key(Some(id(1))), id(1).as_uuid());
    assert_eq!(saga_of_key(None), Uuid::nil());
    // Nobody could tell by its row that it is gone for good reason.
    assert_eq!(saga_of_key(Some(id(9))), Uuid::nil(), "it is no longer kept");
}

#[test]
fn a_copy_that_is_read_at_last_resolves_its_letter() {
    let mut world = World::new();
    let start = world.start(1);
    world.decide(&[start]);
    let letter = world.letter(None);
    let redrive = world.redrive(letter);
    world.decide(&[redrive]);
    let Input::Record(shard, mut copy) = world.reserved(1) else { unreachable!() };
    copy.headers = redriven_copy(&copy.headers, letter);
    let batch = world.decide(&[Input::Record(shard, copy)]);
    assert_eq!(world.sagas[&id(1)].saga.revision.0, 2, "the saga went on");
    let [LetterChange::Resolve { id, .. }] = batch.writes.letters[..] else {
        panic!("{:?}", batch.writes.letters)
    };
    assert_eq!(id, letter);
}
