use std::collections::BTreeSet;
use std::path::Path;

use insta::assert_snapshot;
use messaging::Headers;
use messaging::TraceParent;
use messaging::headers::{CommandHeaders, DeadLetterHeaders, OutcomeKind, ReplyHeaders};
use saga_defs::ids::{Attempt, CommandId, DeadLetterId, Direction, SagaId};
use saga_defs::saga::Echo;
use saga_defs::time::Timestamp;
use saga_defs::{Shipped, shipped};

use super::*;

fn of(names: &[&str]) -> Value {
    let definitions: Vec<Definition> =
        names.iter().map(|name| Shipped::named(name).unwrap().definition()).collect();
    document(&definitions, &Catalog::shipped(), Partitions::default())
}

fn of_all() -> Value {
    let names: Vec<&str> = shipped().iter().map(Shipped::name).collect();
    of(&names)
}

fn last(reference: &Value) -> &str {
    reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap()
}

/// Channels with their messages, operations with what they are on: the document without its words.
fn outline(document: &Value) -> String {
    let mut lines = Vec::new();
    for (topic, channel) in document["channels"].as_object().unwrap() {
        let messages: Vec<&str> =
            channel["messages"].as_object().unwrap().keys().map(String::as_str).collect();
        lines.push(format!("{topic}: {}", messages.join(" ")));
    }
    for (name, operation) in document["operations"].as_object().unwrap() {
        let all = |list: &Value| -> String {
            list.as_array().unwrap().iter().map(last).collect::<Vec<_>>().join(" ")
        };
        let reply = operation.get("reply");
        let reply = reply.map(|reply| format!(" -> {} {}", last(&reply["channel"]), all(&reply["messages"])));
        lines.push(format!(
            "{name}: {} {} {}{}",
            operation["action"].as_str().unwrap(),
            last(&operation["channel"]),
            all(&operation["messages"]),
            reply.unwrap_or_default(),
        ));
    }
    lines.join("\n")
}

#[test]
fn the_booking_over_kafka() {
    assert_snapshot!(outline(&of(&["booking"])), @r#"
    booking.cancelled: booking.BookingCancelled.event
    booking.commands: booking.CancelBooking.command booking.ConfirmBooking.command booking.ReserveBooking.command
    booking.confirmed: booking.BookingConfirmed.event
    booking.created: booking.BookingCreated.event
    payment.commands: payment.ChargePayment.command payment.RefundPayment.command
    payment.completed: payment.PaymentCompleted.event
    payment.failed: payment.PaymentFailed.event
    payment.refunded: payment.PaymentRefunded.event
    saga.dead-letters: dead-letter
    saga.events: saga.SagaEnded.event saga.SagaStarted.event
    saga.inbox: booking.BookingConfirmed.reply booking.BookingReservationCancelled.reply booking.BookingReserved.reply payment.PaymentCompleted.reply payment.PaymentRefunded.reply saga.Refusal.reply saga.Undone.reply
    announce-sagas: send saga.events saga.SagaEnded.event saga.SagaStarted.event
    do.booking.v1.charge-payment: send payment.commands payment.ChargePayment.command -> saga.inbox payment.PaymentCompleted.reply saga.Refusal.reply
    do.booking.v1.confirm-booking: send booking.commands booking.ConfirmBooking.command -> saga.inbox booking.BookingConfirmed.reply saga.Refusal.reply
    do.booking.v1.reserve-booking: send booking.commands booking.ReserveBooking.command -> saga.inbox booking.BookingReserved.reply saga.Refusal.reply
    export-dead-letters: send saga.dead-letters dead-letter
    receive-replies: receive saga.inbox booking.BookingConfirmed.reply booking.BookingReservationCancelled.reply booking.BookingReserved.reply payment.PaymentCompleted.reply payment.PaymentRefunded.reply saga.Refusal.reply saga.Undone.reply
    take-dead-letters: receive saga.dead-letters dead-letter
    undo.booking.v1.charge-payment: send payment.commands payment.RefundPayment.command -> saga.inbox payment.PaymentRefunded.reply saga.Undone.reply saga.Refusal.reply
    undo.booking.v1.reserve-booking: send booking.commands booking.CancelBooking.command -> saga.inbox booking.BookingReservationCancelled.reply saga.Undone.reply saga.Refusal.reply
    "#);
}

#[test]
fn a_message_says_what_it_needs_to_be_read() {
    let document = of(&["booking"]);
    let command = &document["components"]["messages"]["booking.CancelBooking.command"];
    assert_snapshot!(format!("{command:#}"), @r##"
    {
      "bindings": {
        "kafka": {
          "bindingVersion": "0.5.0",
          "key": {
            "description": "The saga's id, as text.",
            "format": "uuid",
            "type": "string"
          },
          "schemaIdLocation": "payload"
        }
      },
      "contentType": "avro/binary",
      "correlationId": {
        "$ref": "#/components/correlationIds/command"
      },
      "description": "Version 1 of the record booking.CancelBooking is what is written.",
      "headers": {
        "$ref": "#/components/schemas/CommandHeaders"
      },
      "name": "booking.CancelBooking",
      "payload": {
        "$ref": "#/components/schemas/booking.CancelBooking"
      },
      "summary": "Command, undoes ReserveBooking: give the unit back.",
      "title": "booking.CancelBooking, command"
    }
    "##);
    let payload = &document["components"]["schemas"]["booking.CancelBooking"];
    assert_eq!(payload["schemaFormat"], "application/vnd.apache.avro;version=1.9.0");
    assert_eq!(payload["schema"]["fields"][0]["type"], json!({"type": "string", "logicalType": "uuid"}));
}

#[test]
fn partitions_are_told_where_they_are_known() {
    let booking = Shipped::named("booking").unwrap().definition();
    let partitions = Partitions { inbox: Some(64), commands: Some(12) };
    let document = document([&booking], &Catalog::shipped(), partitions);
    let of = |topic: &str| document["channels"][topic]["bindings"]["kafka"]["partitions"].clone();
    assert_eq!(
        [of("saga.inbox"), of("booking.commands"), of("saga.events")],
        [json!(64), json!(12), Value::Null]
    );
}

/// Every reference leads somewhere, in every version of the document.
#[test]
fn no_reference_is_without_its_end() {
    fn each<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| each(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| each(value, found)),
            _ => {}
        }
    }
    let document = of_all();
    let mut found = BTreeSet::new();
    each(&document, &mut found);
    assert!(found.len() > 100);
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}

/// The names of the headers that are always there, and of all of them.
fn named(document: &Value, schema: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let schema = &document["components"]["schemas"][schema];
    let required = schema["required"].as_array().unwrap().iter();
    let all = schema["properties"].as_object().unwrap().keys();
    (required.map(|name| name.as_str().unwrap().to_owned()).collect(), all.cloned().collect())
}

fn written(headers: &Headers) -> BTreeSet<String> {
    headers.iter().map(|(name, _)| name.to_owned()).filter(|name| !name.starts_with("__connect")).collect()
}

fn ids() -> (SagaId, CommandId) {
    let saga: SagaId = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b".parse().unwrap();
    (saga, CommandId::derive(saga, "reserve", Direction::Forward))
}

#[test]
fn the_headers_are_those_that_are_written() {
    let document = of(&["booking"]);
    let (saga_id, command_id) = ids();
    let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").ok();
    let command = |redrive, traceparent| CommandHeaders {
        saga_id,
        definition: Shipped::named("booking").unwrap().definition().id,
        step: "reserve".into(),
        direction: Direction::Forward,
        command_id,
        attempt: Attempt(1),
        redrive,
        reply_topic: INBOX.into(),
        reply_partition: 3,
        deadline: Timestamp::from_unix_millis(0),
        message_type: "booking.ReserveBooking".into(),
        traceparent,
    };
    let (required, all) = named(&document, "CommandHeaders");
    assert_eq!((written(&command(0, None).write()), written(&command(1, trace).write())), (required, all));

    let reply = |echo, traceparent| ReplyHeaders {
        saga_id,
        command_id,
        outcome: OutcomeKind::Succeeded,
        echo,
        message_type: "booking.BookingReserved".into(),
        traceparent,
    };
    let echo = Some(Echo { attempt: Attempt(1), redrive: 1 });
    for schema in ["ReplyHeaders", "RefusalHeaders"] {
        let (required, all) = named(&document, schema);
        assert_eq!(
            (written(&reply(None, None).write()), written(&reply(echo, trace).write())),
            (required, all)
        );
    }

    let letter = |saga_id, step| DeadLetterHeaders {
        id: DeadLetterId::of_command(command_id),
        reason: "undecodable".into(),
        message: "not Avro".into(),
        topic: INBOX.into(),
        partition: 0,
        offset: 0,
        source: "booking".into(),
        attempts: 1,
        first_failed_at: Timestamp::from_unix_millis(0),
        last_failed_at: Timestamp::from_unix_millis(0),
        saga_id,
        step,
        redrive_of: None,
    };
    let (required, all) = named(&document, "DeadLetterHeaders");
    let (bare, full) = (letter(None, None), letter(Some(saga_id), Some("reserve".into())));
    let original = Headers::new();
    assert_eq!((written(&bare.write(&original)), written(&full.write(&original))), (required, all));
}

#[test]
fn a_schema_cannot_claim_a_topic_of_ours() {
    let claim = |name: &str, topic: &str| {
        let text = json!({"type": "record", "name": name, "namespace": "own", "topic": topic, "fields": []});
        (format!("own.{name}.v1.avsc"), text.to_string())
    };
    let claims = [
        claim("Sold", "own.sold"),
        claim("Inbox", "saga.inbox"),
        claim("Commands", "booking.commands"),
        claim("Wrong", "not a topic"),
    ];
    let catalog = Catalog::shipped().with_sources(claims).unwrap();
    let document = document([], &catalog, Partitions::default());
    let own = document["components"]["messages"].as_object().unwrap().keys();
    let own: Vec<&String> = own.filter(|name| name.starts_with("own.")).collect();
    assert_eq!(own, ["own.Sold.event"]);
    assert!(document["channels"]["own.sold"].is_object());
}

#[test]
fn the_page_in_the_docs_is_that_of_what_ships() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/messages.md");
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let again = "cargo run -p orchestrator -- asyncapi --format markdown > docs/messages.md";
    assert!(
        found == page(&of_all()),
        "docs/messages.md is not what is made of the definitions and schemas: {again}"
    );
}
