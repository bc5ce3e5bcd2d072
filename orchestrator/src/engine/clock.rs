//! The time of day, read in one place: that of the database's clock, carried on by this machine's monotonic one.
//!
//! Processes compare each other's times: when a saga wakes, since when a participant is held. So they have to go by one
//! clock, and the database is what they share. And no clock may make a crowd of timers fire by jumping: this machine's is
//! not looked at once the database has been asked, and a difference to the database's is made good little by little
//! ([`SLEW`]), whichever of the two was set.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use saga_defs::time::Timestamp;

/// A difference is made good by this part of the time that passes: nothing is early or late by more than that, and no time
/// comes twice.
const SLEW: u32 = 10;
/// A difference of this much is worth a line in the log.
const TOLD: Duration = Duration::from_secs(1);

/// A clock that follows another one.
#[derive(Clone, Copy, Debug)]
struct Follower {
    /// When the other one was heard last, and what was said here then.
    heard: Instant,
    said_ms: i64,
    /// By how much the other one was ahead.
    ahead_ms: i64,
}

impl Follower {
    const fn new(heard: Instant, theirs: Timestamp) -> Self {
        Self { heard, said_ms: theirs.unix_millis(), ahead_ms: 0 }
    }

    fn now(&self, at: Instant) -> Timestamp {
        let passed = at.saturating_duration_since(self.heard);
        let most = millis(passed / SLEW);
        Timestamp::from_unix_millis(self.said_ms + millis(passed) + self.ahead_ms.clamp(-most, most))
    }

    /// From now on it follows this.
    fn hear(&mut self, at: Instant, theirs: Timestamp) {
        let said_ms = self.now(at).unix_millis();
        *self = Self { heard: at, said_ms, ahead_ms: theirs.unix_millis() - said_ms };
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// The clock of this process, once the database has been asked for its own.
static DATABASE: Mutex<Option<Follower>> = Mutex::new(None);

/// Now, as the database's clock says; before anybody has asked it, as this machine's does.
pub fn now() -> Timestamp {
    let follower = *DATABASE.lock().unwrap_or_else(PoisonError::into_inner);
    follower.map_or_else(machine, |follower| follower.now(Instant::now()))
}

/// The database's clock said this, between `asked` and now.
pub fn hear(asked: Instant, theirs: Timestamp) {
    let now = Instant::now();
    let theirs = theirs.after(now.saturating_duration_since(asked) / 2);
    let mut follower = DATABASE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = follower.as_ref().map_or_else(machine, |follower| follower.now(now));
    match follower.as_mut() {
        Some(follower) => follower.hear(now, theirs),
        None => *follower = Some(Follower::new(now, theirs)),
    }
    drop(follower);
    let difference_ms = theirs.unix_millis() - before.unix_millis();
    if difference_ms.unsigned_abs() >= u64::try_from(TOLD.as_millis()).unwrap_or(u64::MAX) {
        tracing::warn!(
            difference_ms,
            "the database's clock is so much ahead of what was the time here; following it"
        );
    }
}

/// This machine's clock.
fn machine() -> Timestamp {
    let now = Timestamp::from_utc(time::OffsetDateTime::now_utc());
    Timestamp::from_unix_millis(now.unix_millis() + participant::crash::clock_off_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn said(clock: &Follower, at: Instant) -> i64 {
        clock.now(at).unix_millis() - NOON.unix_millis()
    }

    #[test]
    fn time_goes_on_as_the_monotonic_clock_does() {
        let begun = Instant::now();
        let mut clock = Follower::new(begun, NOON);
        assert_eq!(said(&clock, begun + HOUR), 3_600_000);
        clock.hear(begun + HOUR, NOON.after(HOUR));
        assert_eq!(said(&clock, begun + HOUR * 2), 7_200_000);
    }

    #[test]
    fn a_clock_that_jumps_ahead_makes_nothing_early_by_more_than_a_tenth() {
        let begun = Instant::now();
        let mut clock = Follower::new(begun, NOON);
        clock.hear(begun, NOON.after(HOUR));
        assert_eq!(said(&clock, begun), 0);
        assert_eq!(said(&clock, begun + Duration::from_secs(10)), 11_000);
        // Followed little by little: heard again or not, it gets there and stays.
        clock.hear(begun + HOUR, NOON.after(HOUR * 2));
        assert_eq!(said(&clock, begun + HOUR), 3_960_000);
        assert_eq!(said(&clock, begun + HOUR * 11), 12 * 3_600_000);
    }

    #[test]
    fn a_clock_that_jumps_back_takes_no_time_back() {
        let begun = Instant::now();
        let mut clock = Follower::new(begun, NOON.after(HOUR));
        clock.hear(begun, NOON);
        let mut before = said(&clock, begun);
        for minute in 1..=15 * 60 {
            let now = said(&clock, begun + Duration::from_secs(60 * minute));
            assert!((54_000..=60_000).contains(&(now - before)), "minute {minute}: {now} after {before}");
            before = now;
        }
        assert_eq!(before, 15 * 3_600_000, "an hour was made good in ten");
    }
}
