//! Late, duplicate and foreign replies to the booking saga.

use insta::assert_snapshot;

use crate::booking;

#[test]
fn duplicates_do_nothing_while_going_forward() {
    assert_snapshot!(booking("reserve ok, duplicate reserve ok, charge ok, duplicate charge ok, duplicate reserve ok, confirm ok, duplicate confirm ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    reserve-booking succeeded -> ignored             late
    charge-payment succeeded  -> confirm-booking #1
    charge-payment succeeded  -> ignored             late
    reserve-booking succeeded -> ignored             late
    confirm-booking succeeded -> completed
    confirm-booking succeeded -> ignored             late
    = completed: succeeded, succeeded, succeeded
    ");
}

#[test]
fn duplicates_do_nothing_while_compensating() {
    assert_snapshot!(booking("reserve ok, charge declined, duplicate charge declined, duplicate reserve ok, undo reserve ok, duplicate undo reserve ok, duplicate charge declined"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment rejected   -> undo reserve-booking #1  payment_declined
    charge-payment rejected   -> ignored                  late
    reserve-booking succeeded -> ignored                  late
    reserve-booking undone    -> compensated              payment_declined
    reserve-booking undone    -> ignored                  late
    charge-payment rejected   -> ignored                  late
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn a_duplicate_failure_does_nothing_during_the_back_off() {
    assert_snapshot!(booking("reserve failed, duplicate reserve failed, reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking failed    -> back off 200ms      unavailable
    reserve-booking failed    -> ignored             late
    reserve-booking #2 due    -> reserve-booking #2
    reserve-booking succeeded -> charge-payment #1
    = running: succeeded, running, pending
    ");
}

/// A reply does not say which attempt it answers, so a second copy of a failure that comes while the next attempt is out
/// counts for that attempt.
#[test]
fn a_duplicate_failure_during_the_next_attempt_counts_for_that_attempt() {
    assert_snapshot!(booking("reserve failed, back-off over, duplicate reserve failed, late reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking failed    -> back off 200ms      unavailable
    reserve-booking #2 due    -> reserve-booking #2
    reserve-booking failed    -> back off 400ms      unavailable
    reserve-booking succeeded -> charge-payment #1
    = running: succeeded, running, pending
    ");
}

#[test]
fn the_first_attempt_is_answered_during_the_back_off() {
    assert_snapshot!(booking("reserve timeout, late reserve ok, charge timeout, late charge declined, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    reserve-booking succeeded    -> charge-payment #1
    charge-payment #1 timed out  -> back off 200ms
    charge-payment rejected      -> undo reserve-booking #1  payment_declined
    reserve-booking undone       -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve timeout, late reserve failed, reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    reserve-booking failed       -> ignored             late
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking succeeded    -> charge-payment #1
    = running: succeeded, running, pending
    ");
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve timeout, late undo reserve ok"), @"
    start                             -> reserve-booking #1
    reserve-booking succeeded         -> charge-payment #1
    charge-payment rejected           -> undo reserve-booking #1  payment_declined
    undo reserve-booking #1 timed out -> back off 500ms
    reserve-booking undone            -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve timeout, late undo reserve rejected"), @"
    start                             -> reserve-booking #1
    reserve-booking succeeded         -> charge-payment #1
    charge-payment rejected           -> undo reserve-booking #1        payment_declined
    undo reserve-booking #1 timed out -> back off 500ms
    undo reserve-booking rejected     -> stuck at undo reserve-booking  refused
    = stuck: stuck, rejected, pending
    ");
}

#[test]
fn the_first_attempt_is_answered_during_the_second() {
    assert_snapshot!(booking("reserve timeout, back-off over, late reserve ok, duplicate reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking succeeded    -> charge-payment #1
    reserve-booking succeeded    -> ignored             late
    = running: succeeded, running, pending
    ");
    assert_snapshot!(booking("reserve timeout, back-off over, late reserve sold-out, duplicate reserve sold-out"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking rejected     -> compensated         sold_out
    reserve-booking rejected     -> ignored             late
    = compensated: rejected, pending, pending
    ");
    assert_snapshot!(booking("reserve timeout, back-off over, late reserve failed, back-off over, late reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking failed       -> back off 400ms      unavailable
    reserve-booking #3 due       -> reserve-booking #3
    reserve-booking succeeded    -> charge-payment #1
    = running: succeeded, running, pending
    ");
}

#[test]
fn a_step_that_is_being_undone_is_answered_late() {
    assert_snapshot!(booking("reserve ok, charge timeout x5, late charge ok, undo charge ok, late charge ok, undo reserve ok, late charge ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    ... 3 more alike
    charge-payment #5 due       -> charge-payment #5
    charge-payment #5 timed out -> undo charge-payment #1   in doubt
    charge-payment succeeded    -> ignored                  late
    charge-payment undone       -> undo reserve-booking #1
    charge-payment succeeded    -> ignored                  late
    reserve-booking undone      -> compensated              timed_out
    charge-payment succeeded    -> ignored                  late
    = compensated: compensated, compensated, pending
    ");
    assert_snapshot!(booking("reserve ok, charge timeout x5, late charge declined, late charge failed, undo charge ok, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    ... 3 more alike
    charge-payment #5 due       -> charge-payment #5
    charge-payment #5 timed out -> undo charge-payment #1   in doubt
    charge-payment rejected     -> ignored                  late
    charge-payment failed       -> ignored                  late
    charge-payment undone       -> undo reserve-booking #1
    reserve-booking undone      -> compensated              timed_out
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn foreign_replies_do_nothing_anywhere() {
    assert_snapshot!(booking("foreign reply, reserve failed, foreign reply, reserve ok, charge declined, foreign reply, undo reserve failed x10, foreign reply, skip, foreign reply"), @"
    start                        -> reserve-booking #1
    reply to an unknown command  -> ignored                        foreign
    reserve-booking failed       -> back off 200ms                 unavailable
    reply to an unknown command  -> ignored                        foreign
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking succeeded    -> charge-payment #1
    charge-payment rejected      -> undo reserve-booking #1        payment_declined
    reply to an unknown command  -> ignored                        foreign
    undo reserve-booking failed  -> back off 500ms                 unavailable
    ... 8 more alike
    undo reserve-booking #10 due -> undo reserve-booking #10
    undo reserve-booking failed  -> stuck at undo reserve-booking  unavailable
    reply to an unknown command  -> ignored                        foreign
    skip                         -> compensated                    letter resolved
    reply to an unknown command  -> ignored                        foreign
    = compensated: compensated, rejected, pending
    ");
}

/// The booking never asks to undo its pivot, so a reply that says so is nobody's.
#[test]
fn a_reply_to_a_command_that_is_never_sent_is_foreign() {
    assert_snapshot!(booking("late undo confirm ok, reserve ok, charge ok, confirm ok, late undo confirm ok"), @"
    start                     -> reserve-booking #1
    confirm-booking undone    -> ignored             foreign
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    confirm-booking succeeded -> completed
    confirm-booking undone    -> ignored             foreign
    = completed: succeeded, succeeded, succeeded
    ");
}

#[test]
fn a_reply_that_comes_before_its_command_does_nothing() {
    assert_snapshot!(booking("late charge ok, late undo reserve ok, late confirm rejected"), @"
    start                    -> reserve-booking #1
    charge-payment succeeded -> ignored             late
    reserve-booking undone   -> ignored             late
    confirm-booking rejected -> ignored             late
    = running: running, pending, pending
    ");
}

#[test]
fn a_saga_is_begun_once() {
    assert_snapshot!(booking("start again, reserve sold-out, start again"), @"
    start                    -> reserve-booking #1
    start                    -> ignored             begun already
    reserve-booking rejected -> compensated         sold_out
    start                    -> ignored             begun already
    = compensated: rejected, pending, pending
    ");
}
