//! One transaction for many, and the one that spoils it found: how a batch is worked on when something goes wrong.

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::outcome::Refusal;
use crate::retry::{Stopped, Waits};

/// The first and the longest wait before a batch is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why an attempt at some items made nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may succeed later, as it is: the database is away, or another process was in the way.
    TryAgain(String),
    /// At least one of the items cannot be worked on.
    Refused(Refusal),
}

/// Work on items that happens for all of them or for none.
#[async_trait]
pub(crate) trait AllOrNone<I, O>: Sync {
    /// One attempt, in one transaction. Gives one output per item, in order.
    async fn attempt(&self, items: &[I]) -> Result<Vec<O>, Failure>;
}

/// Works on all `items`: together if that succeeds, else in ever smaller parts until the items that spoil it stand
/// alone; those get their refusal. While the database is away, waits and tries again, until `stop`.
pub(crate) async fn isolate<I: Sync, O: Send>(
    work: &impl AllOrNone<I, O>,
    items: &[I],
    stop: &CancellationToken,
) -> Result<Vec<Result<O, Refusal>>, Stopped> {
    let mut results = Vec::with_capacity(items.len());
    // A stack of parts, the next one on top, so that results come in order.
    let mut parts = vec![items];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        match patiently(work, part, stop).await? {
            Ok(outputs) => results.extend(outputs.into_iter().map(Ok)),
            Err(refusal) if part.len() == 1 => results.push(Err(refusal)),
            Err(refusal) => {
                tracing::debug!(commands = part.len(), code = %refusal.code, "a batch is taken apart: {}", refusal.message);
                let (first, second) = part.split_at(part.len() / 2);
                parts.push(second);
                parts.push(first);
            }
        }
    }
    Ok(results)
}

async fn patiently<I: Sync, O>(
    work: &impl AllOrNone<I, O>,
    part: &[I],
    stop: &CancellationToken,
) -> Result<Result<Vec<O>, Refusal>, Stopped> {
    let mut waits = Waits::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match work.attempt(part).await {
            Ok(outputs) => return Ok(Ok(outputs)),
            Err(Failure::Refused(refusal)) => return Ok(Err(refusal)),
            Err(Failure::TryAgain(why)) => {
                tracing::warn!(commands = part.len(), tries = waits.tries() + 1, "a batch waits: {why}");
                waits.wait(stop).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Refuses every batch that holds a multiple of `bad`; is away for the first `away` attempts.
    struct Sieve {
        bad: u32,
        away: Mutex<u32>,
        attempts: Mutex<usize>,
    }

    #[async_trait]
    impl AllOrNone<u32, u32> for Sieve {
        async fn attempt(&self, items: &[u32]) -> Result<Vec<u32>, Failure> {
            *self.attempts.lock().unwrap() += 1;
            let mut away = self.away.lock().unwrap();
            if *away > 0 {
                *away -= 1;
                return Err(Failure::TryAgain("away".to_owned()));
            }
            if items.iter().any(|item| item % self.bad == 0) {
                return Err(Failure::Refused(Refusal::new("bad", "")));
            }
            Ok(items.iter().map(|item| item * 10).collect())
        }
    }

    async fn check(items: &[u32], bad: u32, away: u32, attempts_at_most: usize) {
        let sieve = Sieve { bad, away: Mutex::new(away), attempts: Mutex::new(0) };
        let results = isolate(&sieve, items, &CancellationToken::new()).await.unwrap();
        let expected: Vec<_> = items
            .iter()
            .map(|item| if item % bad == 0 { Err(Refusal::new("bad", "")) } else { Ok(item * 10) })
            .collect();
        assert_eq!(results, expected);
        let attempts = *sieve.attempts.lock().unwrap();
        assert!(attempts <= attempts_at_most, "{attempts} attempts");
    }

    #[tokio::test]
    async fn only_the_bad_items_fail_and_order_is_kept() {
        let fifty: Vec<u32> = (1..=50).collect();
        check(&fifty, 100, 0, 1).await;
        check(&fifty, 37, 0, 14).await;
        check(&fifty, 10, 0, 50).await;
        check(&[7], 7, 0, 1).await;
        check(&[], 7, 0, 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_waited_out_without_a_refusal() {
        check(&[1, 2, 3], 7, 20, 21).await;
    }

    #[tokio::test]
    async fn a_stop_ends_the_waiting() {
        let sieve = Sieve { bad: 7, away: Mutex::new(u32::MAX), attempts: Mutex::new(0) };
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(isolate(&sieve, &[1], &stop).await, Err(Stopped));
    }
}
