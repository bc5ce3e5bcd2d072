//! The participant that owns bookings and the capacity of resources.
//!
//! Commands: `booking.ReserveBooking` (undone by `booking.CancelBooking`) and `booking.ConfirmBooking`, from the topic
//! `booking.commands`. A resource has a capacity; a booking that is not cancelled holds one unit of it, and at all times
//! `resources.taken` is the number of those bookings.

mod handlers;
mod messages;
mod program;
mod store;

pub use handlers::{CANCELLED, CONFIRMED, CREATED};
pub use messages::{
    BookingCancelled, BookingConfirmed, BookingCreated, BookingReservationCancelled, BookingReserved,
    CancelBooking, ConfirmBooking, ReserveBooking,
};
pub use program::main;

use std::sync::Arc;

use migrations::apply;
use migrations::booking::Migrator;
use participant::service::{ObservingError, WorkerSettings, observed, open, wait_until_migrated};
use participant::{BuildError, Participant, ParticipantError, Stopped, Vitals};
use sea_orm::{DatabaseConnection, DbErr};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The participant's name, and the name of its program.
pub const PARTICIPANT: &str = "booking";
const PROGRAM: &str = "booking-worker";

/// How many units a resource has that nobody has set a capacity for.
pub const DEFAULT_CAPACITY: i64 = 100_000;

/// Why the worker ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The participant is put together wrongly, e.g. a schema is missing.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It broke.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
    /// It cannot show how it is.
    #[error(transparent)]
    Observing(#[from] ObservingError),
}

/// A change to the database that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Stopped before the database answered.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A migration failed; none was applied.
    #[error("the booking worker's migrations were not applied")]
    Migration(#[source] DbErr),
    /// A capacity was not set, e.g. because more units are taken.
    #[error("the capacity of resource {resource} was not set to {capacity}")]
    Capacity {
        /// The resource.
        resource: Uuid,
        /// The units it should have.
        capacity: i64,
        /// Why.
        #[source]
        source: DbErr,
    },
}

/// Serves commands until `stop` is cancelled. Waits for its database, its migrations, the broker and the topics.
///
/// # Errors
/// See [`WorkerError`]; a database or broker that is away is none.
pub async fn serve(settings: WorkerSettings, stop: CancellationToken) -> Result<(), WorkerError> {
    observed(PROGRAM, settings.metrics_addr, &stop, async |vitals| work(settings, vitals, stop.clone()).await)
        .await
}

async fn work(
    settings: WorkerSettings,
    vitals: Arc<Vitals>,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let WorkerSettings { database_url, kafka, catalog, event_topics, .. } = settings;
    let participant = Participant::builder(PARTICIPANT, catalog)
        .handler(handlers::Reserve)
        .handler(handlers::Cancel)
        .handler(handlers::Confirm)
        .publishes([CREATED, CONFIRMED, CANCELLED])
        .event_topics(event_topics)
        .vitals(vitals)
        .build()?;
    let Ok(database) = ready_database(&database_url, &stop).await else {
        return Ok(());
    };
    Ok(participant.run(&kafka, database, stop).await?)
}

async fn ready_database(url: &SecretString, stop: &CancellationToken) -> Result<DatabaseConnection, Stopped> {
    let database = open(url, PROGRAM, |_| {}, stop).await?;
    let pending = || apply::pending::<Migrator>(&database);
    wait_until_migrated("booking-worker migrate", pending, |_| {}, stop).await?;
    Ok(database)
}

/// Brings the worker's database up to date; waits until it is there. Safe to run several times, and at once.
///
/// # Errors
/// A migration failed, or `stop` came first.
pub async fn migrate(database_url: &SecretString, stop: &CancellationToken) -> Result<(), DatabaseError> {
    let database = open(database_url, PROGRAM, |_| {}, stop).await?;
    apply::apply::<Migrator>(&database).await.map_err(DatabaseError::Migration)
}

/// Sets how many units a resource has, known or not. [`DEFAULT_CAPACITY`] is what it has otherwise.
///
/// # Errors
/// More units are taken, the number is negative, or `stop` came first.
pub async fn set_capacity(
    database_url: &SecretString,
    resource: Uuid,
    capacity: i64,
    stop: &CancellationToken,
) -> Result<(), DatabaseError> {
    let database = open(database_url, PROGRAM, |_| {}, stop).await?;
    let set = store::set_capacity(&database, resource, capacity).await;
    set.map_err(|source| DatabaseError::Capacity { resource, capacity, source })
}
