//! Where a participant meets the schema registry, if its catalog has one.

use std::sync::Arc;
use std::time::Duration;

use messaging::Received;
use schemas::Catalog;
use schemas::registry::ObtainError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::retry::{Stopped, Waits};

/// The first and the longest wait at the start before the registry is asked again.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Waits until all schemas of a catalog have the registry's ids. `waiting` is told each time why it is not so yet. Returns
/// at once where there is no registry.
///
/// # Errors
/// The stop came first.
pub async fn ready(
    catalog: &Catalog,
    stop: &CancellationToken,
    mut waiting: impl FnMut(&ObtainError),
) -> Result<(), Stopped> {
    let Some(registry) = catalog.registry() else { return Ok(()) };
    let mut waits = Waits::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let obtained = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Stopped),
            obtained = registry.obtain(catalog) => obtained,
        };
        match obtained {
            Ok(()) => return Ok(()),
            Err(error) => waiting(&error),
        }
        waits.wait(stop).await?;
    }
}

/// Learns the schemas of a batch's records before it is read. What is not known then is a dead letter.
///
/// # Errors
/// The stop came first; the batch is not to be read.
pub(crate) async fn learn(
    catalog: &Catalog,
    records: &[Received],
    stop: &CancellationToken,
) -> Result<(), Stopped> {
    let Some(registry) = catalog.registry() else { return Ok(()) };
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Stopped),
        () = registry.learn(records.iter().filter_map(|record| record.value.as_deref())) => Ok(()),
    }
}

/// Looks after the registry until it is dropped.
pub(crate) fn keep(catalog: &Arc<Catalog>) -> Option<AbortOnDropHandle<()>> {
    let (registry, catalog) = (catalog.registry()?.clone(), catalog.clone());
    Some(AbortOnDropHandle::new(tokio::spawn(async move { registry.keep(|| catalog.clone()).await })))
}
