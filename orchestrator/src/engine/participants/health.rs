//! Whether a participant is asked at the moment. Pure: the time and what is observed come in, and the state is data.
//!
//! It is held when many sagas in a row had no answer, or only failures, and nobody had a success: one saga alone, however
//! often it is tried, holds nobody. While it is held one command is let through now and then; the first answer begins a ramp,
//! in which a few times as many may be under way as were answered in the interval before, until nobody waits any more.

use std::collections::BTreeSet;
use std::time::Duration;

use saga_defs::ids::SagaId;
use saga_defs::time::Timestamp;

/// How long an interval of the ramp is.
pub const RAMP_INTERVAL: Duration = Duration::from_secs(1);
/// In a ramp so many times as many may be under way as were answered in the interval before: a participant that keeps up is asked
/// ever more, and one that does not has so many intervals of work before it, less than a command's time limit by default.
const RAMP_FACTOR: usize = 4;
/// A probe has come to something after so long, or will not: then a hold for which nobody waits has nothing left to learn from.
const PROBE_LIMIT: Duration = Duration::from_secs(60);
/// So many sagas in a row without an answer end a ramp.
const RAMP_SAGAS: usize = 3;
/// Those who wait are found within so long of a take-over, or of a start: shards are claimed, timers are due and are taken a batch
/// at a time. Until then that nobody is known to wait says nothing.
pub const SEARCH: Duration = Duration::from_secs(30);

/// When a participant is held, and how often it is asked then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It is held after so many different sagas in a row had trouble with it; 0: never by itself.
    pub sagas: u32,
    /// But not before it has been without a good answer for so long.
    pub silence: Duration,
    /// How long after the hold one command is let through.
    pub first_probe: Duration,
    /// The wait doubles from probe to probe, up to this.
    pub last_probe: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sagas: 10,
            silence: Duration::from_secs(2),
            first_probe: Duration::from_secs(1),
            last_probe: Duration::from_secs(10),
        }
    }
}

/// What is observed of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It said that it did, or that it will not do, what it was asked.
    Answered,
    /// It said so of something that nobody waits for any more: it is there, but perhaps far behind.
    Late,
    /// It said `failed` to this saga.
    Failed(SagaId),
    /// It did not answer this saga in time.
    Silent(SagaId),
    /// An operator: ask it nothing.
    Paused,
    /// An operator: ask it again.
    Resumed,
}

/// Why a participant is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It does not answer.
    Silence,
    /// It only answers `failed`.
    Failures,
    /// An operator said so.
    Operator,
}

impl Cause {
    /// As in the API and the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Failures => "failures",
            Self::Operator => "operator",
        }
    }

    /// The cause of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Silence, Self::Failures, Self::Operator].into_iter().find(|cause| cause.as_str() == text)
    }
}

/// How a participant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is asked. Left by trouble, or by an operator's pause.
    Answering {
        /// Its last good answer.
        last_answer: Option<Timestamp>,
        /// What went wrong since then.
        trouble: Trouble,
    },
    /// It is asked nothing but probes, and after an operator's pause not even these. Left by an answer to anything, when a probe is
    /// due and nobody waits, or where an operator paused it by a `resume`.
    Held(Hold),
    /// It is asked a little more from interval to interval. Left by trouble, or when nobody waits any more and whoever might is
    /// found.
    Ramping {
        /// The hold that it comes back from.
        hold: Hold,
        /// Since when it comes back. What was asked before tells nothing of how it is now.
        begun: Timestamp,
        /// How many may still go in this interval.
        credit: usize,
        /// Good answers in this interval.
        answered: usize,
        /// Of those that were let go in this ramp so many have neither an answer nor timed out.
        under_way: usize,
        /// When the next interval begins.
        next: Timestamp,
        /// What went wrong since the last good answer.
        trouble: Trouble,
    },
}

/// What went wrong since the last good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    since: Option<Timestamp>,
    /// Not more than count.
    sagas: BTreeSet<SagaId>,
}

/// A participant is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Its last good answer.
    pub last_answer: Option<Timestamp>,
    /// When one command is let through.
    pub next_probe: Timestamp,
    /// How long to wait after that probe.
    wait: Duration,
    /// When the last one was let through.
    probed: Option<Timestamp>,
    /// Until then some who wait may be yet to be found.
    sought_until: Timestamp,
}

/// How many of those that wait may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// So many. They are asked for as ever.
    Go(usize),
    /// One, to see whether it is answered.
    Probe,
}

impl Default for Health {
    fn default() -> Self {
        Self::Answering { last_answer: None, trouble: Trouble::default() }
    }
}

impl Trouble {
    /// Adds to it; whether so many sagas had trouble by now.
    fn add(&mut self, saga: SagaId, now: Timestamp, many: usize) -> bool {
        self.since.get_or_insert(now);
        if self.sagas.len() < many {
            self.sagas.insert(saga);
        }
        self.sagas.len() >= many
    }
}

impl Hold {
    /// Held from `now` on.
    pub fn new(now: Timestamp, cause: Cause, last_answer: Option<Timestamp>, limits: &Limits) -> Self {
        let next_probe = now.after(limits.first_probe);
        let wait = longer(limits.first_probe, limits);
        Self { since: now, cause, last_answer, next_probe, wait, probed: None, sought_until: now }
    }

    /// Held since an earlier time, as somebody has written down; the first probe comes at once. It counts as probed: those who wait
    /// for it are yet to be found, and until then nobody may think that there are none.
    pub fn known(since: Timestamp, cause: Cause, now: Timestamp, limits: &Limits) -> Self {
        let sought_until = now.after(SEARCH);
        Self {
            since,
            next_probe: now,
            probed: Some(now),
            sought_until,
            ..Self::new(now, cause, None, limits)
        }
    }
}

fn longer(wait: Duration, limits: &Limits) -> Duration {
    (wait * 2).min(limits.last_probe)
}

impl Health {
    /// Whether its commands are handed out as they come.
    pub const fn is_answering(&self) -> bool {
        matches!(self, Self::Answering { .. })
    }

    /// The hold, also while it comes back from it.
    pub const fn hold(&self) -> Option<&Hold> {
        match self {
            Self::Answering { .. } => None,
            Self::Held(hold) | Self::Ramping { hold, .. } => Some(hold),
        }
    }

    /// Its last good answer.
    pub const fn last_answer(&self) -> Option<Timestamp> {
        match self {
            Self::Answering { last_answer, .. } => *last_answer,
            Self::Held(hold) | Self::Ramping { hold, .. } => hold.last_answer,
        }
    }

    /// Since when it comes back from a hold, if it does.
    pub const fn ramping_since(&self) -> Option<Timestamp> {
        match self {
            Self::Ramping { begun, .. } => Some(*begun),
            Self::Answering { .. } | Self::Held(_) => None,
        }
    }

    /// It comes back from this hold: nothing is known of how much it answers.
    pub fn coming_back(hold: Hold, now: Timestamp) -> Self {
        Self::ramp(hold, now, 0)
    }

    /// Shards were taken over: some who wait for it are yet to be found.
    pub fn seek(&mut self, now: Timestamp) {
        if let Self::Held(hold) | Self::Ramping { hold, .. } = self {
            hold.sought_until = now.after(SEARCH);
        }
    }

    /// Something was observed.
    pub fn observe(&mut self, now: Timestamp, seen: Seen, limits: &Limits) {
        match seen {
            Seen::Answered => self.answered(now),
            Seen::Late => self.answered_late(now, limits),
            Seen::Failed(saga) => self.trouble(now, saga, Cause::Failures, limits),
            Seen::Silent(saga) => self.trouble(now, saga, Cause::Silence, limits),
            Seen::Paused => {
                if !matches!(self, Self::Held(Hold { cause: Cause::Operator, .. })) {
                    *self = Self::Held(Hold::new(now, Cause::Operator, self.last_answer(), limits));
                }
            }
            Seen::Resumed => {
                if let Self::Held(hold) = *self {
                    *self = Self::ramp(hold, now, 0);
                }
            }
        }
    }

    fn ramp(hold: Hold, now: Timestamp, answered: usize) -> Self {
        let trouble = Trouble::default();
        Self::Ramping { hold, begun: now, credit: 0, answered, under_way: 0, next: now, trouble }
    }

    fn answered(&mut self, now: Timestamp) {
        match self {
            Self::Answering { last_answer, trouble } => {
                *last_answer = Some(now);
                if trouble.since.is_some() {
                    *trouble = Trouble::default();
                }
            }
            // An operator's word counts more.
            Self::Held(hold) if hold.cause == Cause::Operator => hold.last_answer = Some(now),
            Self::Held(hold) => *self = Self::ramp(Hold { last_answer: Some(now), ..*hold }, now, 1),
            Self::Ramping { hold, answered, under_way, trouble, .. } => {
                hold.last_answer = Some(now);
                *answered += 1;
                *under_way = under_way.saturating_sub(1);
                *trouble = Trouble::default();
            }
        }
    }

    /// One that only answers too late is of no more use than a silent one, and is held like it: so what is late ends no hold. But
    /// it brings the next probe, no sooner after the last one than the first probe comes after the beginning.
    fn answered_late(&mut self, now: Timestamp, limits: &Limits) {
        if let Self::Held(hold) = self
            && hold.cause != Cause::Operator
        {
            let soonest = hold.probed.map_or(now, |probed| probed.after(limits.first_probe));
            hold.next_probe = hold.next_probe.min(soonest.max(now));
            hold.last_answer = Some(now);
        }
    }

    fn trouble(&mut self, now: Timestamp, saga: SagaId, cause: Cause, limits: &Limits) {
        let many = limits.sagas as usize;
        if many == 0 {
            return;
        }
        match self {
            Self::Answering { last_answer, trouble } => {
                let is_much = trouble.add(saga, now, many);
                let since = match cause {
                    // Nobody has had an answer yet, and this one has waited for its whole timeout.
                    Cause::Silence => *last_answer,
                    Cause::Failures | Cause::Operator => last_answer.or(trouble.since),
                };
                if is_much && since.is_none_or(|since| now.since(since) >= limits.silence) {
                    *self = Self::Held(Hold::new(now, cause, *last_answer, limits));
                }
            }
            // Whom the probes trouble is what they are for.
            Self::Held(_) => {}
            Self::Ramping { hold, under_way, trouble, .. } => {
                *under_way = under_way.saturating_sub(1);
                if trouble.add(saga, now, many.min(RAMP_SAGAS)) {
                    let (next_probe, wait) = (now.after(hold.wait), longer(hold.wait, limits));
                    *self = Self::Held(Hold { cause, next_probe, wait, ..*hold });
                }
            }
        }
    }

    /// Some of those that were let go are another process's now: what becomes of them is not seen here.
    pub fn lose_count(&mut self) {
        if let Self::Ramping { under_way, .. } = self {
            *under_way = 0;
        }
    }

    /// How many of those that wait may go now, at most `room`.
    pub fn grant(&mut self, now: Timestamp, waiting: usize, room: usize, limits: &Limits) -> Grant {
        match self {
            Self::Answering { .. } => Grant::Go(waiting.min(room)),
            Self::Held(hold) => {
                let due = hold.next_probe <= now && hold.cause != Cause::Operator;
                let heard = hold.probed.is_none_or(|probed| now.since(probed) >= PROBE_LIMIT);
                if due && waiting == 0 && heard && hold.sought_until <= now {
                    // Nobody is left to ask with, and only who asks can find out: whoever comes next is sent to it.
                    *self = Self::Answering { last_answer: hold.last_answer, trouble: Trouble::default() };
                    return Grant::Go(0);
                }
                if !due || waiting == 0 || room == 0 {
                    return Grant::Go(0);
                }
                hold.probed = Some(now);
                hold.next_probe = now.after(hold.wait);
                hold.wait = longer(hold.wait, limits);
                Grant::Probe
            }
            Self::Ramping { hold, credit, answered, under_way, next, .. } => {
                if *next <= now {
                    let most = RAMP_FACTOR * std::mem::take(answered);
                    *credit = most.saturating_sub(*under_way).max(1);
                    *next = now.after(RAMP_INTERVAL);
                }
                let go = waiting.min(*credit).min(room);
                *credit -= go;
                *under_way += go;
                if go == waiting && hold.sought_until <= now {
                    *self = Self::Answering { last_answer: hold.last_answer, trouble: Trouble::default() };
                }
                Grant::Go(go)
            }
        }
    }
}

#[cfg(test)]
mod tests;
