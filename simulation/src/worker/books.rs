//! A participant's database: its inbox, its effects, and the books of a service outside. One call is one transaction. What
//! is done with a command is the decision of `saga_defs::participant::admit`.

use std::collections::{BTreeMap, BTreeSet};

use messaging::Record;
use messaging::headers::{CommandHeaders, OutcomeKind, ReplyHeaders};
use saga_defs::ids::{CommandId, Direction, SagaId};
use saga_defs::participant::{Admission, Incoming, Recorded, admit, leaves_tombstone};
use saga_defs::saga::Echo;
use saga_defs::time::Timestamp;

use super::manner::{Manner, Manners, Reply};
use crate::world::World;
use crate::wrong::Wrong;

/// Commands of these begin with so: their effect lies outside.
const OUTSIDE: [&str; 2] = ["payment.", "carriers."];
/// Of so many inbox rows one is forgotten, in a world that is wrong in this way.
const FORGOTTEN_ONCE_IN: u64 = 4;

/// Something that was done, or undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// For whom.
    pub saga: SagaId,
    /// Under which command.
    pub command: CommandId,
    /// Which step.
    pub step: String,
    /// Done or undone.
    pub direction: Direction,
    /// The command's message.
    pub message_type: String,
    /// When.
    pub at: Timestamp,
}

/// What is recorded under a command's id.
#[derive(Debug, Clone)]
struct Row {
    recorded: Recorded,
    reply: Option<(OutcomeKind, Reply)>,
    lost: bool,
}

/// The tables.
#[derive(Debug, Default)]
pub struct Books {
    inbox: BTreeMap<CommandId, Row>,
    effects: Vec<Effect>,
    /// What the service outside was asked for, by idempotency key; `false`: it refused.
    outside: BTreeMap<CommandId, bool>,
    /// What the service outside has refused, by command and how often an operator had sent it on its way anew.
    said_no: BTreeSet<(CommandId, u32)>,
}

/// What a command comes to in its first transaction.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Admitted {
    /// This is to be said.
    Answered(Answer),
    /// Nothing can be said that is certainly true, or the reply is lost.
    Silent,
    /// Something outside is to be called; whether nobody can have called it before.
    Claimed(bool),
}

/// What is said to a command.
#[derive(Debug, Clone)]
pub struct Answer {
    to: CommandHeaders,
    outcome: OutcomeKind,
    reply: Reply,
}

impl Answer {
    /// As it is sent.
    pub fn record(&self) -> Record {
        let to = &self.to;
        let headers = ReplyHeaders {
            saga_id: to.saga_id,
            command_id: to.command_id,
            outcome: self.outcome,
            echo: Some(Echo { attempt: to.attempt, redrive: to.redrive }),
            message_type: self.reply.message_type.clone(),
            traceparent: None,
        };
        let value = self.reply.value.clone();
        Record {
            partition: Some(to.reply_partition),
            ..Record::new(to.reply_topic.clone(), to.saga_id.to_string(), value, headers.write())
        }
    }
}

impl Books {
    /// All effects, in order.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// The commands that something is recorded about.
    pub fn recorded(&self) -> impl Iterator<Item = CommandId> {
        self.inbox.keys().copied()
    }

    fn row(&self, command: CommandId) -> Option<Recorded> {
        self.inbox.get(&command).map(|row| row.recorded)
    }

    /// The first transaction of a command.
    pub fn admit(&mut self, command: &CommandHeaders, manners: &Manners, world: &World) -> Admitted {
        if world.is(Wrong::InboxForgets) && world.dice.once_in(FORGOTTEN_ONCE_IN) {
            self.inbox.remove(&command.command_id);
        }
        let forward = forward_of(command);
        let undoes = command.direction == Direction::Compensation;
        let about_forward = undoes.then(|| self.row(forward)).flatten();
        let facts =
            Incoming { direction: command.direction, attempt: command.attempt, redrive: command.redrive };
        match admit(self.row(command.command_id), about_forward, facts) {
            Admission::Replay => self.replay(command, world.is_calm()),
            Admission::Refuse => answered(command, OutcomeKind::Rejected, manners.refusal()),
            Admission::Tombstone => {
                if about_forward != Some(Recorded::Tombstoned) {
                    self.tombstone(forward);
                }
                self.record(
                    command,
                    Recorded::Succeeded,
                    OutcomeKind::Succeeded,
                    manners.done(command),
                    false,
                )
            }
            Admission::Execute if OUTSIDE.iter().any(|prefix| command.message_type.starts_with(prefix)) => {
                let first = self.row(command.command_id) != Some(Recorded::Claimed);
                let row = Row { recorded: Recorded::Claimed, reply: None, lost: false };
                self.inbox.insert(command.command_id, row);
                Admitted::Claimed(first)
            }
            Admission::Execute => {
                let manner = manners.of(command, world.is_calm());
                self.execute(command, manner, manners, world.now())
            }
        }
    }

    fn execute(
        &mut self,
        command: &CommandHeaders,
        manner: Manner,
        manners: &Manners,
        at: Timestamp,
    ) -> Admitted {
        let redrive = command.redrive;
        match manner {
            Manner::Reject => {
                let recorded = Recorded::Rejected { redrive };
                self.record(command, recorded, OutcomeKind::Rejected, manners.refusal(), false)
            }
            Manner::Fail => {
                let recorded = Recorded::Failed { attempt: command.attempt, redrive };
                self.record(command, recorded, OutcomeKind::Failed, manners.refusal(), false)
            }
            Manner::Do | Manner::DoInSilence => {
                self.effects.push(effect(command, at));
                let forward = forward_of(command);
                if command.direction == Direction::Compensation && leaves_tombstone(self.row(forward)) {
                    self.tombstone(forward);
                }
                let lost = manner == Manner::DoInSilence;
                self.record(command, Recorded::Succeeded, OutcomeKind::Succeeded, manners.done(command), lost)
            }
        }
    }

    /// Asks the service outside, under the command's id: it does nothing twice, nothing that was undone before, and nothing that it
    /// has refused before an operator had it tried again.
    pub fn call(&mut self, command: &CommandHeaders, manners: &Manners, world: &World) -> Manner {
        let own = command.command_id;
        let refused = self.said_no.contains(&(own, command.redrive));
        let manner = if refused { Manner::Reject } else { manners.of(command, world.is_calm()) };
        match manner {
            Manner::Do | Manner::DoInSilence if !self.outside.contains_key(&own) => {
                let undoes = command.direction == Direction::Compensation;
                let forward = forward_of(command);
                let done = self.outside.get(&forward) == Some(&true);
                // Undoing what is not there does nothing, and keeps it from coming later.
                self.outside.insert(own, !undoes || done);
                if undoes && !done {
                    self.outside.insert(forward, false);
                }
                if !undoes || done {
                    self.effects.push(effect(command, world.now()));
                }
            }
            Manner::Reject => {
                self.said_no.insert((own, command.redrive));
            }
            Manner::Do | Manner::DoInSilence | Manner::Fail => {}
        }
        manner
    }

    /// The second transaction of a command: what the service outside said. `first`: nobody can have asked it before.
    pub fn settle(
        &mut self,
        command: &CommandHeaders,
        made: Manner,
        first: bool,
        manners: &Manners,
        world: &World,
    ) -> Option<Answer> {
        let replayed = match self.row(command.command_id) {
            Some(Recorded::Claimed) => None,
            Some(Recorded::Tombstoned) | None => return None,
            Some(_) => Some(self.replay(command, world.is_calm())),
        };
        let refused_outside = self.outside.get(&command.command_id) == Some(&false);
        let admitted = replayed.unwrap_or_else(|| match made {
            Manner::Fail if !first && command.direction == Direction::Forward => Admitted::Silent,
            Manner::Do | Manner::DoInSilence
                if refused_outside && command.direction == Direction::Forward =>
            {
                self.execute(command, Manner::Reject, manners, world.now())
            }
            Manner::Fail | Manner::Reject => self.execute(command, made, manners, world.now()),
            Manner::Do | Manner::DoInSilence => {
                let forward = forward_of(command);
                if command.direction == Direction::Compensation && leaves_tombstone(self.row(forward)) {
                    self.tombstone(forward);
                }
                let lost = made == Manner::DoInSilence;
                self.record(command, Recorded::Succeeded, OutcomeKind::Succeeded, manners.done(command), lost)
            }
        });
        match admitted {
            Admitted::Answered(answer) => Some(answer),
            Admitted::Silent | Admitted::Claimed(_) => None,
        }
    }

    fn tombstone(&mut self, forward: CommandId) {
        self.inbox.insert(forward, Row { recorded: Recorded::Tombstoned, reply: None, lost: false });
    }

    fn record(
        &mut self,
        command: &CommandHeaders,
        recorded: Recorded,
        outcome: OutcomeKind,
        reply: Reply,
        lost: bool,
    ) -> Admitted {
        let row = Row { recorded, reply: Some((outcome, reply.clone())), lost };
        self.inbox.insert(command.command_id, row);
        if lost { Admitted::Silent } else { answered(command, outcome, reply) }
    }

    /// A reply that was lost stays so until the world is calm: somebody has looked into it then.
    fn replay(&self, command: &CommandHeaders, calm: bool) -> Admitted {
        match self.inbox.get(&command.command_id) {
            Some(Row { reply: Some((outcome, reply)), lost, .. }) if calm || !lost => {
                answered(command, *outcome, reply.clone())
            }
            _ => Admitted::Silent,
        }
    }
}

fn forward_of(command: &CommandHeaders) -> CommandId {
    CommandId::derive(command.saga_id, &command.step, Direction::Forward)
}

fn answered(to: &CommandHeaders, outcome: OutcomeKind, reply: Reply) -> Admitted {
    Admitted::Answered(Answer { to: to.clone(), outcome, reply })
}

fn effect(command: &CommandHeaders, at: Timestamp) -> Effect {
    Effect {
        saga: command.saga_id,
        command: command.command_id,
        step: command.step.to_string(),
        direction: command.direction,
        message_type: command.message_type.to_string(),
        at,
    }
}
