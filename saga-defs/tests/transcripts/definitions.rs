//! Other shapes of definitions: retriable steps after a pivot, no pivot, one step.

use std::fmt::Write as _;

use insta::assert_snapshot;
use saga_defs::definition::Definition;

use crate::script::play;

/// A definition of these steps, given as `kind name`, each with 2 attempts in either direction.
fn definition(steps: &[&str]) -> Definition {
    let mut text = "name = \"other\"\nversion = 1\ninput = \"t.Input\"\n".to_owned();
    for step in steps {
        let (kind, name) = step.split_once(' ').expect("a kind and a name");
        let _ = writeln!(
            text,
            "[[step]]\nname = \"{name}\"\nkind = \"{kind}\"\nparticipant = \"p\"\ncommand = \"t.Do\"\nreply = \"t.Done\"\n\
             retry = {{ max_attempts = 2 }}"
        );
        if kind == "compensatable" {
            text.push_str("compensation = \"t.Undo\"\ncompensation_retry = { max_attempts = 2 }\n");
        }
    }
    Definition::parse(&text).expect("a valid definition")
}

fn with_retriables(script: &str) -> String {
    play(&definition(&["compensatable take", "pivot pay", "retriable ship", "retriable tell"]), script)
}

fn without_pivot(script: &str) -> String {
    play(&definition(&["compensatable take", "compensatable pay", "retriable ship"]), script)
}

#[test]
fn retriable_steps_are_done_in_order() {
    assert_snapshot!(with_retriables("take ok, pay ok, ship failed, ship ok, tell timeout, tell ok"), @"
    start             -> take #1
    take succeeded    -> pay #1
    pay succeeded     -> ship #1
    ship failed       -> back off 200ms  unavailable
    ship #2 due       -> ship #2
    ship succeeded    -> tell #1
    tell #1 timed out -> back off 200ms
    tell #2 due       -> tell #2
    tell succeeded    -> completed
    = completed: succeeded, succeeded, succeeded, succeeded
    ");
}

#[test]
fn a_retriable_step_that_fails_or_times_out_for_good_is_stuck() {
    assert_snapshot!(with_retriables("take ok, pay ok, ship failed x2, redrive, ship timeout x2, redrive, ship ok, tell failed x2, skip"), @"
    start             -> take #1
    take succeeded    -> pay #1
    pay succeeded     -> ship #1
    ship failed       -> back off 200ms  unavailable
    ship #2 due       -> ship #2
    ship failed       -> stuck at ship   unavailable
    redrive           -> ship #1
    ship #1 timed out -> back off 200ms
    ship #2 due       -> ship #2
    ship #2 timed out -> stuck at ship   in doubt, letter reopened
    redrive           -> ship #1
    ship succeeded    -> tell #1         letter resolved
    tell failed       -> back off 200ms  unavailable
    tell #2 due       -> tell #2
    tell failed       -> stuck at tell   unavailable
    skip              -> completed       letter resolved
    = completed: succeeded, succeeded, succeeded, succeeded
    ");
}

#[test]
fn a_retriable_step_that_is_refused_is_stuck_at_once() {
    assert_snapshot!(with_retriables("take ok, pay ok, ship rejected, late ship rejected, late ship failed, redrive, late ship rejected, late ship ok, tell unsendable, redrive corrected, tell ok"), @"
    start                  -> take #1
    take succeeded         -> pay #1
    pay succeeded          -> ship #1
    ship rejected          -> stuck at ship  refused
    ship rejected          -> ignored        late
    ship failed            -> ignored        late
    redrive                -> ship #1
    ship rejected          -> stuck at ship  refused, letter reopened
    ship succeeded         -> tell #1        letter resolved
    tell #1 cannot be sent -> stuck at tell  no_such_field
    redrive with input     -> tell #1
    tell succeeded         -> completed      letter resolved
    = completed: succeeded, succeeded, succeeded, succeeded
    ");
}

#[test]
fn nothing_is_undone_after_the_pivot() {
    assert_snapshot!(with_retriables("take ok, pay ok, cancel, deadline, ship failed, cancel, ship failed, cancel, deadline, quarantine, cancel, redrive, ship ok, tell ok"), @"
    start           -> take #1
    take succeeded  -> pay #1
    pay succeeded   -> ship #1
    cancel          -> ignored         past the point of no return
    deadline passed -> ignored         past the point of no return
    ship failed     -> back off 200ms  unavailable
    cancel          -> ignored         past the point of no return
    ship #2 due     -> ship #2
    ship failed     -> stuck at ship   unavailable
    cancel          -> ignored         past the point of no return
    deadline passed -> ignored         past the point of no return
    quarantined     -> stuck at ship   invalid_row, in doubt
    cancel          -> ignored         past the point of no return
    redrive         -> ship #1
    ship succeeded  -> tell #1         letter resolved
    tell succeeded  -> completed
    = completed: succeeded, succeeded, succeeded, succeeded
    ");
}

#[test]
fn before_the_pivot_is_done_everything_may_be_undone() {
    assert_snapshot!(with_retriables("take ok, pay rejected, undo take ok"), @"
    start          -> take #1
    take succeeded -> pay #1
    pay rejected   -> undo take #1  refused
    take undone    -> compensated   refused
    = compensated: compensated, rejected, pending, pending
    ");
    assert_snapshot!(with_retriables("take ok, pay failed, cancel, undo take ok"), @"
    start          -> take #1
    take succeeded -> pay #1
    pay failed     -> back off 200ms  unavailable
    cancel         -> undo take #1
    take undone    -> compensated     cancelled
    = compensated: compensated, rejected, pending, pending
    ");
    assert_snapshot!(with_retriables("take ok, pay timeout, pay failed, late pay rejected, undo take ok"), @"
    start            -> take #1
    take succeeded   -> pay #1
    pay #1 timed out -> back off 200ms
    pay #2 due       -> pay #2
    pay failed       -> stuck at pay    unavailable, in doubt
    pay rejected     -> undo take #1    refused, letter resolved
    take undone      -> compensated     refused
    = compensated: compensated, rejected, pending, pending
    ");
}

#[test]
fn without_a_pivot_the_first_retriable_step_is_the_point_of_no_return() {
    assert_snapshot!(without_pivot("take ok, pay ok, cancel, ship rejected, cancel, deadline, redrive, ship ok"), @"
    start           -> take #1
    take succeeded  -> pay #1
    pay succeeded   -> ship #1
    cancel          -> ignored        past the point of no return
    ship rejected   -> stuck at ship  refused
    cancel          -> ignored        past the point of no return
    deadline passed -> ignored        past the point of no return
    redrive         -> ship #1
    ship succeeded  -> completed      letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(without_pivot("take ok, cancel, undo pay ok, undo take ok"), @"
    start          -> take #1
    take succeeded -> pay #1
    cancel         -> undo pay #1
    pay undone     -> undo take #1
    take undone    -> compensated   cancelled
    = compensated: compensated, compensated, pending
    ");
    assert_snapshot!(without_pivot("take ok, pay timeout x2, undo pay ok, undo take ok"), @"
    start            -> take #1
    take succeeded   -> pay #1
    pay #1 timed out -> back off 200ms
    pay #2 due       -> pay #2
    pay #2 timed out -> undo pay #1     in doubt
    pay undone       -> undo take #1
    take undone      -> compensated     timed_out
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn only_compensatable_steps() {
    let two = definition(&["compensatable take", "compensatable pay"]);
    assert_snapshot!(play(&two, "take ok, pay ok, cancel"), @"
    start          -> take #1
    take succeeded -> pay #1
    pay succeeded  -> completed
    cancel         -> ignored    the saga has ended
    = completed: succeeded, succeeded
    ");
    assert_snapshot!(play(&two, "take ok, pay failed x2, undo take ok"), @"
    start          -> take #1
    take succeeded -> pay #1
    pay failed     -> back off 200ms  unavailable
    pay #2 due     -> pay #2
    pay failed     -> undo take #1    unavailable
    take undone    -> compensated     unavailable
    = compensated: compensated, rejected
    ");
}

#[test]
fn one_compensatable_step() {
    let one = definition(&["compensatable take"]);
    assert_snapshot!(play(&one, "take ok"), @"
    start          -> take #1
    take succeeded -> completed
    = completed: succeeded
    ");
    assert_snapshot!(play(&one, "take rejected"), @"
    start         -> take #1
    take rejected -> compensated  refused
    = compensated: rejected
    ");
    assert_snapshot!(play(&one, "take timeout x2, undo take rejected, skip"), @"
    start              -> take #1
    take #1 timed out  -> back off 200ms
    take #2 due        -> take #2
    take #2 timed out  -> undo take #1        in doubt
    undo take rejected -> stuck at undo take  refused
    skip               -> compensated         letter resolved
    = compensated: compensated
    ");
}

#[test]
fn one_pivot() {
    let one = definition(&["pivot pay"]);
    assert_snapshot!(play(&one, "pay ok"), @"
    start         -> pay #1
    pay succeeded -> completed
    = completed: succeeded
    ");
    assert_snapshot!(play(&one, "pay rejected"), @"
    start        -> pay #1
    pay rejected -> compensated  refused
    = compensated: rejected
    ");
    assert_snapshot!(play(&one, "pay timeout x2, cancel, late pay rejected"), @"
    start            -> pay #1
    pay #1 timed out -> back off 200ms
    pay #2 due       -> pay #2
    pay #2 timed out -> stuck at pay    in doubt
    cancel           -> ignored         past the point of no return
    pay rejected     -> compensated     refused, letter resolved
    = compensated: rejected
    ");
    assert_snapshot!(play(&one, "pay failed, cancel"), @"
    start      -> pay #1
    pay failed -> back off 200ms  unavailable
    cancel     -> compensated
    = compensated: rejected
    ");
}

#[test]
fn one_retriable_step() {
    let one = definition(&["retriable ship"]);
    assert_snapshot!(play(&one, "cancel, ship ok"), @"
    start          -> ship #1
    cancel         -> ignored    past the point of no return
    ship succeeded -> completed
    = completed: succeeded
    ");
    assert_snapshot!(play(&one, "ship rejected, cancel, deadline, redrive, ship ok"), @"
    start           -> ship #1
    ship rejected   -> stuck at ship  refused
    cancel          -> ignored        past the point of no return
    deadline passed -> ignored        past the point of no return
    redrive         -> ship #1
    ship succeeded  -> completed      letter resolved
    = completed: succeeded
    ");
}
