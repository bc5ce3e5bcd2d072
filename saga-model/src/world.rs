//! What there is besides the saga: messages that were ever sent, the participants' records, and what is really done.

use saga_defs::ids::{Attempt, Direction, StepIndex};
use saga_defs::participant::Recorded;
use saga_defs::saga::Try;

use crate::rules::Identity;
use crate::sagas::SagaRef;

/// A command is tried at most this often; a definition that says more is taken to say this.
pub(crate) const ATTEMPTS: u32 = 2;
/// A command is sent on its way anew by an operator at most this often.
pub(crate) const REDRIVES: u32 = 1;
/// How often somebody may step in during one run: a redrive, a skip, or the database that parks the saga. Cancelling, the
/// deadline and a command that cannot be sent are not counted, but with no interventions there are none of them either:
/// only participants, the network and timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Interventions(pub u8);

impl Interventions {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn is_some(self) -> bool {
        self.0 > 0
    }

    pub(crate) const fn take_one(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// One sending of a command; its copies are equal to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sent {
    /// Of which step.
    pub step: StepIndex,
    /// Doing or undoing it.
    pub direction: Direction,
    /// Which attempt.
    pub attempt: Attempt,
    /// How often an operator had sent it on its way anew.
    pub redrive: u32,
}

impl From<Try> for Sent {
    fn from(at: Try) -> Self {
        Self { step: at.step, direction: at.direction, attempt: at.attempt, redrive: at.redrive }
    }
}

/// What a participant said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Answer {
    /// Done.
    Succeeded,
    /// Business refused; nothing happened.
    Rejected,
    /// Nothing happened; try again.
    Failed,
}

/// A set of sendings of one command, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Sendings(u8);

impl Sendings {
    const fn bit(attempt: Attempt, redrive: u32) -> u8 {
        1 << (attempt.0 - 1 + ATTEMPTS * redrive)
    }

    fn insert(&mut self, attempt: Attempt, redrive: u32) {
        self.0 |= Self::bit(attempt, redrive);
    }

    fn remove(&mut self, attempt: Attempt, redrive: u32) {
        self.0 &= !Self::bit(attempt, redrive);
    }

    fn iter(self) -> impl Iterator<Item = (Attempt, u32)> {
        let all = (0..=REDRIVES).flat_map(|redrive| (1..=ATTEMPTS).map(move |n| (Attempt(n), redrive)));
        all.filter(move |(attempt, redrive)| self.0 & Self::bit(*attempt, *redrive) != 0)
    }
}

/// One of a participant's records, and what happened under its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Book {
    pub(crate) recorded: Option<Recorded>,
    /// The effect happened under this id; one outside happens once under one id.
    pub(crate) made: bool,
}

/// One command of one step: everything that was ever said about it. Nothing is ever taken out: what was sent may arrive,
/// now or later, once or more often, or never.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Talk {
    sent: Sendings,
    succeeded: bool,
    /// By the redrive that was refused, as attempt 1: more is not looked at.
    rejected: Sendings,
    failed: Sendings,
    pub(crate) books: [Book; Identity::COUNT],
    /// An operator took it as done.
    pub(crate) skipped: bool,
}

impl Talk {
    pub(crate) const fn forget_replies(&mut self) {
        self.succeeded = false;
        self.rejected = Sendings(0);
        self.failed = Sendings(0);
    }

    pub(crate) const fn forget_sendings(&mut self) {
        self.sent = Sendings(0);
    }
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct StepWorld {
    pub(crate) forward: Talk,
    pub(crate) undo: Talk,
    /// How often it is done and not undone.
    pub(crate) done: i8,
    /// Its effect was ever claimed: it lies outside, and whoever undoes it finds out what there is.
    pub(crate) outside: bool,
}

impl StepWorld {
    pub(crate) const fn talk(&self, direction: Direction) -> &Talk {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Compensation => &self.undo,
        }
    }

    pub(crate) const fn talk_mut(&mut self, direction: Direction) -> &mut Talk {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Compensation => &mut self.undo,
        }
    }
}

impl StepWorld {
    pub(crate) fn forget_all_but_what_is_done(&mut self) {
        let skipped = |talk: Talk| Talk { skipped: talk.skipped, ..Talk::default() };
        *self = Self {
            forward: skipped(self.forward),
            undo: skipped(self.undo),
            done: self.done,
            outside: false,
        };
    }
}

/// What must never happen, seen at the moment when it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fault {
    /// A compensation was asked for after the point of no return.
    UndonePastThePivot,
    /// A step was to be undone before a later one.
    OutOfOrder,
    /// A step was done that was done, or undone that was not done.
    Twice,
    /// A reply moved a saga that had left its command.
    MovedByWhatItLeft,
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) saga: SagaRef,
    pub(crate) steps: Vec<StepWorld>,
    /// The participant has seen the sending that the saga waits for.
    pub(crate) seen: bool,
    pub(crate) interventions_left: Interventions,
    pub(crate) fault: Option<Fault>,
}

impl World {
    pub(crate) fn talk(&self, sent: Sent) -> &Talk {
        self.steps[sent.step.at()].talk(sent.direction)
    }

    pub(crate) fn talk_mut(&mut self, sent: Sent) -> &mut Talk {
        self.steps[sent.step.at()].talk_mut(sent.direction)
    }

    pub(crate) fn send(&mut self, at: Try) {
        self.seen = false;
        self.talk_mut(at.into()).sent.insert(at.attempt, at.redrive);
    }

    pub(crate) fn take_back(&mut self, at: Try) {
        self.talk_mut(at.into()).sent.remove(at.attempt, at.redrive);
    }

    pub(crate) fn answer(&mut self, sent: Sent, answer: Answer) {
        let talk = self.talk_mut(sent);
        match answer {
            Answer::Succeeded => talk.succeeded = true,
            Answer::Rejected => talk.rejected.insert(Attempt::FIRST, sent.redrive),
            Answer::Failed => talk.failed.insert(sent.attempt, sent.redrive),
        }
    }

    /// The sendings of one command that may arrive.
    pub(crate) fn commands_of(
        &self,
        step: StepIndex,
        direction: Direction,
    ) -> impl Iterator<Item = Sent> + use<> {
        let sent = self.steps[step.at()].talk(direction).sent;
        sent.iter().map(move |(attempt, redrive)| Sent { step, direction, attempt, redrive })
    }

    /// All commands that may arrive.
    pub(crate) fn commands(&self) -> impl Iterator<Item = Sent> {
        self.each(|talk, put| talk.sent.iter().for_each(|(attempt, redrive)| put(attempt, redrive, ())))
            .map(|(sent, ())| sent)
    }

    /// All replies that may arrive.
    pub(crate) fn replies(&self) -> impl Iterator<Item = (Sent, Answer)> {
        self.each(|talk, put| {
            if talk.succeeded {
                put(Attempt::FIRST, 0, Answer::Succeeded);
            }
            talk.rejected.iter().for_each(|(attempt, redrive)| put(attempt, redrive, Answer::Rejected));
            talk.failed.iter().for_each(|(attempt, redrive)| put(attempt, redrive, Answer::Failed));
        })
    }

    fn each<T>(
        &self,
        of: impl Fn(&Talk, &mut dyn FnMut(Attempt, u32, T)),
    ) -> impl Iterator<Item = (Sent, T)> {
        let mut found = Vec::new();
        for (step, world) in (0_u16..).map(StepIndex).zip(&self.steps) {
            for direction in [Direction::Forward, Direction::Compensation] {
                of(world.talk(direction), &mut |attempt, redrive, what| {
                    found.push((Sent { step, direction, attempt, redrive }, what));
                });
            }
        }
        found.into_iter()
    }
}
