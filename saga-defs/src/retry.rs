//! How long to wait between two attempts. Pure: jitter is an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, Revision, SagaId, murmur2};

/// A fraction in `[0, 1)` that spreads retries, so that sagas which failed together do not come back together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Jitter(u16);

impl Jitter {
    /// No jitter: the shortest wait of the policy.
    pub const NONE: Self = Self(0);

    /// From any 16 bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The jitter of one transition, spread over sagas and attempts, and the same when the journal is replayed.
    pub fn of(saga: SagaId, revision: Revision) -> Self {
        let mut bytes = [0_u8; 20];
        bytes[..16].copy_from_slice(saga.as_uuid().as_bytes());
        bytes[16..].copy_from_slice(&revision.0.to_be_bytes());
        Self((murmur2(&bytes) >> 16) as u16)
    }

    /// As a number in `[0, 1)`.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 65_536.0
    }
}

/// When to try a command again, and how often.
#[derive(Clone, PartialEq, Debug)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub max_attempts: u32,
    /// The wait after the first attempt.
    pub initial: Duration,
    /// No wait is longer than this, jitter apart.
    pub max: Duration,
    /// Each wait is this many times the one before; at least 1.
    pub multiplier: f64,
    /// The wait is lengthened by up to this share of itself; 0 to 1.
    pub jitter: f64,
}

impl RetryPolicy {
    /// What a step has that says nothing: 5 attempts, 200 ms doubling to 10 s.
    pub const FORWARD: Self = Self {
        max_attempts: 5,
        initial: Duration::from_millis(200),
        max: Duration::from_secs(10),
        multiplier: 2.0,
        jitter: 0.2,
    };

    /// What a compensation has that says nothing: more patient, since giving up needs a person.
    pub const COMPENSATION: Self = Self {
        max_attempts: 10,
        initial: Duration::from_millis(500),
        max: Duration::from_secs(60),
        multiplier: 2.0,
        jitter: 0.2,
    };

    /// Whether `attempt` is the last one.
    pub const fn is_last(&self, attempt: Attempt) -> bool {
        attempt.0 >= self.max_attempts
    }

    /// The wait after `attempt` failed.
    pub fn delay_after(&self, attempt: Attempt, jitter: Jitter) -> Duration {
        let growth = self.multiplier.powi(i32::try_from(attempt.0.saturating_sub(1)).unwrap_or(i32::MAX));
        let capped = (self.initial.as_secs_f64() * growth).min(self.max.as_secs_f64());
        let spread = capped * (1.0 + self.jitter * jitter.fraction());
        Duration::try_from_secs_f64(spread).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap() {
        let policy = RetryPolicy::FORWARD;
        let waits: Vec<u128> =
            (1..=8).map(|n| policy.delay_after(Attempt(n), Jitter::NONE).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn jitter_lengthens_by_at_most_its_share() {
        let policy = RetryPolicy::FORWARD;
        let longest = policy.delay_after(Attempt::FIRST, Jitter::from_bits(u16::MAX));
        assert_eq!(longest.as_millis(), 239);
    }

    #[test]
    fn a_huge_attempt_is_still_a_wait() {
        assert_eq!(RetryPolicy::FORWARD.delay_after(Attempt(u32::MAX), Jitter::NONE).as_secs(), 10);
    }
}
