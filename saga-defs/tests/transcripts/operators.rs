//! What an operator does to the booking saga: cancel, retry now, redrive, skip, letters; and sagas that are parked.

use insta::assert_snapshot;
use saga_defs::Data;
use saga_defs::ids::{Attempt, CommandId, Direction};
use saga_defs::machine::{Moment, Transition, Why, transition};
use saga_defs::saga::{Echo, Event, Outcome, Refusal, Status};

use crate::{BOOKING, booking, script};

#[test]
fn cancelled_while_a_command_is_out() {
    assert_snapshot!(booking("cancel, undo reserve ok"), @"
    start                  -> reserve-booking #1
    cancel                 -> undo reserve-booking #1
    reserve-booking undone -> compensated              cancelled
    = compensated: compensated, pending, pending
    ");
    assert_snapshot!(booking("reserve ok, cancel, late charge ok, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    cancel                    -> undo charge-payment #1
    charge-payment succeeded  -> ignored                  late
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              cancelled
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn cancelled_during_a_back_off() {
    assert_snapshot!(booking("reserve failed, cancel"), @"
    start                  -> reserve-booking #1
    reserve-booking failed -> back off 200ms      unavailable
    cancel                 -> compensated
    = compensated: rejected, pending, pending
    ");
    assert_snapshot!(booking("reserve timeout, cancel, undo reserve ok"), @"
    start                        -> reserve-booking #1
    reserve-booking #1 timed out -> back off 200ms
    cancel                       -> undo reserve-booking #1
    reserve-booking undone       -> compensated              cancelled
    = compensated: compensated, pending, pending
    ");
    assert_snapshot!(booking("reserve ok, charge failed, cancel, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment failed     -> back off 200ms           unavailable
    cancel                    -> undo reserve-booking #1
    reserve-booking undone    -> compensated              cancelled
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge timeout, cancel, undo charge ok, undo reserve ok"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    cancel                      -> undo charge-payment #1
    charge-payment undone       -> undo reserve-booking #1
    reserve-booking undone      -> compensated              cancelled
    = compensated: compensated, compensated, pending
    ");
}

#[test]
fn cancelled_while_a_command_is_withheld() {
    assert_snapshot!(booking("reserve ok, charge withheld, cancel, undo reserve ok"), @"
    start                      -> reserve-booking #1
    reserve-booking succeeded  -> charge-payment #1
    charge-payment #1 withheld -> wait for payment
    cancel                     -> undo reserve-booking #1
    reserve-booking undone     -> compensated              cancelled
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm withheld, cancel"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment succeeded    -> confirm-booking #1
    confirm-booking #1 withheld -> wait for booking
    cancel                      -> undo charge-payment #1
    = compensating: succeeded, compensating, rejected
    ");
    assert_snapshot!(booking("reserve ok, charge timeout, charge withheld, cancel"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment #1 timed out -> back off 200ms
    charge-payment #2 due       -> charge-payment #2
    charge-payment #2 withheld  -> wait for payment
    cancel                      -> undo charge-payment #1
    = compensating: succeeded, compensating, pending
    ");
}

#[test]
fn a_pivot_is_cancelled_only_if_it_cannot_have_happened() {
    assert_snapshot!(booking("reserve ok, charge ok, cancel, confirm failed, cancel, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    cancel                    -> ignored                  past the point of no return
    confirm-booking failed    -> back off 200ms           unavailable
    cancel                    -> undo charge-payment #1
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              cancelled
    = compensated: compensated, compensated, rejected
    ");
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout, cancel, confirm timeout x4, cancel"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    cancel                       -> ignored                   past the point of no return
    confirm-booking #2 due       -> confirm-booking #2
    confirm-booking #2 timed out -> back off 400ms
    ... 2 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    cancel                       -> ignored                   past the point of no return
    = stuck: succeeded, succeeded, stuck
    ");
}

#[test]
fn cancelling_is_refused_when_it_is_too_late() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm ok, cancel"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    confirm-booking succeeded -> completed
    cancel                    -> ignored             the saga has ended
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge declined, cancel, undo reserve failed, cancel, undo reserve ok, cancel"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    charge-payment rejected     -> undo reserve-booking #1  payment_declined
    cancel                      -> ignored                  compensates already
    undo reserve-booking failed -> back off 500ms           unavailable
    cancel                      -> ignored                  compensates already
    undo reserve-booking #2 due -> undo reserve-booking #2
    reserve-booking undone      -> compensated              payment_declined
    cancel                      -> ignored                  the saga has ended
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn retry_now_ends_the_back_off_and_nothing_else() {
    assert_snapshot!(booking("retry now, reserve failed, retry now, stale retry, reserve ok, charge declined, undo reserve timeout, retry now, retry now, undo reserve ok, retry now"), @"
    start                             -> reserve-booking #1
    retry now                         -> ignored                  not in back-off
    reserve-booking failed            -> back off 200ms           unavailable
    retry now                         -> reserve-booking #2
    reserve-booking #2 due            -> ignored                  stale
    reserve-booking succeeded         -> charge-payment #1
    charge-payment rejected           -> undo reserve-booking #1  payment_declined
    undo reserve-booking #1 timed out -> back off 500ms
    retry now                         -> undo reserve-booking #2
    retry now                         -> ignored                  not in back-off
    reserve-booking undone            -> compensated              payment_declined
    retry now                         -> ignored                  the saga has ended
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn redrive_and_skip_need_a_stuck_saga() {
    assert_snapshot!(booking("redrive, skip, reserve failed, redrive, skip, reserve ok, charge declined, redrive, skip, undo reserve ok, redrive, skip"), @"
    start                     -> reserve-booking #1
    redrive                   -> ignored                  not stuck
    skip                      -> ignored                  not stuck
    reserve-booking failed    -> back off 200ms           unavailable
    redrive                   -> ignored                  not stuck
    skip                      -> ignored                  not stuck
    reserve-booking #2 due    -> reserve-booking #2
    reserve-booking succeeded -> charge-payment #1
    charge-payment rejected   -> undo reserve-booking #1  payment_declined
    redrive                   -> ignored                  not stuck
    skip                      -> ignored                  not stuck
    reserve-booking undone    -> compensated              payment_declined
    redrive                   -> ignored                  the saga has ended
    skip                      -> ignored                  the saga has ended
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn redriving_twice_sends_once() {
    assert_snapshot!(booking("reserve ok, charge ok, confirm timeout x5, redrive, redrive, confirm ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
    redrive                      -> confirm-booking #1
    redrive                      -> ignored                   not stuck
    confirm-booking succeeded    -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
}

#[test]
fn parked_and_redriven() {
    assert_snapshot!(booking("quarantine, redrive, reserve ok, charge failed, quarantine, redrive, charge ok, confirm ok"), @"
    start                     -> reserve-booking #1
    quarantined               -> stuck at reserve-booking  invalid_row, in doubt
    redrive                   -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1         letter resolved
    charge-payment failed     -> back off 200ms            unavailable
    quarantined               -> stuck at charge-payment   invalid_row, in doubt
    redrive                   -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1        letter resolved
    confirm-booking succeeded -> completed
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge ok, quarantine, redrive, confirm ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    quarantined               -> stuck at confirm-booking  invalid_row, in doubt
    redrive                   -> confirm-booking #1
    confirm-booking succeeded -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, charge declined, quarantine, redrive, undo reserve ok, quarantine"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment rejected   -> undo reserve-booking #1        payment_declined
    quarantined               -> stuck at undo reserve-booking  invalid_row
    redrive                   -> undo reserve-booking #1
    reserve-booking undone    -> compensated                    payment_declined, letter resolved
    quarantined               -> ignored                        the saga has ended
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn parked_and_skipped() {
    assert_snapshot!(booking("reserve ok, quarantine, skip, confirm rejected, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    quarantined               -> stuck at charge-payment  invalid_row, in doubt
    skip                      -> confirm-booking #1       letter resolved
    confirm-booking rejected  -> undo charge-payment #1   refused
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              refused
    = compensated: compensated, compensated, rejected
    ");
    assert_snapshot!(booking("reserve ok, charge ok, quarantine, skip"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    quarantined               -> stuck at confirm-booking  invalid_row, in doubt
    skip                      -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
}

#[test]
fn parked_and_cancelled() {
    assert_snapshot!(booking("reserve ok, quarantine, cancel, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    quarantined               -> stuck at charge-payment  invalid_row, in doubt
    cancel                    -> undo charge-payment #1   letter resolved
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              cancelled
    = compensated: compensated, compensated, pending
    ");
    assert_snapshot!(booking("reserve ok, quarantine, deadline, undo charge ok, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    quarantined               -> stuck at charge-payment  invalid_row, in doubt
    deadline passed           -> undo charge-payment #1   letter resolved
    charge-payment undone     -> undo reserve-booking #1
    reserve-booking undone    -> compensated              deadline_exceeded
    = compensated: compensated, compensated, pending
    ");
    assert_snapshot!(booking("reserve ok, charge ok, quarantine, cancel"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    charge-payment succeeded  -> confirm-booking #1
    quarantined               -> stuck at confirm-booking  invalid_row, in doubt
    cancel                    -> ignored                   past the point of no return
    = stuck: succeeded, succeeded, stuck
    ");
}

#[test]
fn parked_and_answered_late() {
    assert_snapshot!(booking("reserve ok, quarantine, late charge ok, confirm ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    quarantined               -> stuck at charge-payment  invalid_row, in doubt
    charge-payment succeeded  -> confirm-booking #1       letter resolved
    confirm-booking succeeded -> completed
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, quarantine, late charge declined, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    quarantined               -> stuck at charge-payment  invalid_row, in doubt
    charge-payment rejected   -> undo reserve-booking #1  payment_declined, letter resolved
    reserve-booking undone    -> compensated              payment_declined
    = compensated: compensated, rejected, pending
    ");
    assert_snapshot!(booking("quarantine, quarantine, late reserve failed, late reserve sold-out"), @"
    start                    -> reserve-booking #1
    quarantined              -> stuck at reserve-booking  invalid_row, in doubt
    quarantined              -> stuck at reserve-booking  invalid_row, in doubt
    reserve-booking failed   -> ignored                   late
    reserve-booking rejected -> compensated               sold_out, letter resolved
    = compensated: rejected, pending, pending
    ");
}

#[test]
fn a_redriven_letter_is_resolved_when_the_saga_moves_on() {
    assert_snapshot!(booking("reserve ok, redrive letter, charge timeout, charge ok, confirm ok, redrive letter"), @"
    start                       -> reserve-booking #1
    reserve-booking succeeded   -> charge-payment #1
    dead letter redriven        -> letter sent
    charge-payment #1 timed out -> back off 200ms
    charge-payment #2 due       -> charge-payment #2
    charge-payment succeeded    -> confirm-booking #1  letter resolved
    confirm-booking succeeded   -> completed
    dead letter redriven        -> ignored             the saga has ended
    = completed: succeeded, succeeded, succeeded
    ");
    assert_snapshot!(booking("reserve ok, redrive letter, charge declined, redrive letter, undo reserve ok"), @"
    start                     -> reserve-booking #1
    reserve-booking succeeded -> charge-payment #1
    dead letter redriven      -> letter sent
    charge-payment rejected   -> undo reserve-booking #1  payment_declined, letter resolved
    dead letter redriven      -> letter sent
    reserve-booking undone    -> compensated              payment_declined, letter resolved
    = compensated: compensated, rejected, pending
    ");
}

#[test]
fn a_redriven_letter_is_open_again_when_the_saga_gets_stuck() {
    assert_snapshot!(booking("reserve ok, charge ok, redrive letter, confirm timeout x5, redrive letter, redrive, confirm timeout x5, late confirm ok"), @"
    start                        -> reserve-booking #1
    reserve-booking succeeded    -> charge-payment #1
    charge-payment succeeded     -> confirm-booking #1
    dead letter redriven         -> letter sent
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt, letter reopened
    dead letter redriven         -> letter sent
    redrive                      -> confirm-booking #1
    confirm-booking #1 timed out -> back off 200ms
    ... 3 more alike
    confirm-booking #5 due       -> confirm-booking #5
    confirm-booking #5 timed out -> stuck at confirm-booking  in doubt, 2 letters reopened
    confirm-booking succeeded    -> completed                 letter resolved
    = completed: succeeded, succeeded, succeeded
    ");
}

/// Each redrive of a command has a number, so that a participant may try anew what it refused, and a refusal that was
/// still on its way is not taken for the answer to the new one.
#[test]
fn each_redrive_has_a_number() {
    let at = |script: &str| script::saga_after(&BOOKING, script).current().unwrap();
    assert_eq!(at("reserve ok, charge ok, confirm timeout x5, redrive").redrive, 1);
    assert_eq!(at("reserve ok, quarantine, redrive").redrive, 1);
    assert_eq!(
        at("reserve ok, charge declined, undo reserve rejected, redrive, undo reserve failed x10, redrive")
            .redrive,
        2
    );
}

/// Applies a reply to the booking that stands at the second attempt of its redriven pivot.
fn check_echo(attempt: u32, redrive: u32, outcome: Outcome, expected: Result<Status, Why>) {
    let saga = script::saga_after(
        &BOOKING,
        "reserve ok, charge ok, confirm timeout x5, redrive, confirm timeout, back-off over",
    );
    let event = Event::Replied {
        command_id: CommandId::derive(saga.id, "confirm-booking", Direction::Forward),
        echo: Some(Echo { attempt: Attempt(attempt), redrive }),
        outcome,
    };
    let got = match transition(&BOOKING, &saga, &event, Moment::of(&saga, saga.updated_at)) {
        Transition::Moved(moved) => Ok(moved.saga.status()),
        Transition::Ignored(why) => Err(why),
    };
    assert_eq!(got, expected, "attempt {attempt}, redrive {redrive}");
}

#[test]
fn a_refusal_or_failure_counts_for_its_own_sending_only() {
    let refusal = || Refusal::new("no", "");
    let (rejected, failed) =
        (|| Outcome::Rejected { refusal: refusal() }, || Outcome::Failed { refusal: refusal() });
    check_echo(1, 1, rejected(), Ok(Status::Compensating));
    check_echo(5, 0, rejected(), Err(Why::Late));
    check_echo(2, 1, failed(), Ok(Status::Running));
    check_echo(1, 1, failed(), Err(Why::Late));
    check_echo(2, 0, failed(), Err(Why::Late));
    check_echo(5, 0, Outcome::Succeeded { fields: Data::new() }, Ok(Status::Completed));
}

#[test]
fn a_correction_lasts_as_long_as_its_command() {
    let corrected = |script: &str| script::saga_after(&BOOKING, script).correction.is_some();
    let stuck = "reserve ok, charge ok, confirm rejected, undo charge rejected, redrive corrected";
    assert!(corrected(stuck));
    assert!(corrected(&format!("{stuck}, undo charge rejected, redrive")));
    assert!(!corrected(&format!("{stuck}, undo charge ok")));
}
