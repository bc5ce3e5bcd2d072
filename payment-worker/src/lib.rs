//! The participant that owns payments.
//!
//! Commands: `payment.ChargePayment`, undone by `payment.RefundPayment`, from the topic `payment.commands`. The money
//! moves at a [`gateway`], never inside a transaction, and always with the command's id as idempotency key.

pub mod gateway;
mod handlers;
mod messages;
mod program;
mod settings;
mod store;

pub use handlers::{COMPLETED, FAILED, REFUNDED};
pub use messages::{ChargePayment, PaymentCompleted, PaymentFailed, PaymentRefunded, RefundPayment};
pub use program::main;
pub use settings::{GatewayChoice, PaymentSettings};

use std::sync::Arc;

use gateway::{Gateway, GatewayClientError, HttpGateway, HttpLimits, SimulatedGateway};
use handlers::{Charging, Refunding};
use migrations::apply;
use migrations::payment::Migrator;
use participant::service::{ObservingError, WorkerSettings, observed, open, wait_until_migrated};
use participant::{BuildError, Participant, ParticipantError, Stopped, Vitals};
use sea_orm::{DatabaseConnection, DbErr};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

/// The participant's name.
pub const PARTICIPANT: &str = "payment";
const PROGRAM: &str = "payment-worker";

/// Why the worker ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No client for the gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayClientError),
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

/// The migrations were not applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Stopped before the database answered.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A migration failed; none was applied.
    #[error("the payment worker's migrations were not applied")]
    Migration(#[source] DbErr),
}

/// Serves commands until `stop` is cancelled. Waits for its database, its migrations, the broker and the topics.
///
/// # Errors
/// See [`WorkerError`]; a database, broker or gateway that is away is none.
pub async fn serve(settings: PaymentSettings, stop: CancellationToken) -> Result<(), WorkerError> {
    let metrics_addr = settings.worker.metrics_addr;
    observed(PROGRAM, metrics_addr, &stop, async |vitals| work(settings, vitals, stop.clone()).await).await
}

async fn work(
    settings: PaymentSettings,
    vitals: Arc<Vitals>,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let PaymentSettings { worker, gateway } = settings;
    let Ok(database) = ready_database(&worker.database_url, &stop).await else {
        return Ok(());
    };
    let (gateway, allow_forced): (Arc<dyn Gateway>, bool) = match gateway {
        GatewayChoice::Simulated { latency, allow_forced_outcomes } => {
            (Arc::new(SimulatedGateway::new(database.clone(), latency)), allow_forced_outcomes)
        }
        GatewayChoice::Http { url } => (Arc::new(HttpGateway::new(&url, HttpLimits::default())?), false),
    };
    run(worker, database, gateway, allow_forced, vitals, stop).await
}

/// As [`serve`], with a gateway of the caller's and a database that is ready.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    settings: WorkerSettings,
    database: DatabaseConnection,
    gateway: Arc<dyn Gateway>,
    allow_forced_outcomes: bool,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    observed(PROGRAM, settings.metrics_addr, &stop, async |vitals| {
        run(settings, database, gateway, allow_forced_outcomes, vitals, stop.clone()).await
    })
    .await
}

async fn run(
    settings: WorkerSettings,
    database: DatabaseConnection,
    gateway: Arc<dyn Gateway>,
    allow_forced: bool,
    vitals: Arc<Vitals>,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let WorkerSettings { kafka, catalog, event_topics, .. } = settings;
    let participant = Participant::builder(PARTICIPANT, catalog)
        .external_handler(Charging { gateway: gateway.clone(), allow_forced })
        .external_handler(Refunding { gateway })
        .publishes([COMPLETED, FAILED, REFUNDED])
        .event_topics(event_topics)
        .vitals(vitals)
        .build()?;
    Ok(participant.run(&kafka, database, stop).await?)
}

async fn ready_database(url: &SecretString, stop: &CancellationToken) -> Result<DatabaseConnection, Stopped> {
    let database = open(url, PROGRAM, |_| {}, stop).await?;
    let pending = || apply::pending::<Migrator>(&database);
    wait_until_migrated("payment-worker migrate", pending, |_| {}, stop).await?;
    Ok(database)
}

/// Brings the worker's database up to date; waits until it is there. Safe to run several times, and at once.
///
/// # Errors
/// A migration failed, or `stop` came first.
pub async fn migrate(database_url: &SecretString, stop: &CancellationToken) -> Result<(), MigrateError> {
    let database = open(database_url, PROGRAM, |_| {}, stop).await?;
    apply::apply::<Migrator>(&database).await.map_err(MigrateError::Migration)
}
