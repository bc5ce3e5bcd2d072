//! The booking saga on its way back: compensations that are tried again, get stuck, are redriven and skipped.

use insta::assert_snapshot;

use crate::booking;

#[test]
fn a_compensation_is_tried_again() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve failed, undo reserve timeout, undo reserve ok"), @"
    start                             -> reserve-booking #1
    reserve-booking succeeded         -> charge-payment #1
    charge-payment rejected           -> undo reserve-booking #1  payment_declined
    undo reserve-booking failed       -> back off 500ms           unavailable
    undo reserve-booking #2 due       -> undo reserve-booking #2
    undo reserve-booking #2 timed out -> back off 1s
    undo reserve-booking #3 due       -> undo reserve-booking #3
    reserve-booking undone            -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn a_compensation_fails_until_stuck_and_is_redriven() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve failed x10, redrive, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment rejected      -> undo reserve-booking #1        payment_declined
    undo reserve-booking failed  -> back off 500ms                 unavailable
    ... 8 more alike
    undo reserve-booking #10 due -> undo reserve-booking #10
    undo reserve-booking failed  -> stuck at undo reserve-booking  unavailable
    redrive                      -> undo reserve-booking #1
    reserve-booking undone       -> compensated                    payment_declined, letter resolved
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn a_compensation_times_out_until_stuck_and_is_redriven() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve timeout x10, redrive, undo reserve ok"), @"
    start                              -> reserve-booking #1
    reserve-booking succeeded          -> charge-payment #1
    charge-payment rejected            -> undo reserve-booking #1        payment_declined
    undo reserve-booking #1 timed out  -> back off 500ms
    ... 8 more alike
    undo reserve-booking #10 due       -> undo reserve-booking #10
    undo reserve-booking #10 timed out -> stuck at undo reserve-booking
    redrive                            -> undo reserve-booking #1
    reserve-booking undone             -> compensated                    payment_declined, letter resolved
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn a_compensation_fails_again_after_the_redrive_and_is_skipped() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve failed x10, redrive, undo reserve failed x10, skip"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment rejected      -> undo reserve-booking #1        payment_declined
    undo reserve-booking failed  -> back off 500ms                 unavailable
    ... 8 more alike
    undo reserve-booking #10 due -> undo reserve-booking #10
    undo reserve-booking failed  -> stuck at undo reserve-booking  unavailable
    redrive                      -> undo reserve-booking #1
    undo reserve-booking failed  -> back off 500ms                 unavailable
    ... 8 more alike
    undo reserve-booking #10 due -> undo reserve-booking #10
    undo reserve-booking failed  -> stuck at undo reserve-booking  unavailable, letter reopened
    skip                         -> compensated                    letter resolved
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn the_compensation_of_a_step_in_doubt_gets_stuck_and_is_redriven() {
    assert_snapshot!(booking("reserve ok, charge timeout x5, undo charge failed x10, redrive, undo charge ok, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    ... 3 more alike
    charge-payment #5 due       -> charge-payment #5
    charge-payment #5 timed out -> undo charge-payment #1        in doubt
    undo charge-payment failed  -> back off 500ms                unavailable
    ... 8 more alike
    undo charge-payment #10 due -> undo charge-payment #10
    undo charge-payment failed  -> stuck at undo charge-payment  unavailable
    redrive                     -> undo charge-payment #1
    charge-payment undone       -> undo reserve-booking #1       letter resolved
    reserve-booking undone      -> compensated                   timed_out
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn the_compensation_of_a_step_in_doubt_gets_stuck_and_is_skipped() {
    assert_snapshot!(booking("reserve ok, charge timeout x5, undo charge timeout x10, skip, undo reserve ok"), @"
    start                             -> reserve-booking #1
    reserve-booking succeeded         -> charge-payment #1
    charge-payment #1 timed out       -> back off 200ms
    ... 3 more alike
    charge-payment #5 due             -> charge-payment #5
    charge-payment #5 timed out       -> undo charge-payment #1        in doubt
    undo charge-payment #1 timed out  -> back off 500ms
    ... 8 more alike
    undo charge-payment #10 due       -> undo charge-payment #10
    undo charge-payment #10 timed out -> stuck at undo charge-payment
    skip                              -> undo reserve-booking #1       letter resolved
    reserve-booking undone            -> compensated                   timed_out
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn both_compensations_get_stuck_one_after_the_other() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm rejected, undo charge failed x10, redrive, undo charge ok, undo reserve failed x10, redrive, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking rejected     -> undo charge-payment #1         refused
    undo charge-payment failed   -> back off 500ms                 unavailable
    ... 8 more alike
    undo charge-payment #10 due  -> undo charge-payment #10
    undo charge-payment failed   -> stuck at undo charge-payment   unavailable
    redrive                      -> undo charge-payment #1
    charge-payment undone        -> undo reserve-booking #1        letter resolved
    undo reserve-booking failed  -> back off 500ms                 unavailable
    ... 8 more alike
    undo reserve-booking #10 due -> undo reserve-booking #10
    undo reserve-booking failed  -> stuck at undo reserve-booking  unavailable
    redrive                      -> undo reserve-booking #1
    reserve-booking undone       -> compensated                    refused, letter resolved
    = compensated: compensated, compensated, rejected
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm rejected, undo charge failed x10, skip, undo reserve failed x10, skip"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking rejected     -> undo charge-payment #1         refused
    undo charge-payment failed   -> back off 500ms                 unavailable
    ... 8 more alike
    undo charge-payment #10 due  -> undo charge-payment #10
    undo charge-payment failed   -> stuck at undo charge-payment   unavailable
    skip                         -> undo reserve-booking #1        letter resolved
    undo reserve-booking failed  -> back off 500ms                 unavailable
    ... 8 more alike
    undo reserve-booking #10 due -> undo reserve-booking #10
    undo reserve-booking failed  -> stuck at undo reserve-booking  unavailable
    skip                         -> compensated                    letter resolved
    = compensated: compensated, compensated, rejected
    ");
}

#[test]
fn a_compensation_that_is_refused_is_stuck_at_once() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve rejected, redrive corrected, undo reserve ok"), @"
    start                         -> reserve-booking #1
    reserve-booking succeeded     -> charge-payment #1
    charge-payment rejected       -> undo reserve-booking #1        payment_declined
    undo reserve-booking rejected -> stuck at undo reserve-booking  refused
    redrive with input            -> undo reserve-booking #1
    reserve-booking undone        -> compensated                    payment_declined, letter resolved
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge timeout x5, undo charge rejected, redrive, undo charge rejected, skip, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment #1 timed out  -> back off 200ms
    ... 3 more alike
    charge-payment #5 due        -> charge-payment #5
    charge-payment #5 timed out  -> undo charge-payment #1        in doubt
    undo charge-payment rejected -> stuck at undo charge-payment  refused
    redrive                      -> undo charge-payment #1
    undo charge-payment rejected -> stuck at undo charge-payment  refused, letter reopened
    skip                         -> undo reserve-booking #1       letter resolved
    reserve-booking undone       -> compensated                   timed_out
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn a_compensation_that_cannot_be_sent_is_stuck_at_once() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve unsendable, redrive corrected, undo reserve ok"), @"
    start                                  -> reserve-booking #1
    reserve-booking succeeded              -> charge-payment #1
    charge-payment rejected                -> undo reserve-booking #1        payment_declined
    undo reserve-booking #1 cannot be sent -> stuck at undo reserve-booking  no_such_field
    redrive with input                     -> undo reserve-booking #1
    reserve-booking undone                 -> compensated                    payment_declined, letter resolved
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve timeout, undo reserve unsendable, skip"), @"
    start                                  -> reserve-booking #1
    reserve-booking succeeded              -> charge-payment #1
    charge-payment rejected                -> undo reserve-booking #1        payment_declined
    undo reserve-booking #1 timed out      -> back off 500ms
    undo reserve-booking #2 due            -> undo reserve-booking #2
    undo reserve-booking #2 cannot be sent -> stuck at undo reserve-booking  no_such_field
    skip                                   -> compensated                    letter resolved
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn a_stuck_compensation_succeeds_late() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve timeout x10, late undo reserve ok"), @"
    start                              -> reserve-booking #1
    reserve-booking succeeded          -> charge-payment #1
    charge-payment rejected            -> undo reserve-booking #1        payment_declined
    undo reserve-booking #1 timed out  -> back off 500ms
    ... 8 more alike
    undo reserve-booking #10 due       -> undo reserve-booking #10
    undo reserve-booking #10 timed out -> stuck at undo reserve-booking
    reserve-booking undone             -> compensated                    payment_declined, letter resolved
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn a_stuck_compensation_is_not_moved_by_a_late_no() {
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve timeout x10, late undo reserve failed, late undo reserve rejected, cancel, deadline"), @"
    start                              -> reserve-booking #1
    reserve-booking succeeded          -> charge-payment #1
    charge-payment rejected            -> undo reserve-booking #1        payment_declined
    undo reserve-booking #1 timed out  -> back off 500ms
    ... 8 more alike
    undo reserve-booking #10 due       -> undo reserve-booking #10
    undo reserve-booking #10 timed out -> stuck at undo reserve-booking
    undo reserve-booking failed        -> ignored                        late
    undo reserve-booking rejected      -> ignored                        late
    cancel                             -> ignored                        compensates already
    deadline passed                    -> ignored                        compensates already
    = stuck: stuck, rejected, pending
    ");
}
