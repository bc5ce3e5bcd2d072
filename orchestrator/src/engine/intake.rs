//! Between the consumer and the lane, where there is a schema registry: the lane never waits for it.

use std::sync::Arc;

use messaging::ConsumerEvent;
use schemas::registry::Registry;
use tokio::sync::mpsc;

/// Batches that wait for the lane here, beside those that wait for the registry.
const QUEUED_BATCHES: usize = 1;

/// What was read, in the same order, each batch as soon as the schemas of its records are known, or known to be unknown.
/// Those behind it wait, so the order stays; starts, verbs and timers do not.
pub fn learning(
    mut records: mpsc::Receiver<ConsumerEvent>,
    registry: Arc<Registry>,
) -> mpsc::Receiver<ConsumerEvent> {
    let (to_lane, learned) = mpsc::channel(QUEUED_BATCHES);
    tokio::spawn(async move {
        loop {
            // A lane that has ended takes nothing more, whatever is still to come.
            let event = tokio::select! {
                event = records.recv() => event,
                () = to_lane.closed() => None,
            };
            let Some(event) = event else { return };
            if let ConsumerEvent::Records(polled) = &event {
                registry.learn(polled.records.iter().filter_map(|record| record.value.as_deref())).await;
            }
            if to_lane.send(event).await.is_err() {
                return;
            }
        }
    });
    learned
}
