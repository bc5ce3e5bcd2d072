//! What a participant is made to do with a command: it follows from the seed and the command, so that the same command meets
//! the same participant whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use messaging::headers::CommandHeaders;
use saga_defs::definition::Definition;
use saga_defs::ids::Direction;
use schemas::Catalog;
use tests::made_up;
use tests::random::Random;

/// The reply to every compensation.
const UNDONE: &str = "saga.Undone";
/// The reply that says no.
const REFUSAL: &str = "saga.Refusal";

/// What happens to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It is done.
    Do,
    /// Business refuses.
    Reject,
    /// This attempt fails.
    Fail,
    /// It is done, and its reply is lost.
    DoInSilence,
}

/// How commands are answered in one schedule.
#[derive(Clone)]
pub struct Manners {
    seed: u64,
    replies: Arc<BTreeMap<Arc<str>, Reply>>,
}

/// A reply as it is recorded and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The Avro record.
    pub message_type: Arc<str>,
    /// Its value.
    pub value: Vec<u8>,
}

/// The reply to each command of these definitions, by the command's message.
pub fn replies(definitions: &[Arc<Definition>]) -> Arc<BTreeMap<Arc<str>, Reply>> {
    let catalog = Catalog::shipped();
    let reply = |name: &str| {
        let shape = catalog.record(name)?;
        let value = catalog.encode(name, &made_up::record(shape, "x")).ok()?;
        Some(Reply { message_type: name.into(), value })
    };
    let mut replies = BTreeMap::new();
    for step in definitions.iter().flat_map(|definition| &definition.steps) {
        replies.extend(reply(&step.reply).map(|reply| (step.command.clone(), reply)));
    }
    replies.extend(reply(UNDONE).map(|reply| (UNDONE.into(), reply)));
    replies.extend(reply(REFUSAL).map(|reply| (REFUSAL.into(), reply)));
    Arc::new(replies)
}

impl Manners {
    /// Of one seed.
    pub const fn new(seed: u64, replies: Arc<BTreeMap<Arc<str>, Reply>>) -> Self {
        Self { seed, replies }
    }

    /// The same replies with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seed, replies: self.replies.clone() }
    }

    /// What happens to this sending of a command.
    pub fn of(&self, command: &CommandHeaders, calm: bool) -> Manner {
        let mut random = Random::seeded(self.seed ^ command.command_id.as_uuid().as_u64_pair().1);
        let drawn = random.below(100);
        let failures = 1 + random.below(7);
        if calm || command.redrive > 0 {
            return Manner::Do;
        }
        match (command.direction, drawn) {
            (Direction::Forward, 0..9) | (Direction::Compensation, 0..3) => Manner::Reject,
            (_, 9..24) if u64::from(command.attempt.0) <= failures => Manner::Fail,
            (_, 24..32) => Manner::DoInSilence,
            _ => Manner::Do,
        }
    }

    /// What is said of a command that is done.
    pub fn done(&self, command: &CommandHeaders) -> Reply {
        let name: &str = if command.direction == Direction::Forward { &command.message_type } else { UNDONE };
        self.reply(name)
    }

    /// What is said of a command that is not.
    pub fn refusal(&self) -> Reply {
        self.reply(REFUSAL)
    }

    fn reply(&self, name: &str) -> Reply {
        let none = || Reply { message_type: "".into(), value: Vec::new() };
        self.replies.get(name).cloned().unwrap_or_else(none)
    }
}
