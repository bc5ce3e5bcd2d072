//! What comes to the lane, and who waits for an answer to it.

use saga_defs::saga::Saga;
use tokio::time::Instant;

use super::super::batch::{Input, Reply};
use super::super::handle::{ActError, Answer, RETRY_AFTER, StartError};

/// One input, when it came, and who waits for its answer.
#[derive(Debug)]
pub(in crate::engine) struct Arrived {
    pub(in crate::engine) input: Input,
    pub(in crate::engine) at: Instant,
    pub(in crate::engine) asker: Option<Asker>,
}

impl Arrived {
    /// Something of our own, which nobody waits for.
    pub(super) fn of_ours(input: Input) -> Self {
        Self { input, at: Instant::now(), asker: None }
    }

    /// Whether a client asked for it who waits no more.
    pub(super) fn is_given_up(&self) -> bool {
        match &self.asker {
            Some(Asker::Start(asker)) => asker.is_closed(),
            Some(Asker::Act(asker)) => asker.is_closed(),
            Some(Asker::Letter(asker)) => asker.is_closed(),
            None => false,
        }
    }
}

#[derive(Debug)]
pub(in crate::engine) enum Asker {
    Start(Answer<Saga, StartError>),
    Act(Answer<Saga, ActError>),
    Letter(Answer<(), ActError>),
}

pub(super) fn answer(asker: Asker, reply: Reply) {
    // A client that has gone away does not listen any more.
    match (asker, reply) {
        (Asker::Start(asker), Reply::Started(result)) => _ = asker.send(result),
        (Asker::Act(asker), Reply::Acted(result)) => _ = asker.send(result),
        (Asker::Letter(asker), Reply::Letter(result)) => _ = asker.send(result),
        (Asker::Start(asker), _) => _ = asker.send(Err(StartError::Busy { retry_after: RETRY_AFTER })),
        (Asker::Act(asker), _) => _ = asker.send(Err(ActError::Busy { retry_after: RETRY_AFTER })),
        (Asker::Letter(asker), _) => _ = asker.send(Err(ActError::Busy { retry_after: RETRY_AFTER })),
    }
}
