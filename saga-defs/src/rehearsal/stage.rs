//! Where a rehearsal is played: the saga, its participants and a clock that jumps to whatever happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Data;
use crate::definition::Definition;
use crate::ids::{CommandId, Direction, SagaId};
use crate::machine::{Moment, Moved, Transition, start, transition};
use crate::participant::{Admission, Incoming, Recorded, admit};
use crate::retry::Jitter;
use crate::saga::{Echo, Event, Outcome, Refusal, Saga, State, Try};
use crate::time::Timestamp;

use super::abridge::abridge;
use super::{Move, Rehearsal, Scene, Trouble};

/// When every rehearsal begins: the start of 2026.
const BEGIN: Timestamp = Timestamp::from_unix_millis(1_767_225_600_000);

/// How long a participant takes to answer.
const ANSWER_TIME: Duration = Duration::from_millis(10);

pub(super) struct Stage<'a> {
    definition: &'a Definition,
    saga: Saga,
    now: Timestamp,
    records: BTreeMap<CommandId, Recorded>,
    played: Vec<Played>,
}

/// One transition, with the saga on both sides of it.
pub(super) struct Played {
    pub(super) before: Option<Saga>,
    pub(super) event: Event,
    pub(super) done: Moved,
}

impl<'a> Stage<'a> {
    pub(super) fn new(definition: &'a Definition) -> Self {
        let input = Data::new();
        let begun = start(definition, SagaId::new(BEGIN, [0; 10]), &input, None, None, BEGIN);
        let event = Event::Started { input, business_key: None, traceparent: None };
        let saga = begun.saga.clone();
        let played = vec![Played { before: None, event, done: begun }];
        Self { definition, saga, now: BEGIN, records: BTreeMap::new(), played }
    }

    /// Plays until the saga has ended, or is stuck and nobody comes. It ends: every turn is a move, a command has a
    /// limited number of attempts, and there is one redrive.
    pub(super) fn play(mut self, scene: Scene) -> Rehearsal {
        let mut deadline = Some(self.saga.started_at.after(self.definition.deadline));
        let mut cancel = scene.cancelled;
        let mut redrive = scene.redriven;
        while let Some((at, event)) = self.next(&scene, &mut cancel, &mut redrive) {
            if let Some(first) = deadline.take_if(|deadline| *deadline <= at) {
                self.now = first;
                if self.happen(Event::DeadlinePassed) {
                    continue;
                }
            }
            self.now = at;
            self.happen(event);
        }
        let transcript = abridge(self.definition, &self.played);
        let (saga, ended) = (self.saga.id, self.saga.status());
        let moves = self.played.into_iter().map(Move::from).collect();
        Rehearsal { title: scene.title, transcript, saga, moves, ended }
    }

    /// What happens next, and when, if the deadline does not come first.
    fn next(&mut self, scene: &Scene, cancel: &mut bool, redrive: &mut bool) -> Option<(Timestamp, Event)> {
        match self.saga.state {
            State::Completed | State::Compensated => None,
            State::Backoff { next, until } => Some((until, Event::RetryDue(next))),
            State::Stuck { .. } => {
                let again = Event::Redrive { reason: "repaired".into(), input: None };
                std::mem::take(redrive).then_some((self.now, again))
            }
            State::Awaiting(at) => {
                let undone = scene.trouble.is_some_and(|(step, ..)| step == at.step);
                if undone && std::mem::take(cancel) {
                    self.take(at, None);
                    return Some((self.now, Event::Cancel { reason: "not wanted any more".into() }));
                }
                let trouble = scene.concerns(at);
                let outcome = self.take(at, trouble);
                if trouble == Some(Trouble::Silent) {
                    let timeout = self.definition.step(at.step).map_or(Duration::ZERO, |step| step.timeout);
                    return Some((self.now.after(timeout), Event::TimedOut(at)));
                }
                let echo = Some(Echo { attempt: at.attempt, redrive: at.redrive });
                let command_id = self.command(at, at.direction);
                Some((self.now.after(ANSWER_TIME), Event::Replied { command_id, echo, outcome }))
            }
        }
    }

    fn happen(&mut self, event: Event) -> bool {
        let moment = Moment { at: self.now, jitter: Jitter::NONE };
        match transition(self.definition, &self.saga, &event, moment) {
            Transition::Moved(done) => {
                let before = Some(std::mem::replace(&mut self.saga, done.saga.clone()));
                self.played.push(Played { before, event, done });
                true
            }
            Transition::Ignored(_) => false,
        }
    }

    // ---- the participants -------------------------------------------------------------------------------------

    /// A participant takes a command: by [`admit`], and where its handler is let, with this trouble.
    fn take(&mut self, at: Try, trouble: Option<Trouble>) -> Outcome {
        let (own, forward) = (self.command(at, at.direction), self.command(at, Direction::Forward));
        let Try { direction, attempt, redrive, .. } = at;
        let recorded = self.records.get(&own).copied();
        let incoming = Incoming { direction, attempt, redrive };
        let record = match admit(recorded, self.records.get(&forward).copied(), incoming) {
            Admission::Execute => match trouble {
                None | Some(Trouble::Silent) => Recorded::Succeeded,
                Some(Trouble::Rejected) => Recorded::Rejected { redrive },
                Some(Trouble::Failed) => Recorded::Failed { attempt, redrive },
            },
            Admission::Tombstone => {
                self.records.insert(forward, Recorded::Tombstoned);
                Recorded::Succeeded
            }
            Admission::Replay => recorded.unwrap_or(Recorded::Succeeded),
            Admission::Refuse => Recorded::Tombstoned,
        };
        self.records.insert(own, record);
        answer(record)
    }

    fn command(&self, at: Try, direction: Direction) -> CommandId {
        let name = self.definition.step(at.step).map_or("", |step| &step.name);
        CommandId::derive(self.saga.id, name, direction)
    }
}

impl From<Played> for Move {
    fn from(played: Played) -> Self {
        let Moved { saga, effects } = played.done;
        Self { revision: saga.revision, at: saga.updated_at, event: played.event, effects }
    }
}

fn answer(record: Recorded) -> Outcome {
    match record {
        Recorded::Succeeded | Recorded::Claimed => Outcome::Succeeded { fields: Data::new() },
        Recorded::Rejected { .. } => Outcome::Rejected { refusal: Refusal::new("refused", "") },
        Recorded::Failed { .. } => Outcome::Failed { refusal: Refusal::new("unavailable", "") },
        Recorded::Tombstoned => Outcome::Rejected { refusal: Refusal::new("tombstoned", "") },
    }
}
