//! The questions that are asked after every disturbance: did every accepted booking end as it should, is the journal
//! whole, did every effect happen once?

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator::store::Store;
use saga_defs::ids::SagaId;
use saga_defs::machine::replay;
use saga_defs::saga::{Event, Saga};
use saga_defs::time::Timestamp;
use sea_orm::Value;
use uuid::Uuid;

use crate::load::{Accepted, End};
use crate::stack::Stack;
use crate::wait::{SOON, eventually};

/// At most so many violations are shown.
const SHOWN: usize = 20;
/// How long sagas that are in flight may take to end, once nothing disturbs them any more.
const END_LIMIT: Duration = Duration::from_secs(60);

/// What a disturbance may change about how a booking ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// Nothing: every step had the time to be answered.
    None,
    /// A participant may have been away for longer than the recipe waits for it: then the booking was in doubt, and is
    /// compensated instead of completed.
    Timeouts,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Sagas that completed.
    pub completed: usize,
    /// Sagas that were compensated.
    pub compensated: usize,
}

/// Waits until every saga of the stack has ended, then asks everything.
///
/// # Errors
/// Sagas that do not end, and everything that is not as it has to be, a line each.
pub async fn check(stack: &Stack, accepted: &[Accepted]) -> Result<Seen> {
    check_with(stack, accepted, Tolerance::None).await
}

/// As [`check`], after a disturbance that may change how bookings end.
///
/// # Errors
/// As [`check`].
pub async fn check_with(stack: &Stack, accepted: &[Accepted], tolerance: Tolerance) -> Result<Seen> {
    all_ended(stack).await?;
    let mut wrong = Vec::new();
    let sagas = sagas(stack).await?;
    let seen = starts(accepted, &sagas, tolerance, &mut wrong);
    once_per_key(stack, accepted, &sagas, &mut wrong).await?;
    gapless(stack, &mut wrong).await?;
    replays(stack, &sagas, &mut wrong).await?;
    effects(stack, &sagas, &mut wrong).await?;
    announced(stack, &sagas, &mut wrong).await?;
    told_to_everyone(stack, &sagas, &mut wrong).await?;
    records(stack, &mut wrong).await?;
    ensure!(seen.completed > 0, "nothing completed: the disturbance hides that nothing works");
    ensure!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong[..wrong.len().min(SHOWN)].join("\n"));
    Ok(seen)
}

async fn all_ended(stack: &Stack) -> Result<()> {
    let query = "SELECT count(*) AS n FROM saga WHERE status NOT IN ('completed', 'compensated')";
    let mut open = 0;
    let ended = eventually("every saga ends", END_LIMIT, async || {
        open = stack.sagas.number(query, vec![]).await?;
        Ok((open == 0).then_some(()))
    });
    let ended = ended.await;
    if ended.is_err() {
        let samples = "SELECT id || ' ' || status || ' at ' || coalesce(step, '?') || ', wakes at ' \
                       || coalesce(wake_at::text, '?') || ', updated ' || updated_at AS text FROM saga \
                       WHERE status NOT IN ('completed', 'compensated') ORDER BY id LIMIT 10";
        let samples = stack.sagas.texts(samples, vec![]).await?;
        return ended.with_context(|| format!("{open} are open, e.g.\n{}", samples.join("\n")));
    }
    Ok(())
}

/// Every saga as its row has it.
async fn sagas(stack: &Stack) -> Result<HashMap<SagaId, Saga>> {
    let rows = stack.sagas.rows("SELECT id FROM saga", vec![]).await?;
    let ids: Vec<SagaId> =
        rows.iter().map(|row| Ok(SagaId::from_uuid(row.try_get("", "id")?))).collect::<Result<_>>()?;
    let store = Store::connect(&stack.sagas.url().into()).await?;
    Ok(store.sagas(&ids).await?)
}

/// Every accepted start has its saga, which ended as it should.
fn starts(
    accepted: &[Accepted],
    sagas: &HashMap<SagaId, Saga>,
    tolerance: Tolerance,
    wrong: &mut Vec<String>,
) -> Seen {
    for Accepted { saga, end } in accepted {
        let Some(found) = sagas.get(saga) else {
            wrong.push(format!("{saga} was accepted and is not there"));
            continue;
        };
        let status = found.status().as_str();
        let fits = match end {
            End::Completed => status == "completed",
            End::Compensated => status == "compensated",
        };
        let timed_out = found.reason.as_ref().is_some_and(|reason| &*reason.refusal.code == "timed_out");
        let tolerated = tolerance == Tolerance::Timeouts && timed_out;
        if !fits && !tolerated {
            wrong.push(format!(
                "{saga} should have been {end:?}, but is {status} because of {:?}",
                found.reason
            ));
        }
    }
    let count = |status| sagas.values().filter(|saga| saga.status().as_str() == status).count();
    Seen { completed: count("completed"), compensated: count("compensated") }
}

/// A key makes one saga, and a saga has one key: also where the client never heard of it.
async fn once_per_key(
    stack: &Stack,
    accepted: &[Accepted],
    sagas: &HashMap<SagaId, Saga>,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let known: HashSet<SagaId> = accepted.iter().map(|accepted| accepted.saga).collect();
    if known.len() != accepted.len() {
        wrong.push(format!("{} requests were accepted, for {} sagas", accepted.len(), known.len()));
    }
    let mut keys: HashMap<SagaId, usize> = HashMap::new();
    for row in stack.sagas.rows("SELECT saga_id FROM request_key", vec![]).await? {
        *keys.entry(SagaId::from_uuid(row.try_get("", "saga_id")?)).or_default() += 1;
    }
    wrong
        .extend(keys.iter().filter(|(_, keys)| **keys > 1).map(|(id, keys)| format!("{id} has {keys} keys")));
    let nobodys = sagas.keys().filter(|id| !known.contains(*id) && !keys.contains_key(*id));
    wrong.extend(nobodys.map(|id| format!("{id} was asked for by nobody")));
    Ok(())
}

/// Numbers without gaps: the journal's per shard, the revisions per saga; and the shards agree with their journal.
async fn gapless(stack: &Stack, wrong: &mut Vec<String>) -> Result<()> {
    let query = "SELECT 'shard ' || shard.id || ': next is ' || next_seq || ', the journal has ' || count(seq) \
                   || ' from ' || coalesce(min(seq), 0) || ' to ' || coalesce(max(seq), 0) AS text \
                 FROM shard LEFT JOIN journal ON journal.shard = shard.id GROUP BY shard.id, next_seq \
                 HAVING count(seq) <> next_seq - 1 OR count(DISTINCT seq) <> count(seq) \
                     OR coalesce(max(seq), 0) <> next_seq - 1 OR coalesce(min(seq), 1) <> 1";
    wrong.extend(stack.sagas.texts(query, vec![]).await?);
    let query = "SELECT 'saga ' || saga.id || ': revision ' || saga.revision || ', the journal has ' \
                   || count(journal.revision) AS text \
                 FROM saga LEFT JOIN journal ON journal.saga_id = saga.id GROUP BY saga.id, saga.revision \
                 HAVING count(journal.revision) <> saga.revision OR count(DISTINCT journal.revision) <> saga.revision \
                     OR min(journal.revision) <> 1 OR max(journal.revision) <> saga.revision \
                     OR count(DISTINCT journal.shard) <> 1";
    wrong.extend(stack.sagas.texts(query, vec![]).await?);
    let query = "SELECT 'the journal knows ' || saga_id || ', which has no row' AS text FROM journal \
                 WHERE NOT EXISTS (SELECT FROM saga WHERE saga.id = saga_id) GROUP BY saga_id";
    wrong.extend(stack.sagas.texts(query, vec![]).await?);
    Ok(())
}

/// The journal, replayed through the core, gives each saga's row.
async fn replays(stack: &Stack, sagas: &HashMap<SagaId, Saga>, wrong: &mut Vec<String>) -> Result<()> {
    let query = "SELECT saga_id, at, event::json AS event FROM journal ORDER BY saga_id, revision";
    let mut journal: HashMap<SagaId, Vec<(Timestamp, Event)>> = HashMap::new();
    for row in stack.sagas.rows(query, vec![]).await? {
        let saga = SagaId::from_uuid(row.try_get("", "saga_id")?);
        let event: serde_json::Value = row.try_get("", "event")?;
        let event = serde_json::from_value(event).with_context(|| format!("an event of {saga}"))?;
        journal.entry(saga).or_default().push((Timestamp::from_utc(row.try_get("", "at")?), event));
    }
    for (id, saga) in sagas {
        let definition = stack.definition(&saga.definition.name, saga.definition.version)?;
        let events = journal.get(id).map(Vec::as_slice).unwrap_or_default();
        let replayed = replay(definition, *id, events.iter().map(|(at, event)| (*at, event)));
        if replayed.as_ref() != Some(saga) {
            wrong.push(format!("{id} replayed is\n  {replayed:?}\nand its row is\n  {saga:?}"));
        }
    }
    Ok(())
}

/// What a booking's participants hold, counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Effects {
    booking: Option<String>,
    payments: Vec<String>,
    charges: i64,
    refunds: i64,
}

/// Each effect happened once, or not at all, as the saga's end demands.
async fn effects(stack: &Stack, sagas: &HashMap<SagaId, Saga>, wrong: &mut Vec<String>) -> Result<()> {
    let mut all: HashMap<Uuid, Effects> = HashMap::new();
    for row in stack.bookings.rows("SELECT booking_id, status FROM bookings", vec![]).await? {
        all.entry(row.try_get("", "booking_id")?).or_default().booking = Some(row.try_get("", "status")?);
    }
    for row in stack.payments.rows("SELECT saga_id, status FROM payments", vec![]).await? {
        all.entry(row.try_get("", "saga_id")?).or_default().payments.push(row.try_get("", "status")?);
    }
    let books = "SELECT saga_id, count(*) FILTER (WHERE kind = 'charge') AS charges, \
                   count(*) FILTER (WHERE kind = 'refund') AS refunds \
                 FROM simulated_gateway JOIN payments ON payment_id IN (idempotency_key, charge_key) GROUP BY saga_id";
    for row in stack.payments.rows(books, vec![]).await? {
        let effects = all.entry(row.try_get("", "saga_id")?).or_default();
        (effects.charges, effects.refunds) = (row.try_get("", "charges")?, row.try_get("", "refunds")?);
    }
    let strangers: Vec<String> =
        all.keys().filter(|id| !sagas.contains_key(&SagaId::from_uuid(**id))).map(Uuid::to_string).collect();
    wrong.extend(strangers.into_iter().map(|id| format!("a participant knows {id}, which is no saga")));
    for (id, saga) in sagas.iter().filter(|(_, saga)| saga.definition.name.ends_with("booking")) {
        let found = all.remove(&id.as_uuid()).unwrap_or_default();
        let paid = found.payments.iter().filter(|status| *status == "completed").count();
        let booked = found.booking.as_deref();
        let right = match saga.status().as_str() {
            "completed" => {
                booked == Some("confirmed")
                    && (found.payments.len(), paid) == (1, 1)
                    && (found.charges, found.refunds) == (1, 0)
            }
            _ => matches!(booked, None | Some("cancelled")) && paid == 0 && found.charges == found.refunds,
        };
        if !right || found.charges > 1 {
            wrong.push(format!("{id} is {} with {found:?}", saga.status().as_str()));
        }
    }
    units(stack, wrong).await
}

/// A resource's units are those of the bookings that stand.
async fn units(stack: &Stack, wrong: &mut Vec<String>) -> Result<()> {
    let query = "SELECT 'resource ' || resources.resource_id || ': taken ' || taken || ', bookings ' \
                   || count(booking_id) AS text \
                 FROM resources LEFT JOIN bookings ON bookings.resource_id = resources.resource_id \
                   AND status <> 'cancelled' \
                 GROUP BY resources.resource_id, taken HAVING taken <> count(booking_id)";
    wrong.extend(stack.bookings.texts(query, vec![]).await?);
    Ok(())
}

/// `saga.events` has the start and the end of each saga, and no other end.
async fn announced(stack: &Stack, sagas: &HashMap<SagaId, Saga>, wrong: &mut Vec<String>) -> Result<()> {
    let mut missing = Vec::new();
    let complete = eventually("saga.events has every start and end", SOON, async || {
        let said = said(stack).await?;
        missing.clear();
        for (id, saga) in sagas {
            let id = id.to_string();
            let words = said.get(&id).cloned().unwrap_or_default();
            let expected = HashSet::from(["started".to_owned(), saga.status().as_str().to_owned()]);
            if words != expected {
                missing.push(format!("saga.events says of {id}: {words:?}, not {expected:?}"));
            }
        }
        Ok(missing.is_empty().then_some(()))
    });
    if complete.await.is_err() {
        wrong.append(&mut missing);
    }
    Ok(())
}

/// What `saga.events` says of each saga: `started`, and the statuses of its ends.
async fn said(stack: &Stack) -> Result<HashMap<String, HashSet<String>>> {
    let mut said: HashMap<String, HashSet<String>> = HashMap::new();
    for record in stack.topic_ever("saga.events").await? {
        let decoded = stack.catalog().decode(record.value.as_deref().unwrap_or_default())?;
        let text =
            |name: &str| decoded.fields.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let word = if &*decoded.message_type == "saga.SagaStarted" { "started" } else { text("status") };
        said.entry(text("sagaId").to_owned()).or_default().insert(word.to_owned());
    }
    Ok(said)
}

/// Every domain event of a booking is on its topic, under one id however often it was published.
async fn told_to_everyone(
    stack: &Stack,
    sagas: &HashMap<SagaId, Saga>,
    wrong: &mut Vec<String>,
) -> Result<()> {
    use booking_worker::{CANCELLED, CONFIRMED, CREATED};
    use payment_worker::COMPLETED;
    let bookings: HashMap<&SagaId, &Saga> =
        sagas.iter().filter(|(_, saga)| saga.definition.name.ends_with("booking")).collect();
    let completed = |saga: &Saga| saga.status().as_str() == "completed";
    let cancelled = "SELECT booking_id::text AS text FROM bookings WHERE status = 'cancelled'";
    let cancelled: HashSet<String> = stack.bookings.texts(cancelled, vec![]).await?.into_iter().collect();
    for (topic, is_due) in [
        (CREATED, &(|_: &str, saga: &Saga| completed(saga)) as &dyn Fn(&str, &Saga) -> bool),
        (COMPLETED, &|_, saga| completed(saga)),
        (CONFIRMED, &|_, saga| completed(saga)),
        (CANCELLED, &|id, _| cancelled.contains(id)),
    ] {
        let mut missing = Vec::new();
        let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
        let complete = eventually("every domain event is told", SOON, async || {
            ids = events(stack, topic).await?;
            missing = bookings
                .iter()
                .map(|(id, saga)| (id.to_string(), saga))
                .filter(|(id, saga)| is_due(id, saga) && !ids.contains_key(id))
                .map(|(id, _)| format!("{topic} says nothing of {id}"))
                .collect();
            Ok(missing.is_empty().then_some(()))
        });
        if complete.await.is_err() {
            wrong.append(&mut missing);
        }
        let doubled = ids.iter().filter(|(_, ids)| ids.len() > 1);
        wrong.extend(doubled.map(|(key, ids)| format!("{topic} of {key} happened {} times", ids.len())));
    }
    Ok(())
}

/// The ids of the events of each key.
async fn events(stack: &Stack, topic: &str) -> Result<HashMap<String, HashSet<String>>> {
    let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
    for record in stack.topic_ever(topic).await? {
        let event = record.headers.text("event-id").context("an event has an id")?.to_owned();
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        ids.entry(key).or_default().insert(event);
    }
    Ok(ids)
}

/// All records of one command have the same bytes, and all of one saga are in one partition.
async fn records(stack: &Stack, wrong: &mut Vec<String>) -> Result<()> {
    for topic in ["booking.commands", "payment.commands"] {
        let mut values = HashMap::new();
        let mut partitions = HashMap::new();
        for record in stack.topic_ever(topic).await? {
            let command = record.headers.text("command-id").unwrap_or_default().to_owned();
            let value = values.entry(command.clone()).or_insert_with(|| record.value.clone());
            if *value != record.value {
                wrong.push(format!("{topic} has command {command} with several values"));
            }
            let partition = partitions.entry(record.key.clone()).or_insert(record.partition);
            if *partition != record.partition {
                wrong.push(format!(
                    "{topic} has command {command} in partition {}, not {partition}",
                    record.partition
                ));
            }
        }
    }
    Ok(())
}

/// Each shard's epoch, by shard.
///
/// # Errors
/// The database does not answer.
pub async fn epochs(stack: &Stack) -> Result<Vec<i64>> {
    let rows = stack.sagas.rows("SELECT epoch FROM shard ORDER BY id", Vec::<Value>::new()).await?;
    rows.iter().map(|row| Ok(row.try_get("", "epoch")?)).collect()
}
