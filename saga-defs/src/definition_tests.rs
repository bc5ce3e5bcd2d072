use super::*;

const BOOKING: &str = include_str!("../definitions/booking.toml");

#[test]
fn the_booking_is_read() {
    let booking = Definition::parse(BOOKING).unwrap();
    assert_eq!(booking.id.to_string(), "booking version 1");
    assert_eq!(booking.id_field(), "bookingId");
    assert_eq!(booking.deadline, Duration::from_secs(900));
    let names: Vec<&str> = booking.steps.iter().map(|step| &*step.name).collect();
    assert_eq!(names, ["reserve-booking", "charge-payment", "confirm-booking"]);
    assert_eq!(booking.steps[0].compensation_retry.max_attempts, 10);
    assert_eq!(booking.steps[1].timeout, Duration::from_secs(5));
    assert_eq!(booking.steps[1].with["reference"], "bookingId");
    assert_eq!(booking.participants(), ["booking".into(), "payment".into()]);
}

/// Replaces `from` by `to` in the booking and shows what the parser says.
fn check(from: &str, to: &str, expected: &str) {
    assert!(BOOKING.contains(from), "{from} is not in the booking");
    let error = Definition::parse(&BOOKING.replacen(from, to, 1)).unwrap_err();
    let said: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    assert_eq!(said.join("\n"), expected);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check("version = 1", "version = 0", "line 3, column 11: versions count from 1");
    check(
        "kind = \"pivot\" ",
        "kind = \"pivott\" ",
        "line 30, column 8: kind `pivott` is not known; it is compensatable, pivot or retriable",
    );
    check(
        "compensation = \"payment.RefundPayment\"",
        "",
        "line 21, column 8: a compensatable step needs `compensation`, the command that undoes it",
    );
    check(
        "\"charge-payment\"",
        "\"reserve-booking\"",
        "line 19, column 8: step `reserve-booking` is there twice; give each step a name of its own",
    );
    check(
        "timeout = \"5s\"",
        "timeout = \"5 parsecs\"",
        "line 14, column 11: `5 parsecs` is not a duration; write e.g. 200ms, 5s, 15m, 2h",
    );
    check("max_attempts = 5", "max_attempts = 0", "line 15, column 9: max_attempts is 1 to 1000");
    check(
        "participant = \"payment\"",
        "participant = \"pay ment\"",
        "line 20, column 15: participant name `pay ment`: use 1 to 100 letters, digits, `-`, `_` and `.`, not beginning with a dot",
    );
}

#[test]
fn the_order_of_kinds_is_held() {
    let source = BOOKING.replacen("kind = \"compensatable\"", "kind = \"retriable\"", 1).replacen(
        "compensation = \"booking.CancelBooking\"",
        "",
        1,
    );
    let source = source.replacen(
        "compensation_retry = { max_attempts = 10, initial = \"500ms\", max = \"1m\" }",
        "",
        1,
    );
    let error = Definition::parse(&source).unwrap_err();
    assert_eq!(
        error.problems[0].message,
        "step `charge-payment` (compensatable) cannot come after `reserve-booking` (retriable): the order is compensatable steps, at most one pivot, retriable steps"
    );
}

#[test]
fn an_unknown_key_is_refused() {
    let error = Definition::parse(&format!("colour = \"red\"\n{BOOKING}")).unwrap_err();
    assert!(error.to_string().contains("unknown field `colour`"), "{error}");
}
