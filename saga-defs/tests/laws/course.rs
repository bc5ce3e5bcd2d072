//! Random courses: a saga, and everything that happened to it, sense or nonsense.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{Attempt, CommandId, DeadLetterId, Direction, SagaId, StepIndex};
use saga_defs::machine::{Moment, Transition, Why, start, transition};
use saga_defs::saga::{Effect, Event, Outcome, Refusal, Saga, State, Try};
use saga_defs::time::Timestamp;

use crate::recipe::{definitions, fields, refusals, texts};

pub(crate) const BEGIN: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

/// What is to happen next. `Current` ones are made to fit the saga's state, so that it gets somewhere.
#[derive(Clone, Debug)]
enum Move {
    ReplyCurrent(Outcome),
    ReplyAny(u16, Direction, Outcome),
    Foreign(Outcome),
    TimerCurrent,
    UnsendableCurrent(Refusal),
    TimeoutAny(Try),
    RetryAny(Try),
    UnsendableAny(Try, Refusal),
    /// The current command is not handed out.
    WithholdCurrent,
    /// An event that happened before happens again.
    Again(prop::sample::Index),
    Plain(Event),
}

/// A move of a saga.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: Timestamp,
    pub(crate) event: Event,
    pub(crate) before: Option<Saga>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) after: Saga,
}

/// A saga and all that happened to it.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) definition: Definition,
    /// The moves, the start first.
    pub(crate) steps: Vec<Step>,
    /// What did nothing, and to which saga.
    pub(crate) ignored: Vec<(Saga, Event, Why)>,
}

impl Course {
    pub(crate) fn saga(&self) -> &Saga {
        &self.steps.last().expect("a start").after
    }

    pub(crate) fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.steps.iter().flat_map(|step| &step.effects)
    }

    fn begin(definition: Definition, input: Data) -> Self {
        let id = SagaId::new(BEGIN, [3; 10]);
        let moved = start(&definition, id, &input, Some("key".into()), None, BEGIN);
        let event = Event::Started { input, business_key: Some("key".into()), traceparent: None };
        let first = Step { at: BEGIN, event, before: None, effects: moved.effects, after: moved.saga };
        Self { definition, steps: vec![first], ignored: Vec::new() }
    }

    fn happen(&mut self, event: Event) {
        let before = self.saga().clone();
        let at = match before.state {
            // A saga that waits for its participant waits for longer.
            State::Backoff { until, .. } if before.uncounted.since.is_none() => until.max(before.updated_at),
            _ => before.updated_at.after(Duration::from_millis(7)),
        };
        match transition(&self.definition, &before, &event, Moment::of(&before, at)) {
            Transition::Moved(moved) => self.steps.push(Step {
                at,
                event,
                before: Some(before),
                effects: moved.effects,
                after: moved.saga,
            }),
            Transition::Ignored(why) => self.ignored.push((before, event, why)),
        }
    }

    fn event(&self, next: Move) -> Option<Event> {
        let saga = self.saga();
        let reply = |step: StepIndex, direction, outcome| {
            let name = self.definition.step(step).map_or("no such step", |step| &step.name);
            Event::Replied { command_id: CommandId::derive(saga.id, name, direction), echo: None, outcome }
        };
        Some(match next {
            Move::ReplyCurrent(outcome) => {
                let at = saga.current()?;
                reply(at.step, at.direction, outcome)
            }
            Move::ReplyAny(step, direction, outcome) => reply(StepIndex(step), direction, outcome),
            Move::Foreign(outcome) => {
                let other = SagaId::new(BEGIN, [9; 10]);
                Event::Replied {
                    command_id: CommandId::derive(other, "step-0", Direction::Forward),
                    echo: None,
                    outcome,
                }
            }
            Move::TimerCurrent => match saga.state {
                State::Awaiting(at) => Event::TimedOut(at),
                State::Backoff { next, .. } => Event::RetryDue(next),
                State::Stuck { .. } | State::Completed | State::Compensated => return None,
            },
            Move::UnsendableCurrent(cause) => Event::Unsendable { attempt: saga.current()?, cause },
            Move::WithholdCurrent => Event::Withheld(saga.current()?),
            Move::TimeoutAny(at) => Event::TimedOut(at),
            Move::RetryAny(at) => Event::RetryDue(at),
            Move::UnsendableAny(attempt, cause) => Event::Unsendable { attempt, cause },
            Move::Again(which) => {
                let moved = self.steps.iter().skip(1).map(|step| &step.event);
                let events: Vec<&Event> =
                    moved.chain(self.ignored.iter().map(|(_, event, _)| event)).collect();
                if events.is_empty() {
                    return None;
                }
                (*which.get(&events)).clone()
            }
            Move::Plain(event) => event,
        })
    }
}

/// Random courses of random definitions.
pub(crate) fn courses() -> impl Strategy<Value = Course> {
    (definitions(), fields(), prop::collection::vec(moves(), 0..50)).prop_map(|(definition, input, moves)| {
        let mut course = Course::begin(definition, input);
        for next in moves {
            if let Some(event) = course.event(next) {
                course.happen(event);
            }
        }
        course
    })
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => outcomes().prop_map(Move::ReplyCurrent),
        10 => Just(Move::TimerCurrent),
        3 => (0_u16..7, directions(), outcomes()).prop_map(|(step, direction, outcome)| {
            Move::ReplyAny(step, direction, outcome)
        }),
        1 => outcomes().prop_map(Move::Foreign),
        1 => refusals().prop_map(Move::UnsendableCurrent),
        1 => Just(Move::WithholdCurrent),
        1 => tries().prop_map(Move::TimeoutAny),
        1 => tries().prop_map(Move::RetryAny),
        1 => (tries(), refusals()).prop_map(|(at, cause)| Move::UnsendableAny(at, cause)),
        4 => any::<prop::sample::Index>().prop_map(Move::Again),
        4 => verbs().prop_map(Move::Plain),
    ]
}

pub(crate) fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => fields().prop_map(|fields| Outcome::Succeeded { fields }),
        1 => refusals().prop_map(|refusal| Outcome::Rejected { refusal }),
        2 => refusals().prop_map(|refusal| Outcome::Failed { refusal }),
    ]
}

fn directions() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forward), Just(Direction::Compensation)]
}

/// Attempts that may exist.
fn tries() -> impl Strategy<Value = Try> {
    (0_u16..7, directions(), 1_u32..4, 0_u32..2, any::<bool>()).prop_map(
        |(step, direction, attempt, redrive, doubt)| Try {
            step: StepIndex(step),
            direction,
            attempt: Attempt(attempt),
            redrive,
            doubt,
        },
    )
}

/// Attempts that cannot exist, too.
pub(crate) fn wild_tries() -> impl Strategy<Value = Try> {
    let numbers = || prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()];
    let step = prop_oneof![4 => 0_u16..7, 1 => Just(u16::MAX)];
    (step, directions(), numbers(), numbers(), any::<bool>()).prop_map(
        |(step, direction, attempt, redrive, doubt)| Try {
            step: StepIndex(step),
            direction,
            attempt: Attempt(attempt),
            redrive,
            doubt,
        },
    )
}

/// Everything that is neither a reply nor a timer of an attempt.
pub(crate) fn verbs() -> impl Strategy<Value = Event> {
    let reason = || texts().prop_map(Arc::<str>::from);
    prop_oneof![
        2 => Just(Event::DeadlinePassed),
        2 => Just(Event::DeadlineStopped),
        1 => Just(Event::DeadlineResumed),
        2 => refusals().prop_map(|cause| Event::Quarantined { cause }),
        3 => (0_i64..3, reason()).prop_map(|(n, reason)| {
            let letter = DeadLetterId::of_record("cluster", "p.commands", 0, n, BEGIN);
            Event::LetterRedriven { letter, reason }
        }),
        2 => reason().prop_map(|reason| Event::Cancel { reason }),
        6 => (reason(), prop::option::of(fields())).prop_map(|(reason, input)| Event::Redrive { reason, input }),
        3 => reason().prop_map(|reason| Event::Skip { reason }),
        2 => reason().prop_map(|reason| Event::RetryNow { reason }),
        1 => fields().prop_map(|input| Event::Started { input, business_key: None, traceparent: None }),
    ]
}

/// Any event at all.
pub(crate) fn events() -> impl Strategy<Value = Event> {
    let commands = (0_u16..7, directions()).prop_map(|(step, direction)| {
        CommandId::derive(SagaId::new(BEGIN, [3; 10]), &format!("step-{step}"), direction)
    });
    prop_oneof![
        4 => (commands, outcomes()).prop_map(|(command_id, outcome)| Event::Replied { command_id, echo: None, outcome }),
        1 => wild_tries().prop_map(Event::TimedOut),
        1 => wild_tries().prop_map(Event::RetryDue),
        1 => wild_tries().prop_map(Event::Withheld),
        1 => (wild_tries(), refusals()).prop_map(|(attempt, cause)| Event::Unsendable { attempt, cause }),
        6 => verbs(),
    ]
}
