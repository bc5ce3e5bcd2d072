//! What may come over Kafka: repetitions, strays, and records that nobody can read.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use messaging::headers::{DeadLetterHeaders, OutcomeKind, ReplyHeaders, name};
use messaging::{Headers, Received, Record};
use saga_defs::Data;
use saga_defs::ids::{CommandId, Direction, SagaId, ShardCount};
use saga_defs::time::Timestamp;
use serde_json::{Value, json};
use tests::api::BookingRequest;
use tests::kafka::{SHARDS, copy_of};
use tests::scenario::{on_own_stack, on_shared_stack};
use tests::stack::{Options, Stack};
use tests::story::{story, transcript};
use tests::wait::{SOON, eventually};
use uuid::Uuid;

const INBOX: &str = "saga.inbox";

#[test]
fn repeated_commands_and_replies_have_one_effect() {
    // On a stack of its own: it counts the replies of all sagas.
    on_own_stack(Options::default(), async |stack| {
        let saga = stack.api()?.start_booking(&BookingRequest::default()).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        let before = story(stack, saga).await?;
        let replies = stack.topic(INBOX).await?;
        ensure!(replies.len() == 3, "three replies were expected: {replies:?}");

        let mut copies: Vec<Record> = replies.iter().chain(&replies).map(copy_of).collect();
        for topic in ["booking.commands", "payment.commands"] {
            copies.extend(stack.topic(topic).await?.iter().map(copy_of));
        }
        ensure!(copies.len() == 9, "three commands were expected: {copies:?}");
        stack.publish(copies).await?;

        // Three at first, six copies, and a stored reply for each of the three repeated commands.
        let all = eventually("every repeated command is answered again", SOON, async || {
            let all = stack.topic(INBOX).await?;
            Ok((all.len() >= 12).then_some(all))
        })
        .await?;
        everything_is_read(stack, all.len()).await?;
        assert_eq!(story(stack, saga).await?, before);
        let first = |id: &Received| id.headers.text("command-id").map(str::to_owned);
        for reply in &all {
            let original = replies.iter().find(|original| first(original) == first(reply));
            assert_eq!(
                original.map(|original| &original.value),
                Some(&reply.value),
                "a replay has other bytes"
            );
        }
        assert_eq!(stack.api()?.letters_of(saga).await?, Vec::<Value>::new());
        Ok(())
    });
}

/// Waits until the engine has passed every record of the inbox.
async fn everything_is_read(stack: &Stack, records: usize) -> Result<()> {
    let records = i64::try_from(records)?;
    let query = "SELECT coalesce(sum(inbox_offset), 0)::bigint AS n FROM shard";
    eventually("the engine has read the whole inbox", SOON, async || {
        Ok((stack.sagas.number(query, vec![]).await? >= records).then_some(()))
    })
    .await
}

#[test]
fn a_reply_on_the_wrong_partition_is_passed_on() {
    on_shared_stack(async |stack| {
        let saga = waiting_trip(stack, "Wanda").await?;
        let reply = reply(stack, saga, "book-train", "travel.TrainBooked", json!({"seat": "3F"}))?;
        let wrong = (i32::from(saga.shard(shards()?).0) + 1) % i32::from(SHARDS);
        stack.publish(vec![Record { partition: Some(wrong), ..reply }]).await?;
        eventually("the saga moves on", SOON, async || {
            Ok((stack.api()?.saga(saga).await?["data"]["seat"] == "3F").then_some(()))
        })
        .await
    });
}

#[test]
fn a_poisoned_command_is_kept_and_harms_nobody() {
    on_shared_stack(async |stack| {
        let saga = SagaId::from_uuid(Uuid::now_v7());
        let mut forged = command(stack, saga)?;
        forged.value = Some(b"\xc3\x01 not what it seems".to_vec());
        forged.timestamp_ms = Some(1_700_000_000_123);
        forged.headers.push_nullable("x-odd", None::<&[u8]>);
        forged.headers.push("x-odd", [0, 159, 146, 150]);
        let neighbour = stack.api()?.start_booking(&BookingRequest::default()).await?;
        stack.publish(vec![forged.clone()]).await?;
        let other = stack.api()?.start_booking(&BookingRequest::default()).await?;
        let letter = kept(stack, &forged, "undecodable", "booking").await?;
        assert_eq!(letter["sagaId"], json!(saga.to_string()));
        assert_eq!(letter["step"], "reserve-booking");
        for saga in [neighbour, other] {
            stack.api()?.saga_is(saga, "completed").await?;
        }
        Ok(())
    });
}

#[test]
fn commands_that_say_nothing_are_kept() {
    on_shared_stack(async |stack| {
        let saga = SagaId::from_uuid(Uuid::now_v7());
        let whole = command(stack, saga)?;
        let key = || Some(Uuid::new_v4().to_string().into_bytes());
        let bare = Record { headers: Headers::new(), key: key(), ..whole.clone() };
        let tombstone = Record { value: None, key: key(), ..whole.clone() };
        let mut strange = Record { key: key(), ..whole };
        strange.headers.remove(name::MESSAGE_TYPE);
        strange.headers.push(name::MESSAGE_TYPE, "payment.RefundPayment");
        stack.publish(vec![bare.clone(), tombstone.clone(), strange.clone()]).await?;
        kept(stack, &bare, "undecodable", "booking").await?;
        kept(stack, &tombstone, "undecodable", "booking").await?;
        kept(stack, &strange, "unhandled", "booking").await?;
        Ok(())
    });
}

#[test]
fn poisoned_replies_are_kept_and_harm_nobody() {
    on_shared_stack(async |stack| {
        let saga = waiting_trip(stack, "Paula").await?;
        let good = reply(stack, saga, "book-train", "travel.TrainBooked", json!({"seat": "1A"}))?;
        let garbage = Record { value: Some(b"garbage".to_vec()), ..good.clone() };
        let empty = Record { value: None, ..good.clone() };
        let bare = Record { headers: Headers::new(), key: Some(Uuid::new_v4().into()), ..good.clone() };
        let other_type = reply(stack, saga, "book-train", "travel.HotelBooked", json!({"room": "9"}))?;
        let stranger = SagaId::from_uuid(Uuid::now_v7());
        let unknown = reply(stack, stranger, "book-train", "travel.TrainBooked", json!({"seat": "1A"}))?;
        let foreign = reply(stack, saga, "no-such-step", "travel.TrainBooked", json!({"seat": "1A"}))?;
        let all = [&garbage, &empty, &bare, &other_type, &unknown, &foreign];
        stack.publish(all.into_iter().cloned().collect()).await?;
        kept(stack, &garbage, "undecodable", "orchestrator").await?;
        kept(stack, &empty, "undecodable", "orchestrator").await?;
        kept(stack, &bare, "undecodable", "orchestrator").await?;
        kept(stack, &other_type, "mismatch", "orchestrator").await?;
        kept(stack, &unknown, "unknown_saga", "orchestrator").await?;
        kept(stack, &foreign, "mismatch", "orchestrator").await?;

        stack.publish(vec![good]).await?;
        stack.api()?.saga_is(saga, "completed").await?;
        assert_snapshot!(transcript(stack, &stack.api()?, saga).await?, @r"
        start                   -> book-train #1
        book-train succeeded    -> issue-tickets #1
        issue-tickets succeeded -> completed
        ");
        assert_eq!(stack.api()?.saga(saga).await?["data"]["seat"], "1A");
        Ok(())
    });
}

#[test]
fn a_flood_of_headers_and_a_long_key_are_kept_and_harm_nobody() {
    on_shared_stack(async |stack| {
        let saga = waiting_trip(stack, "Flora").await?;
        let good = reply(stack, saga, "book-train", "travel.TrainBooked", json!({"seat": "9B"}))?;
        let mut crowded = good.clone();
        for number in 0..10_000 {
            crowded.headers.push(format!("x-{number}"), "y");
        }
        let long = Record { key: Some(vec![b'k'; 64 * 1024]), headers: Headers::new(), ..good.clone() };
        stack.publish(vec![crowded.clone(), long.clone(), good]).await?;
        kept(stack, &crowded, "undecodable", "orchestrator").await?;
        kept(stack, &long, "undecodable", "orchestrator").await?;
        stack.api()?.saga_is(saga, "completed").await?;
        Ok(())
    });
}

/// Waits for the dead letter of this record, at the API and on the topic, and holds it against the record byte for byte.
async fn kept(stack: &Stack, record: &Record, reason: &str, source: &str) -> Result<Value> {
    let exported = eventually("the letter is on the topic", SOON, async || {
        let all = stack.topic("saga.dead-letters").await?;
        Ok(all.into_iter().find(|letter| {
            letter.key == record.key
                && letter.value == record.value
                && DeadLetterHeaders::original(&letter.headers) == record.headers
        }))
    })
    .await
    .with_context(|| format!("{record:?}"))?;
    if record.timestamp_ms.is_some() {
        assert_eq!(exported.timestamp_ms, record.timestamp_ms);
    }
    let headers = DeadLetterHeaders::read(&exported.headers)?;
    assert_eq!((&*headers.reason, &*headers.source, &*headers.topic), (reason, source, &*record.topic));

    let path = format!("/api/dead-letters/{}", headers.id);
    let letter = eventually("the letter is at the API", SOON, async || {
        let answer = stack.api()?.get(&path).await?;
        Ok((answer.status == 200).then(|| answer.json()))
    })
    .await??;
    let in_base64 = |bytes: Option<&[u8]>| bytes.map(|bytes| STANDARD.encode(bytes));
    assert_eq!(letter["status"], "open");
    assert_eq!(letter["reason"], reason);
    assert_eq!(letter["source"], source);
    assert_eq!(letter["key"], json!(in_base64(record.key.as_deref())));
    assert_eq!(letter["value"], json!(in_base64(record.value.as_deref())));
    let headers: Vec<Value> =
        record.headers.iter().map(|(name, value)| json!([name, in_base64(value)])).collect();
    let shown = letter["headers"].as_array().context("headers")?;
    let shown: Vec<Value> = shown.iter().map(|header| json!([header["name"], header["value"]])).collect();
    assert_eq!(shown, headers);
    if let Some(at) = record.timestamp_ms {
        assert_eq!(letter["timestamp"], json!(Timestamp::from_unix_millis(at).to_string()));
    }
    assert!(letter["decoded"].is_null() != letter["decodeError"].is_null(), "{letter}");
    Ok(letter)
}

/// A trip whose first command nobody answers.
async fn waiting_trip(stack: &Stack, traveller: &str) -> Result<SagaId> {
    let agency = stack.stand_in("travel").await?;
    agency.handle(traveller, "BookTrain", &[tests::stand_in::Manner::LoseReply]);
    let saga = stack.api()?.start_saga("patient-trip", json!({"traveller": traveller})).await?;
    eventually("the command is carried out", SOON, async || {
        Ok((agency.ledger(saga).await? != "nothing").then_some(()))
    })
    .await?;
    Ok(saga)
}

/// A reply as a participant would send it, its partition by its key.
fn reply(stack: &Stack, saga: SagaId, step: &str, message_type: &str, body: Value) -> Result<Record> {
    let headers = ReplyHeaders {
        saga_id: saga,
        command_id: CommandId::derive(saga, step, Direction::Forward),
        outcome: OutcomeKind::Succeeded,
        echo: None,
        message_type: message_type.into(),
        traceparent: None,
    };
    let value = stack.catalog().encode(message_type, &fields(body)?)?;
    let mut record = Record::new(INBOX, saga.to_string(), value, headers.write());
    record.partition = Some(i32::from(saga.shard(shards()?).0));
    Ok(record)
}

/// A command to reserve, as an orchestrator would send it for a saga that does not exist.
fn command(stack: &Stack, saga: SagaId) -> Result<Record> {
    let message_type: Arc<str> = "booking.ReserveBooking".into();
    let body = json!({"bookingId": saga.to_string(), "userId": Uuid::new_v4(), "resourceId": Uuid::new_v4()});
    let value = stack.catalog().encode(&message_type, &fields(body)?)?;
    let headers = messaging::headers::CommandHeaders {
        saga_id: saga,
        definition: saga_defs::ids::DefinitionRef { name: "booking".into(), version: 1 },
        step: "reserve-booking".into(),
        direction: Direction::Forward,
        command_id: CommandId::derive(saga, "reserve-booking", Direction::Forward),
        attempt: saga_defs::ids::Attempt::FIRST,
        redrive: 0,
        reply_topic: INBOX.into(),
        reply_partition: i32::from(saga.shard(shards()?).0),
        deadline: Timestamp::from_unix_millis(4_000_000_000_000),
        message_type,
        traceparent: None,
    };
    Ok(Record::new("booking.commands", saga.to_string(), value, headers.write()))
}

fn fields(body: Value) -> Result<Data> {
    match body {
        Value::Object(fields) => Ok(fields),
        other => anyhow::bail!("no fields: {other}"),
    }
}

fn shards() -> Result<ShardCount> {
    ShardCount::new(SHARDS).context("at least one shard")
}
