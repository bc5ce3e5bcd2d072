//! How many reservations the booking worker makes: `cargo run --release -p booking-worker --example reservations [N] [PER_SECOND]`

use booking_worker::{CANCELLED, CONFIRMED, CREATED, migrate, serve};
use participant::service::WorkerSettings;
use participant::testing::{Bench, TestCommand, measure, new_saga};
use schemas::Catalog;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let (count, per_second) =
        (arguments.next().unwrap_or(Ok(50_000))?, arguments.next().unwrap_or(Ok(1_000_000))?);
    let bench = Bench::start("booking", &[CREATED, CONFIRMED, CANCELLED], Catalog::shipped()).await;
    let stop = CancellationToken::new();
    migrate(&bench.database_url.clone().into(), &stop).await?;
    let settings = WorkerSettings::new(bench.database_url.clone(), bench.kafka.clone());
    let serving = tokio::spawn(serve(settings, stop.clone()));
    let resources: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    let commands: Vec<TestCommand> = (0..count)
        .map(|n| {
            let saga = new_saga();
            let resource = resources[n % resources.len()];
            let body = json!({ "bookingId": saga, "userId": Uuid::now_v7(), "resourceId": resource });
            TestCommand::forward(saga, "reserve-booking", "booking.ReserveBooking", body)
        })
        .collect();
    measure(&bench, "booking-worker", &commands, per_second).await;
    stop.cancel();
    Ok(serving.await??)
}
