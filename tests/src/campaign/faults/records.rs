//! Records that should not be there: repeated ones, strays, and some that nobody can read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use messaging::headers::{CommandHeaders, MAX_HEADERS, OutcomeKind, ReplyHeaders, name};
use messaging::{Headers, Record};
use saga_defs::Data;
use saga_defs::ids::{Attempt, CommandId, DefinitionRef, Direction, SagaId, ShardCount};
use saga_defs::time::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::Harm;
use crate::campaign::field::{Field, lock, now};
use crate::kafka::{self, COMMAND_PARTITIONS, SHARDS, copy_of};
use crate::oracle::evidence::{Place, Planted};
use crate::random::Random;

const INBOX: &str = "saga.inbox";
const COMMANDS: [&str; 2] = ["booking.commands", "payment.commands"];
/// How many of a topic's last records are repeated, and how often.
const REPEATED: usize = 100;
const COPIES: usize = 2;
/// Rounds of strays, and the time between two.
const ROUNDS: usize = 5;
const BETWEEN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1_500));
/// More than a key of ours ever has, in bytes.
const LONG_KEY: usize = 64 * 1024;

pub(super) async fn repeat(field: &Field) -> Result<Harm> {
    let mut copies = Vec::new();
    for topic in [INBOX].into_iter().chain(COMMANDS) {
        let records = field.stack.topic(topic).await?;
        let planted = lock(&field.planted).clone();
        let ours = records.iter().rev().filter(|record| {
            let place = Place::of(record);
            // A copy of a stray would be one more stray.
            record.headers.text(name::COMMAND_ID).is_some() && planted.iter().all(|one| one.place != place)
        });
        copies.extend(ours.take(REPEATED).flat_map(|record| vec![copy_of(record); COPIES]));
    }
    let count = copies.len();
    field.stack.publish(copies).await?;
    Ok(Harm::of(format!("{count} records")))
}

pub(super) async fn stray(field: &Field, random: &mut Random) -> Result<Harm> {
    let mut published = 0;
    for _ in 0..ROUNDS {
        let mut all = replies(field, random)?;
        all.extend(commands(field, random)?);
        published += all.len();
        let (records, letters): (Vec<Record>, Vec<Reasons>) = all.into_iter().unzip();
        let topics: Vec<Arc<str>> = records.iter().map(|record| record.topic.clone()).collect();
        let placed = kafka::publish(&field.stack.kafka_settings(), records).await?;
        let planted = placed.into_iter().zip(topics).zip(letters).map(|((at, topic), letter)| Planted {
            place: Place { topic: topic.to_string(), partition: at.partition, offset: at.offset },
            letter,
        });
        lock(&field.planted).extend(planted);
        sleep(random.between(BETWEEN.0, BETWEEN.1)).await;
    }
    Ok(Harm::of(format!("{published} records")))
}

/// Of the dead letter that a stray has to become, any of them.
type Reasons = &'static [&'static str];
type Strays = Vec<(Record, Reasons)>;

const UNDECODABLE: Reasons = &["undecodable"];

fn a_saga(random: &mut Random) -> SagaId {
    let low = random.uuid().as_u128().to_be_bytes();
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&low[..10]);
    SagaId::new(now(), bytes)
}

fn shard_of(saga: SagaId) -> Result<i32> {
    Ok(i32::from(saga.shard(ShardCount::new(SHARDS).context("at least one shard")?).0))
}

/// Replies that nobody waits for, and some that are none.
fn replies(field: &Field, random: &mut Random) -> Result<Strays> {
    let saga = a_saga(random);
    let reply = |step: &str| -> Result<Record> {
        let headers = ReplyHeaders {
            saga_id: saga,
            command_id: CommandId::derive(saga, step, Direction::Forward),
            outcome: OutcomeKind::Succeeded,
            echo: None,
            message_type: "booking.BookingConfirmed".into(),
            traceparent: None,
        };
        let body = json!({"bookingId": saga.to_string(), "confirmedAt": now().unix_millis()});
        let value = field.stack.catalog().encode("booking.BookingConfirmed", &fields(body)?)?;
        let mut record = Record::new(INBOX, saga.to_string(), value, headers.write());
        (record.partition, record.timestamp_ms) = (Some(shard_of(saga)?), Some(now().unix_millis()));
        Ok(record)
    };
    let unknown = reply("confirm-booking")?;
    let value = unknown.value.clone().unwrap_or_default();
    let with = |value: Option<Vec<u8>>| Record { value, ..unknown.clone() };
    let mut flipped = value.clone();
    let at = usize::try_from(random.below(flipped.len() as u64))?;
    flipped[at] ^= 1 << random.below(8);
    let mut crowded = unknown.clone();
    for number in 0..=MAX_HEADERS {
        crowded.headers.push(format!("x-{number}"), "y");
    }
    let bare = Record { headers: Headers::new(), ..unknown.clone() };
    let long = Record { key: Some(vec![b'k'; LONG_KEY]), headers: Headers::new(), ..unknown.clone() };
    Ok(vec![
        (with(None), UNDECODABLE),
        (with(Some(Vec::new())), UNDECODABLE),
        (with(Some(b"garbage".to_vec())), UNDECODABLE),
        (with(Some(value[..value.len() / 2].to_vec())), UNDECODABLE),
        (bare, UNDECODABLE),
        (crowded, UNDECODABLE),
        (long, UNDECODABLE),
        (with(Some(flipped)), &["undecodable", "mismatch", "unknown_saga"]),
        (unknown, &["unknown_saga"]),
    ])
}

/// Commands that nobody sent, and some that are none.
fn commands(field: &Field, random: &mut Random) -> Result<Strays> {
    let saga = a_saga(random);
    let message_type: Arc<str> = "booking.ReserveBooking".into();
    let body = json!({"bookingId": saga.to_string(), "userId": Uuid::nil(), "resourceId": Uuid::nil()});
    let value = field.stack.catalog().encode(&message_type, &fields(body)?)?;
    let headers = CommandHeaders {
        saga_id: saga,
        definition: DefinitionRef { name: "booking".into(), version: 1 },
        step: "reserve-booking".into(),
        direction: Direction::Forward,
        command_id: CommandId::derive(saga, "reserve-booking", Direction::Forward),
        attempt: Attempt::FIRST,
        redrive: 0,
        reply_topic: INBOX.into(),
        reply_partition: shard_of(saga)?,
        deadline: Timestamp::from_unix_millis(4_000_000_000_000),
        message_type,
        traceparent: None,
    };
    let [booking, _] = COMMANDS;
    let mut whole = Record::new(booking, saga.to_string(), value, headers.write());
    whole.partition = Some(i32::try_from(random.below(u64::from(COMMAND_PARTITIONS)))?);
    whole.timestamp_ms = Some(now().unix_millis());
    let poisoned = Record { value: Some(b"\xc3\x01 not what it seems".to_vec()), ..whole.clone() };
    let bare = Record { headers: Headers::new(), ..whole.clone() };
    let tombstone = Record { value: None, ..whole.clone() };
    let mut strange = whole;
    strange.headers.remove(name::MESSAGE_TYPE);
    strange.headers.push(name::MESSAGE_TYPE, "payment.RefundPayment");
    Ok(vec![
        (poisoned, UNDECODABLE),
        (bare, UNDECODABLE),
        (tombstone, UNDECODABLE),
        (strange, &["unhandled"]),
    ])
}

fn fields(body: Value) -> Result<Data> {
    match body {
        Value::Object(fields) => Ok(fields),
        other => anyhow::bail!("no fields: {other}"),
    }
}
