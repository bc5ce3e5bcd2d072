//! The sagas of a model, each kept once: a state of the model names its saga by a number, and a move is decided once.
//!
//! What decides nothing is left out of a saga: its data, times, texts and dead letters.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use saga_defs::Data;
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{Attempt, CommandId, Direction, Revision, SagaId, StepIndex};
use saga_defs::machine::{Moment, Moved, Transition, start};
use saga_defs::retry::Jitter;
use saga_defs::saga::{
    Echo, Effect, Event, Outcome, Refusal, Saga, State, StepRecord, StepStatus, Try, Uncounted,
};
use saga_defs::time::Timestamp;

use crate::quiet::has_left;
use crate::rules::Rules;
use crate::world::{ATTEMPTS, Answer, Fault, Sent};

const BEGIN: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
const NOW: Moment = Moment { at: BEGIN, jitter: Jitter::NONE };

/// A saga of this model, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SagaRef(u32);

/// What can happen to a saga.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Happening {
    /// A reply arrives.
    Reply(Sent, Answer),
    /// The timer of what it waits for: the attempt's timeout, or the end of its back-off.
    Timer,
    /// The command that it wants to send cannot be built.
    Unsendable,
    /// The command that it wants to send is not handed out.
    Withheld,
    /// The deadline.
    Deadline,
    /// An operator.
    Cancel,
    /// An operator.
    RetryNow,
    /// An operator.
    Redrive,
    /// An operator.
    Skip,
    /// The database refuses its row.
    Park,
}

/// What an event does to a saga.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) to: SagaRef,
    pub(crate) sends: Option<Try>,
    pub(crate) fault: Option<Fault>,
}

pub(crate) struct Sagas<R> {
    pub(crate) rules: R,
    /// With no more attempts than the model tries.
    pub(crate) definition: Definition,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    sagas: Vec<Arc<Saga>>,
    numbers: HashMap<(State, Vec<StepStatus>), SagaRef>,
    moves: HashMap<(SagaRef, Happening), Option<Move>>,
}

impl<R: Rules> Sagas<R> {
    pub(crate) fn new(rules: R, definition: &Definition) -> Self {
        let mut definition = definition.clone();
        for step in &mut definition.steps {
            for policy in [&mut step.retry, &mut step.compensation_retry] {
                policy.max_attempts = policy.max_attempts.min(ATTEMPTS);
            }
        }
        Self { rules, definition, known: Mutex::default() }
    }

    /// The saga at its start, with nothing left out.
    pub(crate) fn begin(&self) -> Moved {
        start(&self.definition, SagaId::new(BEGIN, [7; 10]), &Data::new(), None, None, BEGIN)
    }

    pub(crate) fn first(&self) -> Move {
        let begun = self.begin();
        let sends = sent(&begun.effects);
        Move { to: self.known().number(begun.saga).0, sends, fault: None }
    }

    pub(crate) fn get(&self, saga: SagaRef) -> Arc<Saga> {
        self.known().sagas[saga.0 as usize].clone()
    }

    /// What happens to the saga then; `None` if nothing does.
    pub(crate) fn happen(&self, saga: SagaRef, what: Happening) -> Option<Move> {
        if let Some(done) = self.known().moves.get(&(saga, what)) {
            return *done;
        }
        let before = self.get(saga);
        let done = self.apply(&before, what).map(|(_, moved)| {
            let (sends, mut fault) = (sent(&moved.effects), self.fault(&moved));
            let (to, new) = self.known().number(moved.saga);
            if new {
                fault = fault.or_else(|| self.listens_to_what_it_left(&self.get(to)));
            }
            Move { to, sends, fault }
        });
        self.known().moves.insert((saga, what), done);
        done
    }

    /// The event, and what it does to this saga; `None` if it cannot happen or does nothing.
    pub(crate) fn apply(&self, saga: &Saga, what: Happening) -> Option<(Event, Moved)> {
        let event = self.event(saga, what)?;
        match self.rules.transition(&self.definition, saga, &event, NOW) {
            Transition::Moved(moved) => Some((event, moved)),
            Transition::Ignored(_) => None,
        }
    }

    fn event(&self, saga: &Saga, what: Happening) -> Option<Event> {
        let reason = Arc::<str>::from("");
        Some(match (what, &saga.state) {
            (Happening::Reply(sent, answer), _) => self.reply(saga.id, sent, answer)?,
            (Happening::Timer, State::Awaiting(at)) => Event::TimedOut(*at),
            (Happening::Timer, State::Backoff { next, .. }) => Event::RetryDue(*next),
            (Happening::Unsendable, State::Awaiting(at)) => {
                Event::Unsendable { attempt: *at, cause: Refusal::new("unsendable", "") }
            }
            (Happening::Withheld, State::Awaiting(at)) => Event::Withheld(*at),
            (
                Happening::Timer | Happening::Unsendable | Happening::Withheld,
                State::Stuck { .. } | State::Completed | State::Compensated,
            )
            | (Happening::Unsendable | Happening::Withheld, State::Backoff { .. }) => return None,
            (Happening::Deadline, _) => Event::DeadlinePassed,
            (Happening::Cancel, _) => Event::Cancel { reason },
            (Happening::RetryNow, _) => Event::RetryNow { reason },
            (Happening::Redrive, _) => Event::Redrive { reason, input: None },
            (Happening::Skip, _) => Event::Skip { reason },
            (Happening::Park, _) => Event::Quarantined { cause: Refusal::new("database_refused", "") },
        })
    }

    fn reply(&self, saga: SagaId, sent: Sent, answer: Answer) -> Option<Event> {
        let command_id = CommandId::derive(saga, &self.definition.step(sent.step)?.name, sent.direction);
        let echo = Some(Echo { attempt: sent.attempt, redrive: sent.redrive });
        let outcome = match answer {
            Answer::Succeeded => Outcome::Succeeded { fields: Data::new() },
            Answer::Rejected => Outcome::Rejected { refusal: Refusal::new("refused", "") },
            Answer::Failed => Outcome::Failed { refusal: Refusal::new("unavailable", "") },
        };
        Some(Event::Replied { command_id, echo, outcome })
    }

    /// What is wrong with a move, seen from the saga alone.
    fn fault(&self, moved: &Moved) -> Option<Fault> {
        let at = sent(&moved.effects).filter(|at| at.direction == Direction::Compensation)?;
        let steps = || (0_u16..).map(StepIndex).zip(self.definition.steps.iter().zip(&moved.saga.steps));
        let no_return = steps().any(|(_, (step, record))| match step.kind {
            StepKind::Compensatable { .. } => false,
            StepKind::Pivot => !matches!(record.status, StepStatus::Pending | StepStatus::Rejected),
            StepKind::Retriable => record.status != StepStatus::Pending,
        });
        let left = |(step, (_, record)): (StepIndex, (_, &StepRecord))| {
            step > at.step && matches!(record.status, StepStatus::Succeeded | StepStatus::InDoubt)
        };
        if no_return {
            Some(Fault::UndonePastThePivot)
        } else if steps().any(left) {
            Some(Fault::OutOfOrder)
        } else {
            None
        }
    }

    /// `quiet` forgets the replies to what a saga has left; they must do nothing.
    fn listens_to_what_it_left(&self, saga: &Saga) -> Option<Fault> {
        let steps = (0..self.definition.steps.len() as u16).map(StepIndex);
        let mut left = steps.flat_map(|step| {
            let directions = [Direction::Forward, Direction::Compensation].into_iter();
            directions
                .filter(move |direction| has_left(saga, step, *direction))
                .map(move |direction| (step, direction))
        });
        let answers = [Answer::Succeeded, Answer::Rejected, Answer::Failed];
        let moves = left.any(|(step, direction)| {
            let sent = Sent { step, direction, attempt: Attempt::FIRST, redrive: 0 };
            answers.iter().any(|answer| self.apply(saga, Happening::Reply(sent, *answer)).is_some())
        });
        moves.then_some(Fault::MovedByWhatItLeft)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is known is written in one step, so a panic elsewhere leaves it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The saga's number, and whether it is a new one.
    fn number(&mut self, saga: Saga) -> (SagaRef, bool) {
        let saga = bare(saga);
        let statuses = saga.steps.iter().map(|step| step.status).collect();
        match self.numbers.entry((saga.state.clone(), statuses)) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(place) => {
                self.sagas.push(Arc::new(saga));
                (*place.insert(SagaRef(self.sagas.len() as u32 - 1)), true)
            }
        }
    }
}

/// The saga without what decides nothing. In a model a deadline may come at any time, also where it stands still in earnest:
/// that is among its runs.
fn bare(saga: Saga) -> Saga {
    let state = match saga.state {
        State::Backoff { next, .. } => State::Backoff { next, until: BEGIN },
        State::Stuck { at, .. } => State::Stuck { at, cause: Refusal::new("", "") },
        State::Awaiting(_) | State::Completed | State::Compensated => saga.state,
    };
    let step = |step: StepRecord| StepRecord { status: step.status, ..StepRecord::default() };
    Saga {
        revision: Revision(1),
        state,
        steps: saga.steps.into_iter().map(step).collect(),
        data: Arc::default(),
        reason: None,
        correction: None,
        redriven: Vec::new(),
        uncounted: Uncounted::default(),
        updated_at: BEGIN,
        finished_at: None,
        ..saga
    }
}

fn sent(effects: &[Effect]) -> Option<Try> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(at) => Some(*at),
        _ => None,
    })
}

#[cfg(test)]
#[path = "sagas_tests.rs"]
mod tests;
