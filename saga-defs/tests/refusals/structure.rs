//! The text itself: keys, values, kinds and their order.

use insta::assert_snapshot;

use crate::edited;
use crate::refused;
use crate::table::Table;

#[test]
fn keys_that_are_not_known() {
    assert_snapshot!(edited(&[
        ("deadline = ", "dead_line = "),
        ("timeout = \"5s\"", "timeuot = \"5s\"\nmax_attempts = 3\ndeadline = \"1m\""),
        ("multiplier = 2.0", "multiply = 2.0"),
        ("kind = \"pivot\" ", "kind = \"pivot\"\ncolour = \"red\" "),
    ]), @"
    4:1 dead_line
        a definition has no key `dead_line`
        -> did you mean `deadline`?
    14:1 timeuot
        a step has no key `timeuot`
        -> did you mean `timeout`?
    15:1 max_attempts
        a step has no key `max_attempts`
        -> `max_attempts` belongs into `retry = { … }` or `compensation_retry = { … }`
    16:1 deadline
        a step has no key `deadline`
        -> `deadline` belongs to the definition: move it above the first [[step]]
    17:61 multiply
        a retry has no key `multiply`
        -> did you mean `multiplier`?
    33:1 colour
        a step has no key `colour`
        -> remove it, or use one of name, participant, kind, command, with, reply, compensation, timeout, retry, compensation_retry
    ");
}

#[test]
fn a_file_of_nothing_and_a_step_of_nothing() {
    assert_snapshot!(refused("", &Table::booking()), @r#"
    1:1 
        a definition needs `name`
        -> add e.g. `name = "booking"`
    1:1 
        a definition needs `version`
        -> add e.g. `version = 1`
    1:1 
        a definition needs `input`
        -> add e.g. `input = "booking.StartBooking"`
    1:1 
        a definition needs `step`
        -> add e.g. `[[step]]`
    "#);
    assert_snapshot!(refused("name = \"n\"\nversion = 1\ninput = \"booking.StartBooking\"\n[[step]]\n", &Table::booking()), @r#"
    4:1 [[step]]
        a step needs `name`
        -> add e.g. `name = "reserve-booking"`
    4:1 [[step]]
        a step needs `participant`
        -> add e.g. `participant = "booking"`
    4:1 [[step]]
        a step needs `kind`
        -> add e.g. `kind = "compensatable"`
    4:1 [[step]]
        a step needs `command`
        -> add e.g. `command = "booking.ReserveBooking"`
    4:1 [[step]]
        a step needs `reply`
        -> add e.g. `reply = "booking.BookingReserved"`
    "#);
}

#[test]
fn values_of_another_type() {
    assert_snapshot!(edited(&[
        ("name = \"booking\"", "name = 7"),
        ("version = 1", "version = \"1\""),
        ("deadline = \"15m\"", "deadline = 900"),
        ("timeout = \"5s\"", "timeout = 5.0"),
        ("compensation = \"booking.CancelBooking\"", "compensation = true"),
        ("with = { reference = \"bookingId\" }", "with = { reference = 1 }"),
        ("kind = \"pivot\"", "kind = [\"pivot\"]"),
        ("retry = {", "compensation_retry = \"never\"\nretry = {"),
        ("compensation_retry = { max_attempts = 10, initial = \"500ms\", max = \"1m\" }", ""),
    ]), @r#"
    2:8 7
        `name` must be a text in quotes, not the number 7
        -> write e.g. `name = "booking"`
    3:11 "1"
        `version` must be a whole number, not the text "1"
        -> write e.g. `version = 1`
    4:12 900
        `deadline` must be a text in quotes, not the number 900
        -> write e.g. `deadline = "15m"`
    13:16 true
        `compensation` must be a text in quotes, not true
        -> write e.g. `compensation = "booking.CancelBooking"`
    14:11 5.0
        `timeout` must be a text in quotes, not the number 5.0
        -> write e.g. `timeout = "5s"`
    15:22 "never"
        `compensation_retry` must be a table, not the text "never"
        -> write e.g. `compensation_retry = { max_attempts = 10, max = "1m" }`
    24:22 1
        `reference` is filled from a name of the saga's data, not from the number 1
        -> write e.g. `with = { reference = "sagaId" }`
    31:8 ["pivot"]
        `kind` must be a text in quotes, not a list
        -> write e.g. `kind = "compensatable"`
    "#);
    assert_snapshot!(refused("name = \"n\"\nversion = 1\ninput = \"booking.StartBooking\"\nstep = [1, {}]", &Table::booking()), @r#"
    4:9 1
        `step` must be a table, not the number 1
        -> write e.g. `[[step]]`
    4:12 {}
        a step needs `name`
        -> add e.g. `name = "reserve-booking"`
    4:12 {}
        a step needs `participant`
        -> add e.g. `participant = "booking"`
    4:12 {}
        a step needs `kind`
        -> add e.g. `kind = "compensatable"`
    4:12 {}
        a step needs `command`
        -> add e.g. `command = "booking.ReserveBooking"`
    4:12 {}
        a step needs `reply`
        -> add e.g. `reply = "booking.BookingReserved"`
    "#);
    assert_snapshot!(refused("name = \"n\"\nversion = 1\ninput = \"booking.StartBooking\"\nstep = \"all\"", &Table::booking()), @r#"
    4:8 "all"
        `step` must be a list of tables, not the text "all"
        -> write e.g. `[[step]]`
    "#);
}

#[test]
fn values_out_of_range() {
    assert_snapshot!(edited(&[
        ("name = \"booking\"", "name = \"the booking\""),
        ("version = 1", "version = 0"),
        ("deadline = \"15m\"", "deadline = \"0s\""),
        ("participant = \"booking\"", "participant = \".booking\""),
        ("timeout = \"5s\"", "timeout = \"5 parsecs\""),
        ("max_attempts = 5, initial = \"200ms\", max = \"10s\", multiplier = 2.0, jitter = 0.2", "max_attempts = 0, initial = \"200ms\", max = \"10ms\", multiplier = 0.5, jitter = nan"),
        ("max_attempts = 10", "max_attempts = 99999999999"),
        ("command = \"payment.ChargePayment\"", "command = \"\""),
    ]), @r#"
    2:8 "the booking"
        `the booking` is no name for a definition
        -> use 1 to 100 letters, digits, `-`, `_` and `.`, not beginning with a dot
    3:11 0
        `version` is the number 0, which is not allowed
        -> give it a number from 1 to 2147483647
    4:12 "0s"
        `deadline` cannot be `0s`
        -> make it longer than nothing and at most a year
    9:15 ".booking"
        `.booking` is no name for a participant
        -> use 1 to 100 letters, digits, `-`, `_` and `.`, not beginning with a dot
    14:11 "5 parsecs"
        `5 parsecs` is not a duration
        -> write e.g. 200ms, 5s, 15m, 2h
    15:9 { max_attempts = 0, initial = "200ms", max = "10ms", multiplier = 0.5, jitter = nan }
        `max` (10ms) is shorter than `initial` (200ms)
        -> make `max` at least as long as `initial`
    15:26 0
        `max_attempts` is the number 0, which is not allowed
        -> give it a number from 1 to 1000
    15:75 0.5
        `multiplier` is the number 0.5, which is not allowed
        -> give it a number from 1.0 to 100.0
    15:89 nan
        `jitter` is the number nan, which is not allowed
        -> give it a number from 0.0 to 1.0
    16:39 99999999999
        `max_attempts` is the number 99999999999, which is not allowed
        -> give it a number from 1 to 1000
    22:11 ""
        `command` is empty
        -> give the full name of an Avro record, e.g. "booking.ReserveBooking"
    "#);
}

#[test]
fn kinds_and_compensations_that_do_not_go_together() {
    assert_snapshot!(edited(&[
        ("kind = \"compensatable\"", "kind = \"compensateable\""),
        ("compensation = \"payment.RefundPayment\"", ""),
        ("kind = \"pivot\" ", "kind = \"pivot\"\ncompensation = \"booking.CancelBooking\"\ncompensation_retry = {} "),
    ]), @r#"
    10:8 "compensateable"
        there is no kind `compensateable`
        -> did you mean `compensatable`?
    21:8 "compensatable"
        a compensatable step needs `compensation`, the command that undoes it
        -> add e.g. `compensation = "booking.CancelBooking"`
    31:1 compensation
        a pivot step is never compensated
        -> remove `compensation`, or make the step compensatable
    32:1 compensation_retry
        a pivot step is never compensated
        -> remove `compensation_retry`, or make the step compensatable
    "#);
}

#[test]
fn a_retriable_step_with_a_compensation_is_one_mistake_and_not_two() {
    assert_snapshot!(edited(&[
        ("kind = \"pivot\" ", "kind = \"retriable\"\ncompensation = \"booking.CancelBooking\" "),
    ]), @"
    31:1 compensation
        a retriable step is never compensated
        -> remove `compensation`, or make the step compensatable
    ");
}

#[test]
fn kinds_in_the_wrong_order() {
    assert_snapshot!(edited(&[
        ("kind = \"compensatable\"\ncommand = \"booking.ReserveBooking\"\nreply = \"booking.BookingReserved\"\ncompensation = \"booking.CancelBooking\"", "kind = \"pivot\"\ncommand = \"booking.ReserveBooking\"\nreply = \"booking.BookingReserved\""),
        ("compensation_retry = { max_attempts = 10, initial = \"500ms\", max = \"1m\" }", ""),
    ]), @r#"
    20:8 "compensatable"
        step `charge-payment` (compensatable) cannot come after `reserve-booking` (pivot): the order is compensatable steps, at most one pivot, retriable steps
        -> move it before `reserve-booking`, or make it retriable if it may be tried until it succeeds
    29:8 "pivot"
        step `confirm-booking` (pivot) cannot come after `reserve-booking` (pivot): the order is compensatable steps, at most one pivot, retriable steps
        -> make it retriable, or make `reserve-booking` compensatable
    "#);
}

#[test]
fn names_that_are_there_twice() {
    assert_snapshot!(edited(&[("\"charge-payment\"", "\"reserve-booking\"")]), @r#"
    19:8 "reserve-booking"
        step `reserve-booking` is there twice
        -> give each step a name of its own
    "#);
}

#[test]
fn a_text_that_is_not_toml() {
    assert_snapshot!(edited(&[
        ("deadline = \"15m\"", "deadline = 15m"),
        ("timeout = \"5s\"", "timeout = \"5 parsecs\""),
        ("participant = \"payment\"", "participant = payment"),
        ("version = 1", "version = 1\nversion = 2"),
    ]), @r#"
    4:1 version
        `version` is there twice
        -> keep one of the two
    5:12 15m
        this is not TOML: string values must be quoted, expected literal string
        -> write one `key = value` a line, with texts in quotes
    15:11 "5 parsecs"
        `5 parsecs` is not a duration
        -> write e.g. 200ms, 5s, 15m, 2h
    21:15 payment
        this is not TOML: string values must be quoted, expected literal string
        -> write one `key = value` a line, with texts in quotes
    "#);
    assert_snapshot!(refused("saga booking {", &Table::booking()), @"
    1:6 
        this is not TOML: key with no value, expected `=`
        -> write one `key = value` a line, with texts in quotes
    ");
}

#[test]
fn columns_count_characters_and_lines_may_end_as_on_windows() {
    assert_snapshot!(refused("name = \"büchlein\"\r\ninput = { ü = \"ü\", übel = 1 }\r\nversion = 0\r\n[[step]]", &Table::booking()), @r#"
    1:8 "büchlein"
        `büchlein` is no name for a definition
        -> use 1 to 100 letters, digits, `-`, `_` and `.`, not beginning with a dot
    2:11 ü
        this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
        -> write one `key = value` a line, with texts in quotes
    3:11 0
        `version` is the number 0, which is not allowed
        -> give it a number from 1 to 2147483647
    "#);
}

#[test]
fn what_is_shown_of_a_text_is_short_and_printable() {
    let long = format!(
        "name = \"{}\"\nversion = 1\n\"{}\" = 1\ninput = \"\\u001b[31m\"\n[[step]]",
        "n".repeat(500),
        "k".repeat(500)
    );
    let said = refused(&long, &Table::booking());
    assert!(said.lines().filter(|line| line.starts_with(' ')).all(|line| line.len() < 300), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_text_nested_without_end_is_refused() {
    let nested = |open: &str, close: &str| {
        let most = 250_000 / (open.len() + close.len());
        format!("name = {}1{}", open.repeat(most), close.repeat(most))
    };
    let dotted = |prefix: &str| format!("{prefix}{}b = 1\n", "a.".repeat(100_000));
    for text in [
        nested("[", "]"),
        nested("{a=", "}"),
        nested("[{a=", "}]"),
        nested("[", ""),
        nested("{a=", ""),
        dotted(""),
        dotted("[[step]]\nwith."),
        format!("[{}b]\n", "a.".repeat(100_000)),
        format!("[[{}b]]\n", "a.".repeat(100_000)),
        format!("with = {{ {}b = 1 }}\n", "a.".repeat(100_000)),
    ] {
        let said = refused(&text, &Table::booking());
        assert!(said.len() < 1_000_000, "{} bytes said", said.len());
    }
}
