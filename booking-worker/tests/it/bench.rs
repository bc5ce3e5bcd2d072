//! The worker at work, and its commands.

use std::ops::Deref;

use booking_worker::{CANCELLED, CONFIRMED, CREATED, WorkerError, migrate, serve};
use participant::service::WorkerSettings;
use participant::testing::{Bench, TestCommand};
use saga_defs::ids::SagaId;
use schemas::Catalog;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A bench with a migrated database.
pub(crate) struct BookingBench(Bench);

impl Deref for BookingBench {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.0
    }
}

impl BookingBench {
    pub(crate) async fn start() -> Self {
        let bench = Bench::start("booking", &[CREATED, CONFIRMED, CANCELLED], Catalog::shipped()).await;
        migrate(&bench.database_url.clone().into(), &CancellationToken::new()).await.unwrap();
        Self(bench)
    }

    pub(crate) fn serve(&self) -> Serving {
        let settings = WorkerSettings::new(self.database_url.clone(), self.kafka.clone());
        let stop = CancellationToken::new();
        Serving { task: tokio::spawn(serve(settings, stop.clone())), stop }
    }

    pub(crate) async fn set_capacity(&self, resource: Uuid, capacity: i64) {
        let stop = CancellationToken::new();
        let url = self.database_url.clone().into();
        booking_worker::set_capacity(&url, resource, capacity, &stop).await.unwrap();
    }

    /// Of each resource: units taken, minus bookings that stand. Must be zero.
    pub(crate) async fn discrepancy(&self) -> i64 {
        self.count(
            "SELECT coalesce(sum(abs(taken - \
                 (SELECT count(*) FROM bookings b WHERE b.resource_id = r.resource_id AND status <> 'cancelled'))), 0) \
             ::bigint FROM resources r",
        )
        .await
    }

    pub(crate) async fn status(&self, saga: SagaId, status: &str) -> bool {
        let sql =
            format!("SELECT count(*) FROM bookings WHERE booking_id = '{saga}' AND status = '{status}'");
        self.count(&sql).await == 1
    }

    /// The keys and the chosen field of the events of a topic.
    pub(crate) async fn events(
        &self,
        topic: &'static str,
        field: &str,
        count: usize,
    ) -> Vec<(String, String)> {
        let records = self.records(topic, count).await;
        let events = records.into_iter().map(|record| {
            let key = String::from_utf8(record.key.unwrap()).unwrap();
            let fields = self.catalog.decode(&record.value.unwrap()).unwrap().fields;
            (key, fields[field].as_str().unwrap().to_owned())
        });
        events.collect()
    }
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
}

pub(crate) fn reserve(saga: SagaId, resource: Uuid) -> TestCommand {
    let body = json!({ "bookingId": saga, "userId": Uuid::now_v7(), "resourceId": resource });
    TestCommand::forward(saga, "reserve-booking", "booking.ReserveBooking", body)
}

pub(crate) fn cancel(saga: SagaId, resource: Uuid) -> TestCommand {
    let body = json!({ "bookingId": saga, "resourceId": resource });
    TestCommand::compensation(saga, "reserve-booking", "booking.CancelBooking", body)
}

pub(crate) fn confirm(saga: SagaId) -> TestCommand {
    TestCommand::forward(saga, "confirm-booking", "booking.ConfirmBooking", json!({ "bookingId": saga }))
}
