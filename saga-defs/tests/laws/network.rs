//! The saga against a world: participants that keep their records by the rule, behind a network that loses, repeats,
//! delays and reorders, with an operator and a clock at hand at any time. What counts is what really happened.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use saga_defs::Data;
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{CommandId, Direction, SagaId};
use saga_defs::machine::{Moment, Transition, start, transition};
use saga_defs::saga::{Effect, Event, Refusal, Saga, State, Status};

use crate::course::BEGIN;
use crate::for_all;
use crate::participants::{Handling, Participants, Reply, Sent};
use crate::recipe::definitions;

/// What happens in the world next.
#[derive(Clone, Debug)]
enum Act {
    /// The participant takes the oldest command.
    Work(Handling),
    LoseCommand(Index),
    /// A command that was ever sent is sent once more.
    CopyCommand(Index),
    /// A reply arrives, not always the oldest.
    Deliver(Index),
    /// A reply arrives and stays on the way.
    DeliverCopy(Index),
    LoseReply(Index),
    /// The timer of the current attempt or back-off.
    Timer,
    Cancel,
    Deadline,
    RetryNow,
    Redrive,
    Park,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let index = any::<Index>;
    let handling =
        prop_oneof![3 => Just(Handling::Succeed), 1 => Just(Handling::Reject), 1 => Just(Handling::Fail)];
    prop::collection::vec(
        prop_oneof![
            10 => handling.prop_map(Act::Work),
            2 => index().prop_map(Act::LoseCommand),
            3 => index().prop_map(Act::CopyCommand),
            8 => index().prop_map(Act::Deliver),
            2 => index().prop_map(Act::DeliverCopy),
            2 => index().prop_map(Act::LoseReply),
            8 => Just(Act::Timer),
            1 => Just(Act::Cancel),
            1 => Just(Act::Deadline),
            1 => Just(Act::RetryNow),
            3 => Just(Act::Redrive),
            1 => Just(Act::Park),
        ],
        0..60,
    )
}

struct World {
    definition: Definition,
    saga: Saga,
    moves: u32,
    sent: Vec<Sent>,
    commands: Vec<Sent>,
    replies: Vec<Reply>,
    participants: Participants,
}

impl World {
    fn new(definition: Definition) -> Self {
        let begun = start(&definition, SagaId::new(BEGIN, [5; 10]), &Data::new(), None, None, BEGIN);
        let mut world = Self {
            definition,
            saga: begun.saga,
            moves: 1,
            sent: Vec::new(),
            commands: Vec::new(),
            replies: Vec::new(),
            participants: Participants::default(),
        };
        world.carry_out(&begun.effects);
        world
    }

    fn happen(&mut self, event: &Event) {
        let at = self.saga.updated_at.after(Duration::from_millis(1));
        let moment = Moment::of(&self.saga, at);
        if let Transition::Moved(moved) = transition(&self.definition, &self.saga, event, moment) {
            self.saga = moved.saga;
            self.moves += 1;
            self.carry_out(&moved.effects);
        }
    }

    fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Send(at) = effect else { continue };
            let sent = Sent::of(&self.definition, self.saga.id, *at);
            self.sent.push(sent);
            self.commands.push(sent);
        }
    }

    fn work(&mut self, handling: Handling) {
        if self.commands.is_empty() {
            return;
        }
        let sent = self.commands.remove(0);
        let reply = self.participants.take(sent, handling);
        self.replies.push(reply);
    }

    fn deliver(&mut self, reply: &Reply) {
        self.happen(&reply.event());
    }

    fn timer(&mut self) {
        match self.saga.state {
            State::Awaiting(at) => self.happen(&Event::TimedOut(at)),
            State::Backoff { next, .. } => self.happen(&Event::RetryDue(next)),
            State::Stuck { .. } | State::Completed | State::Compensated => {}
        }
    }

    fn act(&mut self, act: &Act) {
        let reason = || "".into();
        match act {
            Act::Work(handling) => self.work(*handling),
            Act::LoseCommand(which) if !self.commands.is_empty() => {
                self.commands.remove(which.index(self.commands.len()));
            }
            Act::CopyCommand(which) => self.commands.push(*which.get(&self.sent)),
            Act::Deliver(which) if !self.replies.is_empty() => {
                let reply = self.replies.remove(which.index(self.replies.len()));
                self.deliver(&reply);
            }
            Act::DeliverCopy(which) if !self.replies.is_empty() => {
                let reply = which.get(&self.replies).clone();
                self.deliver(&reply);
            }
            Act::LoseReply(which) if !self.replies.is_empty() => {
                self.replies.remove(which.index(self.replies.len()));
            }
            Act::LoseCommand(_) | Act::Deliver(_) | Act::DeliverCopy(_) | Act::LoseReply(_) => {}
            Act::Timer => self.timer(),
            Act::Cancel => self.happen(&Event::Cancel { reason: reason() }),
            Act::Deadline => self.happen(&Event::DeadlinePassed),
            Act::RetryNow => self.happen(&Event::RetryNow { reason: reason() }),
            Act::Redrive => self.happen(&Event::Redrive { reason: reason(), input: None }),
            Act::Park => self.happen(&Event::Quarantined { cause: Refusal::new("invalid_row", "") }),
        }
    }

    /// From here on nothing is lost and everybody does their work: the saga must end within a number of rounds.
    fn settle(&mut self) {
        let rounds = 20 * (self.commands.len() + self.replies.len() + 10 * self.definition.steps.len());
        for _ in 0..rounds {
            if let Some(reply) = (!self.replies.is_empty()).then(|| self.replies.remove(0)) {
                self.deliver(&reply);
            } else if !self.commands.is_empty() {
                self.work(Handling::Succeed);
            } else if let State::Stuck { .. } = self.saga.state {
                self.act(&Act::Redrive);
            } else if self.saga.status().is_final() {
                return;
            } else {
                self.timer();
            }
        }
        panic!("still {:?} after {rounds} rounds", self.saga.state);
    }
}

fn check_effects(world: &World) -> Result<(), TestCaseError> {
    for step in &world.definition.steps {
        let command = CommandId::derive(world.saga.id, &step.name, Direction::Forward);
        let done = world.participants.done.get(&command).copied().unwrap_or(0);
        let expected = i32::from(world.saga.status() == Status::Completed);
        prop_assert_eq!(done, expected, "{} in a saga that is {:?}", &step.name, world.saga.status());
    }
    Ok(())
}

/// Completed: every step is done once. Compensated: nothing is left done. Also after everything that was still on the
/// way has arrived.
#[test]
fn what_the_saga_says_is_what_happened() {
    for_all(400, &(definitions(), acts()), |(definition, acts)| {
        let mut world = World::new(definition);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        check_effects(&world)
    });
}

/// At no time is a step done twice or undone without having been done.
#[test]
fn no_effect_happens_twice() {
    for_all(150, &(definitions(), acts()), |(definition, acts)| {
        let mut world = World::new(definition);
        for act in &acts {
            world.act(act);
            prop_assert!(world.participants.done.values().all(|done| (0..=1).contains(done)));
        }
        Ok(())
    });
}

/// If every command is answered, or its timer fires, the saga ends or waits for an operator within as many moves as its
/// attempts allow.
#[test]
fn a_fair_network_brings_every_saga_to_an_end() {
    let answers = prop::collection::vec((0_u8..4, any::<bool>()), 200);
    for_all(150, &(definitions(), answers), |(definition, answers)| {
        let tries = definition.steps.iter().map(|step| match step.kind {
            StepKind::Compensatable { .. } => step.retry.max_attempts + step.compensation_retry.max_attempts,
            StepKind::Pivot | StepKind::Retriable => step.retry.max_attempts,
        });
        // Each attempt is one outcome and one end of a back-off.
        let bound = 1 + 2 * tries.sum::<u32>();
        let mut world = World::new(definition);
        for (answer, retry_now) in answers {
            match (&world.saga.state, answer) {
                (State::Completed | State::Compensated | State::Stuck { .. }, _) => break,
                (State::Backoff { .. }, _) if retry_now => world.act(&Act::RetryNow),
                (State::Backoff { .. }, _) | (State::Awaiting(_), 0) => world.timer(),
                (State::Awaiting(_), _) => {
                    let handling =
                        [Handling::Succeed, Handling::Fail, Handling::Reject][usize::from(answer) - 1];
                    let sent = *world.sent.last().expect("a command is out");
                    let reply = world.participants.take(sent, handling);
                    world.deliver(&reply);
                }
            }
            prop_assert!(world.moves <= bound, "{} moves, {bound} are enough", world.moves);
        }
        let ended = world.saga.status().is_final() || world.saga.status() == Status::Stuck;
        prop_assert!(ended, "{:?}", world.saga.state);
        Ok(())
    });
}
