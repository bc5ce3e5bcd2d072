//! Whether the tables of the three services agree: no effect twice, none missing, every unit accounted for.
//!
//! Looks at every booking that the data directory has ever seen and that has begun before a moment given, so that
//! bookings which somebody starts meanwhile are left out.

mod facts;

use std::collections::HashMap;

use anyhow::Result;
use sea_orm::DatabaseConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::databases::{Databases, rows};
use facts::Facts;

/// How many rows are asked for at once.
const PAGE: i64 = 20_000;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Sagas that completed.
    pub completed: u64,
    /// Sagas that were compensated.
    pub compensated: u64,
    /// Neither, e.g. stuck.
    pub open: u64,
    /// Charges in the gateway's books.
    pub charges: u64,
    /// Refunds in the gateway's books.
    pub refunds: u64,
    /// Transitions in the journal.
    pub journal: u64,
    /// Shards of the journal.
    pub shards: u64,
    /// Each in one line.
    pub differences: Vec<String>,
}

/// Compares everything that belongs to bookings begun before `until`.
///
/// # Errors
/// A database does not answer.
pub async fn run(databases: &Databases, until: OffsetDateTime) -> Result<Report> {
    let until = first_id_at(until);
    let mut report = Report::default();
    let mut all: HashMap<Uuid, Facts> = HashMap::new();
    let others = sagas(&databases.orchestrator, until, &mut all).await?;
    bookings(&databases.booking, until, &mut all).await?;
    payments(&databases.payment, until, &mut all).await?;
    // A definition of the user's may book and charge under ids of its own.
    all.retain(|_, facts| facts.saga.is_some() || !others);
    let mut ids: Vec<&Uuid> = all.keys().collect();
    ids.sort_unstable();
    for id in ids {
        let facts = &all[id];
        match facts.saga.as_deref() {
            Some("completed") => report.completed += 1,
            Some("compensated") => report.compensated += 1,
            _ => report.open += 1,
        }
        report.charges += u64::from(facts.charges);
        report.refunds += u64::from(facts.refunds);
        report.differences.extend(facts.complaint().map(|complaint| format!("booking {id}: {complaint}")));
    }
    foreign_charges(&databases.payment, &mut report).await?;
    units(&databases.booking, &mut report).await?;
    let whole = journal(&databases.orchestrator, &mut report).await?;
    if whole {
        revisions(&databases.orchestrator, until, &mut report).await?;
    }
    Ok(report)
}

/// The smallest id that a saga of that moment can have: UUIDv7 begins with the time.
fn first_id_at(moment: OffsetDateTime) -> Uuid {
    let ms = u128::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    Uuid::from_u128(ms << 80)
}

/// The status of every booking saga. Says whether there are sagas of other definitions as well.
async fn sagas(database: &DatabaseConnection, until: Uuid, all: &mut HashMap<Uuid, Facts>) -> Result<bool> {
    let sql = "SELECT id, status, definition FROM saga WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3";
    let (mut after, mut others) = (Uuid::nil(), false);
    loop {
        let page = rows(database, sql, [after.into(), until.into(), PAGE.into()]).await?;
        for row in &page {
            after = row.try_get("", "id")?;
            if row.try_get::<String>("", "definition")? == "booking" {
                all.entry(after).or_default().saga = Some(row.try_get("", "status")?);
            } else {
                others = true;
            }
        }
        if page.is_empty() {
            return Ok(others);
        }
    }
}

async fn bookings(database: &DatabaseConnection, until: Uuid, all: &mut HashMap<Uuid, Facts>) -> Result<()> {
    let sql = "SELECT booking_id, status FROM bookings WHERE booking_id > $1 AND booking_id < $2 \
               ORDER BY booking_id LIMIT $3";
    let mut after = Uuid::nil();
    loop {
        let page = rows(database, sql, [after.into(), until.into(), PAGE.into()]).await?;
        for row in &page {
            after = row.try_get("", "booking_id")?;
            all.entry(after).or_default().booking = Some(row.try_get("", "status")?);
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}

/// Payments, and beside each what the gateway's own books say about it.
async fn payments(database: &DatabaseConnection, until: Uuid, all: &mut HashMap<Uuid, Facts>) -> Result<()> {
    let sql = "SELECT p.payment_id, p.booking_id, p.status, \
                   coalesce(charge.kind = 'charge', false) AS charged, \
                   (SELECT count(*) FROM simulated_gateway r WHERE r.kind = 'refund' AND r.charge_key = p.payment_id) AS refunds \
               FROM payments p LEFT JOIN simulated_gateway charge ON charge.idempotency_key = p.payment_id \
               WHERE p.payment_id > $1 ORDER BY p.payment_id LIMIT $2";
    let mut after = Uuid::nil();
    loop {
        let page = rows(database, sql, [after.into(), PAGE.into()]).await?;
        for row in &page {
            after = row.try_get("", "payment_id")?;
            let booking: Uuid = row.try_get("", "booking_id")?;
            if booking >= until {
                continue;
            }
            let facts = all.entry(booking).or_default();
            facts.payments.push(row.try_get("", "status")?);
            facts.charges += u32::from(row.try_get::<bool>("", "charged")?);
            facts.refunds += u32::try_from(row.try_get::<i64>("", "refunds")?).unwrap_or(u32::MAX);
        }
        if page.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Every charge in the gateway's books belongs to a payment.
async fn foreign_charges(database: &DatabaseConnection, report: &mut Report) -> Result<()> {
    let sql = "SELECT idempotency_key FROM simulated_gateway g WHERE kind = 'charge' \
               AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.payment_id = g.idempotency_key)";
    for row in rows(database, sql, []).await? {
        let key: Uuid = row.try_get("", "idempotency_key")?;
        report.differences.push(format!("charge {key}: the gateway made it, but there is no such payment"));
    }
    Ok(())
}

/// A resource has given away as many units as there are bookings of it that stand.
async fn units(database: &DatabaseConnection, report: &mut Report) -> Result<()> {
    let sql = "SELECT r.resource_id, r.taken, coalesce(b.held, 0) AS held FROM resources r \
               FULL JOIN (SELECT resource_id, count(*) AS held FROM bookings WHERE status <> 'cancelled' \
                          GROUP BY resource_id) b ON b.resource_id = r.resource_id \
               WHERE r.taken IS DISTINCT FROM coalesce(b.held, 0)";
    for row in rows(database, sql, []).await? {
        let resource: Option<Uuid> = row.try_get("", "resource_id")?;
        let (taken, held): (Option<i64>, i64) = (row.try_get("", "taken")?, row.try_get("", "held")?);
        report.differences.push(format!(
            "resource {}: {} units are taken, but {held} bookings hold one",
            resource.unwrap_or_default(),
            taken.unwrap_or_default()
        ));
    }
    Ok(())
}

/// The journal of each shard has every number once, up to the shard's own count. Says whether it goes back to the first:
/// old partitions may have been dropped.
async fn journal(database: &DatabaseConnection, report: &mut Report) -> Result<bool> {
    let mut whole = true;
    let sql = "SELECT s.id, s.next_seq, count(j.seq) AS entries, count(DISTINCT j.seq) AS numbers, \
                   coalesce(min(j.seq), s.next_seq) AS low, coalesce(max(j.seq), s.next_seq - 1) AS high \
               FROM shard s LEFT JOIN journal j ON j.shard = s.id GROUP BY s.id, s.next_seq ORDER BY s.id";
    for row in rows(database, sql, []).await? {
        let number = |name| row.try_get::<i64>("", name);
        let shard: i32 = row.try_get("", "id")?;
        let (next, entries, numbers) = (number("next_seq")?, number("entries")?, number("numbers")?);
        let (low, high) = (number("low")?, number("high")?);
        report.shards += 1;
        whole &= low == 1;
        report.journal += u64::try_from(entries).unwrap_or(0);
        if entries != numbers || numbers != high - low + 1 {
            report.differences.push(format!(
                "shard {shard}: the journal has {entries} entries under {numbers} numbers from {low} to {high}"
            ));
        } else if high + 1 != next {
            report
                .differences
                .push(format!("shard {shard}: the journal ends at {high}, but {next} comes next"));
        }
    }
    Ok(whole)
}

/// Every saga has as many entries in the journal as it says, one for each revision.
async fn revisions(database: &DatabaseConnection, until: Uuid, report: &mut Report) -> Result<()> {
    let sql = "SELECT s.id, s.revision, coalesce(j.entries, 0) AS entries FROM saga s \
               LEFT JOIN (SELECT saga_id, count(*) AS entries, max(revision) AS last FROM journal GROUP BY saga_id) j \
                   ON j.saga_id = s.id \
               WHERE s.id < $1 AND (j.entries IS DISTINCT FROM s.revision OR j.last IS DISTINCT FROM s.revision) \
               ORDER BY s.id";
    for row in rows(database, sql, [until.into()]).await? {
        let (id, revision): (Uuid, i32) = (row.try_get("", "id")?, row.try_get("", "revision")?);
        let entries: i64 = row.try_get("", "entries")?;
        report
            .differences
            .push(format!("saga {id}: revision {revision}, but {entries} entries in the journal"));
    }
    Ok(())
}
