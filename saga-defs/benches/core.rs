//! What the core costs: a start, a move, ids, the journal's JSON, a definition. `cargo bench -p saga-defs`.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::Criterion;
use saga_defs::definition::Definition;
use saga_defs::ids::{CommandId, Direction, SagaId, ShardCount, murmur2};
use saga_defs::machine::{self, Moment, Transition};
use saga_defs::saga::{Event, Outcome, Saga};
use saga_defs::time::Timestamp;
use saga_defs::{Data, Shipped};
use serde_json::json;

const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

fn data(fields: serde_json::Value) -> Data {
    fields.as_object().unwrap().clone()
}

/// As a booking begins.
fn input() -> Data {
    data(json!({
        "userId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", "resourceId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0c",
        "amountMinor": 12_345, "currency": "EUR", "forcedPaymentOutcome": null,
    }))
}

fn id() -> SagaId {
    SagaId::new(NOW, [7; 10])
}

/// A booking that waits for its payment, and the reply.
fn at_payment(booking: &Definition) -> (Saga, Event) {
    let begun = machine::start(booking, id(), &input(), None, None, NOW).saga;
    let reserved =
        replied("reserve-booking", json!({ "bookingId": id().to_string(), "reservedAt": NOW.unix_millis() }));
    let Transition::Moved(moved) = machine::transition(booking, &begun, &reserved, Moment::of(&begun, NOW))
    else {
        panic!("a reservation moves a booking");
    };
    let paid = json!({
        "paymentId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0d", "bookingId": id().to_string(), "reference": id().to_string(),
    });
    (moved.saga, replied("charge-payment", paid))
}

fn replied(step: &str, fields: serde_json::Value) -> Event {
    let command_id = CommandId::derive(id(), step, Direction::Forward);
    Event::Replied { command_id, echo: None, outcome: Outcome::Succeeded { fields: data(fields) } }
}

fn moves(criterion: &mut Criterion, booking: &Definition) {
    let mut group = criterion.benchmark_group("machine");
    let input = input();
    group.bench_function("start", |b| {
        b.iter(|| machine::start(booking, id(), black_box(&input), None, None, NOW));
    });
    let (saga, paid) = at_payment(booking);
    let moment = Moment::of(&saga, NOW);
    group.bench_function("transition, a reply", |b| {
        b.iter(|| machine::transition(booking, black_box(&saga), black_box(&paid), moment));
    });
    let at = saga.current().unwrap();
    group.bench_function("transition, a timeout", |b| {
        b.iter(|| machine::transition(booking, black_box(&saga), &Event::TimedOut(at), moment));
    });
    let late = replied("reserve-booking", json!({}));
    group.bench_function("transition, a late reply", |b| {
        b.iter(|| machine::transition(booking, black_box(&saga), black_box(&late), moment));
    });
}

fn ids(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ids");
    let text = id().to_string();
    let count = ShardCount::new(64).unwrap();
    group.bench_function("murmur2 of an id's text", |b| b.iter(|| murmur2(black_box(text.as_bytes()))));
    group.bench_function("shard of a saga", |b| b.iter(|| black_box(id()).shard(count)));
    group.bench_function("id as text", |b| b.iter(|| black_box(id()).to_string()));
    group.bench_function("id from text", |b| b.iter(|| black_box(&*text).parse::<SagaId>()));
    group.bench_function("id of a command", |b| {
        b.iter(|| CommandId::derive(black_box(id()), "charge-payment", Direction::Forward));
    });
    group.bench_function("time as text", |b| b.iter(|| black_box(NOW).to_string()));
    group.bench_function("time from text", |b| {
        b.iter(|| Timestamp::parse(black_box("2027-01-15T08:00:00.000Z")))
    });
}

fn journal(criterion: &mut Criterion, booking: &Definition) {
    let mut group = criterion.benchmark_group("journal");
    let (saga, paid) = at_payment(booking);
    let started = Event::Started { input: input(), business_key: None, traceparent: None };
    for (name, event) in [("start", &started), ("reply", &paid)] {
        let text = serde_json::to_string(event).unwrap();
        group.bench_function(format!("{name} to JSON"), |b| {
            b.iter(|| serde_json::to_string(black_box(event)).unwrap());
        });
        group.bench_function(format!("{name} from JSON"), |b| {
            b.iter(|| Event::from_json(black_box(text.as_bytes())).unwrap());
        });
    }
    group.bench_function("a saga's data to JSON", |b| {
        b.iter(|| serde_json::to_string(black_box(&*saga.data)).unwrap());
    });
    group.bench_function("a saga's steps to JSON", |b| {
        b.iter(|| serde_json::to_string(black_box(&saga.steps)).unwrap());
    });
    group.bench_function("a saga copied", |b| b.iter(|| black_box(&saga).clone()));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let booking = Shipped::named("booking").unwrap();
    let text = booking.text;
    criterion
        .bench_function("a definition parsed", |b| b.iter(|| Definition::parse(black_box(text)).unwrap()));
    let booking = booking.definition();
    moves(&mut criterion, &booking);
    ids(&mut criterion);
    journal(&mut criterion, &booking);
    criterion.final_summary();
}
