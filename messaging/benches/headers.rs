//! What the headers of a command and of its reply cost, written and read. `cargo bench -p messaging`.

use std::hint::black_box;

use criterion::Criterion;
use messaging::TraceParent;
use messaging::headers::{CommandHeaders, OutcomeKind, ReplyHeaders};
use saga_defs::ids::{Attempt, CommandId, DefinitionRef, Direction, SagaId};
use saga_defs::time::Timestamp;

const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

fn command() -> CommandHeaders {
    let saga_id = SagaId::new(NOW, [7; 10]);
    CommandHeaders {
        saga_id,
        definition: DefinitionRef { name: "booking".into(), version: 1 },
        step: "charge-payment".into(),
        direction: Direction::Forward,
        command_id: CommandId::derive(saga_id, "charge-payment", Direction::Forward),
        attempt: Attempt::FIRST,
        redrive: 0,
        reply_topic: "saga.inbox".into(),
        reply_partition: 3,
        deadline: NOW,
        message_type: "payment.ChargePayment".into(),
        traceparent: Some(TraceParent { trace_id: saga_id.as_uuid().as_u128(), span_id: 7, flags: 0 }),
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let command = command();
    let reply = ReplyHeaders {
        saga_id: command.saga_id,
        command_id: command.command_id,
        outcome: OutcomeKind::Succeeded,
        echo: None,
        message_type: "payment.PaymentCompleted".into(),
        traceparent: command.traceparent,
    };
    let (command_headers, reply_headers) = (command.write(), reply.write());
    let mut group = criterion.benchmark_group("headers");
    group.bench_function("of a command, written", |b| b.iter(|| black_box(&command).write()));
    group.bench_function("of a command, read", |b| {
        b.iter(|| CommandHeaders::read(black_box(&command_headers)))
    });
    group.bench_function("of a reply, written", |b| b.iter(|| black_box(&reply).write()));
    group.bench_function("of a reply, read", |b| b.iter(|| ReplyHeaders::read(black_box(&reply_headers))));
    group.finish();
    criterion.final_summary();
}
