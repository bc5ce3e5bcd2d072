//! The deadline at each point of the booking saga, and timers that come too late.

use std::sync::LazyLock;

use insta::assert_snapshot;
use saga_defs::definition::Definition;

use crate::script::{play, saga_after};
use crate::{BOOKING, booking};

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

/// The booking whose deadline stands still while a participant is held.
static STANDING: LazyLock<Definition> = LazyLock::new(|| {
    let source = BOOKING.source.replace("input =", "deadline_stands_while_held = true\ninput =");
    Definition::parse(&source).expect("a valid definition")
});

fn standing(script: &str) -> String {
    let saga = saga_after(&STANDING, script);
    let deadline = saga.deadline(&STANDING).map(|at| at.since(saga.started_at));
    let deadline = deadline.map_or("none".to_owned(), |wait| humantime::format_duration(wait).to_string());
    format!("{}\ndeadline: {deadline}", play(&STANDING, script))
}

#[test]
fn a_deadline_stands_still_while_a_command_is_withheld() {
    assert_snapshot!(standing("reserve withheld, wait 20m, deadline"), @"
    start                       -> reserve-booking #1
    reserve-booking #1 withheld -> wait for booking
    deadline passed             -> ignored             stale
    = running: running, pending, pending
    deadline: none
    ");
    assert_snapshot!(standing("reserve withheld, wait 20m, redrive letter, wait 20m, reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking #1 withheld -> wait for booking
    dead letter redriven        -> letter sent
    reserve-booking #1 due      -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1   letter resolved
    = running: succeeded, running, pending
    deadline: 55m
    ");
    assert_snapshot!(standing("reserve ok, charge withheld, wait 20m, charge withheld, wait 10m, retry now, deadline, undo charge ok, undo reserve ok"), @"
    start                      -> reserve-booking #1
    reserve-booking succeeded  -> charge-payment #1
    charge-payment #1 withheld -> wait for payment
    charge-payment #1 due      -> charge-payment #1
    charge-payment #1 withheld -> wait for payment
    retry now                  -> charge-payment #1
    deadline passed            -> undo charge-payment #1
    charge-payment undone      -> undo reserve-booking #1
    reserve-booking undone     -> compensated              deadline_exceeded
    = compensated: compensated, compensated, pending
    deadline: none
    ");
}

#[test]
fn a_deadline_stands_still_while_an_answer_is_not_waited_for() {
    assert_snapshot!(standing("hold, hold, wait 20m, deadline, let go, let go"), @"
    start            -> reserve-booking #1
    deadline stopped -> wait for a participant that is held
    deadline stopped -> ignored                              stale
    deadline passed  -> ignored                              stale
    deadline resumed -> wait for the answer
    deadline resumed -> ignored                              stale
    = running: running, pending, pending
    deadline: 35m
    ");
    assert_snapshot!(standing("hold, wait 20m, late reserve ok"), @"
    start                     -> reserve-booking #1
    deadline stopped          -> wait for a participant that is held
    reserve-booking succeeded -> charge-payment #1
    = running: succeeded, running, pending
    deadline: 35m 10ms
    ");
    assert_snapshot!(standing("reserve failed, hold, wait 20m, deadline, back-off over"), @"
    start                  -> reserve-booking #1
    reserve-booking failed -> back off 200ms                       unavailable
    deadline stopped       -> wait for a participant that is held
    deadline passed        -> ignored                              stale
    reserve-booking #2 due -> reserve-booking #2
    = running: running, pending, pending
    deadline: 35m
    ");
}

#[test]
fn a_deadline_that_stands_still_does_not_keep_a_saga_from_its_operator() {
    assert_snapshot!(standing("reserve ok, charge withheld, wait 20m, cancel, undo reserve withheld, hold"), @"
    start                            -> reserve-booking #1
    reserve-booking succeeded        -> charge-payment #1
    charge-payment #1 withheld       -> wait for payment
    cancel                           -> undo reserve-booking #1
    undo reserve-booking #1 withheld -> wait for booking
    deadline stopped                 -> ignored                  stale
    = compensating: compensating, rejected, pending
    deadline: none
    ");
    assert_snapshot!(standing("hold, wait 20m, quarantine, hold, redrive"), @"
    start            -> reserve-booking #1
    deadline stopped -> wait for a participant that is held
    quarantined      -> stuck at reserve-booking             invalid_row, in doubt
    deadline stopped -> ignored                              stale
    redrive          -> reserve-booking #1
    = running: running, pending, pending
    deadline: 35m
    ");
}

#[test]
fn a_deadline_runs_on_where_the_definition_does_not_say_otherwise() {
    assert_snapshot!(booking("hold, reserve ok, charge withheld, wait 20m, deadline, undo reserve ok"), @"
    start                      -> reserve-booking #1
    deadline stopped           -> ignored                  stale
    reserve-booking succeeded  -> charge-payment #1
    charge-payment #1 withheld -> wait for payment
    deadline passed            -> undo reserve-booking #1
    reserve-booking undone     -> compensated              deadline_exceeded
    = compensated: compensated, rejected, pending
    ");
}
