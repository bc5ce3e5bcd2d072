//! What the services of a stack stand on: their databases and their broker, and how they get there.

use std::path::PathBuf;

use anyhow::{Context, Result};
use saga_defs::definition::Definition;

use crate::database::Database;
use crate::kafka::Kafka;
use crate::process::{Program, services_program};

/// `DATABASE_URL` of a program's process of that name.
pub type Reach = Box<dyn Fn(Program, &str) -> String + Send + Sync>;

/// See the module.
pub struct Ground {
    /// The orchestrator's database, as observers see it.
    pub sagas: Database,
    /// The booking worker's.
    pub bookings: Database,
    /// The payment worker's.
    pub payments: Database,
    /// The broker.
    pub kafka: Kafka,
    /// How services reach their databases.
    pub reach: Reach,
    /// The program that is every service.
    pub program: PathBuf,
}

impl Ground {
    /// Fresh databases of the server that all tests of this process share, and a broker.
    ///
    /// # Errors
    /// Something is not to be had.
    pub async fn of_tests(definitions: &[Definition]) -> Result<Self> {
        let kafka = Kafka::start(definitions).await.context("the broker")?;
        let (sagas, bookings, payments) =
            tokio::try_join!(Database::fresh(), Database::fresh(), Database::fresh())
                .context("the databases")?;
        let urls = [&sagas, &bookings, &payments].map(|database| database.url().to_owned());
        let reach = move |program, _: &str| {
            let [sagas, bookings, payments] = &urls;
            match program {
                Program::Orchestrator => sagas.clone(),
                Program::BookingWorker => bookings.clone(),
                Program::PaymentWorker => payments.clone(),
            }
        };
        let program = services_program()?;
        Ok(Self { sagas, bookings, payments, kafka, reach: Box::new(reach), program })
    }
}
