//! What is said of definitions that are refused: every problem of a file at once, each with its place and what to do.
#![expect(clippy::unwrap_used, reason = "a test")]

mod messages;
mod participants;
mod structure;
mod table;

use std::fmt::Write as _;

use saga_defs::check::{Participants, check};
use saga_defs::definition::{Definition, DefinitionError};

use table::Table;

const BOOKING: &str = include_str!("../../definitions/booking.toml");

/// The booking with texts replaced, each of them once.
fn booking(edits: &[(&str, &str)]) -> String {
    let mut text = BOOKING.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from} is in the booking");
        text = text.replacen(from, to, 1);
    }
    text
}

/// The participants of the booking.
fn known() -> Participants {
    Participants::of([&Definition::parse(BOOKING).unwrap()])
}

/// What is said of the booking with texts replaced: where, the piece of the text, what is wrong, what to do.
#[track_caller]
fn edited(edits: &[(&str, &str)]) -> String {
    refused(&booking(edits), &Table::booking())
}

/// What is said of a definition that these messages are known for.
#[track_caller]
fn refused(text: &str, messages: &Table) -> String {
    let Err(error) = check(text, messages, &known()) else { panic!("it is taken:\n{text}") };
    shown(text, &error)
}

fn shown(text: &str, error: &DefinitionError) -> String {
    let mut said = String::new();
    for problem in &error.problems {
        let piece = text[problem.span.clone()].lines().next().unwrap_or_default();
        writeln!(said, "{}:{} {piece}", problem.line, problem.column).unwrap();
        writeln!(said, "    {}", problem.message).unwrap();
        writeln!(said, "    -> {}", problem.help.as_deref().unwrap_or("?")).unwrap();
    }
    said
}

#[test]
fn the_booking_itself_is_taken() {
    let taken = check(BOOKING, &Table::booking(), &known()).unwrap();
    assert_eq!(taken, Definition::parse(BOOKING).unwrap());
}
