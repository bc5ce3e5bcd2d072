//! Messages and their fields.

use insta::assert_snapshot;
use saga_defs::check::check;

use crate::table::Table;
use crate::{BOOKING, booking, edited, known, refused};

#[test]
fn messages_without_a_schema() {
    assert_snapshot!(edited(&[
        ("input = \"booking.StartBooking\"", "input = \"StartBooking\""),
        ("\"booking.ReserveBooking\"", "\"booking.ReservBooking\""),
        ("\"payment.PaymentCompleted\"", "\"payment.Invoice\""),
        ("\"payment.RefundPayment\"", "\"payment.refund_payment\""),
    ]), @r#"
    5:9 "StartBooking"
        no schema is named `StartBooking`
        -> did you mean `booking.StartBooking`?
    11:11 "booking.ReservBooking"
        no schema is named `booking.ReservBooking`
        -> did you mean `booking.ReserveBooking`?
    24:9 "payment.Invoice"
        no schema is named `payment.Invoice`
        -> add its schema to those that come with the definition, or to SCHEMAS_DIR
    25:16 "payment.refund_payment"
        no schema is named `payment.refund_payment`
        -> did you mean `payment.RefundPayment`?
    "#);
}

#[test]
fn a_field_that_nothing_provides() {
    let messages = Table::booking()
        .with("booking.ReserveBooking", "bookingId: uuid, customerId: uuid, resource: uuid")
        .with("booking.ConfirmBooking", "bookingId: uuid, seat: string");
    assert_snapshot!(refused(BOOKING, &messages), @r#"
    11:11 "booking.ReserveBooking"
        booking.ReserveBooking needs `customerId` (uuid), which nothing provides before it is sent
        -> add it to booking.StartBooking, fill it with `with = { customerId = "…" }`, or give it a default in the schema of booking.ReserveBooking
    11:11 "booking.ReserveBooking"
        booking.ReserveBooking needs `resource` (uuid), which nothing provides before it is sent
        -> did you mean `with = { resource = "resourceId" }`?
    31:11 "booking.ConfirmBooking"
        booking.ConfirmBooking needs `seat` (string), which nothing provides before it is sent
        -> add it to booking.StartBooking, fill it with `with = { seat = "…" }`, or give it a default in the schema of booking.ConfirmBooking
    "#);
}

#[test]
fn a_field_that_only_a_later_reply_provides() {
    let messages = Table::booking()
        .with("booking.ReserveBooking", "bookingId: uuid, paymentId: uuid")
        .with("payment.ChargePayment", "bookingId: uuid, reference: string, paymentId: uuid");
    assert_snapshot!(refused(BOOKING, &messages), @r#"
    11:11 "booking.ReserveBooking"
        booking.ReserveBooking needs `paymentId` (uuid), which nothing provides before it is sent: step `charge-payment` provides it, which is later
        -> move step `charge-payment` before this one, or give it a default in the schema of booking.ReserveBooking
    22:11 "payment.ChargePayment"
        payment.ChargePayment needs `paymentId` (uuid), which nothing provides before it is sent: only the step's own reply has it
        -> add it to booking.StartBooking, fill it with `with = { paymentId = "…" }`, or give it a default in the schema of payment.ChargePayment
    "#);
}

#[test]
fn a_compensation_has_no_more_than_its_command_had() {
    let messages = Table::booking()
        .with("booking.CancelBooking", "bookingId: uuid, paymentId: uuid")
        .with("payment.RefundPayment", "paymentId: uuid");
    assert_snapshot!(refused(BOOKING, &messages), @r#"
    13:16 "booking.CancelBooking"
        booking.CancelBooking needs `paymentId` (uuid), which nothing provides before it is sent: step `charge-payment` provides it, which is later
        -> move step `charge-payment` before this one, or give it a default in the schema of booking.CancelBooking
    25:16 "payment.RefundPayment"
        payment.RefundPayment needs `paymentId` (uuid), which nothing provides before it is sent: the step's own reply has it, but after a timeout there is none
        -> give it a default in the schema of payment.RefundPayment, or undo by what the command had
    "#);
}

#[test]
fn a_compensation_may_have_more_in_fields_with_a_default() {
    let messages = Table::booking()
        .with("booking.CancelBooking", "bookingId: uuid, paymentId: uuid? =")
        .with("payment.RefundPayment", "bookingId: uuid, paymentId: uuid? =, payment: uuid? =");
    let text = booking(&[(
        "with = { reference = \"bookingId\" }",
        "with = { reference = \"bookingId\", payment = \"paymentId\" }",
    )]);
    check(&text, &messages, &known()).unwrap();
    // Then they must fit, too.
    let messages = messages
        .with("booking.CancelBooking", "bookingId: uuid, paymentId: long? =")
        .with("payment.RefundPayment", "bookingId: uuid, paymentId: uuid? =, payment: long? =");
    assert_snapshot!(refused(&text, &messages), @r#"
    13:16 "booking.CancelBooking"
        `paymentId` of booking.CancelBooking is null | long, but it is uuid in the reply payment.PaymentCompleted
        -> give both the same type, or fill `paymentId` from another name with `with`
    23:45 "paymentId"
        `payment` of payment.RefundPayment is null | long, but `paymentId` is uuid in the reply payment.PaymentCompleted
        -> give both the same type, or fill `payment` from another name with `with`
    "#);
}

#[test]
fn while_a_mapped_name_is_not_there_the_field_is_filled_by_its_own() {
    let messages = Table::booking()
        .with(
            "booking.StartBooking",
            "userId: uuid, resourceId: uuid, amountMinor: long, currency: string, payment: long",
        )
        .with("payment.RefundPayment", "bookingId: uuid, payment: uuid? =");
    let text = booking(&[(
        "with = { reference = \"bookingId\" }",
        "with = { reference = \"bookingId\", payment = \"paymentId\" }",
    )]);
    assert_snapshot!(refused(&text, &messages), @r#"
    23:45 "paymentId"
        `payment` of payment.RefundPayment is null | uuid, but it is long in the input booking.StartBooking
        -> give both the same type, or fill `payment` from another name with `with`
    "#);
}

#[test]
fn what_comes_after_the_point_of_no_return_is_nothing_to_a_compensation() {
    let messages = Table::booking()
        .with("booking.BookingConfirmed", "bookingId: uuid, seat: string")
        .with("booking.CancelBooking", "bookingId: uuid, seat: long? =");
    check(BOOKING, &messages, &known()).unwrap();
}

#[test]
fn values_of_a_type_that_does_not_fit() {
    let messages = Table::booking()
        .with("booking.StartBooking", "userId: string, resourceId: uuid?, amountMinor: long =, currency: EUR/USD =, forcedPaymentOutcome: string? =")
        .with("payment.ChargePayment", "bookingId: uuid, userId: uuid, reference: long, amountMinor: int, currency: EUR, forcedPaymentOutcome: string =");
    assert_snapshot!(refused(BOOKING, &messages), @r#"
    11:11 "booking.ReserveBooking"
        `userId` of booking.ReserveBooking is uuid, but it is string in the input booking.StartBooking
        -> give both the same type, or fill `userId` from another name with `with`
    11:11 "booking.ReserveBooking"
        `resourceId` of booking.ReserveBooking is uuid, but it is null | uuid in the input booking.StartBooking
        -> let the field of booking.ReserveBooking be null as well, or see to it that it never is
    13:16 "booking.CancelBooking"
        `resourceId` of booking.CancelBooking is uuid, but it is null | uuid in the input booking.StartBooking
        -> let the field of booking.CancelBooking be null as well, or see to it that it never is
    22:11 "payment.ChargePayment"
        `userId` of payment.ChargePayment is uuid, but it is string in the input booking.StartBooking
        -> give both the same type, or fill `userId` from another name with `with`
    22:11 "payment.ChargePayment"
        `amountMinor` of payment.ChargePayment is int, but it is long in the input booking.StartBooking
        -> give both the same type, or fill `amountMinor` from another name with `with`
    22:11 "payment.ChargePayment"
        `currency` of payment.ChargePayment is enum(EUR), but it is enum(EUR, USD) in the input booking.StartBooking
        -> give both the same type, or fill `currency` from another name with `with`
    22:11 "payment.ChargePayment"
        `forcedPaymentOutcome` of payment.ChargePayment is string, but it is null | string in the input booking.StartBooking
        -> let the field of payment.ChargePayment be null as well, or see to it that it never is
    23:22 "bookingId"
        `reference` of payment.ChargePayment is long, but `bookingId` is uuid in the reply booking.BookingReserved
        -> give both the same type, or fill `reference` from another name with `with`
    "#);
}

#[test]
fn values_of_a_type_that_loses_nothing_fit() {
    let messages = Table::booking()
        .with("booking.StartBooking", "userId: uuid, resourceId: uuid, amountMinor: int, currency: EUR")
        .with(
            "payment.ChargePayment",
            "bookingId: string, userId: uuid?, reference: string, amountMinor: double, currency: EUR/USD?",
        );
    check(BOOKING, &messages, &known()).unwrap();
}

#[test]
fn mappings_to_and_from_names_that_are_not_there() {
    assert_snapshot!(edited(&[
        ("with = { reference = \"bookingId\" }", "with = { referense = \"bookingId\", reference = \"bokingId\", currency = \"paymentId\", colour = \"sagaId\" }"),
    ]), @r#"
    23:10 referense
        neither payment.ChargePayment nor payment.RefundPayment has a field `referense`
        -> did you mean `reference`?
    23:47 "bokingId"
        nothing provides `bokingId` before payment.ChargePayment is sent
        -> did you mean `bookingId`?
    23:70 "paymentId"
        nothing provides `paymentId` before payment.ChargePayment is sent: only the step's own reply has it
        -> use one of amountMinor, bookingId, currency, forcedPaymentOutcome, reservedAt, resourceId, sagaId, userId
    23:83 colour
        neither payment.ChargePayment nor payment.RefundPayment has a field `colour`
        -> remove it, or use one of bookingId, userId, reference, amountMinor, currency, forcedPaymentOutcome
    "#);
    let pivot = "with = { bookingId = \"sagaID\", seat = \"x\" }\ncommand = \"booking.ConfirmBooking\"";
    assert_snapshot!(edited(&[("command = \"booking.ConfirmBooking\"", pivot)]), @r#"
    31:22 "sagaID"
        nothing provides `sagaID` before booking.ConfirmBooking is sent
        -> did you mean `sagaId`?
    31:32 seat
        booking.ConfirmBooking does not have a field `seat`
        -> remove it, or use one of bookingId
    "#);
}

#[test]
fn a_reply_that_changes_what_a_name_means() {
    let messages = Table::booking().with(
        "booking.BookingReserved",
        "bookingId: string, amountMinor: double, currency: string?, sagaId: long",
    );
    assert_snapshot!(refused(BOOKING, &messages), @r#"
    12:9 "booking.BookingReserved"
        booking.BookingReserved gives `bookingId` as string, but it is uuid as the saga's id
        -> rename the field in the reply's schema, or give it the same type
    12:9 "booking.BookingReserved"
        booking.BookingReserved gives `amountMinor` as double, but it is long in the input booking.StartBooking
        -> rename the field in the reply's schema, or give it the same type
    12:9 "booking.BookingReserved"
        booking.BookingReserved gives `currency` as null | string, but it is string in the input booking.StartBooking
        -> rename the field in the reply's schema, or give it the same type
    12:9 "booking.BookingReserved"
        booking.BookingReserved gives `sagaId` as long, but it is uuid as the saga's id
        -> rename the field in the reply's schema, or give it the same type
    "#);
}

#[test]
fn a_reply_may_make_a_name_narrower_but_not_for_what_ran_before() {
    let narrow = Table::booking()
        .with("booking.StartBooking", "userId: uuid, resourceId: uuid, amountMinor: long, currency: string?")
        .with("booking.BookingReserved", "bookingId: uuid, currency: string");
    check(BOOKING, &narrow, &known()).unwrap();
    let undo = narrow.with("booking.CancelBooking", "bookingId: uuid, currency: string");
    assert_snapshot!(refused(BOOKING, &undo), @r#"
    13:16 "booking.CancelBooking"
        `currency` of booking.CancelBooking is string, but it is null | string in the input booking.StartBooking
        -> let the field of booking.CancelBooking be null as well, or see to it that it never is
    "#);
}

#[test]
fn the_input_has_no_saga_id() {
    let messages = Table::booking().with(
        "booking.StartBooking",
        "sagaId: uuid, userId: uuid, resourceId: uuid, amountMinor: long, currency: string, bookingId: uuid",
    );
    assert_snapshot!(refused(BOOKING, &messages), @r#"
    5:9 "booking.StartBooking"
        the input booking.StartBooking has a field `sagaId`
        -> give the field another name: the saga's own id replaces it
    "#);
}

#[test]
fn where_a_schema_is_missing_what_it_may_hold_is_not_missed() {
    assert_snapshot!(edited(&[("input = \"booking.StartBooking\"", "input = \"shop.Order\"")]), @r#"
    5:9 "shop.Order"
        no schema is named `shop.Order`
        -> add its schema to those that come with the definition, or to SCHEMAS_DIR
    "#);
}

#[test]
fn everything_at_once_and_in_order_of_place() {
    let messages = Table::booking().with("booking.ConfirmBooking", "bookingId: uuid, seat: string");
    let text = booking(&[
        ("deadline = \"15m\"", "deadline = \"soon\""),
        ("participant = \"payment\"", "participant = \"paymnet\""),
        ("with = { reference = \"bookingId\" }", "with = { reference = \"amountMinor\" }"),
        ("compensation = \"payment.RefundPayment\"\n", ""),
        ("kind = \"pivot\" ", "kind = \"privot\" "),
    ]);
    assert_snapshot!(refused(&text, &messages), @r#"
    4:12 "soon"
        `soon` is not a duration
        -> write e.g. 200ms, 5s, 15m, 2h
    20:15 "paymnet"
        no participant `paymnet` is known, and payment.ChargePayment is a command of `payment`
        -> did you mean `payment`?
    21:8 "compensatable"
        a compensatable step needs `compensation`, the command that undoes it
        -> add e.g. `compensation = "booking.CancelBooking"`
    23:22 "amountMinor"
        `reference` of payment.ChargePayment is string, but `amountMinor` is long in the input booking.StartBooking
        -> give both the same type, or fill `reference` from another name with `with`
    29:8 "privot"
        there is no kind `privot`
        -> did you mean `pivot`?
    30:11 "booking.ConfirmBooking"
        booking.ConfirmBooking needs `seat` (string), which nothing provides before it is sent
        -> add it to booking.StartBooking, fill it with `with = { seat = "…" }`, or give it a default in the schema of booking.ConfirmBooking
    "#);
}
