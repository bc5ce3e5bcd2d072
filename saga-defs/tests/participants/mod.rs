//! The participants' side, in memory: records by the rule of [`admit`], and what is really done.

use std::collections::HashMap;

use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{CommandId, Direction, SagaId};
use saga_defs::participant::{Admission, Incoming, Recorded, admit};
use saga_defs::saga::{Echo, Event, Outcome, Refusal, Try};

/// What a handler does when it is let.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handling {
    Succeed,
    Reject,
    Fail,
}

/// One sending of a command; its copies are equal to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Try,
    pub(crate) command: CommandId,
    pub(crate) forward: CommandId,
}

impl Sent {
    pub(crate) fn of(definition: &Definition, saga: SagaId, at: Try) -> Self {
        let name = &definition.step(at.step).expect("a step").name;
        Self {
            at,
            command: CommandId::derive(saga, name, at.direction),
            forward: CommandId::derive(saga, name, Direction::Forward),
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reply {
    command: CommandId,
    echo: Echo,
    outcome: Outcome,
}

impl Reply {
    pub(crate) fn event(&self) -> Event {
        Event::Replied { command_id: self.command, echo: Some(self.echo), outcome: self.outcome.clone() }
    }
}

#[derive(Default)]
pub(crate) struct Participants {
    records: HashMap<CommandId, Recorded>,
    /// How often each step was done and not undone.
    pub(crate) done: HashMap<CommandId, i32>,
}

impl Participants {
    /// Takes a command and answers it.
    pub(crate) fn take(&mut self, sent: Sent, handling: Handling) -> Reply {
        let echo = Echo { attempt: sent.at.attempt, redrive: sent.at.redrive };
        Reply { command: sent.command, echo, outcome: self.outcome(sent, handling) }
    }

    fn outcome(&mut self, sent: Sent, handling: Handling) -> Outcome {
        let own = self.records.get(&sent.command).copied();
        let forward = self.records.get(&sent.forward).copied();
        let Try { direction, attempt, redrive, .. } = sent.at;
        let incoming = Incoming { direction, attempt, redrive };
        let refused = |code: &str| Outcome::Rejected { refusal: Refusal::new(code, "") };
        let failed = || Outcome::Failed { refusal: Refusal::new("unavailable", "") };
        let succeeded = || Outcome::Succeeded { fields: Data::new() };
        match admit(own, forward, incoming) {
            Admission::Execute => match handling {
                Handling::Succeed => {
                    let change = if direction == Direction::Forward { 1 } else { -1 };
                    *self.done.entry(sent.forward).or_default() += change;
                    self.records.insert(sent.command, Recorded::Succeeded);
                    succeeded()
                }
                Handling::Reject => {
                    self.records.insert(sent.command, Recorded::Rejected { redrive });
                    refused("refused")
                }
                Handling::Fail => {
                    self.records.insert(sent.command, Recorded::Failed { attempt, redrive });
                    failed()
                }
            },
            Admission::Replay => match own {
                Some(Recorded::Rejected { .. }) => refused("refused"),
                Some(Recorded::Failed { .. }) => failed(),
                _ => succeeded(),
            },
            Admission::Tombstone => {
                self.records.insert(sent.forward, Recorded::Tombstoned);
                self.records.insert(sent.command, Recorded::Succeeded);
                succeeded()
            }
            Admission::Refuse => refused("tombstoned"),
        }
    }
}
