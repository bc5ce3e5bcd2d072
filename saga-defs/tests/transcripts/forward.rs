//! The booking saga on its way forward: done, rejected, failing and timing out at each step.

use insta::assert_snapshot;

use crate::booking;

#[test]
fn done() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    confirm-booking succeeded -> completed
    = completed: succeeded, succeeded, succeeded
    ");
}

#[test]
fn done_after_some_failures_and_timeouts() {
    assert_snapshot!(booking("reserve failed x2, reserve ok, charge timeout, charge failed, charge ok, confirm timeout, confirm failed, confirm ok"), @"
    start                        -> reserve-booking #1
    reserve-booking failed       -> back off 200ms      unavailable
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking failed       -> back off 400ms      unavailable
    reserve-booking #3 due       -> reserve-booking #3
    reserve-booking succeeded    -> charge-payment #1
    charge-payment #1 timed out  -> back off 200ms
    charge-payment #2 due        -> charge-payment #2
    charge-payment failed        -> back off 400ms      unavailable
    charge-payment #3 due        -> charge-payment #3
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    confirm-booking #2 due       -> confirm-booking #2
    confirm-booking failed       -> back off 400ms      unavailable
    confirm-booking #3 due       -> confirm-booking #3
    confirm-booking succeeded    -> completed
    = completed: succeeded, succeeded, succeeded
    ");
}

#[test]
fn the_first_step_is_rejected() {
    assert_snapshot!(booking("reserve sold-out"), @"
    start                    -> reserve-booking #1
    reserve-booking rejected -> compensated         sold_out
    = compensated: rejected, pending, pending
    ");
}

#[test]
fn the_second_step_is_rejected() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment rejected   -> undo reserve-booking #1  payment_declined
    reserve-booking undone    -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn the_pivot_is_rejected() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm rejected, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    confirm-booking rejected  -> undo charge-payment #1   refused
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              refused
    = compensated: compensated, compensated, rejected
    ");
}

#[test]
fn a_rejection_after_a_timeout_says_that_nothing_happened() {
    assert_snapshot!(booking("reserve ok, charge timeout, charge declined, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    charge-payment #2 due       -> charge-payment #2
    charge-payment rejected     -> undo reserve-booking #1  payment_declined
    reserve-booking undone      -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout, confirm rejected, undo charge ok, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    confirm-booking #2 due       -> confirm-booking #2
    confirm-booking rejected     -> undo charge-payment #1   refused
    charge-payment undone        -> undo reserve-booking #1
    reserve-booking undone       -> compensated              refused
    = compensated: compensated, compensated, rejected
    ");
}

#[test]
fn the_first_step_fails_for_good() {
    assert_snapshot!(booking("reserve failed x5"), @"
    start                  -> reserve-booking #1
    reserve-booking failed -> back off 200ms      unavailable
    ... 3 more alike
    reserve-booking #5 due -> reserve-booking #5
    reserve-booking failed -> compensated         unavailable
    = compensated: rejected, pending, pending
    ");
}

#[test]
fn the_second_step_fails_for_good() {
    assert_snapshot!(booking("reserve ok, charge failed x5, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment failed     -> back off 200ms           unavailable
    ... 3 more alike
    charge-payment #5 due     -> charge-payment #5
    charge-payment failed     -> undo reserve-booking #1  unavailable
    reserve-booking undone    -> compensated              unavailable
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn the_pivot_fails_for_good() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm failed x5, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    confirm-booking failed    -> back off 200ms           unavailable
    ... 3 more alike
    confirm-booking #5 due    -> confirm-booking #5
    confirm-booking failed    -> undo charge-payment #1   unavailable
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              unavailable
    = compensated: compensated, compensated, rejected
    ");
}

#[test]
fn failing_for_good_after_a_timeout_is_in_doubt() {
    assert_snapshot!(booking("reserve timeout, reserve failed x4, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking failed       -> back off 400ms           unavailable
    ... 2 more alike
    reserve-booking #5 due       -> reserve-booking #5
    reserve-booking failed       -> undo reserve-booking #1  unavailable, in doubt
    reserve-booking undone       -> compensated              unavailable
    = compensated: compensated, pending, pending
    ");
    assert_snapshot!(booking("reserve ok, charge failed, charge timeout, charge failed x3, undo charge ok, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment failed       -> back off 200ms           unavailable
    charge-payment #2 due       -> charge-payment #2
    charge-payment #2 timed out -> back off 400ms
    charge-payment #3 due       -> charge-payment #3
    charge-payment failed       -> back off 800ms           unavailable
    ... 1 more alike
    charge-payment #5 due       -> charge-payment #5
    charge-payment failed       -> undo charge-payment #1   unavailable, in doubt
    charge-payment undone       -> undo reserve-booking #1
    reserve-booking undone      -> compensated              unavailable
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn a_pivot_that_fails_for_good_after_a_timeout_is_stuck() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout, confirm failed x4"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    confirm-booking #2 due       -> confirm-booking #2
    confirm-booking failed       -> back off 400ms            unavailable
    ... 2 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking failed       -> stuck at confirm-booking  unavailable, in doubt
    = stuck: succeeded, succeeded, stuck
    ");
}

#[test]
fn the_first_step_times_out_for_good() {
    assert_snapshot!(booking("reserve timeout x5, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    ... 3 more alike
    reserve-booking #5 due       -> reserve-booking #5
    reserve-booking #5 timed out -> undo reserve-booking #1  in doubt
    reserve-booking undone       -> compensated              timed_out
    = compensated: compensated, pending, pending
    ");
}

#[test]
fn the_second_step_times_out_for_good() {
    assert_snapshot!(booking("reserve ok, charge timeout x5, undo charge ok, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    ... 3 more alike
    charge-payment #5 due       -> charge-payment #5
    charge-payment #5 timed out -> undo charge-payment #1   in doubt
    charge-payment undone       -> undo reserve-booking #1
    reserve-booking undone      -> compensated              timed_out
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn the_last_attempt_alone_times_out() {
    assert_snapshot!(booking("reserve ok, charge failed x4, charge timeout, undo charge ok, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment failed       -> back off 200ms           unavailable
    ... 2 more alike
    charge-payment #4 due       -> charge-payment #4
    charge-payment failed       -> back off 1s 600ms        unavailable
    charge-payment #5 due       -> charge-payment #5
    charge-payment #5 timed out -> undo charge-payment #1   in doubt
    charge-payment undone       -> undo reserve-booking #1
    reserve-booking undone      -> compensated              timed_out
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn the_pivot_times_out_for_good_and_is_never_compensated() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, cancel, deadline"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    cancel                       -> ignored                   past the point of no return
    deadline passed              -> ignored                   past the point of no return
    = stuck: succeeded, succeeded, stuck
    ");
}

#[test]
fn a_pivot_in_doubt_is_redriven() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, redrive, confirm ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    redrive                      -> confirm-booking #1
    confirm-booking succeeded    -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, redrive, confirm timeout x5, redrive, confirm failed x5, skip"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    redrive                      -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt, letter reopened
    redrive                      -> confirm-booking #1
    confirm-booking failed       -> back off 200ms            unavailable
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking failed       -> stuck at confirm-booking  unavailable, in doubt, letter reopened
    skip                         -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, redrive, confirm rejected, undo charge ok, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    redrive                      -> confirm-booking #1
    confirm-booking rejected     -> undo charge-payment #1    refused, letter resolved
    charge-payment undone        -> undo reserve-booking #1
    reserve-booking undone       -> compensated               refused
    = compensated: compensated, compensated, rejected
    ");
}

#[test]
fn a_pivot_in_doubt_is_skipped() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, skip"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    skip                         -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
}

#[test]
fn a_pivot_in_doubt_is_answered_late() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, late confirm ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    confirm-booking succeeded    -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, late confirm rejected, undo charge ok, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    confirm-booking rejected     -> undo charge-payment #1    refused, letter resolved
    charge-payment undone        -> undo reserve-booking #1
    reserve-booking undone       -> compensated               refused
    = compensated: compensated, compensated, rejected
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, late confirm failed"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    confirm-booking failed       -> ignored                   late
    = stuck: succeeded, succeeded, stuck
    ");
}

#[test]
fn a_command_that_cannot_be_sent() {
    assert_snapshot!(booking("reserve unsendable"), @"
    start                             -> reserve-booking #1
    reserve-booking #1 cannot be sent -> compensated         no_such_field
    = compensated: rejected, pending, pending
    ");
    assert_snapshot!(booking("reserve ok, charge unsendable, undo reserve ok"), @"
    start                            -> reserve-booking #1
    reserve-booking succeeded        -> charge-payment #1
    charge-payment #1 cannot be sent -> undo reserve-booking #1  no_such_field
    reserve-booking undone           -> compensated              no_such_field
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge failed, charge unsendable, undo reserve ok"), @"
    start                            -> reserve-booking #1
    reserve-booking succeeded        -> charge-payment #1
    charge-payment failed            -> back off 200ms           unavailable
    charge-payment #2 due            -> charge-payment #2
    charge-payment #2 cannot be sent -> undo reserve-booking #1  no_such_field
    reserve-booking undone           -> compensated              no_such_field
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm unsendable, undo charge ok, undo reserve ok"), @"
    start                             -> reserve-booking #1
    reserve-booking succeeded         -> charge-payment #1
    charge-payment succeeded          -> confirm-booking #1
    confirm-booking #1 cannot be sent -> undo charge-payment #1   no_such_field
    charge-payment undone             -> undo reserve-booking #1
    reserve-booking undone            -> compensated              no_such_field
    = compensated: compensated, compensated, rejected
    ");
}

#[test]
fn a_command_that_cannot_be_sent_again_is_in_doubt() {
    assert_snapshot!(booking("reserve ok, charge timeout, charge unsendable, undo charge ok, undo reserve ok"), @"
    start                            -> reserve-booking #1
    reserve-booking succeeded        -> charge-payment #1
    charge-payment #1 timed out      -> back off 200ms
    charge-payment #2 due            -> charge-payment #2
    charge-payment #2 cannot be sent -> undo charge-payment #1   no_such_field, in doubt
    charge-payment undone            -> undo reserve-booking #1
    reserve-booking undone           -> compensated              no_such_field
    = compensated: compensated, compensated, pending
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout, confirm unsendable, redrive corrected, confirm ok"), @"
    start                             -> reserve-booking #1
    reserve-booking succeeded         -> charge-payment #1
    charge-payment succeeded          -> confirm-booking #1
    confirm-booking #1 timed out      -> back off 200ms
    confirm-booking #2 due            -> confirm-booking #2
    confirm-booking #2 cannot be sent -> stuck at confirm-booking  no_such_field, in doubt
    redrive with input                -> confirm-booking #1
    confirm-booking succeeded         -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
}
