//! The participant's rule: what to do with a command, given what is already recorded about it.
//!
//! A participant keeps one record per command id, written in the transaction that makes the effect. Commands of one
//! saga arrive in order on one partition, but may be repeated, and a compensation may arrive although its forward
//! command never did.

use crate::ids::{Attempt, Direction};

/// What a participant has recorded under one command id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Recorded {
    /// An effect outside the transaction (a gateway call) was begun; whether it happened is not known.
    Claimed,
    /// The effect happened; the reply is stored.
    Succeeded,
    /// Business refused, nothing happened; the reply is stored. `redrive` is that of the command refused.
    Rejected {
        /// The `redrive` of the command that was refused.
        redrive: u32,
    },
    /// An attempt failed: nothing happened, and by the promise of a `failed` reply nothing will, however often that
    /// attempt's command comes again. A later attempt may run.
    Failed {
        /// The attempt that failed.
        attempt: Attempt,
        /// Its `redrive`.
        redrive: u32,
    },
    /// A compensation came first: this forward command must never run.
    Tombstoned,
}

/// The parts of an incoming command that the rule looks at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Incoming {
    /// Doing or undoing.
    pub direction: Direction,
    /// Which attempt it is.
    pub attempt: Attempt,
    /// How often an operator sent this command on its way anew; 0 at first. A refusal made no effect, so a higher
    /// number than the refused one may try again; a lower or equal number replays the refusal.
    pub redrive: u32,
}

/// What to do with a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Admission {
    /// Run the handler; record its outcome under the command id.
    Execute,
    /// Send the stored reply again; run nothing.
    Replay,
    /// A compensation with nothing to undo: tombstone the forward command, record and answer `succeeded`; run nothing.
    Tombstone,
    /// A forward command that was already undone: answer `rejected` with code `tombstoned`; run nothing.
    Refuse,
}

/// Decides what to do with a command. `own` is the record under its own id; `forward` the record under the id of the
/// forward command of the same step (looked at only for compensations).
pub fn admit(own: Option<Recorded>, forward: Option<Recorded>, command: Incoming) -> Admission {
    match (own, command.direction) {
        (Some(Recorded::Succeeded), _) => Admission::Replay,
        (Some(Recorded::Rejected { redrive }), _) if command.redrive <= redrive => Admission::Replay,
        (Some(Recorded::Failed { attempt, redrive }), _)
            if (command.redrive, command.attempt) <= (redrive, attempt) =>
        {
            Admission::Replay
        }
        (Some(Recorded::Tombstoned), _) => Admission::Refuse,
        (Some(Recorded::Claimed | Recorded::Rejected { .. } | Recorded::Failed { .. }), _)
        | (None, Direction::Forward) => Admission::Execute,
        (None, Direction::Compensation) => match forward {
            Some(Recorded::Succeeded | Recorded::Claimed) => Admission::Execute,
            None | Some(Recorded::Rejected { .. } | Recorded::Failed { .. } | Recorded::Tombstoned) => {
                Admission::Tombstone
            }
        },
    }
}

/// Whether a compensation whose handler ran and succeeded leaves a tombstone under the id of its forward command, which
/// has the record `forward`. Without one, a late sending of that command would run after it was undone. One that
/// succeeded needs none: its record replays.
pub const fn leaves_tombstone(forward: Option<Recorded>) -> bool {
    match forward {
        Some(Recorded::Succeeded | Recorded::Tombstoned) => false,
        None | Some(Recorded::Claimed | Recorded::Rejected { .. } | Recorded::Failed { .. }) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `own / forward / command` in words, and what is to be done.
    fn check(
        direction: Direction,
        redrive: u32,
        own: Option<Recorded>,
        forward: Option<Recorded>,
        expected: Admission,
    ) {
        let got = admit(own, forward, Incoming { direction, attempt: Attempt(2), redrive });
        assert_eq!(got, expected, "{direction:?} redrive {redrive}, own {own:?}, forward {forward:?}");
    }

    fn failed(attempt: u32, redrive: u32) -> Recorded {
        Recorded::Failed { attempt: Attempt(attempt), redrive }
    }

    #[test]
    fn a_forward_command() {
        use Direction::Forward;
        check(Forward, 0, None, None, Admission::Execute);
        check(Forward, 0, Some(Recorded::Claimed), None, Admission::Execute);
        check(Forward, 0, Some(Recorded::Succeeded), None, Admission::Replay);
        check(Forward, 9, Some(Recorded::Succeeded), None, Admission::Replay);
        check(Forward, 0, Some(Recorded::Rejected { redrive: 0 }), None, Admission::Replay);
        check(Forward, 1, Some(Recorded::Rejected { redrive: 0 }), None, Admission::Execute);
        check(Forward, 0, Some(failed(1, 0)), None, Admission::Execute);
        check(Forward, 0, Some(failed(2, 0)), None, Admission::Replay);
        check(Forward, 0, Some(failed(3, 0)), None, Admission::Replay);
        check(Forward, 1, Some(failed(3, 0)), None, Admission::Execute);
        check(Forward, 0, Some(failed(1, 1)), None, Admission::Replay);
        check(Forward, 0, Some(Recorded::Tombstoned), None, Admission::Refuse);
        check(Forward, 9, Some(Recorded::Tombstoned), None, Admission::Refuse);
    }

    #[test]
    fn what_was_undone_and_might_still_run_gets_a_tombstone() {
        for forward in
            [None, Some(Recorded::Claimed), Some(Recorded::Rejected { redrive: 0 }), Some(failed(1, 0))]
        {
            assert!(leaves_tombstone(forward), "{forward:?}");
        }
        for forward in [Recorded::Succeeded, Recorded::Tombstoned] {
            assert!(!leaves_tombstone(Some(forward)), "{forward:?}");
        }
    }

    #[test]
    fn a_compensation() {
        use Direction::Compensation;
        check(Compensation, 0, None, Some(Recorded::Succeeded), Admission::Execute);
        check(Compensation, 0, None, Some(Recorded::Claimed), Admission::Execute);
        check(Compensation, 0, None, None, Admission::Tombstone);
        check(Compensation, 0, None, Some(Recorded::Rejected { redrive: 3 }), Admission::Tombstone);
        check(Compensation, 0, None, Some(failed(5, 0)), Admission::Tombstone);
        check(Compensation, 0, Some(failed(1, 0)), Some(Recorded::Succeeded), Admission::Execute);
        check(Compensation, 0, Some(failed(2, 0)), Some(Recorded::Succeeded), Admission::Replay);
        check(Compensation, 0, None, Some(Recorded::Tombstoned), Admission::Tombstone);
        check(Compensation, 0, Some(Recorded::Succeeded), Some(Recorded::Tombstoned), Admission::Replay);
        check(Compensation, 0, Some(Recorded::Claimed), Some(Recorded::Succeeded), Admission::Execute);
        check(
            Compensation,
            1,
            Some(Recorded::Rejected { redrive: 0 }),
            Some(Recorded::Succeeded),
            Admission::Execute,
        );
    }
}
