//! Waiting before the next try: how long, the crate `backoff` says.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio_util::sync::CancellationToken;

/// The stop came while something was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped while waiting")]
pub struct Stopped;

/// Growing waits, without end, for things that come back by themselves.
#[derive(Debug)]
pub(crate) struct Waits {
    policy: ExponentialBackoff,
    tries: u32,
}

impl Waits {
    /// First `initial`, growing to `max`.
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        let policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial)
            .with_max_interval(max)
            .with_multiplier(2.0)
            .with_max_elapsed_time(None)
            .build();
        Self { policy, tries: 0 }
    }

    /// How often it was waited so far.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// Waits a while, longer each time.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) -> Result<(), Stopped> {
        self.tries = self.tries.saturating_add(1);
        let pause = self.policy.next_backoff().unwrap_or(self.policy.max_interval);
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Stopped),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}
