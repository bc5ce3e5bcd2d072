//! The worker at work, and its commands.

use std::ops::Deref;
use std::time::Duration;

use participant::service::WorkerSettings;
use participant::testing::{Bench, TestCommand};
use payment_worker::{
    COMPLETED, FAILED, GatewayChoice, PaymentSettings, REFUNDED, WorkerError, migrate, serve,
};
use saga_defs::ids::SagaId;
use schemas::Catalog;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A bench with a migrated database.
pub(crate) struct PaymentBench(Bench);

impl Deref for PaymentBench {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.0
    }
}

impl PaymentBench {
    pub(crate) async fn start() -> Self {
        let bench = Bench::start("payment", &[COMPLETED, FAILED, REFUNDED], Catalog::shipped()).await;
        migrate(&bench.database_url.clone().into(), &CancellationToken::new()).await.unwrap();
        Self(bench)
    }

    pub(crate) fn serve(&self, gateway: GatewayChoice) -> Serving {
        let worker = WorkerSettings::new(self.database_url.clone(), self.kafka.clone());
        let stop = CancellationToken::new();
        Serving { task: tokio::spawn(serve(PaymentSettings { worker, gateway }, stop.clone())), stop }
    }

    /// The status and the failure code of the payment of a charge.
    pub(crate) async fn has_payment(&self, charge: &TestCommand, status: &str, failure_code: &str) -> bool {
        let sql = format!(
            "SELECT count(*) FROM payments WHERE payment_id = '{}' AND status = '{status}' AND failure_code = '{failure_code}'",
            charge.id()
        );
        self.count(&sql).await == 1
    }

    /// How many charges, refunds and voids the simulated gateway has in its books.
    pub(crate) async fn books(&self) -> (i64, i64, i64) {
        let count = async |kind: &str| {
            self.count(&format!("SELECT count(*) FROM simulated_gateway WHERE kind = '{kind}'")).await
        };
        (count("charge").await, count("refund").await, count("void").await)
    }
}

pub(crate) fn simulated() -> GatewayChoice {
    GatewayChoice::Simulated { latency: Duration::ZERO, allow_forced_outcomes: true }
}

/// The worker at work.
pub(crate) struct Serving {
    task: JoinHandle<Result<(), WorkerError>>,
    stop: CancellationToken,
}

impl Serving {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it where it stands, as a crash does.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

pub(crate) fn charge(saga: SagaId) -> TestCommand {
    let body = json!({
        "bookingId": saga, "userId": Uuid::now_v7(), "reference": saga, "amountMinor": 1250, "currency": "EUR",
        "forcedPaymentOutcome": null,
    });
    TestCommand::forward(saga, "charge-payment", "payment.ChargePayment", body)
}

pub(crate) fn forced(saga: SagaId, outcome: &str) -> TestCommand {
    charge(saga).with("forcedPaymentOutcome", outcome)
}

pub(crate) fn refund(saga: SagaId) -> TestCommand {
    let body = json!({ "bookingId": saga, "reference": saga });
    TestCommand::compensation(saga, "charge-payment", "payment.RefundPayment", body)
}
