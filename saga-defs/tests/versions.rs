//! Two versions of a definition: what differs, what it means, and where the baseline runs part.
#![cfg(test)]

use insta::assert_snapshot;
use saga_defs::compare::{Course, compare};
use saga_defs::definition::Definition;
use saga_defs::rehearsal::rehearse;

const BOOKING: &str = include_str!("../definitions/booking.toml");

/// The booking as version 2, with texts replaced.
fn next(replaced: &[(&str, &str)]) -> (Definition, Definition) {
    let mut text = BOOKING.replace("version = 1", "version = 2");
    for (from, to) in replaced {
        assert!(text.contains(from), "there is no {from}");
        text = text.replace(from, to);
    }
    (Definition::parse(BOOKING).unwrap(), Definition::parse(&text).unwrap())
}

/// Each change with what it means, then the baseline runs of the old version that go another way.
fn check(old: &Definition, new: &Definition) -> String {
    let mut lines = Vec::new();
    for change in compare(old, new) {
        lines.push(change.to_string());
        lines.push(format!("    running: {}", change.for_running()));
        lines.push(format!("    new:     {}", change.for_new()));
    }
    let (mut same, mut parted) = (0, Vec::new());
    for run in rehearse(old) {
        match Course::of(old, new, run.saga, &run.moves) {
            Course::Same => same += 1,
            Course::Diverges(divergence) => parted.push(format!("{}: {divergence}", run.title)),
            Course::Unknown => parted.push(format!("{}: unknown", run.title)),
        }
    }
    lines.push(format!("{same} runs go the same way"));
    lines.extend(parted);
    lines.join("\n")
}

fn check_next(replaced: &[(&str, &str)]) -> String {
    let (old, new) = next(replaced);
    check(&old, &new)
}

#[test]
fn a_version_with_the_same_recipe_differs_in_nothing() {
    assert_snapshot!(check_next(&[]), @"13 runs go the same way");
}

#[test]
fn times_change_no_course() {
    assert_snapshot!(check_next(&[
        (r#"deadline = "15m""#, r#"deadline = "1h""#),
        (r#"timeout = "5s""#, r#"timeout = "9s""#),
        (r#"initial = "200ms""#, r#"initial = "1s""#),
    ]), @"
    the deadline: 15m -> 1h
        running: their deadline stays 15m
        new:     they are cancelled after 1h
    step reserve-booking: timeout 5s -> 9s
        running: they keep what they began with
        new:     an attempt is in doubt after 9s
    step reserve-booking: retry 5 times, 200ms x 2 up to 10s, jitter 0.2 -> 5 times, 1s x 2 up to 10s, jitter 0.2
        running: they keep what they began with
        new:     reserve-booking is tried 5 times
    13 runs go the same way
    ");
}

#[test]
fn fewer_attempts_end_a_step_earlier() {
    assert_snapshot!(check_next(&[("max_attempts = 5", "max_attempts = 4")]), @"
    step reserve-booking: retry 5 times, 200ms x 2 up to 10s, jitter 0.2 -> 4 times, 200ms x 2 up to 10s, jitter 0.2
        running: they keep what they began with
        new:     reserve-booking is tried 4 times
    11 runs go the same way
    reserve-booking timed out for good: revision 8, reserve-booking #4 timed out: back off 1s 664ms -> undo reserve-booking #1
    reserve-booking failed for good: revision 8, reserve-booking failed: back off 1s 664ms -> compensated
    ");
}

#[test]
fn a_step_added_in_the_middle_parts_every_run_that_comes_to_it() {
    let fraud = r#"[[step]]
name = "check-fraud"
participant = "risk"
kind = "compensatable"
command = "risk.Check"
reply = "risk.Checked"
compensation = "risk.Forget"

[[step]]
name = "charge-payment""#;
    assert_snapshot!(check_next(&[("[[step]]\nname = \"charge-payment\"", fraud)]), @"
    step check-fraud: added after reserve-booking
        running: they end without check-fraud
        new:     they run check-fraud; its participant must be there first
    4 runs go the same way
    every step succeeds: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    charge-payment rejected: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    charge-payment timed out for good: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    charge-payment failed for good: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    undo charge-payment stuck, then redriven: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    confirm-booking rejected: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    confirm-booking timed out for good: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    confirm-booking failed for good: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    confirm-booking stuck, then redriven: revision 2, reserve-booking succeeded: charge-payment #1 -> check-fraud #1
    ");
}

#[test]
fn a_step_added_at_the_end_parts_runs_at_their_end() {
    let receipt = r#"reply = "booking.BookingConfirmed"

[[step]]
name = "send-receipt"
participant = "mail"
kind = "retriable"
command = "mail.Send"
reply = "mail.Sent""#;
    assert_snapshot!(check_next(&[(r#"reply = "booking.BookingConfirmed""#, receipt)]), @"
    step send-receipt: added after confirm-booking
        running: they end without send-receipt
        new:     they run send-receipt; its participant must be there first
    11 runs go the same way
    every step succeeds: revision 4, confirm-booking succeeded: completed -> send-receipt #1
    confirm-booking stuck, then redriven: revision 14, confirm-booking succeeded: completed -> send-receipt #1
    ");
}

#[test]
fn a_step_with_another_name_is_another_step_to_its_participant() {
    assert_snapshot!(check_next(&[(r#"name = "charge-payment""#, r#"name = "take-payment""#)]), @"
    step take-payment: renamed, was charge-payment
        running: their commands carry the step charge-payment, and ids that follow from it
        new:     their commands carry the step take-payment
    4 runs go the same way
    every step succeeds: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    charge-payment rejected: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    charge-payment timed out for good: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    charge-payment failed for good: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    undo charge-payment stuck, then redriven: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    confirm-booking rejected: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    confirm-booking timed out for good: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    confirm-booking failed for good: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    confirm-booking stuck, then redriven: revision 2, reserve-booking succeeded: charge-payment #1 -> take-payment #1
    ");
}

#[test]
fn a_step_that_is_removed_is_left_out() {
    let (old, mut new) = next(&[]);
    new.steps.remove(0);
    assert_snapshot!(check(&old, &new), @"
    step reserve-booking: removed
        running: the participant of reserve-booking is needed until the last of them has ended
        new:     they do without reserve-booking; nothing may need its reply's fields
    0 runs go the same way
    every step succeeds: revision 1, start: reserve-booking #1 -> charge-payment #1
    reserve-booking rejected: revision 1, start: reserve-booking #1 -> charge-payment #1
    reserve-booking timed out for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    reserve-booking failed for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    undo reserve-booking stuck, then redriven: revision 1, start: reserve-booking #1 -> charge-payment #1
    charge-payment rejected: revision 1, start: reserve-booking #1 -> charge-payment #1
    charge-payment timed out for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    charge-payment failed for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    undo charge-payment stuck, then redriven: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking rejected: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking timed out for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking failed for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking stuck, then redriven: revision 1, start: reserve-booking #1 -> charge-payment #1
    ");
}

#[test]
fn steps_in_another_order_are_moved_the_fewest() {
    let (old, mut new) = next(&[]);
    new.steps.swap(0, 1);
    assert_snapshot!(check(&old, &new), @"
    step charge-payment: moved, now at the beginning
        running: they keep their order
        new:     charge-payment is undone in the new order too
    0 runs go the same way
    every step succeeds: revision 1, start: reserve-booking #1 -> charge-payment #1
    reserve-booking rejected: revision 1, start: reserve-booking #1 -> charge-payment #1
    reserve-booking timed out for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    reserve-booking failed for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    undo reserve-booking stuck, then redriven: revision 1, start: reserve-booking #1 -> charge-payment #1
    charge-payment rejected: revision 1, start: reserve-booking #1 -> charge-payment #1
    charge-payment timed out for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    charge-payment failed for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    undo charge-payment stuck, then redriven: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking rejected: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking timed out for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking failed for good: revision 1, start: reserve-booking #1 -> charge-payment #1
    confirm-booking stuck, then redriven: revision 1, start: reserve-booking #1 -> charge-payment #1
    ");
}

#[test]
fn everything_about_a_step_is_named() {
    assert_snapshot!(check_next(&[
        (r#"participant = "payment""#, r#"participant = "wallet""#),
        ("payment.ChargePayment", "wallet.Charge"),
        ("payment.PaymentCompleted", "wallet.Charged"),
        ("payment.RefundPayment", "wallet.Refund"),
        (r#"{ reference = "bookingId" }"#, r#"{ account = "userId" }"#),
        ("max_attempts = 10", "max_attempts = 3"),
        (r#"input = "booking.StartBooking""#, r#"input = "booking.StartBookingV2""#),
    ]), @"
    the input: booking.StartBooking -> booking.StartBookingV2
        running: they have begun already
        new:     a start has to give a booking.StartBookingV2; tell the clients first
    step reserve-booking: compensation_retry 10 times, 500ms x 2 up to 1m, jitter 0.2 -> 3 times, 500ms x 2 up to 1m, jitter 0.2
        running: they keep what they began with
        new:     undoing reserve-booking is tried 3 times, then it is stuck
    step charge-payment: participant payment -> wallet
        running: the participant payment is needed until the last of them has ended
        new:     charge-payment is sent to wallet, which must be there first
    step charge-payment: command payment.ChargePayment -> wallet.Charge
        running: payment.ChargePayment is needed until the last of them has ended
        new:     the participant must take wallet.Charge first
    step charge-payment: reply payment.PaymentCompleted -> wallet.Charged
        running: payment.PaymentCompleted is needed until the last of them has ended
        new:     the participant must answer with wallet.Charged
    step charge-payment: compensation payment.RefundPayment -> wallet.Refund
        running: payment.RefundPayment is needed until the last of them has ended
        new:     the participant must take wallet.Refund first
    step charge-payment: field account filled from account -> userId
        running: they keep what they began with
        new:     account is filled from userId
    step charge-payment: field reference filled from bookingId -> reference
        running: they keep what they began with
        new:     reference is filled from the name reference
    3 runs go the same way
    every step succeeds: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    undo reserve-booking stuck, then redriven: revision 7, undo reserve-booking failed: back off 2s 50ms -> stuck at undo reserve-booking
    charge-payment rejected: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    charge-payment timed out for good: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    charge-payment failed for good: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    undo charge-payment stuck, then redriven: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    confirm-booking rejected: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    confirm-booking timed out for good: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    confirm-booking failed for good: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    confirm-booking stuck, then redriven: revision 2, reserve-booking succeeded: charge-payment: payment.ChargePayment to payment -> charge-payment: wallet.Charge to wallet
    ");
}

#[test]
fn a_step_of_another_kind_parts_where_the_kind_counts() {
    assert_snapshot!(check_next(&[(r#"kind = "pivot""#, r#"kind = "retriable""#)]), @"
    step confirm-booking: kind pivot -> retriable
        running: they keep what they began with
        new:     confirm-booking is tried until it succeeds and never undone
    11 runs go the same way
    confirm-booking rejected: revision 4, confirm-booking rejected: undo charge-payment #1 -> stuck at confirm-booking
    confirm-booking failed for good: revision 12, confirm-booking failed: undo charge-payment #1 -> stuck at confirm-booking
    ");
}

#[test]
fn a_version_that_is_not_newer_is_named() {
    let (old, new) = next(&[]);
    assert_snapshot!(check(&new, &old), @"
    the version: 2 -> 1, which is not higher
        running: none: a new start takes the highest version
        new:     none start on it unless they ask for it by number
    13 runs go the same way
    ");
    let mut same = old.clone();
    same.deadline *= 2;
    assert_snapshot!(check(&old, &same), @"
    the version: 1 -> 1, which is not higher
        running: none: a new start takes the highest version
        new:     it cannot be published: a version never changes; give it the next number
    the deadline: 15m -> 30m
        running: their deadline stays 15m
        new:     they are cancelled after 30m
    13 runs go the same way
    ");
    let mut other = old.clone();
    other.id.name = "hotel".into();
    other.deadline *= 2;
    assert_snapshot!(check(&old, &other), @"
    the name: booking -> hotel
        running: none: these are two definitions
        new:     both can be started, by their names
    the deadline: 15m -> 30m
        running: their deadline stays 15m
        new:     they are cancelled after 30m
    13 runs go the same way
    ");
}
