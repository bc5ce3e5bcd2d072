//! All chance of a schedule: one sequence of numbers, drawn from in the order in which things happen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tests::random::Random;
use uuid::Uuid;

/// Numbers that follow from a seed.
#[derive(Debug)]
pub struct Dice(Mutex<Random>);

impl Dice {
    /// What is drawn follows from the seed.
    pub const fn seeded(seed: u64) -> Self {
        Self(Mutex::new(Random::seeded(seed)))
    }

    fn draw<T>(&self, of: impl FnOnce(&mut Random) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// 64 bits.
    pub fn next(&self) -> u64 {
        self.draw(Random::next)
    }

    /// Below `limit`; 0 for 0.
    pub fn below(&self, limit: usize) -> usize {
        usize::try_from(self.draw(|random| random.below(limit as u64))).unwrap_or(0)
    }

    /// True once in `of` times; never for 0.
    pub fn once_in(&self, of: u64) -> bool {
        of > 0 && self.draw(|random| random.once_in(of))
    }

    /// From `least_ms` to `most_ms` milliseconds.
    pub fn millis(&self, least_ms: u64, most_ms: u64) -> Duration {
        self.draw(|random| random.between(Duration::from_millis(least_ms), Duration::from_millis(most_ms)))
    }

    /// A random UUID.
    pub fn uuid(&self) -> Uuid {
        self.draw(Random::uuid)
    }

    /// One of several.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}
