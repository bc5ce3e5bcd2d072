//! A producer: what it takes is on its way for a while, and may be lost, doubled, late, or reported wrongly lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::orchestrator::engine::bus::Outlet;
use messaging::{Deliveries, DeliveryFailure, KafkaError, Placed, Record, Report, SendError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::process::Process;
use crate::world::{World, lock};
use crate::wrong::Wrong;

/// The longest that a request takes, most of the time.
const REQUEST_MS: u64 = 6;
/// How long a producer waits for a broker that is away before it says that it does not know: from when it turns to a record,
/// so that what a frozen process had queued is written however late. librdkafka drops what it has not begun to send by then.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(8);
/// How often it looks whether the broker is back.
const LOOK_MS: u64 = 200;
/// The longest after which a doubled record is written once more.
const DOUBLED_MS: u64 = 20_000;
/// Of so many acknowledged records one is not kept, in a world that is wrong in this way.
const LOST_ONCE_IN: u64 = 12;

/// A producer of a process.
pub struct SimulatedProducer(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    /// Whose it is, for the trace.
    owner: Arc<str>,
    deliveries: Arc<dyn Deliveries>,
    requests: mpsc::UnboundedSender<(Record, u64)>,
    fatal: AtomicBool,
    /// The tokens that are not reported yet.
    open: Mutex<BTreeSet<u64>>,
}

impl SimulatedProducer {
    /// Starts a producer of this process that reports to `deliveries`.
    pub fn start(world: &Arc<World>, process: &Process, deliveries: Arc<dyn Deliveries>) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            world: world.clone(),
            owner: process.name().clone(),
            deliveries,
            requests,
            fatal: AtomicBool::new(false),
            open: Mutex::default(),
        });
        process.spawn(inner.clone().run(queue));
        Self(inner)
    }
}

impl Outlet for SimulatedProducer {
    fn send(&self, record: &Record, token: u64) -> Result<(), SendError> {
        let world = &self.0.world;
        if self.0.fatal.load(Ordering::Relaxed) {
            return Err(SendError::Other("fatal".to_owned()));
        }
        if world.dice.once_in(world.odds().full) {
            return Err(SendError::QueueFull);
        }
        lock(&self.0.open).insert(token);
        world.sendings.fetch_add(1, Ordering::Relaxed);
        // The other end is as old as this one.
        let _ = self.0.requests.send((record.clone(), token));
        Ok(())
    }

    fn is_fatal(&self) -> bool {
        self.0.fatal.load(Ordering::Relaxed)
    }

    fn rebuild(&self) -> Result<(), KafkaError> {
        if self.0.fatal.swap(false, Ordering::Relaxed) {
            let open = std::mem::take(&mut *lock(&self.0.open));
            let failed = |token| (token, Err(DeliveryFailure::Fatal("the producer was replaced".to_owned())));
            self.0.deliveries.delivered_together(open.into_iter().map(failed).collect());
        }
        Ok(())
    }
}

impl Inner {
    async fn run(self: Arc<Self>, mut queue: mpsc::UnboundedReceiver<(Record, u64)>) {
        while let Some(first) = queue.recv().await {
            let mut request = vec![first];
            while let Ok(next) = queue.try_recv() {
                request.push(next);
            }
            // As a client that drops its connection: what is queued behind a failure fails with it. Or it does not, and
            // overtakes what failed.
            let purges = self.world.dice.once_in(2);
            let mut reports = self.send_all(request, purges).await;
            if purges && reports.iter().any(|(_, outcome)| is_unknown(outcome)) {
                while let Ok((_, token)) = queue.try_recv() {
                    reports.push((token, Err(unknown("purged"))));
                }
            }
            self.report(reports);
        }
    }

    async fn send_all(&self, request: Vec<(Record, u64)>, purges: bool) -> Vec<Report> {
        let world = &self.world;
        sleep(world.dice.millis(0, REQUEST_MS)).await;
        let patience = Instant::now() + MESSAGE_TIMEOUT;
        while world.broker.is_away() && Instant::now() < patience {
            sleep(world.dice.millis(1, LOOK_MS)).await;
        }
        let mut reports: Vec<Report> = Vec::with_capacity(request.len());
        for (record, token) in request {
            let behind = purges && reports.iter().any(|(_, outcome)| is_unknown(outcome));
            let outcome = if behind { Err(unknown("purged")) } else { self.write(&record) };
            let word = match &outcome {
                Ok(_) => "written",
                Err(DeliveryFailure::Refused(_)) => "refused",
                Err(_) => "not confirmed",
            };
            world.note(format_args!("{} {} {token} {word}", self.owner, record.topic));
            reports.push((token, outcome));
        }
        sleep(world.dice.millis(0, REQUEST_MS)).await;
        if world.dice.once_in(world.odds().fatal) {
            self.fatal.store(true, Ordering::Relaxed);
        }
        reports
    }

    fn report(&self, mut reports: Vec<Report>) {
        let mut open = lock(&self.open);
        reports.retain(|(token, _)| open.remove(token));
        drop(open);
        self.deliveries.delivered_together(reports);
    }

    fn write(&self, record: &Record) -> Result<Placed, DeliveryFailure> {
        let world = &self.world;
        let (odds, now) = (world.odds(), world.now().unix_millis());
        if world.broker.is_away() {
            return Err(unknown("the broker is away"));
        }
        let is_command = record.topic.ends_with(".commands");
        if is_command && world.refuses(record) {
            return Err(DeliveryFailure::Refused("invalid record".to_owned()));
        }
        if world.dice.once_in(odds.record_lost) {
            return Err(unknown("the connection broke"));
        }
        if world.is(Wrong::AcknowledgedAndLost) && is_command && world.dice.once_in(LOST_ONCE_IN) {
            return Ok(Placed { partition: 0, offset: 0 });
        }
        let placed = world
            .broker
            .append(record, now)
            .map_err(|_| DeliveryFailure::Refused("no such partition".to_owned()))?;
        if world.dice.once_in(odds.record_twice) {
            let (world, record, later) = (world.clone(), record.clone(), world.dice.millis(0, DOUBLED_MS));
            let incarnation = world.broker.incarnation();
            tokio::spawn(async move {
                sleep(later).await;
                // A connection to an old broker does not lead to the new one.
                if world.broker.incarnation() == incarnation {
                    world.note(format_args!("{} written once more", record.topic));
                    let _ = world.broker.append(&record, world.now().unix_millis());
                }
            });
        }
        if world.dice.once_in(odds.report_lost) {
            return Err(unknown("the connection broke"));
        }
        Ok(placed)
    }
}

fn unknown(text: &str) -> DeliveryFailure {
    DeliveryFailure::Unknown(text.to_owned())
}

const fn is_unknown(outcome: &Result<Placed, DeliveryFailure>) -> bool {
    matches!(outcome, Err(DeliveryFailure::Unknown(_)))
}
