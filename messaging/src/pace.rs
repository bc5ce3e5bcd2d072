//! A small wait between batches when much comes in small pieces. Each batch costs its fixed share (a transaction, a few
//! requests), so under load fewer and larger batches leave more of the machine; when there is little to do, nothing waits.

use std::time::{Duration, Instant};

/// Below this many records a second nothing waits.
const BUSY_PER_SECOND: f64 = 1_000.0;
/// A batch of this many records is large enough.
const LARGE_BATCH: usize = 64;
/// The time from the start of a small batch to the start of the next one.
const GAP: Duration = Duration::from_millis(3);
/// How long the rate is counted before it counts.
const WINDOW: Duration = Duration::from_millis(200);

/// Knows how much comes in. Pure: whoever asks brings the time.
#[derive(Debug)]
pub struct Pace {
    window_start: Instant,
    in_window: usize,
    per_second: f64,
    last_start: Option<Instant>,
    last_size: usize,
}

impl Pace {
    /// Of one that has seen nothing yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { window_start: now, in_window: 0, per_second: 0.0, last_start: None, last_size: 0 }
    }

    /// A batch of so many records begins.
    pub fn begin(&mut self, now: Instant, records: usize) {
        let passed = now.saturating_duration_since(self.window_start);
        if passed >= WINDOW {
            self.per_second = self.in_window as f64 / passed.as_secs_f64();
            self.window_start = now;
            self.in_window = 0;
        }
        self.in_window += records;
        self.last_start = Some(now);
        self.last_size = records;
    }

    /// How long to let the next batch grow.
    pub fn pause(&self, now: Instant) -> Duration {
        let Some(last) = self.last_start else { return Duration::ZERO };
        if self.per_second < BUSY_PER_SECOND || self.last_size >= LARGE_BATCH {
            return Duration::ZERO;
        }
        GAP.saturating_sub(now.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of `size` every `gap_ms` for a second; then the pause right after a batch's start.
    fn check(size: usize, gap_ms: u64, expected: Duration) {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut now = start;
        while now < start + Duration::from_secs(1) {
            now += Duration::from_millis(gap_ms);
            pace.begin(now, size);
        }
        assert_eq!(pace.pause(now), expected, "{size} commands every {gap_ms} ms");
    }

    #[test]
    fn only_many_small_batches_wait() {
        check(1, 10, Duration::ZERO);
        check(2, 1, GAP);
        check(20, 10, GAP);
        check(200, 10, Duration::ZERO);
        assert_eq!(Pace::new(Instant::now()).pause(Instant::now()), Duration::ZERO);
    }

    #[test]
    fn the_wait_ends_with_the_gap() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for ms in 1..=400 {
            pace.begin(start + Duration::from_millis(ms), 3);
        }
        let last = start + Duration::from_millis(400);
        assert_eq!(pace.pause(last + Duration::from_millis(1)), Duration::from_millis(2));
        assert_eq!(pace.pause(last + Duration::from_millis(30)), Duration::ZERO);
    }
}
