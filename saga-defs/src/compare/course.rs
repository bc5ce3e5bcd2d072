//! A recorded run, played again by another version.

use std::fmt;
use std::sync::Arc;

use crate::definition::{Definition, StepKind};
use crate::ids::{Attempt, Direction, Revision, SagaId};
use crate::machine::{self, Moment, Moved, Transition, Why};
use crate::rehearsal::Move;
use crate::render::{self, Line};
use crate::saga::{Effect, Event, Saga, Try};

/// How a recorded run goes on another version.
#[derive(Clone, PartialEq, Debug)]
pub enum Course {
    /// What participants and readers would have seen is the same, transition by transition.
    Same,
    /// From here on it goes another way.
    Diverges(Divergence),
    /// The beginning of the run, or something in between, is not there.
    Unknown,
}

/// The first place where two versions go different ways.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// The saga's revision afterwards.
    pub revision: Revision,
    /// What happened, e.g. `charge-payment rejected`.
    pub event: String,
    /// What followed on the version it was recorded on, e.g. `undo reserve-booking #1`.
    pub expected: String,
    /// What follows on the other version; `ignored` and why, where the event does nothing there.
    pub got: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, event, expected, got } = self;
        write!(f, "revision {}, {event}: {expected} -> {got}", revision.0)
    }
}

impl Course {
    /// Plays a run that was recorded on `old` again on `new`, up to the first place where they part.
    ///
    /// Compared is what can be seen from outside: which command of which step goes to whom, which attempt, what is
    /// announced, what becomes of dead letters. Times are not: a timeout or a back-off of another length is a change of
    /// its own, and does not change what follows once it is over.
    pub fn of<'a>(
        old: &Definition,
        new: &Definition,
        saga: SagaId,
        run: impl IntoIterator<Item = &'a Move>,
    ) -> Self {
        let mut run = run.into_iter();
        let Some(first) = run.next() else { return Self::Unknown };
        let Event::Started { input, business_key, traceparent } = &first.event else { return Self::Unknown };
        if first.revision != Revision(1) {
            return Self::Unknown;
        }
        let moved = machine::start(new, saga, input, business_key.clone(), traceparent.clone(), first.at);
        let mut both = Both { old, new, was: None, is: None };
        if let Some(divergence) = both.parted(first, saga, &Transition::Moved(moved)) {
            return Self::Diverges(divergence);
        }
        for entry in run {
            let Some(is) = both.is.as_ref().filter(|is| entry.revision == is.revision.next()) else {
                return Self::Unknown;
            };
            let done = machine::transition(new, is, &entry.event, Moment::of(is, entry.at));
            if let Some(divergence) = both.parted(entry, saga, &done) {
                return Self::Diverges(divergence);
            }
        }
        Self::Same
    }
}

/// A run on both versions at once.
struct Both<'a> {
    old: &'a Definition,
    new: &'a Definition,
    /// The saga as the older version has it, for the words.
    was: Option<Saga>,
    is: Option<Saga>,
}

impl Both<'_> {
    /// Goes on by one entry; the divergence if it is here.
    fn parted(&mut self, entry: &Move, saga: SagaId, done: &Transition) -> Option<Divergence> {
        let before = self.was.take();
        let was = self.on_old(entry, saga, before.as_ref());
        let done = &self.without_its_time(entry, done);
        let same = matches!(done, Transition::Moved(moved)
            if seen(self.old, &entry.effects) == seen(self.new, &moved.effects));
        if !same {
            let line = render::transcript_line(self.old, before.as_ref(), &entry.event, &was);
            let event = line.what.clone();
            let (expected, got) = match done {
                Transition::Ignored(why) => (words(line), format!("ignored ({})", why.as_str())),
                Transition::Moved(moved) => {
                    let other = render::transcript_line(self.new, self.is.as_ref(), &entry.event, done);
                    let (expected, got) = (words(line), words(other));
                    if expected == got {
                        (commands(self.old, &entry.effects), commands(self.new, &moved.effects))
                    } else {
                        (expected, got)
                    }
                }
            };
            return Some(Divergence { revision: entry.revision, event, expected, got });
        }
        if let Transition::Moved(was) = was {
            self.was = Some(was.saga);
        }
        if let Transition::Moved(is) = done {
            self.is = Some(is.saga.clone());
        }
        None
    }

    /// Whether a deadline stands still or runs is about times only, as the deadline itself: what the older version says of it
    /// moves the newer one by nothing.
    fn without_its_time(&self, entry: &Move, done: &Transition) -> Transition {
        match (&entry.event, done, &self.is) {
            (Event::DeadlineStopped | Event::DeadlineResumed, Transition::Ignored(_), Some(is)) => {
                let saga = Saga { revision: entry.revision, ..is.clone() };
                Transition::Moved(Moved { saga, effects: Vec::new() })
            }
            _ => done.clone(),
        }
    }

    fn on_old(&self, entry: &Move, saga: SagaId, before: Option<&Saga>) -> Transition {
        match (before, &entry.event) {
            (None, Event::Started { input, business_key, traceparent }) => {
                let (key, trace) = (business_key.clone(), traceparent.clone());
                Transition::Moved(machine::start(self.old, saga, input, key, trace, entry.at))
            }
            (Some(before), event) => {
                machine::transition(self.old, before, event, Moment::of(before, entry.at))
            }
            (None, _) => Transition::Ignored(Why::Begun),
        }
    }
}

/// An effect as it is seen from outside.
#[derive(PartialEq)]
enum Seen<'a> {
    Command {
        step: &'a str,
        to: &'a str,
        message: &'a str,
        direction: Direction,
        attempt: Attempt,
        redrive: u32,
    },
    Letter {
        step: &'a str,
        direction: Direction,
        code: Arc<str>,
    },
    Other(&'a Effect),
}

fn seen<'a>(definition: &'a Definition, effects: &'a [Effect]) -> Vec<Seen<'a>> {
    effects.iter().map(|effect| seen_one(definition, effect)).collect()
}

fn seen_one<'a>(definition: &'a Definition, effect: &'a Effect) -> Seen<'a> {
    match effect {
        Effect::Send(at) => {
            let Some(step) = definition.step(at.step) else { return Seen::Other(effect) };
            let message = match (&step.kind, at.direction) {
                (StepKind::Compensatable { compensation }, Direction::Compensation) => compensation,
                (_, _) => &step.command,
            };
            let Try { direction, attempt, redrive, .. } = *at;
            Seen::Command { step: &step.name, to: &step.participant, message, direction, attempt, redrive }
        }
        Effect::DeadLetter { attempt, cause } => {
            let step = definition.step(attempt.step).map_or("", |step| &step.name);
            Seen::Letter { step, direction: attempt.direction, code: cause.code.clone() }
        }
        Effect::AnnounceStart
        | Effect::AnnounceEnd { .. }
        | Effect::RedriveLetter { .. }
        | Effect::SendLetter { .. }
        | Effect::ResolveLetters { .. }
        | Effect::ReopenLetters { .. } => Seen::Other(effect),
    }
}

/// What follows, in words.
fn words(line: Line) -> String {
    if line.then.is_empty() { "nothing".to_owned() } else { line.then }
}

/// Where the same words stand for different commands: the commands.
fn commands(definition: &Definition, effects: &[Effect]) -> String {
    let each = effects.iter().filter_map(|effect| match seen_one(definition, effect) {
        Seen::Command { step, to, message, .. } => Some(format!("{step}: {message} to {to}")),
        Seen::Letter { .. } | Seen::Other(_) => None,
    });
    each.collect::<Vec<_>>().join(", ")
}
