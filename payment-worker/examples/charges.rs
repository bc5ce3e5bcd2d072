//! How many charges the payment worker makes: `cargo run --release -p payment-worker --example charges [N] [PER_SECOND]`

use std::time::Duration;

use participant::service::WorkerSettings;
use participant::testing::{Bench, TestCommand, measure, new_saga};
use payment_worker::{COMPLETED, FAILED, GatewayChoice, PaymentSettings, REFUNDED, migrate, serve};
use schemas::Catalog;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let (count, per_second) =
        (arguments.next().unwrap_or(Ok(50_000))?, arguments.next().unwrap_or(Ok(1_000_000))?);
    let bench = Bench::start("payment", &[COMPLETED, FAILED, REFUNDED], Catalog::shipped()).await;
    let stop = CancellationToken::new();
    migrate(&bench.database_url.clone().into(), &stop).await?;
    let worker = WorkerSettings::new(bench.database_url.clone(), bench.kafka.clone());
    let gateway = GatewayChoice::Simulated { latency: Duration::ZERO, allow_forced_outcomes: false };
    let serving = tokio::spawn(serve(PaymentSettings { worker, gateway }, stop.clone()));
    let commands: Vec<TestCommand> = (0..count)
        .map(|_| {
            let saga = new_saga();
            let body = json!({
                "bookingId": saga, "userId": Uuid::now_v7(), "reference": saga, "amountMinor": 1250, "currency": "EUR",
                "forcedPaymentOutcome": null,
            });
            TestCommand::forward(saga, "charge-payment", "payment.ChargePayment", body)
        })
        .collect();
    measure(&bench, "payment-worker", &commands, per_second).await;
    stop.cancel();
    Ok(serving.await??)
}
