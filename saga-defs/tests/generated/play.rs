//! One run of a saga among participants and over a network that both behave by a rule.

use std::time::Duration;

use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{CommandId, Direction, SagaId, StepIndex};
use saga_defs::machine::{Moment, Transition, start, transition};
use saga_defs::render::{Columns, Line, transcript_line};
use saga_defs::saga::{Event, Saga, State, Status, Try};
use saga_defs::time::Timestamp;

use crate::participants::{Handling, Participants, Reply, Sent};

const BEGIN: Timestamp = Timestamp::from_unix_millis(1_767_225_600_000);

/// How a step's participant treats one command, every attempt of it, until an operator redrives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// It refuses.
    Reject,
    /// It fails.
    Fail,
    /// It never hears of it.
    LoseCommands,
    /// It does it, and is never heard.
    LoseReplies,
}

/// How the participants answer.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    trouble: Option<(StepIndex, Direction, Manner)>,
}

impl Way {
    /// Everything succeeds.
    pub(crate) const fn smooth() -> Self {
        Self { trouble: None }
    }

    /// One command goes wrong. Where it is a compensation, its step is left in doubt, so that it is undone.
    pub(crate) const fn troubled(step: StepIndex, direction: Direction, manner: Manner) -> Self {
        Self { trouble: Some((step, direction, manner)) }
    }

    fn manner(&self, at: Try) -> Option<Manner> {
        let (_, direction, manner) = self.trouble.filter(|(step, ..)| *step == at.step && at.redrive == 0)?;
        match (direction, at.direction) {
            (Direction::Forward, Direction::Forward) | (Direction::Compensation, Direction::Compensation) => {
                Some(manner)
            }
            (Direction::Compensation, Direction::Forward) => Some(Manner::LoseReplies),
            (Direction::Forward, Direction::Compensation) => None,
        }
    }
}

/// What the network does to everything that it does not lose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Network {
    /// It delivers.
    Fair,
    /// It delivers each command twice: forward commands and compensations.
    CommandsTwice,
    /// It delivers each reply twice.
    RepliesTwice,
    /// It delivers each reply after its attempt has timed out, and twice.
    RepliesLate,
}

/// A run. Whatever it is, all of this must hold:
/// - at no time is a step done twice, or undone without having been done;
/// - the saga ends, or gets stuck and ends after `redrive`, the participants being healthy again;
/// - completed means that every step is done once; compensated that none is;
/// - a reply that comes a second time is ignored; and once the saga has ended, so is every reply and every command that
///   there ever was, and they have no effect.
pub(crate) struct Play<'a> {
    definition: &'a Definition,
    way: &'a Way,
    network: Network,
    interruption: Option<(usize, Event)>,
    saga: Saga,
    now: Timestamp,
    participants: Participants,
    sent: Vec<Sent>,
    replies: Vec<Reply>,
    lines: Vec<(Option<Saga>, Event, Transition)>,
}

/// What a run came to.
pub(crate) struct Finished {
    /// How many turns there were until the saga ended or was stuck first.
    pub(crate) turns: usize,
    /// Stuck, if it was, and how it ended.
    pub(crate) statuses: Vec<Status>,
}

impl<'a> Play<'a> {
    /// A run in which the event happens before that turn, if one is given.
    pub(crate) fn new(
        definition: &'a Definition,
        way: &'a Way,
        network: Network,
        interruption: Option<(usize, Event)>,
    ) -> Self {
        let input = Data::new();
        let begun = start(definition, SagaId::new(BEGIN, [7; 10]), &input, None, None, BEGIN);
        let event = Event::Started { input, business_key: None, traceparent: None };
        let saga = begun.saga.clone();
        let lines = vec![(None, event, Transition::Moved(begun))];
        let (participants, sent, replies) = (Participants::default(), Vec::new(), Vec::new());
        Self { definition, way, network, interruption, saga, now: BEGIN, participants, sent, replies, lines }
    }

    /// Plays to the end.
    pub(crate) fn finish(mut self) -> Finished {
        let turns = self.until_still();
        let mut statuses = vec![self.saga.status()];
        while let State::Stuck { .. } = self.saga.state {
            self.must_move(Event::Redrive { reason: "repaired".into(), input: None });
            self.until_still();
            statuses.push(self.saga.status());
        }
        self.check_effects();
        self.everything_once_more();
        self.check_effects();
        Finished { turns, statuses }
    }

    fn until_still(&mut self) -> usize {
        // Each attempt is two turns, and an interruption may come between.
        let attempts = self
            .definition
            .steps
            .iter()
            .map(|step| step.retry.max_attempts + step.compensation_retry.max_attempts);
        let limit = 2 * attempts.sum::<u32>() as usize + 2;
        for turn in 0..limit {
            if let Some((_, event)) = self.interruption.take_if(|(point, _)| *point == turn) {
                self.happen(event);
            }
            match self.saga.state {
                State::Completed | State::Compensated | State::Stuck { .. } => return turn,
                State::Backoff { next, until } => {
                    self.now = until;
                    self.must_move(Event::RetryDue(next));
                }
                State::Awaiting(at) => self.attempt(at),
            }
        }
        self.fail(&format!("it still moves after {limit} turns"))
    }

    fn attempt(&mut self, at: Try) {
        let sent = Sent::of(self.definition, self.saga.id, at);
        self.sent.push(sent);
        let manner = self.way.manner(at);
        if manner == Some(Manner::LoseCommands) {
            return self.time_out(at);
        }
        let reply = self.take(sent, manner);
        if self.network == Network::CommandsTwice && self.take(sent, manner) != reply {
            self.fail("a command that comes twice is answered differently");
        }
        self.replies.push(reply.clone());
        if manner == Some(Manner::LoseReplies) {
            return self.time_out(at);
        }
        match self.network {
            Network::Fair | Network::CommandsTwice => self.must_move(reply.event()),
            Network::RepliesTwice => {
                self.must_move(reply.event());
                self.must_ignore(&reply);
            }
            Network::RepliesLate => {
                self.time_out(at);
                self.happen(reply.event());
                self.must_ignore(&reply);
            }
        }
    }

    fn take(&mut self, sent: Sent, manner: Option<Manner>) -> Reply {
        let handling = match manner {
            Some(Manner::Reject) => Handling::Reject,
            Some(Manner::Fail) => Handling::Fail,
            Some(Manner::LoseCommands | Manner::LoseReplies) | None => Handling::Succeed,
        };
        let reply = self.participants.take(sent, handling);
        if !self.participants.done.values().all(|done| (0..=1).contains(done)) {
            self.fail("a step was done twice, or undone without having been done");
        }
        reply
    }

    fn time_out(&mut self, at: Try) {
        let timeout = self.definition.step(at.step).map_or(Duration::ZERO, |step| step.timeout);
        self.now = self.now.after(timeout);
        self.must_move(Event::TimedOut(at));
    }

    /// What was lost or late arrives at last, and everything else again.
    fn everything_once_more(&mut self) {
        for sent in self.sent.clone() {
            let reply = self.take(sent, None);
            self.must_ignore(&reply);
        }
        for reply in self.replies.clone() {
            self.must_ignore(&reply);
        }
    }

    fn check_effects(&self) {
        let expected = match self.saga.status() {
            Status::Completed => 1,
            Status::Compensated => 0,
            Status::Running | Status::Compensating | Status::Stuck => self.fail("it has not ended"),
        };
        for step in &self.definition.steps {
            let command = CommandId::derive(self.saga.id, &step.name, Direction::Forward);
            let done = self.participants.done.get(&command).copied().unwrap_or(0);
            if done != expected {
                self.fail(&format!("{} is done {done} times", step.name));
            }
        }
    }

    // ---- the saga ---------------------------------------------------------------------------------------------

    fn must_move(&mut self, event: Event) {
        if !self.happen(event) {
            self.fail("the last event should move the saga");
        }
    }

    fn must_ignore(&mut self, reply: &Reply) {
        if self.happen(reply.event()) {
            self.fail("the last event should be ignored");
        }
    }

    fn happen(&mut self, event: Event) -> bool {
        let done = transition(self.definition, &self.saga, &event, Moment::of(&self.saga, self.now));
        let before = self.saga.clone();
        let moved = if let Transition::Moved(moved) = &done {
            self.saga = moved.saga.clone();
            true
        } else {
            false
        };
        self.lines.push((Some(before), event, done));
        moved
    }

    fn fail(&self, why: &str) -> ! {
        let line = |(before, event, done): &(Option<Saga>, Event, Transition)| {
            transcript_line(self.definition, before.as_ref(), event, done)
        };
        let lines: Vec<Line> = self.lines.iter().map(line).collect();
        let (id, way, network) = (&self.definition.id, self.way, self.network);
        panic!("{id}, {way:?}, {network:?}: {why}\n{}", Columns::lines(&lines));
    }
}
