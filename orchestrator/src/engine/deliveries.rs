//! Delivery reports on their way from the producer's thread to the lane.

use std::sync::Mutex;

use messaging::{Deliveries, DeliveryFailure, Placed, Report};
use tokio::sync::Notify;

/// Collects reports; bounded by the number of records in flight ([`super::MAX_UNPUBLISHED`] and one batch more).
#[derive(Default)]
pub struct DeliveryQueue {
    reports: Mutex<Vec<Report>>,
    arrived: Notify,
}

impl Deliveries for DeliveryQueue {
    fn delivered(&self, token: u64, outcome: Result<Placed, DeliveryFailure>) {
        self.delivered_together(vec![(token, outcome)]);
    }

    fn delivered_together(&self, mut arrived: Vec<Report>) {
        if let Ok(mut reports) = self.reports.lock() {
            let was_empty = reports.is_empty();
            reports.append(&mut arrived);
            if was_empty {
                self.arrived.notify_one();
            }
        }
    }
}

impl DeliveryQueue {
    /// Waits until there is a report.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes all reports there are.
    pub fn take(&self) -> Vec<Report> {
        self.reports.lock().map(|mut reports| std::mem::take(&mut *reports)).unwrap_or_default()
    }
}
