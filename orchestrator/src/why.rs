//! What a saga waits for, and what would happen next: decided from the saga and its recipe alone, by asking the machine
//! itself. Where its command lies and how far the participant is, only the broker knows: those are facts that come with
//! it. Pure.

use saga_defs::definition::{Definition, Step};
use saga_defs::ids::{CommandId, DeadLetterId, Direction, StepIndex};
use saga_defs::machine::{Moment, Transition, transition};
use saga_defs::render::transcript_line;
use saga_defs::saga::{Event, Refusal, Saga, State, StepStatus, Try};
use saga_defs::time::Timestamp;

use crate::engine::records::RecordMaker;

/// What a saga waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A participant's reply.
    Reply,
    /// The end of a back-off.
    Retry,
    /// A participant that is held: the next attempt is made when it is asked again.
    Participant,
    /// An operator.
    Operator,
    /// Nothing: it has ended.
    Nothing,
}

/// The command that a saga is at.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    /// Of which step.
    pub step: &'a Step,
    /// Which attempt; in a back-off the one that comes.
    pub at: Try,
    /// Its idempotency key.
    pub id: CommandId,
    /// The Avro record that is sent.
    pub message_type: &'a str,
    /// The Avro record that a success answers with; a compensation may be answered with any.
    pub reply: Option<&'a str>,
    /// How often it is tried.
    pub max_attempts: u32,
}

impl Command<'_> {
    /// Where commands of its participant go.
    pub fn topic(&self) -> String {
        format!("{}.commands", self.step.participant)
    }

    /// Who reads them, if the participant is built on our crate.
    pub fn group(&self) -> String {
        format!("{}-participant", self.step.participant)
    }

    /// The dead letter it becomes when it is given up.
    pub fn letter(&self) -> DeadLetterId {
        DeadLetterId::of_command(self.id)
    }
}

/// Something that will happen by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upcoming {
    /// `timeout`, `retry` or `deadline`.
    pub what: &'static str,
    /// When.
    pub at: Timestamp,
    /// What follows.
    pub then: String,
}

/// A command that is still to come after the current one, if nothing goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Remaining<'a> {
    /// Of which step.
    pub step: &'a Step,
    /// Doing or undoing it.
    pub direction: Direction,
}

/// What an operator may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// `cancel`, `redrive`, `skip` or `retry-now`.
    pub verb: &'static str,
    /// Whether it does anything in this state.
    pub possible: bool,
    /// What follows; where it does nothing, why.
    pub then: String,
}

/// What a saga waits for.
#[derive(Clone, Debug)]
pub struct Waits<'a> {
    /// In one word.
    pub what: For,
    /// The command that it is at; `None` when it has ended.
    pub command: Option<Command<'a>>,
    /// What will happen by itself, next first.
    pub upcoming: Vec<Upcoming>,
    /// What comes after the current command.
    pub remaining: Vec<Remaining<'a>>,
    /// What an operator may do.
    pub ways: Vec<Way>,
    /// What was said last: of the current step, or why the saga compensates.
    pub last_error: Option<(StepIndex, Refusal)>,
}

/// What this saga waits for. `timeout_at` is when its attempt times out, if that is known; `held` whether its participant is.
pub fn waits<'a>(
    definition: &'a Definition,
    saga: &Saga,
    timeout_at: Option<Timestamp>,
    held: bool,
    now: Timestamp,
) -> Waits<'a> {
    let what = match &saga.state {
        State::Awaiting(_) => For::Reply,
        State::Backoff { .. } if held => For::Participant,
        State::Backoff { .. } => For::Retry,
        State::Stuck { .. } => For::Operator,
        State::Completed | State::Compensated => For::Nothing,
    };
    Waits {
        what,
        command: saga.current().and_then(|at| command(definition, saga, at)),
        upcoming: upcoming(definition, saga, timeout_at, held),
        remaining: remaining(definition, saga),
        ways: ways(definition, saga, now),
        last_error: last_error(saga),
    }
}

fn command<'a>(definition: &'a Definition, saga: &Saga, at: Try) -> Option<Command<'a>> {
    let step = definition.step(at.step)?;
    let policy = match at.direction {
        Direction::Forward => &step.retry,
        Direction::Compensation => &step.compensation_retry,
    };
    Some(Command {
        step,
        at,
        id: CommandId::derive(saga.id, &step.name, at.direction),
        message_type: RecordMaker::message_type(definition, at)?,
        reply: (at.direction == Direction::Forward).then_some(&*step.reply),
        max_attempts: policy.max_attempts,
    })
}

/// What an event would do at that moment: whether anything, and what follows.
fn asked(definition: &Definition, saga: &Saga, event: &Event, at: Timestamp) -> (bool, String) {
    let done = transition(definition, saga, event, Moment::of(saga, at));
    let line = transcript_line(definition, Some(saga), event, &done);
    match done {
        Transition::Moved(_) => (true, line.then),
        Transition::Ignored(_) => (false, line.note),
    }
}

fn upcoming(
    definition: &Definition,
    saga: &Saga,
    timeout_at: Option<Timestamp>,
    held: bool,
) -> Vec<Upcoming> {
    let own = match &saga.state {
        // Its time stands still.
        _ if held => None,
        State::Awaiting(at) => timeout_at.map(|limit| ("timeout", limit, Event::TimedOut(*at))),
        State::Backoff { next, until } => Some(("retry", *until, Event::RetryDue(*next))),
        State::Stuck { .. } | State::Completed | State::Compensated => None,
    };
    let waits = matches!(saga.state, State::Awaiting(_) | State::Backoff { .. });
    let deadline = saga.deadline(definition).filter(|_| waits);
    let all = own.into_iter().chain(deadline.map(|at| ("deadline", at, Event::DeadlinePassed)));
    let mut upcoming: Vec<Upcoming> = all
        .filter_map(|(what, at, event)| {
            let (moves, then) = asked(definition, saga, &event, at);
            moves.then_some(Upcoming { what, at, then })
        })
        .collect();
    upcoming.sort_by_key(|upcoming| upcoming.at);
    upcoming
}

fn remaining<'a>(definition: &'a Definition, saga: &Saga) -> Vec<Remaining<'a>> {
    let Some(at) = saga.current() else { return Vec::new() };
    match at.direction {
        Direction::Forward => {
            let after = definition.steps.iter().skip(at.step.at() + 1);
            after.map(|step| Remaining { step, direction: Direction::Forward }).collect()
        }
        Direction::Compensation => {
            let done = definition.steps.iter().zip(&saga.steps).enumerate().filter(|(index, (_, record))| {
                *index != at.step.at() && matches!(record.status, StepStatus::Succeeded | StepStatus::InDoubt)
            });
            let undone = |(_, (step, _))| Remaining { step, direction: Direction::Compensation };
            done.map(undone).rev().collect()
        }
    }
}

fn ways(definition: &Definition, saga: &Saga, now: Timestamp) -> Vec<Way> {
    let reason: std::sync::Arc<str> = "".into();
    let verbs = [
        ("cancel", Event::Cancel { reason: reason.clone() }),
        ("redrive", Event::Redrive { reason: reason.clone(), input: None }),
        ("skip", Event::Skip { reason: reason.clone() }),
        ("retry-now", Event::RetryNow { reason }),
    ];
    verbs
        .into_iter()
        .map(|(verb, event)| {
            let (possible, then) = asked(definition, saga, &event, now);
            Way { verb, possible, then }
        })
        .collect()
}

fn last_error(saga: &Saga) -> Option<(StepIndex, Refusal)> {
    if let State::Stuck { at, cause } = &saga.state {
        return Some((at.step, cause.clone()));
    }
    let at = saga.current()?;
    let own = saga.steps.get(at.step.at()).and_then(|record| record.error.clone());
    let reason =
        || saga.reason.as_ref().map(|reason| (reason.step.unwrap_or(at.step), reason.refusal.clone()));
    own.map(|error| (at.step, error)).or_else(reason)
}

/// What is known of a command's way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It lies at this offset of its partition.
    At(i64),
    /// The broker has it; where is not known, and why not.
    Somewhere(String),
    /// The broker has not acknowledged it yet.
    NotYet,
    /// Nobody can say, and why not.
    Unknown(String),
}

/// How far a group is in a partition, and what the partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The offset of the oldest record.
    pub low: i64,
    /// The offset of the next record to come.
    pub high: i64,
    /// The next offset that the group reads; `None`: it has committed none.
    pub committed: Option<i64>,
}

/// Whether the group has passed the command: it has dealt with it, and its reply is on its way or lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It has.
    Yes,
    /// It has not: so many records come before it.
    No {
        /// Not counting the command.
        ahead: i64,
    },
    /// That cannot be said, and why not.
    Unknown(String),
}

/// Whether the group has passed the command.
pub fn passed(published: &Published, reading: &Result<Reading, String>, group: &str) -> Passed {
    let offset = match published {
        Published::At(offset) => *offset,
        Published::NotYet => {
            return Passed::Unknown("the broker has not acknowledged the command yet".to_owned());
        }
        Published::Somewhere(why) | Published::Unknown(why) => return Passed::Unknown(why.clone()),
    };
    match reading {
        Err(why) => Passed::Unknown(why.clone()),
        Ok(Reading { committed: Some(next), .. }) if *next > offset => Passed::Yes,
        Ok(Reading { committed: Some(next), .. }) => Passed::No { ahead: offset - next },
        Ok(Reading { committed: None, .. }) => Passed::Unknown(format!(
            "the group {group} has committed no offset of this partition: it has not worked there yet, or the \
             participant's group has another name"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_passed_a_command_when_it_goes_on_behind_it() {
        let group = |committed| Ok(Reading { low: 0, high: 50, committed });
        let said = |published, reading| match passed(&published, &reading, "payment-participant") {
            Passed::Yes => "yes".to_owned(),
            Passed::No { ahead } => format!("no, {ahead} before it"),
            Passed::Unknown(why) => format!("unknown: {why}"),
        };
        let at = Published::At(41);
        let lines = [
            said(at.clone(), group(Some(42))),
            said(at.clone(), group(Some(41))),
            said(at.clone(), group(Some(30))),
            said(at.clone(), group(None)),
            said(at, Err("the broker does not answer".to_owned())),
            said(Published::NotYet, group(Some(42))),
            said(Published::Somewhere("it was published by an owner before".to_owned()), group(Some(42))),
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        yes
        no, 0 before it
        no, 11 before it
        unknown: the group payment-participant has committed no offset of this partition: it has not worked there yet, or the participant's group has another name
        unknown: the broker does not answer
        unknown: the broker has not acknowledged the command yet
        unknown: it was published by an owner before
        ");
    }
}
