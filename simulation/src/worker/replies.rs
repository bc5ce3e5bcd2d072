//! Replies: published until the broker has acknowledged each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::orchestrator::engine::bus::Outlet;
use messaging::{Deliveries, DeliveryFailure, Placed, Record, SendError};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::process::Process;
use crate::producer::SimulatedProducer;
use crate::world::{World, lock};

/// The first wait before what is not acknowledged is sent again; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// As `messaging::AckedProducer`, over a simulated one.
pub(super) struct Acknowledged {
    producer: SimulatedProducer,
    reports: Arc<Reports>,
}

#[derive(Default)]
struct Reports {
    arrived: Mutex<BTreeMap<u64, bool>>,
    changed: Notify,
}

impl Deliveries for Reports {
    fn delivered(&self, token: u64, outcome: Result<Placed, DeliveryFailure>) {
        lock(&self.arrived).insert(token, outcome.is_ok());
        self.changed.notify_one();
    }
}

impl Acknowledged {
    pub(super) fn start(world: &Arc<World>, process: &Process) -> Self {
        let reports = Arc::new(Reports::default());
        Self { producer: SimulatedProducer::start(world, process, reports.clone()), reports }
    }

    /// Returns when every record is acknowledged.
    pub(super) async fn publish(&self, mut open: Vec<Record>) {
        let mut wait = FIRST_WAIT;
        loop {
            open = self.round(open).await;
            if open.is_empty() {
                return;
            }
            // Only replies: nothing of them is refused for good.
            let _ = self.producer.rebuild();
            lock(&self.reports.arrived).clear();
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Sends each once; gives back those that are not acknowledged.
    async fn round(&self, records: Vec<Record>) -> Vec<Record> {
        let mut sent = BTreeMap::new();
        let mut failed = Vec::new();
        for (token, record) in (0..).zip(records) {
            match self.producer.send(&record, token) {
                Ok(()) => _ = sent.insert(token, record),
                Err(SendError::QueueFull | SendError::TooLarge | SendError::Other(_)) => failed.push(record),
            }
        }
        while !sent.is_empty() {
            let arrived = std::mem::take(&mut *lock(&self.reports.arrived));
            for (token, acknowledged) in arrived {
                if let Some(record) = sent.remove(&token).filter(|_| !acknowledged) {
                    failed.push(record);
                }
            }
            if !sent.is_empty() {
                self.reports.changed.notified().await;
            }
        }
        failed
    }
}
