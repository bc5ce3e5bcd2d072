//! Who may run a model check now, who waits for it, and who is sent away.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Model checks at a time: each may keep a core and a good part of the memory busy.
const MODEL_CHECKS: usize = 1;
/// Registrations that wait for their model check. One that comes then is told to come later: it would wait for longer than
/// clients do.
const MAX_WAITING: usize = 8;

/// Of all places, those that mere checks may have: however many check, there is a place for who publishes.
const MAX_CHECKS: usize = (MODEL_CHECKS + MAX_WAITING) / 2;

/// As many wait as may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Crowded {
    /// Of all.
    #[error("{MAX_WAITING} definitions wait for their model check already; try again")]
    All,
    /// Of those that are not to be published.
    #[error("{MAX_CHECKS} definitions that are only checked wait for their model check already; try again")]
    Checks,
}

/// What a model check is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The definition is published if it holds.
    Publish,
    /// Somebody wants to know.
    Check,
}

/// The turns to run a model check. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns {
    places: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

/// The right to run one, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _check: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new() -> Self {
        let places = Arc::new(Semaphore::new(MODEL_CHECKS + MAX_WAITING));
        let checks = Arc::new(Semaphore::new(MAX_CHECKS));
        Self { places, checks, running: Arc::new(Semaphore::new(MODEL_CHECKS)) }
    }

    /// Waits for a turn, unless too many wait.
    pub(super) async fn take(&self, purpose: Purpose) -> Result<Turn, Crowded> {
        let check = match purpose {
            Purpose::Publish => None,
            Purpose::Check => Some(self.checks.clone().try_acquire_owned().map_err(|_| Crowded::Checks)?),
        };
        let place = self.places.clone().try_acquire_owned().map_err(|_| Crowded::All)?;
        // Nobody closes the semaphore, so there is a turn for each who has a place.
        let running = self.running.clone().acquire_owned().await.map_err(|_| Crowded::All)?;
        Ok(Turn { _check: check, _place: place, _running: running })
    }
}

#[cfg(test)]
mod tests {
    use futures::future::FutureExt as _;

    use super::{Crowded, MAX_CHECKS, MAX_WAITING, Purpose, Turns};

    #[tokio::test]
    async fn one_runs_some_wait_and_the_others_are_sent_away() {
        let turns = Turns::new();
        let running = turns.take(Purpose::Publish).await;
        assert!(running.is_ok());
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(turns.take(Purpose::Publish))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "one runs at a time");
        }
        assert_eq!(turns.take(Purpose::Publish).await.err(), Some(Crowded::All));
        drop(running);
        for one in waiting {
            assert!(one.await.is_ok(), "whoever has a place has a turn");
        }
        assert!(turns.take(Purpose::Publish).await.is_ok(), "and all places are free again");
    }

    #[tokio::test]
    async fn however_many_check_somebody_can_publish() {
        let turns = Turns::new();
        let mut checks: Vec<_> = (0..MAX_CHECKS).map(|_| Box::pin(turns.take(Purpose::Check))).collect();
        let running = (&mut checks[0]).now_or_never().and_then(Result::ok);
        assert!(running.is_some());
        for one in &mut checks[1..] {
            assert!(one.now_or_never().is_none());
        }
        assert_eq!(turns.take(Purpose::Check).await.err(), Some(Crowded::Checks));
        let mut publishing = Box::pin(turns.take(Purpose::Publish));
        assert!((&mut publishing).now_or_never().is_none(), "it waits, and is not sent away");
        drop((running, checks));
        assert!(publishing.await.is_ok());
        assert!(turns.take(Purpose::Check).await.is_ok());
    }
}
