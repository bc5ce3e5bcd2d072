//! The SQL of this worker: each function is one statement for a whole batch.

use std::collections::{BTreeMap, HashMap, HashSet};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement, Value};
use time::OffsetDateTime;
use uuid::Uuid;

/// A booking to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewBooking {
    pub(crate) booking_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) resource_id: Uuid,
}

/// The free units of resources, whose rows stay locked until the transaction ends. Resources that nobody has heard of
/// come into being with the default capacity.
pub(crate) async fn lock_free_units(
    transaction: &DatabaseTransaction,
    resources: &[Uuid],
) -> Result<HashMap<Uuid, i64>, DbErr> {
    // In order of id, so that two workers cannot wait for each other.
    const LOCK: &str = "SELECT resource_id, capacity - taken AS free FROM resources \
                        WHERE resource_id = ANY($1) ORDER BY resource_id FOR UPDATE";
    const CREATE: &str = "INSERT INTO resources (resource_id) SELECT id FROM unnest($1::uuid[]) AS id ORDER BY id \
                          ON CONFLICT (resource_id) DO NOTHING";
    let wanted: HashSet<Uuid> = resources.iter().copied().collect();
    let mut free = HashMap::with_capacity(wanted.len());
    for create in [true, false] {
        let ids: Vec<Uuid> = wanted.iter().copied().collect();
        for row in transaction.query_all_raw(sql(LOCK, [ids.into()])).await? {
            free.insert(row.try_get("", "resource_id")?, row.try_get("", "free")?);
        }
        let unknown: Vec<Uuid> = wanted.iter().filter(|id| !free.contains_key(*id)).copied().collect();
        if unknown.is_empty() || !create {
            break;
        }
        transaction.execute_raw(sql(CREATE, [unknown.into()])).await?;
    }
    Ok(free)
}

/// Holds a unit for each booking.
pub(crate) async fn insert_bookings(
    transaction: &DatabaseTransaction,
    bookings: &[NewBooking],
    at: OffsetDateTime,
) -> Result<(), DbErr> {
    // A resource is updated once, however many bookings want it.
    const INSERT: &str = "WITH held AS (\
             INSERT INTO bookings (booking_id, user_id, resource_id, created_at, status) \
             SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::uuid[]), $4, 'reserved') \
         UPDATE resources SET taken = taken + wanted.units \
         FROM unnest($5::uuid[], $6::bigint[]) AS wanted(resource_id, units) \
         WHERE resources.resource_id = wanted.resource_id";
    if bookings.is_empty() {
        return Ok(());
    }
    let mut units: BTreeMap<Uuid, i64> = BTreeMap::new();
    for booking in bookings {
        *units.entry(booking.resource_id).or_default() += 1;
    }
    let (resources, units): (Vec<Uuid>, Vec<i64>) = units.into_iter().unzip();
    let values: [Value; 6] = [
        column(bookings, |booking| booking.booking_id),
        column(bookings, |booking| booking.user_id),
        column(bookings, |booking| booking.resource_id),
        at.into(),
        resources.into(),
        units.into(),
    ];
    transaction.execute_raw(sql(INSERT, values)).await.map(drop)
}

/// Cancels the bookings that stand and gives their units back; a booking that is cancelled already, or that nobody has
/// heard of, gives nothing back. Returns those that were cancelled now.
pub(crate) async fn cancel_bookings(
    transaction: &DatabaseTransaction,
    bookings: Vec<Uuid>,
    at: OffsetDateTime,
) -> Result<HashSet<Uuid>, DbErr> {
    const CANCEL: &str = "WITH cancelled AS (\
             UPDATE bookings SET status = 'cancelled', cancelled_at = $2 \
             FROM unnest($1::uuid[]) AS wanted(booking_id) \
             WHERE bookings.booking_id = wanted.booking_id AND bookings.status <> 'cancelled' \
             RETURNING bookings.booking_id, bookings.resource_id), \
         back AS (SELECT resource_id, count(*) AS units FROM cancelled GROUP BY resource_id), \
         given AS (UPDATE resources SET taken = taken - back.units FROM back \
                   WHERE resources.resource_id = back.resource_id) \
         SELECT booking_id FROM cancelled";
    let rows = transaction.query_all_raw(sql(CANCEL, [bookings.into(), at.into()])).await?;
    rows.iter().map(|row| row.try_get("", "booking_id")).collect()
}

/// Confirms the bookings that are reserved. Returns those that were confirmed now.
pub(crate) async fn confirm_bookings(
    transaction: &DatabaseTransaction,
    bookings: Vec<Uuid>,
    at: OffsetDateTime,
) -> Result<HashSet<Uuid>, DbErr> {
    const CONFIRM: &str = "UPDATE bookings SET status = 'confirmed', confirmed_at = $2 \
         FROM unnest($1::uuid[]) AS wanted(booking_id) \
         WHERE bookings.booking_id = wanted.booking_id AND bookings.status = 'reserved' \
         RETURNING bookings.booking_id";
    let rows = transaction.query_all_raw(sql(CONFIRM, [bookings.into(), at.into()])).await?;
    rows.iter().map(|row| row.try_get("", "booking_id")).collect()
}

/// Sets how many units a resource has.
pub(crate) async fn set_capacity(
    database: &impl ConnectionTrait,
    resource: Uuid,
    capacity: i64,
) -> Result<(), DbErr> {
    const SET: &str = "INSERT INTO resources (resource_id, capacity) VALUES ($1, $2) \
                       ON CONFLICT (resource_id) DO UPDATE SET capacity = excluded.capacity";
    database.execute_raw(sql(SET, [resource.into(), capacity.into()])).await.map(drop)
}

fn column(bookings: &[NewBooking], of: impl Fn(&NewBooking) -> Uuid) -> Value {
    bookings.iter().map(of).collect::<Vec<Uuid>>().into()
}

fn sql<const N: usize>(text: &'static str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}
