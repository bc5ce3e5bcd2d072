//! Looks everything up that the oracle judges.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use messaging::Headers;
use orchestrator::store::copy::{FromTuple, Rows};
use orchestrator::store::snapshot::{self, JournalLine, Snapshot};
use saga_defs::ids::{CommandId, SagaId};
use saga_defs::time::Timestamp;
use sea_orm::{QueryResult, Value};
use serde_json::Value as Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::evidence::{Evidence, Letter, Line, Place, Start, Tolerance, Topic, Trace, Units, Update};
use crate::database::Database;
use crate::stack::{REMEMBERED, Stack};

/// Topics that are looked at beside those that a stack remembers.
const OTHERS: [&str; 2] = ["saga.inbox", "saga.dead-letters"];

/// Everything that a stack says of itself. What clients and disturbances know is the caller's to add.
///
/// # Errors
/// A database or the broker does not answer.
pub async fn gather(stack: &Stack, starts: Vec<Start>, tolerance: Tolerance) -> Result<Evidence> {
    let mut snapshot = Snapshot::take(&stack.sagas.url().into()).await?;
    let small = snapshot.small().await?;
    let journal: Vec<JournalLine> = read(&snapshot, snapshot::JOURNAL).await?;
    let (sagas, letters) = (read(&snapshot, snapshot::SAGAS), read(&snapshot, snapshot::LETTERS));
    let (sagas, letters, audit) = (sagas.await?, letters.await?, read(&snapshot, snapshot::AUDIT).await?);
    let mut bodies = bodies(&stack.sagas).await?;
    let journal =
        journal.into_iter().map(|row| Line { body: bodies.remove(&(row.shard, row.seq)), row }).collect();
    let read = stack.sagas.rows("SELECT id, inbox_offset FROM shard", vec![]).await?;
    let read = read.iter().map(|row| Ok((row.try_get("", "id")?, row.try_get("", "inbox_offset")?)));
    let recorded = [("booking", &stack.bookings), ("payment", &stack.payments)];
    let mut inboxes = BTreeMap::new();
    for (participant, database) in recorded {
        inboxes.insert(participant, inbox(database).await?);
    }
    Ok(Evidence {
        starts,
        tolerance,
        small,
        journal,
        sagas,
        letters,
        audit,
        keys: ids(&stack.sagas, "SELECT saga_id AS id FROM request_key").await?,
        read: read.collect::<Result<_>>()?,
        updates: updates(&stack.sagas).await?,
        traces: traces(stack).await?,
        units: units(&stack.bookings).await?,
        recorded: inboxes,
        topics: topics(stack).await?,
        kept: kept(&stack.sagas).await?,
        planted: Vec::new(),
        calm: Vec::new(),
        used: Vec::new(),
    })
}

async fn read<T: FromTuple>(snapshot: &Snapshot, select: &str) -> Result<Vec<T>> {
    let mut connection = snapshot.reader().await?;
    let mut rows = Rows::open(&mut connection, select).await?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().await? {
        all.push(row);
    }
    Ok(all)
}

async fn bodies(database: &Database) -> Result<HashMap<(i32, i64), Vec<u8>>> {
    let rows = database.rows("SELECT shard, seq, body FROM journal WHERE body IS NOT NULL", vec![]).await?;
    let body = |row: &QueryResult| {
        Ok(((row.try_get("", "shard")?, row.try_get("", "seq")?), row.try_get("", "body")?))
    };
    rows.iter().map(body).collect()
}

async fn ids(database: &Database, query: &str) -> Result<Vec<SagaId>> {
    let rows = database.rows(query, vec![]).await?;
    rows.iter().map(|row| Ok(SagaId::from_uuid(row.try_get("", "id")?))).collect()
}

async fn inbox(database: &Database) -> Result<HashSet<CommandId>> {
    let rows = database.rows("SELECT command_id FROM inbox", vec![]).await?;
    rows.iter().map(|row| Ok(CommandId::from_uuid(row.try_get("", "command_id")?))).collect()
}

/// What the trigger of [`super::watch`] has written, if it is there.
async fn updates(database: &Database) -> Result<Vec<Update>> {
    let there = database.number("SELECT count(to_regclass('watch.updates')) AS n", vec![]).await?;
    if there == 0 {
        return Ok(Vec::new());
    }
    let rows = database.rows("SELECT * FROM watch.updates ORDER BY number", vec![]).await?;
    let update = |row: &QueryResult| {
        Ok(Update {
            at: time(row, "at")?.context("a time")?,
            shard: row.try_get("", "shard")?,
            epoch: row.try_get("", "epoch")?,
            process: row.try_get("", "process")?,
            seq: (row.try_get("", "from_seq")?, row.try_get("", "to_seq")?),
            published: row.try_get("", "published")?,
        })
    };
    rows.iter().map(update).collect()
}

fn time(row: &QueryResult, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<OffsetDateTime>>("", column)?.map(Timestamp::from_utc))
}

async fn traces(stack: &Stack) -> Result<HashMap<SagaId, Trace>> {
    let mut all: HashMap<SagaId, Trace> = HashMap::new();
    let id = |row: &QueryResult, column| anyhow::Ok(SagaId::from_uuid(row.try_get("", column)?));
    let bookings = "SELECT booking_id, status, cancelled_at FROM bookings";
    for row in stack.bookings.rows(bookings, vec![]).await? {
        let trace = all.entry(id(&row, "booking_id")?).or_default();
        trace.booking = Some(row.try_get("", "status")?);
        trace.cancelled_at = time(&row, "cancelled_at")?;
    }
    for row in stack.payments.rows("SELECT saga_id, status FROM payments", vec![]).await? {
        all.entry(id(&row, "saga_id")?).or_default().payments.push(row.try_get("", "status")?);
    }
    let books = "SELECT saga_id, count(*) FILTER (WHERE kind = 'charge') AS charges, \
                   count(*) FILTER (WHERE kind = 'refund') AS refunds, \
                   max(made_at) FILTER (WHERE kind = 'refund') AS refunded_at \
                 FROM simulated_gateway JOIN payments ON payment_id IN (idempotency_key, charge_key) GROUP BY saga_id";
    for row in stack.payments.rows(books, vec![]).await? {
        let trace = all.entry(id(&row, "saga_id")?).or_default();
        (trace.charges, trace.refunds) = (row.try_get("", "charges")?, row.try_get("", "refunds")?);
        trace.refunded_at = time(&row, "refunded_at")?;
    }
    Ok(all)
}

async fn units(database: &Database) -> Result<Vec<Units>> {
    let query = "SELECT resources.resource_id AS resource, taken, count(booking_id) AS bookings \
                 FROM resources LEFT JOIN bookings ON bookings.resource_id = resources.resource_id \
                   AND status <> 'cancelled' \
                 GROUP BY resources.resource_id, taken";
    let rows = database.rows(query, Vec::<Value>::new()).await?;
    let units = |row: &QueryResult| {
        Ok(Units {
            resource: row.try_get("", "resource")?,
            taken: row.try_get("", "taken")?,
            bookings: row.try_get("", "bookings")?,
        })
    };
    rows.iter().map(units).collect()
}

async fn topics(stack: &Stack) -> Result<BTreeMap<String, Topic>> {
    let mut topics = BTreeMap::new();
    for topic in REMEMBERED.into_iter().chain(OTHERS) {
        let remembered = REMEMBERED.contains(&topic);
        let records = if remembered { stack.topic_ever(topic).await? } else { stack.topic(topic).await? };
        let mut first: HashMap<i32, i64> = HashMap::new();
        for record in &records {
            first.entry(record.partition).or_insert(record.offset);
        }
        // The embedded broker forgets old records.
        let whole = first.values().all(|offset| *offset == 0) && (remembered || !stack.has_past());
        topics.insert(topic.to_owned(), Topic { records, whole });
    }
    Ok(topics)
}

async fn kept(database: &Database) -> Result<Vec<Letter>> {
    let query = "SELECT id, reason, topic, partition, record_offset, record_key, record_value, record_headers::text \
                   AS headers FROM dead_letter";
    let rows = database.rows(query, vec![]).await?;
    rows.iter().map(letter).collect()
}

fn letter(row: &QueryResult) -> Result<Letter> {
    let (partition, offset): (Option<i32>, Option<i64>) =
        (row.try_get("", "partition")?, row.try_get("", "record_offset")?);
    let topic: String = row.try_get("", "topic")?;
    let place = partition.zip(offset).map(|(partition, offset)| Place { topic, partition, offset });
    let id: Uuid = row.try_get("", "id")?;
    let headers: String = row.try_get("", "headers")?;
    Ok(Letter {
        id,
        reason: row.try_get("", "reason")?,
        place,
        key: row.try_get("", "record_key")?,
        value: row.try_get("", "record_value")?,
        headers: self::headers(&headers).with_context(|| format!("the headers of letter {id}"))?,
    })
}

/// An array of `[name, base64 or null]`.
fn headers(text: &str) -> Result<Headers> {
    let all: Vec<(String, Json)> = serde_json::from_str(text)?;
    let header = |(name, value): (String, Json)| {
        let value = value.as_str().map(|value| STANDARD.decode(value)).transpose()?;
        Ok((name, value))
    };
    all.into_iter().map(header).collect::<Result<Headers>>()
}
