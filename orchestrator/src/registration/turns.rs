//! Who may run a model check now, who waits for it, and who is sent away.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Model checks at a time: each may keep a core and a good part of the memory busy.
const MODEL_CHECKS: usize = 1;
/// Registrations that wait for their model check. One that comes then is told to come later: it would wait for longer than
/// clients do.
const MAX_WAITING: usize = 8;

/// As many wait as may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{MAX_WAITING} registrations wait for their model check already; try again")]
pub struct Crowded;

/// The turns to run a model check. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns {
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

/// The right to run one, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new() -> Self {
        let places = Arc::new(Semaphore::new(MODEL_CHECKS + MAX_WAITING));
        Self { places, running: Arc::new(Semaphore::new(MODEL_CHECKS)) }
    }

    /// Waits for a turn, unless too many wait.
    pub(super) async fn take(&self) -> Result<Turn, Crowded> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Crowded)?;
        // Nobody closes the semaphore, so there is a turn for each who has a place.
        let running = self.running.clone().acquire_owned().await.map_err(|_| Crowded)?;
        Ok(Turn { _place: place, _running: running })
    }
}

#[cfg(test)]
mod tests {
    use futures::future::FutureExt as _;

    use super::{Crowded, MAX_WAITING, Turns};

    #[tokio::test]
    async fn one_runs_some_wait_and_the_others_are_sent_away() {
        let turns = Turns::new();
        let running = turns.take().await;
        assert!(running.is_ok());
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(turns.take())).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "one runs at a time");
        }
        assert_eq!(turns.take().await.err(), Some(Crowded));
        drop(running);
        for one in waiting {
            assert!(one.await.is_ok(), "whoever has a place has a turn");
        }
        assert!(turns.take().await.is_ok(), "and all places are free again");
    }
}
