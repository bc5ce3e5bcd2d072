//! Who performs a step.

use insta::assert_snapshot;
use saga_defs::check::{Participants, check};

use crate::table::Table;
use crate::{booking, edited};

#[test]
fn a_known_command_and_a_known_namespace_need_their_participant() {
    assert_snapshot!(edited(&[("participant = \"payment\"", "participant = \"paymant\"")]), @r#"
    20:15 "paymant"
        no participant `paymant` is known, and payment.ChargePayment is a command of `payment`
        -> did you mean `payment`?
    "#);
    assert_snapshot!(edited(&[("participant = \"payment\"", "participant = \"ledger\"")]), @r#"
    20:15 "ledger"
        no participant `ledger` is known, and payment.ChargePayment is a command of `payment`
        -> write `participant = "payment"`, or give the new participant a command of its own
    "#);
    let messages = Table::booking().with("payment.Charge", "bookingId: uuid");
    let text = booking(&[
        ("participant = \"payment\"", "participant = \"ledger\""),
        ("payment.ChargePayment", "payment.Charge"),
    ]);
    assert_snapshot!(crate::refused(&text, &messages), @r#"
    20:15 "ledger"
        no participant `ledger` is known, and payment.Charge has the namespace of `payment`
        -> write `participant = "payment"`, or give the new participant a command of its own
    "#);
}

#[test]
fn what_is_undone_by_the_wrong_command_is_refused() {
    assert_snapshot!(edited(&[("payment.RefundPayment", "payment.ChargePayment")]), @r#"
    25:16 "payment.ChargePayment"
        payment.ChargePayment would undo itself
        -> name the command that undoes it; sent again, it would be done again
    "#);
    assert_snapshot!(edited(&[("payment.RefundPayment", "booking.CancelBooking")]), @r#"
    25:16 "booking.CancelBooking"
        booking.CancelBooking is a command of `booking`, but it would be sent to `payment`
        -> name a command of `payment` that undoes the step
    "#);
}

#[test]
fn a_known_participant_gets_no_command_of_another() {
    assert_snapshot!(edited(&[("participant = \"booking\"", "participant = \"payment\"")]), @r#"
    11:11 "booking.ReserveBooking"
        booking.ReserveBooking is a command of `booking`, but it would be sent to `payment`
        -> write `participant = "booking"`, or name a command of `payment`
    "#);
}

#[test]
fn a_participant_misspelt_in_one_of_its_steps_is_found() {
    let texts = [("participant = \"booking\"", "participant = \"bookings\"")];
    let text = booking(&texts);
    let nobody = Participants::default();
    let Err(error) = check(&text, &Table::booking(), &nobody) else { panic!("it is taken") };
    assert_snapshot!(crate::shown(&text, &error), @r#"
    9:15 "bookings"
        no participant `bookings` is known, and booking.ReserveBooking has another namespace
        -> did you mean `booking`?
    "#);
}

#[test]
fn a_new_participant_with_commands_of_its_own_needs_no_registration() {
    let messages = Table::booking()
        .with("ledger.Charge", "bookingId: uuid, reference: string")
        .with("ledger.Refund", "bookingId: uuid");
    let text = booking(&[
        ("participant = \"payment\"", "participant = \"ledger\""),
        ("payment.ChargePayment", "ledger.Charge"),
        ("payment.RefundPayment", "ledger.Refund"),
    ]);
    check(&text, &messages, &crate::known()).unwrap();
}

#[test]
fn the_first_definition_makes_its_participants_known() {
    let text = booking(&[("participant = \"payment\"", "participant = \"ledger\"")]);
    let first = check(&text, &Table::booking(), &Participants::default()).unwrap();
    let mut known = Participants::of([&first]);
    check(&text, &Table::booking(), &known).unwrap();
    assert!(check(crate::BOOKING, &Table::booking(), &known).is_err(), "the ledger has the command");
    known.add(&saga_defs::definition::Definition::parse(crate::BOOKING).unwrap());
    check(crate::BOOKING, &Table::booking(), &known).unwrap();
}
