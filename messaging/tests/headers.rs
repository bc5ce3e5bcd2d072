//! The typed headers: what is written is read, and what is wrong is named.

use messaging::headers::{
    CommandHeaders, DeadLetterHeaders, HeaderError, MAX_HEADERS, MAX_HEADERS_BYTES, NOWHERE, OutcomeKind,
    ReplyHeaders,
};
use messaging::{Headers, TraceParent};
use saga_defs::ids::{Attempt, CommandId, DeadLetterId, DefinitionRef, Direction, SagaId};
use saga_defs::saga::Echo;
use saga_defs::time::Timestamp;

fn saga_id() -> SagaId {
    SagaId::new(Timestamp::from_unix_millis(1_700_000_000_000), [7; 10])
}

fn command() -> CommandHeaders {
    CommandHeaders {
        saga_id: saga_id(),
        definition: DefinitionRef { name: "booking".into(), version: 1 },
        step: "charge-payment".into(),
        direction: Direction::Forward,
        command_id: CommandId::derive(saga_id(), "charge-payment", Direction::Forward),
        attempt: Attempt::FIRST,
        redrive: 0,
        reply_topic: "saga.inbox".into(),
        reply_partition: 3,
        deadline: Timestamp::from_unix_millis(1_700_000_005_678),
        message_type: "payment.ChargePayment".into(),
        traceparent: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").ok(),
    }
}

fn reply() -> ReplyHeaders {
    ReplyHeaders {
        saga_id: saga_id(),
        command_id: command().command_id,
        outcome: OutcomeKind::Rejected,
        echo: Some(Echo { attempt: Attempt(3), redrive: 1 }),
        message_type: "saga.Refusal".into(),
        traceparent: None,
    }
}

fn shown(headers: &Headers) -> String {
    let line = |(name, value): (&str, Option<&[u8]>)| {
        format!("{name}: {}", value.map_or("(absent)".into(), String::from_utf8_lossy))
    };
    headers.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_commands_headers_are_those_of_the_contract() {
    insta::assert_snapshot!(shown(&command().write()), @r#"
    saga-id: 018bcfe5-6800-7707-8707-070707070707
    saga-definition: booking
    saga-version: 1
    step: charge-payment
    direction: forward
    command-id: 018bcfe5-6800-874f-83f4-970f6ebfa96c
    attempt: 1
    reply-topic: saga.inbox
    reply-partition: 3
    deadline: 2023-11-14T22:13:25.678Z
    message-type: payment.ChargePayment
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    "#);
    assert_eq!(CommandHeaders::read(&command().write()), Ok(command()));
    let redriven = CommandHeaders { redrive: 2, direction: Direction::Compensation, ..command() };
    assert_eq!(redriven.write().text("redrive"), Some("2"));
    assert_eq!(CommandHeaders::read(&redriven.write()), Ok(redriven));
}

#[test]
fn a_replys_headers_are_those_of_the_contract() {
    insta::assert_snapshot!(shown(&reply().write()), @r#"
    saga-id: 018bcfe5-6800-7707-8707-070707070707
    command-id: 018bcfe5-6800-874f-83f4-970f6ebfa96c
    outcome: rejected
    attempt: 3
    redrive: 1
    message-type: saga.Refusal
    "#);
    for outcome in [OutcomeKind::Succeeded, OutcomeKind::Rejected, OutcomeKind::Failed] {
        let reply = ReplyHeaders { outcome, ..reply() };
        assert_eq!(ReplyHeaders::read(&reply.write()), Ok(reply));
        // A participant that does not echo is understood as well.
        let silent = ReplyHeaders { outcome, echo: None, ..self::reply() };
        assert_eq!(ReplyHeaders::read(&silent.write()), Ok(silent));
    }
}

/// What reading a command says when one header is replaced.
fn complaint(name: &str, value: Option<&[u8]>) -> String {
    let mut headers = command().write();
    headers.remove(name);
    headers.push_nullable(name, value.map(<[u8]>::to_vec));
    CommandHeaders::read(&headers).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
}

#[test]
fn a_wrong_header_is_named_with_what_was_found_and_what_is_allowed() {
    let complaints = [
        complaint("saga-id", None),
        complaint("saga-id", Some(b"0190A6B01C2D7E3F8A4B5C6D7E8F9A0B")),
        complaint("saga-version", Some(b"0")),
        complaint("step", Some(b"")),
        complaint("direction", Some(b"sideways")),
        complaint("command-id", Some(&[0xff, 0xfe])),
        complaint("attempt", Some(b"-1")),
        complaint("redrive", Some(b"often")),
        complaint("reply-topic", Some(b"../etc/passwd")),
        complaint("reply-partition", Some(b"-1")),
        complaint("reply-partition", Some(b"99999999999")),
        complaint("deadline", Some(b"tomorrow")),
        complaint("message-type", Some("x".repeat(300).as_bytes())),
        complaint("traceparent", Some(b"not a trace: that is no reason to refuse a command")),
    ];
    insta::assert_snapshot!(complaints.join("\n"), @r#"
    header saga-id is missing; allowed: a UUID with hyphens
    header saga-id: found "0190A6B01C2D7E3F8A4B5C6D7E8F9A0B"; allowed: a UUID with hyphens
    header saga-version: found "0"; allowed: a number from 1
    header step: found ""; allowed: a name of 1 to 255 bytes
    header direction: found "sideways"; allowed: forward or compensation
    header command-id: found "��"; allowed: a UUID with hyphens
    header attempt: found "-1"; allowed: a number from 1
    header redrive: found "often"; allowed: a number, or no such header
    header reply-topic: found "../etc/passwd"; allowed: a topic name: 1 to 249 letters, digits, dots, underscores and hyphens
    header reply-partition: found "-1"; allowed: a number from 0
    header reply-partition: found "99999999999"; allowed: a number from 0
    header deadline: found "tomorrow"; allowed: a time as in RFC 3339
    header message-type: found "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; allowed: a name of 1 to 255 bytes
    fine
    "#);
}

#[test]
fn a_header_that_is_there_twice_is_ambiguous() {
    let mut headers = command().write();
    headers.push("command-id", command().command_id.to_string());
    let error = CommandHeaders::read(&headers);
    assert_eq!(error, Err(HeaderError::Repeated { name: "command-id", found: 2 }));
    let mut headers = command().write();
    headers.push("somebody-elses", "1");
    headers.push("somebody-elses", "2");
    assert!(CommandHeaders::read(&headers).is_ok());
}

#[test]
fn a_flood_of_headers_is_an_error() {
    let mut many = command().write();
    while many.len() <= MAX_HEADERS {
        many.push("x", "");
    }
    assert_eq!(CommandHeaders::read(&many), Err(HeaderError::TooMany { found: MAX_HEADERS + 1 }));
    let mut large = reply().write();
    large.push("x", vec![0; MAX_HEADERS_BYTES]);
    let found = large.size_bytes();
    assert_eq!(ReplyHeaders::read(&large), Err(HeaderError::TooLarge { found }));
}

#[test]
fn a_letter_that_was_nowhere_in_particular_is_read_back() {
    let at = Timestamp::from_unix_millis(1_700_000_000_000);
    let letter = DeadLetterHeaders {
        id: DeadLetterId::of_command(command().command_id),
        reason: "sold_out".into(),
        message: "every attempt was in vain".to_owned(),
        topic: "booking.commands".into(),
        partition: NOWHERE,
        offset: i64::from(NOWHERE),
        source: "orchestrator".into(),
        attempts: 3,
        first_failed_at: at,
        last_failed_at: at,
        saga_id: None,
        step: None,
        redrive_of: None,
    };
    let written = letter.write(&command().write());
    assert_eq!(DeadLetterHeaders::read(&written), Ok(letter));
    let mut wrong = written;
    wrong.push("saga-dlq-offset", "-2");
    let error = DeadLetterHeaders::read(&wrong).unwrap_err().to_string();
    assert_eq!(
        error,
        "header saga-dlq-offset: found \"-2\"; allowed: a number from 0, or -1 for none in particular"
    );
}

#[test]
fn what_is_no_dead_letter_is_no_dead_letter() {
    let error = DeadLetterHeaders::read(&command().write()).unwrap_err();
    assert_eq!(error.to_string(), "header saga-dlq-id is missing; allowed: a UUID with hyphens");
}

#[test]
fn the_original_of_a_letter_by_somebody_else_is_what_does_not_look_like_ours() {
    let mut headers = command().write();
    headers.push("saga-dlq-reason", "unhandled");
    headers.push("__connect.errors.topic", "booking.commands");
    assert_eq!(DeadLetterHeaders::original(&headers), command().write());
    // A count that cannot be right is not trusted.
    headers.push("saga-dlq-original-headers", "99999");
    assert_eq!(DeadLetterHeaders::original(&headers), command().write());
}
