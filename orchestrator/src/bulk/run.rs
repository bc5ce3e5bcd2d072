//! How an action over a frozen selection goes on: the ramp, the rate, and when it stops by itself. Pure: the time is an
//! argument, and what has come of it so far is a value that is kept with the action.
//!
//! A ramp of 1, 5, 50 means: send one and wait for its outcome, then five, then fifty, then the rest. More than one in ten
//! of the last [`WINDOW`] outcomes of a step that are failures stop it. The rest goes out at the given rate. At no
//! time are more than [`MAX_WAITING`] outcomes outstanding.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use saga_defs::time::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// So many of a step's last outcomes are looked at.
pub const WINDOW: usize = 50;
/// So many may be without an outcome.
pub const MAX_WAITING: u32 = 1_000;
/// What was not sent for this long is not sent all the faster afterwards.
const SLACK: Duration = Duration::from_millis(200);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many were chosen.
    pub selected: u32,
    /// How many are sent in the steps before the rest.
    pub ramp: Vec<u32>,
    /// How many are sent in a second, at most; at least 1.
    pub rate: u32,
}

/// What has come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// How many were sent.
    pub sent: u32,
    /// How many of these did what they were sent for.
    pub succeeded: u32,
    /// How many of these failed again.
    pub failed_again: u32,
    /// How many were passed over, by why.
    pub passed_over: BTreeMap<String, u32>,
    /// Everything up to this place of the selection has been sent or passed over.
    pub done_up_to: u32,
    /// The step of the ramp, from 0; the rest is the last one.
    pub step: u32,
    /// The last outcomes of the step: whether each was a success.
    pub recent: VecDeque<bool>,
}

impl Progress {
    /// How many have no outcome yet.
    pub const fn waiting(&self) -> u32 {
        self.sent.saturating_sub(self.succeeded).saturating_sub(self.failed_again)
    }

    /// How many have been sent or passed over.
    pub fn attempted(&self) -> u32 {
        self.sent + self.passed_over.values().sum::<u32>()
    }
}

/// How one that was sent came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its saga moved on.
    Succeeded,
    /// It is where it was.
    FailedAgain,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send, as many at most.
    Send {
        /// At most so many.
        at_most: u32,
    },
    /// Nothing before then: the rate.
    Pause {
        /// When to ask again.
        until: Timestamp,
    },
    /// Nothing before there are more outcomes.
    Outcomes,
    /// Stop: too many failed again.
    Stop {
        /// So many failed,
        failed: usize,
        /// of so many last outcomes of the step.
        of: usize,
    },
    /// Everything is sent or passed over, and has its outcome.
    Done,
}

/// An action under way.
#[derive(Clone, Debug)]
pub struct Run {
    plan: Plan,
    progress: Progress,
    /// When the next one may be sent.
    free_at: Timestamp,
}

impl Run {
    /// Begins, or goes on from what had come of it.
    pub const fn new(plan: Plan, progress: Progress, now: Timestamp) -> Self {
        Self { plan, progress, free_at: now }
    }

    /// What has come of it.
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What to do now.
    pub fn next(&mut self, now: Timestamp) -> Next {
        let failed = self.progress.recent.iter().filter(|succeeded| !**succeeded).count();
        let window = WINDOW.min(usize::try_from(self.step_size()).unwrap_or(WINDOW));
        if failed * 10 > window {
            return Next::Stop { failed, of: self.progress.recent.len() };
        }
        let left = self.plan.selected.saturating_sub(self.progress.attempted());
        let waiting = self.progress.waiting();
        if left == 0 {
            return if waiting == 0 { Next::Done } else { Next::Outcomes };
        }
        let mut room = self.room();
        if room == 0 && waiting == 0 {
            self.progress.step += 1;
            self.progress.recent.clear();
            room = self.room();
        }
        if room == 0 {
            return Next::Outcomes;
        }
        if self.free_at > now {
            return Next::Pause { until: self.free_at };
        }
        // What the rate has left over since the last one, and one.
        let late = now.since(self.free_at).min(SLACK);
        let earned = (late.as_secs_f64() * f64::from(self.plan.rate)) as u32;
        Next::Send { at_most: room.min(left).min(earned.saturating_add(1)) }
    }

    /// So many were sent.
    pub fn sent(&mut self, count: u32, now: Timestamp) {
        self.progress.sent += count;
        let spent = Duration::from_secs(1) / self.plan.rate.max(1) * count;
        let late = now.since(self.free_at);
        let from = if late > SLACK { self.free_at.after(late - SLACK) } else { self.free_at };
        self.free_at = from.after(spent);
    }

    /// One was not sent, for this reason.
    pub fn passed_over(&mut self, code: &str) {
        *self.progress.passed_over.entry(code.to_owned()).or_default() += 1;
    }

    /// Everything up to this place of the selection is sent or passed over.
    pub fn up_to(&mut self, place: u32) {
        self.progress.done_up_to = place;
    }

    /// One that was sent has its outcome.
    pub fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded => self.progress.succeeded += 1,
            Outcome::FailedAgain => self.progress.failed_again += 1,
        }
        self.progress.recent.push_back(outcome == Outcome::Succeeded);
        if self.progress.recent.len() > WINDOW {
            self.progress.recent.pop_front();
        }
    }

    /// How many may be sent before an outcome is needed.
    fn room(&self) -> u32 {
        let of_step = self.steps_end().map_or(u32::MAX, |end| end.saturating_sub(self.progress.sent));
        of_step.min(MAX_WAITING.saturating_sub(self.progress.waiting()))
    }

    /// How many are sent when the present step ends; `None` for the rest.
    fn steps_end(&self) -> Option<u32> {
        let steps = self.plan.ramp.get(..=self.step_index())?;
        Some(steps.iter().fold(0_u32, |sum, size| sum.saturating_add(*size)))
    }

    /// How many the present step has; of the rest as many as there are.
    fn step_size(&self) -> u32 {
        let size = self.plan.ramp.get(self.step_index()).copied();
        size.unwrap_or(u32::MAX).min(self.plan.selected)
    }

    fn step_index(&self) -> usize {
        usize::try_from(self.progress.step).unwrap_or(usize::MAX)
    }
}
