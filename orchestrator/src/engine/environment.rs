//! Time and chance, which the engine takes from outside: a simulation brings its own, so that a run can be repeated.

use saga_defs::time::Timestamp;
use uuid::Uuid;

use super::clock;

/// Where time and chance come from. Spans of time are measured by `tokio::time`, which a test can turn by itself.
pub trait Environment: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// 16 random bytes, as two numbers; the version bits of a UUID need not be random.
    fn random(&self) -> (u64, u64);
}

/// The system's clock and random numbers.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Environment for System {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn random(&self) -> (u64, u64) {
        Uuid::new_v4().as_u64_pair()
    }
}
