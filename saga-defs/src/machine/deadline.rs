//! The deadline of a saga, and whether it stands still.

use super::{Done, Mover};
use crate::machine::Why;
use crate::saga::State;

impl Mover<'_> {
    pub(super) fn deadline_passed(&mut self) -> Done {
        match self.saga.uncounted.since {
            Some(_) => Err(Why::Stale),
            None => self.cancel("deadline_exceeded", "the saga's deadline has passed"),
        }
    }

    pub(super) fn deadline_stopped(&mut self) -> Done {
        let waits = matches!(self.saga.state, State::Awaiting(_) | State::Backoff { .. });
        if waits && self.stop_deadline() { Ok(()) } else { Err(self.stale()) }
    }

    pub(super) fn deadline_resumed(&self) -> Done {
        if self.saga.uncounted.since.is_some() { Ok(()) } else { Err(self.stale()) }
    }

    /// Whether it stands still only from now on.
    pub(super) fn stop_deadline(&mut self) -> bool {
        let runs = self.saga.deadline(self.definition).is_some();
        let stops = runs && self.definition.deadline_stands_while_held;
        if stops {
            self.saga.uncounted.since = Some(self.moment.at);
        }
        stops
    }

    pub(super) fn let_deadline_run(&mut self) {
        if let Some(since) = self.saga.uncounted.since.take() {
            let stood = u64::try_from(self.moment.at.since(since).as_millis()).unwrap_or(u64::MAX);
            self.saga.uncounted.ms = self.saga.uncounted.ms.saturating_add(stood);
        }
    }
}
