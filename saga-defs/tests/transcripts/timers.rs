//! The deadline at each point of the booking saga, and timers that come too late.

use insta::assert_snapshot;

use crate::booking;

#[test]
fn the_deadline_passes_while_a_command_is_out() {
    assert_snapshot!(booking("deadline, undo reserve ok"), @"
    start                  -> reserve-booking #1
    deadline passed        -> undo reserve-booking #1
    reserve-booking undone -> compensated              deadline_exceeded
    = compensated: compensated, pending, pending
    ");
    assert_snapshot!(booking("reserve ok, deadline, late charge ok, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    deadline passed           -> undo charge-payment #1
    charge-payment succeeded  -> ignored                  late
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              deadline_exceeded
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn the_deadline_passes_during_a_back_off() {
    assert_snapshot!(booking("reserve failed, deadline"), @"
    start                  -> reserve-booking #1
    reserve-booking failed -> back off 200ms      unavailable
    deadline passed        -> compensated         deadline_exceeded
    = compensated: rejected, pending, pending
    ");
    assert_snapshot!(booking("reserve timeout, deadline, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    deadline passed              -> undo reserve-booking #1
    reserve-booking undone       -> compensated              deadline_exceeded
    = compensated: compensated, pending, pending
    ");
    assert_snapshot!(booking("reserve ok, charge failed, deadline, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment failed     -> back off 200ms           unavailable
    deadline passed           -> undo reserve-booking #1
    reserve-booking undone    -> compensated              deadline_exceeded
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge timeout, charge failed, deadline, undo charge ok, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    charge-payment #2 due       -> charge-payment #2
    charge-payment failed       -> back off 400ms           unavailable
    deadline passed             -> undo charge-payment #1
    charge-payment undone       -> undo reserve-booking #1
    reserve-booking undone      -> compensated              deadline_exceeded
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn the_deadline_does_not_stop_a_pivot_that_may_have_happened() {
    assert_snapshot!(booking("reserve ok, charge ok, deadline, confirm timeout, deadline, confirm ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    deadline passed              -> ignored             past the point of no return
    confirm-booking #1 timed out -> back off 200ms
    deadline passed              -> ignored             past the point of no return
    confirm-booking #2 due       -> confirm-booking #2
    confirm-booking succeeded    -> completed
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm failed, deadline, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    confirm-booking failed    -> back off 200ms           unavailable
    deadline passed           -> undo charge-payment #1
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              deadline_exceeded
    = compensated: compensated, compensated, rejected
    ");
}

#[test]
fn the_deadline_does_not_disturb_compensating() {
    assert_snapshot!(booking("reserve ok, charge declined, deadline, undo reserve failed, deadline, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment rejected     -> undo reserve-booking #1  payment_declined
    deadline passed             -> ignored                  compensates already
    undo reserve-booking failed -> back off 500ms           unavailable
    deadline passed             -> ignored                  compensates already
    undo reserve-booking #2 due -> undo reserve-booking #2
    reserve-booking undone      -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn the_deadline_does_not_move_an_ended_saga() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm ok, deadline"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    confirm-booking succeeded -> completed
    deadline passed           -> ignored             the saga has ended
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve sold-out, deadline"), @"
    start                    -> reserve-booking #1
    reserve-booking rejected -> compensated         sold_out
    deadline passed          -> ignored             the saga has ended
    = compensated: rejected, pending, pending
    ");
}

#[test]
fn timers_of_another_attempt_do_nothing() {
    assert_snapshot!(booking("reserve timeout, stale timeout, back-off over, stale timeout, stale retry, reserve ok, stale timeout, stale retry"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    reserve-booking #1 timed out -> ignored             stale
    reserve-booking #2 due       -> reserve-booking #2
    reserve-booking #1 timed out -> ignored             stale
    reserve-booking #2 due       -> ignored             stale
    reserve-booking succeeded    -> charge-payment #1
    reserve-booking #1 timed out -> ignored             stale
    reserve-booking #2 due       -> ignored             stale
    = running: succeeded, running, pending
    ");
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve timeout x10, stale timeout, stale retry, redrive, stale timeout, stale retry, undo reserve ok, stale timeout, stale retry"), @"
    start                              -> reserve-booking #1
    reserve-booking succeeded          -> charge-payment #1
    charge-payment rejected            -> undo reserve-booking #1        payment_declined
    undo reserve-booking #1 timed out  -> back off 500ms
    ... 8 more alike
    undo reserve-booking #10 due       -> undo reserve-booking #10
    undo reserve-booking #10 timed out -> stuck at undo reserve-booking
    undo reserve-booking #10 timed out -> ignored                        stale
    undo reserve-booking #10 due       -> ignored                        stale
    redrive                            -> undo reserve-booking #1
    undo reserve-booking #10 timed out -> ignored                        stale
    undo reserve-booking #10 due       -> ignored                        stale
    reserve-booking undone             -> compensated                    payment_declined, letter resolved
    undo reserve-booking #10 timed out -> ignored                        the saga has ended
    undo reserve-booking #10 due       -> ignored                        the saga has ended
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn what_is_withheld_counts_no_attempt() {
    assert_snapshot!(booking("reserve withheld, reserve ok, charge failed, charge withheld, charge withheld, charge ok, confirm withheld, retry now, confirm ok"), @"
    start                       -> reserve-booking #1
    reserve-booking #1 withheld -> wait for booking
    reserve-booking #1 due      -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment failed       -> back off 200ms      unavailable
    charge-payment #2 due       -> charge-payment #2
    charge-payment #2 withheld  -> wait for payment
    charge-payment #2 due       -> charge-payment #2
    charge-payment #2 withheld  -> wait for payment
    charge-payment #2 due       -> charge-payment #2
    charge-payment succeeded    -> confirm-booking #1
    confirm-booking #1 withheld -> wait for booking
    retry now                   -> confirm-booking #1
    confirm-booking succeeded   -> completed
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge declined, undo reserve withheld, undo reserve ok"), @"
    start                            -> reserve-booking #1
    reserve-booking succeeded        -> charge-payment #1
    charge-payment rejected          -> undo reserve-booking #1  payment_declined
    undo reserve-booking #1 withheld -> wait for booking
    undo reserve-booking #1 due      -> undo reserve-booking #1
    reserve-booking undone           -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
}
