//! A lane that stood still, with its process or before a database that was away, reads what has come in meanwhile before its
//! timers fire: most of what seems to be late by then has been answered.

use std::time::Duration;

use tokio::time::Instant;

/// A lane that turns as seldom as this stood still. Well above what a commit takes, and an idle lane turns every second.
const STOOD_STILL: Duration = Duration::from_secs(3);
/// No timer fires for so long afterwards, as after a take-over.
const GRACE: Duration = Duration::from_secs(2);
/// Nor is that granted again before this has passed: a lane that is slow for long has timers all the same.
const NOT_AGAIN: Duration = Duration::from_secs(15);

/// Since when a lane is at work.
#[derive(Debug)]
pub(in super::super) struct Attention {
    turned: Instant,
    woke: Option<Instant>,
}

impl Attention {
    /// At work from now on.
    pub(in super::super) const fn since(now: Instant) -> Self {
        Self { turned: now, woke: None }
    }

    /// The lane turns.
    pub(super) fn turn(&mut self, now: Instant) {
        let stood_still = now.saturating_duration_since(self.turned) >= STOOD_STILL;
        if stood_still && self.woke.is_none_or(|woke| now.saturating_duration_since(woke) >= NOT_AGAIN) {
            self.woke = Some(now);
        }
        self.turned = now;
    }

    /// Whether it has just begun to turn again, so that its timers wait.
    pub(super) fn is_waking(&self, now: Instant) -> bool {
        self.woke.is_some_and(|woke| now.saturating_duration_since(woke) < GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stood_still_reads_first_and_is_late_once() {
        let begun = Instant::now();
        let at = |s| begun + Duration::from_secs(s);
        let mut attention = Attention::since(begun);
        attention.turn(at(1));
        assert!(!attention.is_waking(at(1)), "an idle lane turns every second");
        attention.turn(at(61));
        assert!(attention.is_waking(at(61)) && attention.is_waking(at(62)));
        attention.turn(at(62));
        assert!(!attention.is_waking(at(63)));
        attention.turn(at(66));
        assert!(!attention.is_waking(at(66)), "it was granted a moment ago");
        attention.turn(at(80));
        assert!(attention.is_waking(at(80)));
    }
}
