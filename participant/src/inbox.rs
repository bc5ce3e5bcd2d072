//! The inbox: what is recorded under each command id, in the worker's own database.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use saga_defs::ids::{Attempt, CommandId, SagaId};
use saga_defs::participant::Recorded;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::database::has_state;
use crate::erased::EncodedReply;

/// A domain event as it is recorded with its command and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredEvent {
    pub(crate) topic: Cow<'static, str>,
    pub(crate) key: String,
    pub(crate) message_type: Cow<'static, str>,
    pub(crate) value: Vec<u8>,
}

/// A row of the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) recorded: Recorded,
    /// Counts the writes of this row, from 1.
    pub(crate) revision: i32,
    /// Empty for `Claimed` and `Tombstoned`.
    pub(crate) reply: Arc<EncodedReply>,
}

/// A row to be written. `revision` is one more than that of the row it replaces, 1 for a new row.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) command: CommandId,
    pub(crate) saga: SagaId,
    pub(crate) recorded: Recorded,
    pub(crate) revision: i32,
    /// The reply to send whenever the command comes again; `None` for `Claimed` and `Tombstoned`.
    pub(crate) reply: Option<Arc<EncodedReply>>,
}

/// Why the inbox could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InboxError {
    #[error("the inbox cannot be reached: {0}")]
    Database(#[from] DbErr),
    #[error("another process works on the same commands: {written} of {wanted} inbox rows were as expected")]
    Raced { wanted: usize, written: u64 },
    #[error("the inbox row of command {command} cannot be understood: {why}")]
    Corrupt { command: CommandId, why: String },
}

const READ: &str = "SELECT command_id, recorded, redrive, attempt, revision, reply_lost, reply_type, reply, events \
                    FROM inbox WHERE command_id = ANY($1)";

/// The rows of `commands` that there are.
pub(crate) async fn read(
    transaction: &DatabaseTransaction,
    commands: Vec<Uuid>,
) -> Result<HashMap<CommandId, Row>, InboxError> {
    if commands.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, READ, [commands.into()]);
    let rows = transaction.query_all_raw(statement).await?;
    rows.iter().map(row).collect()
}

fn row(found: &QueryResult) -> Result<(CommandId, Row), InboxError> {
    let command = CommandId::from_uuid(found.try_get("", "command_id")?);
    let corrupt = |why: String| InboxError::Corrupt { command, why };
    let recorded: String = found.try_get("", "recorded")?;
    let number = |name| found.try_get::<i64>("", name).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let redrive = number("redrive")?;
    let recorded = match recorded.as_str() {
        "claimed" => Recorded::Claimed,
        "succeeded" => Recorded::Succeeded,
        "rejected" => Recorded::Rejected { redrive },
        "failed" => Recorded::Failed { attempt: Attempt(number("attempt")?), redrive },
        "tombstoned" => Recorded::Tombstoned,
        other => return Err(corrupt(format!("recorded is {other:?}"))),
    };
    let message_type: String = found.try_get("", "reply_type")?;
    let events: Vec<u8> = found.try_get("", "events")?;
    let reply = EncodedReply {
        message_type: Arc::from(message_type),
        value: found.try_get("", "reply")?,
        lost: found.try_get("", "reply_lost")?,
        events: unpack(&events).ok_or_else(|| corrupt("its events end too early".to_owned()))?,
    };
    Ok((command, Row { recorded, revision: found.try_get("", "revision")?, reply: Arc::new(reply) }))
}

// `unnest` in the select list: unlike in FROM it hands on row by row, where there each array becomes a table of its own first.
const COLUMNS: &str = "unnest($1::uuid[]) AS command_id, unnest($2::uuid[]) AS saga_id, unnest($3::text[]) AS recorded, \
     unnest($4::bigint[]) AS redrive, unnest($5::bigint[]) AS attempt, unnest($6::int[]) AS revision, \
     unnest($7::boolean[]) AS reply_lost, unnest($8::text[]) AS reply_type, unnest($9::bytea[]) AS reply, \
     unnest($10::bytea[]) AS events";

// The key is the guard: a row that another process wrote in between makes the statement fail.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO inbox (command_id, saga_id, recorded, redrive, attempt, revision, reply_lost, reply_type, reply, events) \
         SELECT {COLUMNS}"
    )
});

// The revision is the guard: a row that another process wrote in between is not updated, and the count tells.
static UPDATE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE inbox SET recorded = new.recorded, redrive = new.redrive, attempt = new.attempt, revision = new.revision, \
            reply_lost = new.reply_lost, reply_type = new.reply_type, reply = new.reply, events = new.events, \
            recorded_at = now() \
         FROM (SELECT {COLUMNS}) AS new \
         WHERE inbox.command_id = new.command_id AND inbox.revision = new.revision - 1"
    )
});

/// SQLSTATE of a key that is there already.
const UNIQUE_VIOLATION: &str = "23505";

/// Writes `rows`, all or (as the caller then rolls back) none. A row that another process wrote meanwhile is
/// [`InboxError::Raced`].
pub(crate) async fn write(transaction: &DatabaseTransaction, rows: Vec<Write>) -> Result<(), InboxError> {
    let (new, changed): (Vec<Write>, Vec<Write>) = rows.into_iter().partition(|row| row.revision == 1);
    for (statement, rows) in [(&INSERT, new), (&UPDATE, changed)] {
        if rows.is_empty() {
            continue;
        }
        let wanted = rows.len();
        let statement =
            Statement::from_sql_and_values(DbBackend::Postgres, statement.as_str(), columns(&rows));
        let written = match transaction.execute_raw(statement).await {
            Ok(done) => done.rows_affected(),
            Err(error) if has_state(&error, UNIQUE_VIOLATION) => 0,
            Err(error) => return Err(error.into()),
        };
        if written != wanted as u64 {
            return Err(InboxError::Raced { wanted, written });
        }
    }
    Ok(())
}

/// The parameters of [`COLUMNS`].
fn columns(rows: &[Write]) -> [Value; 10] {
    fn column<'a, T: 'a>(rows: &'a [Write], of: impl Fn(&'a Write) -> T) -> Value
    where
        Vec<T>: Into<Value>,
    {
        rows.iter().map(of).collect::<Vec<T>>().into()
    }
    [
        column(rows, |row| row.command.as_uuid()),
        column(rows, |row| row.saga.as_uuid()),
        column(rows, |row| words(row.recorded).0.to_owned()),
        column(rows, |row| i64::from(words(row.recorded).1)),
        column(rows, |row| i64::from(words(row.recorded).2)),
        column(rows, |row| row.revision),
        column(rows, |row| row.reply.as_ref().is_some_and(|reply| reply.lost)),
        column(rows, |row| {
            row.reply.as_ref().map(|reply| reply.message_type.to_string()).unwrap_or_default()
        }),
        column(rows, |row| row.reply.as_ref().map(|reply| reply.value.clone()).unwrap_or_default()),
        column(rows, |row| row.reply.as_ref().map(|reply| pack(&reply.events)).unwrap_or_default()),
    ]
}

/// The columns `recorded`, `redrive` and `attempt`.
fn words(recorded: Recorded) -> (&'static str, u32, u32) {
    match recorded {
        Recorded::Claimed => ("claimed", 0, 0),
        Recorded::Succeeded => ("succeeded", 0, 0),
        Recorded::Rejected { redrive } => ("rejected", redrive, 0),
        Recorded::Failed { attempt, redrive } => ("failed", redrive, attempt.0),
        Recorded::Tombstoned => ("tombstoned", 0, 0),
    }
}

/// Events one after the other, each as four parts (topic, key, message type, value), each part after its length.
fn pack(events: &[StoredEvent]) -> Vec<u8> {
    let mut packed = Vec::new();
    for event in events {
        for part in
            [event.topic.as_bytes(), event.key.as_bytes(), event.message_type.as_bytes(), &event.value]
        {
            packed.extend_from_slice(&(part.len() as u32).to_le_bytes());
            packed.extend_from_slice(part);
        }
    }
    packed
}

fn unpack(mut packed: &[u8]) -> Option<Vec<StoredEvent>> {
    let mut events = Vec::new();
    while !packed.is_empty() {
        events.push(StoredEvent {
            topic: text(&mut packed)?.into(),
            key: text(&mut packed)?,
            message_type: text(&mut packed)?.into(),
            value: part(&mut packed)?.to_vec(),
        });
    }
    Some(events)
}

fn text(packed: &mut &[u8]) -> Option<String> {
    String::from_utf8(part(packed)?.to_vec()).ok()
}

fn part<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *packed = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use migrations::participant::Inbox;
    use sea_orm::TransactionTrait;
    use sea_orm_migration::{MigrationTrait, SchemaManager};

    use super::*;

    fn event(topic: &'static str, value: &[u8]) -> StoredEvent {
        StoredEvent {
            topic: topic.into(),
            key: "k".into(),
            message_type: "booking.BookingCreated".into(),
            value: value.to_vec(),
        }
    }

    #[test]
    fn events_come_back_as_they_were_packed() {
        for events in
            [vec![], vec![event("booking.created", b"")], vec![event("a", &[0, 255, 3]), event("b", b"x")]]
        {
            assert_eq!(unpack(&pack(&events)), Some(events));
        }
    }

    #[test]
    fn cut_or_wrong_bytes_are_noticed() {
        let packed = pack(&[event("booking.created", b"12345")]);
        for cut in 1..packed.len() {
            assert_eq!(unpack(&packed[..cut]), None, "cut at {cut}");
        }
        assert_eq!(unpack(&[255; 8]), None);
    }

    /// Without statistics, as on the first day, and with plans made once for all batches.
    #[tokio::test]
    async fn the_inbox_is_found_by_its_key_whatever_the_planner_knows() {
        let url = local_postgres::TestServer::shared().fresh_database();
        let database = crate::connect(&url.into(), "plan").await.unwrap();
        Inbox.up(&SchemaManager::new(&database)).await.unwrap();
        let session = database.begin().await.unwrap();
        session.execute_unprepared("SET plan_cache_mode = force_generic_plan").await.unwrap();
        for (name, statement, arguments) in [("read", READ, 1), ("update", UPDATE.as_str(), 10)] {
            session.execute_unprepared(&format!("PREPARE {name} AS {statement}")).await.unwrap();
            let arguments = vec!["'{}'"; arguments].join(", ");
            let explain =
                Statement::from_string(DbBackend::Postgres, format!("EXPLAIN EXECUTE {name} ({arguments})"));
            let lines = session.query_all_raw(explain).await.unwrap();
            let plan: Vec<String> = lines.iter().map(|line| line.try_get_by_index(0).unwrap()).collect();
            assert!(
                plan.iter().any(|line| line.contains("Index Scan using inbox_pkey")),
                "{name}: {plan:#?}"
            );
            assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{name}: {plan:#?}");
        }
    }
}
