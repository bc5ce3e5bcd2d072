//! One rule switched off at a time, and the run that goes wrong without it.

use insta::assert_snapshot;
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{CommandId, Direction, StepIndex};
use saga_defs::machine::{Moment, Moved, Transition, transition};
use saga_defs::participant::{Admission, Incoming, Recorded, admit};
use saga_defs::saga::{Echo, Effect, Event, Outcome, Refusal, Saga, State, StepStatus, Try};
use saga_model::{Identity, Rules, Sent};

use crate::shape::{shape, wrong};

/// Rules that differ in `transition`.
macro_rules! saga_moves {
    ($(#[$doc:meta])* $name:ident, |$definition:ident, $saga:ident, $event:ident, $moment:ident| $does:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        struct $name;

        impl Rules for $name {
            fn transition(
                &self,
                $definition: &Definition,
                $saga: &Saga,
                $event: &Event,
                $moment: Moment,
            ) -> Transition {
                $does
            }
        }
    };
}

/// Rules that differ in `admit`.
macro_rules! participant_admits {
    ($(#[$doc:meta])* $name:ident, |$own:ident, $forward:ident, $command:ident| $does:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        struct $name;

        impl Rules for $name {
            fn admit(
                &self,
                $own: Option<Recorded>,
                $forward: Option<Recorded>,
                $command: Incoming,
            ) -> Admission {
                $does
            }
        }
    };
}

fn sent(done: &Transition) -> Option<Try> {
    let Transition::Moved(moved) = done else { return None };
    moved.effects.iter().find_map(|effect| if let Effect::Send(at) = effect { Some(*at) } else { None })
}

fn rejection(saga: &Saga, definition: &Definition, at: Try) -> Event {
    let name = &definition.step(at.step).expect("a step").name;
    let command_id = CommandId::derive(saga.id, name, at.direction);
    let refusal = Refusal::new("timed_out", "");
    Event::Replied { command_id, echo: None, outcome: Outcome::Rejected { refusal } }
}

// ---- the saga -----------------------------------------------------------------------------------------------------

saga_moves!(
    /// A step that timed out for good is taken as refused.
    DoubtIsRefusal,
    |definition, saga, event, moment| {
        let done = transition(definition, saga, event, moment);
        match event {
            Event::TimedOut(at) if sent(&done).is_some_and(|sent| sent.step == at.step) => {
                transition(definition, saga, &rejection(saga, definition, *at), moment)
            }
            _ => done,
        }
    }
);

#[test]
fn what_is_in_doubt_is_compensated_too() {
    assert_snapshot!(wrong(&DoubtIsRefusal, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start               -> step-1 #1
          p1: step-1 #1     -> done
        step-1 #1 timed out -> back off 200ms
        step-1 #2 due       -> step-1 #2
        step-1 #2 timed out -> compensated     timed_out
        = compensated: rejected
        = really done: step-1
    ");
}

saga_moves!(
    /// That an attempt timed out is forgotten when the next one begins.
    DoubtIsForgotten,
    |definition, saga, event, moment| {
        let mut done = transition(definition, saga, event, moment);
        if let Transition::Moved(moved) = &mut done
            && let State::Backoff { next, .. } = &mut moved.saga.state
        {
            next.doubt = false;
        }
        done
    }
);

#[test]
fn what_once_timed_out_stays_in_doubt() {
    assert_snapshot!(wrong(&DoubtIsForgotten, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start               -> step-1 #1
          p1: step-1 #1     -> done
        step-1 #1 timed out -> back off 200ms
        deadline passed     -> compensated     deadline_exceeded
        = compensated: rejected
        = really done: step-1
    ");
}

saga_moves!(
    /// A pivot that timed out for good is taken as refused.
    PivotsAreNotInDoubt,
    |definition, saga, event, moment| {
        let done = transition(definition, saga, event, moment);
        let Transition::Moved(moved) = &done else { return done };
        match (event, &moved.saga.state) {
            (Event::TimedOut(at), State::Stuck { .. }) if at.direction == Direction::Forward => {
                transition(definition, saga, &rejection(saga, definition, *at), moment)
            }
            _ => done,
        }
    }
);

#[test]
fn a_pivot_in_doubt_waits_for_somebody() {
    assert_snapshot!(wrong(&PivotsAreNotInDoubt, &shape("p"), 1), @r"
        not kept: what is compensated leaves nothing done
        start               -> step-1 #1
          p1: step-1 #1     -> done
        step-1 #1 timed out -> back off 200ms
        step-1 #2 due       -> step-1 #2
        step-1 #2 timed out -> compensated     timed_out
        = compensated: rejected
        = really done: step-1 (nothing undoes it)
    ");
}

saga_moves!(
    /// Pivots and retriable steps are undone like all others.
    NothingIsFinal,
    |definition, saga, event, moment| {
        let mut definition = definition.clone();
        for step in &mut definition.steps {
            step.kind = StepKind::Compensatable { compensation: "t.Undo".into() };
        }
        transition(&definition, saga, event, moment)
    }
);

#[test]
fn nothing_after_the_pivot_is_undone() {
    assert_snapshot!(wrong(&NothingIsFinal, &shape("pr"), 1), @r"
        not kept: nothing is undone past the point of no return
        start               -> step-1 #1
        step-1 #1 timed out -> back off 200ms
        step-1 #2 due       -> step-1 #2
        step-1 #2 timed out -> undo step-1 #1  in doubt
        = compensating: compensating, pending
        = really done: nothing
    ");
}

saga_moves!(
    /// What was done first is undone first.
    ForwardOrder,
    |definition, saga, event, moment| {
        let undone = |status| matches!(status, StepStatus::Succeeded | StepStatus::InDoubt);
        let done = transition(definition, saga, event, moment);
        let Transition::Moved(Moved { saga: mut moved, mut effects }) = done else { return done };
        for effect in &mut effects {
            let Effect::Send(at) = effect else { continue };
            let first = moved.steps.iter().position(|step| undone(step.status));
            let begins = at.direction == Direction::Compensation
                && saga.current().is_none_or(|before| (before.step, before.direction) != (at.step, at.direction));
            if let (true, Some(first)) = (begins, first.filter(|first| *first < at.step.at())) {
                moved.steps[at.step.at()].status = StepStatus::Succeeded;
                moved.steps[first].status = StepStatus::Compensating;
                *at = Try::first(StepIndex(first as u16), Direction::Compensation);
                moved.state = State::Awaiting(*at);
            }
        }
        Transition::Moved(Moved { saga: moved, effects })
    }
);

#[test]
fn the_last_done_is_undone_first() {
    assert_snapshot!(wrong(&ForwardOrder, &shape("ccp"), 1), @r"
        not kept: the last done is undone first
        start               -> step-1 #1
          p1: step-1 #1     -> done
        step-1 succeeded    -> step-2 #1
        step-2 #1 timed out -> back off 200ms
        step-2 #2 due       -> step-2 #2
        step-2 #2 timed out -> undo step-1 #1
        = compensating: compensating, succeeded, pending
        = really done: step-1
    ");
}

saga_moves!(
    /// A compensation that cannot be done is taken as done.
    StuckIsDone,
    |definition, saga, event, moment| {
        let done = transition(definition, saga, event, moment);
        let Transition::Moved(moved) = &done else { return done };
        match &moved.saga.state {
            State::Stuck { at, .. } if at.direction == Direction::Compensation => {
                transition(definition, &moved.saga, &Event::Skip { reason: "".into() }, moment)
            }
            _ => done,
        }
    }
);

#[test]
fn a_compensation_that_keeps_failing_is_stuck() {
    assert_snapshot!(wrong(&StuckIsDone, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start                -> step-1 #1
          p1: step-1 #1      -> done
        step-1 #1 timed out  -> back off 200ms
        step-1 #2 due        -> step-1 #2
        step-1 #2 timed out  -> undo step-1 #1  in doubt
          p1: undo step-1 #1 -> refused
        undo step-1 rejected -> compensated     refused, letter resolved
        = compensated: compensated
        = really done: step-1
    ");
}

saga_moves!(
    /// Replies do not say which sending they answer.
    NoEcho,
    |definition, saga, event, moment| {
        let mut event = event.clone();
        if let Event::Replied { echo, .. } = &mut event {
            *echo = None;
        }
        transition(definition, saga, &event, moment)
    }
);

#[test]
fn replies_echo_their_attempt() {
    assert_snapshot!(wrong(&NoEcho, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start           -> step-1 #1
          p1: step-1 #1 -> failed, nothing done
        step-1 failed   -> back off 200ms        unavailable
        step-1 #2 due   -> step-1 #2
          p1: step-1 #2 -> done
        step-1 failed   -> compensated           unavailable
        = compensated: rejected
        = really done: step-1
    ");
}

saga_moves!(
    /// A failure has to echo its attempt, a refusal need not echo its redrive.
    NoEchoOfRedrives,
    |definition, saga, event, moment| {
        let mut event = event.clone();
        if let Event::Replied { echo: Some(Echo { redrive, .. }), outcome: Outcome::Rejected { .. }, .. } =
            &mut event
        {
            *redrive = saga.current().map_or(0, |at| at.redrive);
        }
        transition(definition, saga, &event, moment)
    }
);

#[test]
fn refusals_echo_their_redrive() {
    assert_snapshot!(wrong(&NoEchoOfRedrives, &shape("p"), 2), @r"
        not kept: what is compensated leaves nothing done
        start                    -> step-1 #1
          p1: step-1 #1          -> refused
        step-1 #1 timed out      -> back off 200ms
        step-1 #2 due            -> step-1 #2
        step-1 #2 timed out      -> stuck at step-1  in doubt
        redrive                  -> step-1 #1
          p1: step-1 #1 redriven -> done
        step-1 rejected          -> compensated      refused, letter resolved
        = compensated: rejected
        = really done: step-1 (nothing undoes it)
    ");
}

saga_moves!(
    /// Cancelling takes the command that is out for not done.
    CancelForgetsWhatIsOut,
    |definition, saga, event, moment| {
        match (event, saga.current()) {
            (Event::Cancel { .. }, Some(at)) => {
                let done = transition(definition, saga, event, moment);
                if sent(&done).is_none() {
                    return done;
                }
                transition(definition, saga, &rejection(saga, definition, at), moment)
            }
            _ => transition(definition, saga, event, moment),
        }
    }
);

#[test]
fn cancelling_undoes_what_may_be_under_way() {
    assert_snapshot!(wrong(&CancelForgetsWhatIsOut, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start           -> step-1 #1
          p1: step-1 #1 -> done
        cancel          -> compensated
        = compensated: rejected
        = really done: step-1
    ");
}

saga_moves!(
    /// The end of a back-off is not noticed.
    NoRetry,
    |definition, saga, event, moment| {
        let mut event = event.clone();
        if let Event::RetryDue(at) = &mut event {
            at.attempt = at.attempt.next();
        }
        transition(definition, saga, &event, moment)
    }
);

#[test]
fn a_back_off_ends() {
    assert_snapshot!(wrong(&NoRetry, &shape("c"), 1), @r"
        not kept: whatever waits can go on
        start               -> step-1 #1
        step-1 #1 timed out -> back off 200ms
        = running: running
        = really done: nothing
    ");
}

// ---- the participants ---------------------------------------------------------------------------------------------

participant_admits!(
    /// What was undone before it came runs when it comes.
    NoTombstones,
    |own, forward, command| {
        admit(own.filter(|own| *own != Recorded::Tombstoned), forward, command)
    }
);

#[test]
fn a_compensation_leaves_a_tombstone() {
    assert_snapshot!(wrong(&NoTombstones, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start                -> step-1 #1
        step-1 #1 timed out  -> back off 200ms
        step-1 #2 due        -> step-1 #2
        step-1 #2 timed out  -> undo step-1 #1                in doubt
          p1: undo step-1 #1 -> nothing to undo; a tombstone
          p1: step-1 #1      -> done                          late
        step-1 undone        -> compensated                   timed_out
        = compensated: compensated
        = really done: step-1
    ");
}

/// A compensation that ran leaves a tombstone only where an effect outside was claimed.
#[derive(Clone)]
struct TombstonesForClaimsOnly;

impl Rules for TombstonesForClaimsOnly {
    fn leaves_tombstone(&self, forward: Option<Recorded>) -> bool {
        forward == Some(Recorded::Claimed)
    }
}

#[test]
fn whatever_did_not_succeed_gets_a_tombstone_when_it_is_undone() {
    assert_snapshot!(wrong(&TombstonesForClaimsOnly, &shape("c"), 2), @r"
        not kept: what is compensated leaves nothing done
        start                    -> step-1 #1
          p1: step-1 #1          -> claimed, then a crash before the call
        quarantined              -> stuck at step-1                        database_refused, in doubt
        redrive                  -> step-1 #1
        deadline passed          -> undo step-1 #1                         letter resolved
          p1: undo step-1 #1     -> claimed, then a crash before the call
          p1: step-1 #1          -> refused                                late
          p1: undo step-1 #1     -> done
          p1: step-1 #1 redriven -> done                                   late
        step-1 undone            -> compensated                            deadline_exceeded
        = compensated: compensated
        = really done: step-1
    ");
}

participant_admits!(
    /// What was done is done again.
    NoRecord,
    |own, forward, command| admit(own.filter(|own| *own != Recorded::Succeeded), forward, command)
);

#[test]
fn what_is_done_is_not_done_again() {
    assert_snapshot!(wrong(&NoRecord, &shape("r"), 1), @r"
        not kept: nothing is done or undone twice
        start           -> step-1 #1
          p1: step-1 #1 -> done
          p1: step-1 #1 -> done
        = running: running
        = really done: step-1 2 times (nothing undoes it)
    ");
}

participant_admits!(
    /// A failed attempt leaves no record, so a copy of it runs.
    FailuresAreNotRecorded,
    |own, forward, command| {
        admit(own.filter(|own| !matches!(own, Recorded::Failed { .. })), forward, command)
    }
);

#[test]
fn a_failed_attempt_is_recorded() {
    assert_snapshot!(wrong(&FailuresAreNotRecorded, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start           -> step-1 #1
          p1: step-1 #1 -> failed, nothing done
        step-1 failed   -> back off 200ms        unavailable
        step-1 #2 due   -> step-1 #2
          p1: step-1 #2 -> failed, nothing done
          p1: step-1 #1 -> done                  late
        step-1 failed   -> compensated           unavailable
        = compensated: rejected
        = really done: step-1
    ");
}

participant_admits!(
    /// A compensation takes an effect that was claimed for one that never happened.
    ClaimsAreNothing,
    |own, forward, command| admit(own, forward.filter(|forward| *forward != Recorded::Claimed), command)
);

#[test]
fn what_was_claimed_is_undone() {
    assert_snapshot!(wrong(&ClaimsAreNothing, &shape("c"), 1), @r"
        not kept: what is compensated leaves nothing done
        start                -> step-1 #1
          p1: step-1 #1      -> claimed and called, then a crash
        step-1 #1 timed out  -> back off 200ms
        step-1 #2 due        -> step-1 #2
        step-1 #2 timed out  -> undo step-1 #1                    in doubt
          p1: undo step-1 #1 -> nothing to undo; a tombstone
        step-1 undone        -> compensated                       timed_out
        = compensated: compensated
        = really done: step-1
    ");
}

/// Every attempt has a command id of its own.
#[derive(Clone)]
struct NewIdForEachAttempt;

impl Rules for NewIdForEachAttempt {
    fn identity(&self, sent: Sent) -> Identity {
        Identity(sent.attempt.0 as usize - 1)
    }
}

#[test]
fn a_command_has_one_id_for_all_its_attempts() {
    assert_snapshot!(wrong(&NewIdForEachAttempt, &shape("r"), 1), @r"
        not kept: nothing is done or undone twice
        start               -> step-1 #1
          p1: step-1 #1     -> done
        step-1 #1 timed out -> back off 200ms
        step-1 #2 due       -> step-1 #2
          p1: step-1 #2     -> done
        = running: running
        = really done: step-1 2 times (nothing undoes it)
    ");
}
