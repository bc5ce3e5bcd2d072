//! `orchestrator check --against OLD NEW`.

use crate::{booking, run, shipped};

fn next() -> String {
    let name = r#"name = "charge-payment""#;
    let fraud = format!(
        "name = \"look-again\"\nparticipant = \"booking\"\nkind = \"compensatable\"\ncommand = \"booking.ReserveBooking\"\n\
         reply = \"booking.BookingReserved\"\ncompensation = \"booking.CancelBooking\"\n\n[[step]]\n{name}"
    );
    let next = booking("version = 1", "version = 2").replace("\"5s\"", "\"9s\"");
    next.replace("max_attempts = 5", "max_attempts = 4").replace(name, &fraud)
}

fn compared(new: &str, args: &[&str]) -> String {
    let files = [("old.toml", shipped("booking")), ("new.toml", new)];
    run(&files, &[&["check", "new.toml", "--against", "old.toml"], args].concat())
}

#[test]
fn every_change_is_shown_with_what_it_means_and_which_runs_part() {
    insta::assert_snapshot!(compared(&next(), &[]), @"
    new.toml: booking version 2 is right
    against booking version 1:
      step reserve-booking: timeout 5s -> 9s
          running sagas: they keep what they began with
          new sagas: an attempt is in doubt after 9s
      step reserve-booking: retry 5 times, 200ms x 2 up to 10s, jitter 0.2 -> 4 times, 200ms x 2 up to 10s, jitter 0.2
          running sagas: they keep what they began with
          new sagas: reserve-booking is tried 4 times
      step look-again: added after reserve-booking
          running sagas: they end without look-again
          new sagas: they run look-again; its participant must be there first
      of its baseline runs 2 go the same way, 11 another:
        revision 2, reserve-booking succeeded: charge-payment #1 -> look-again #1
          in: every step succeeds; charge-payment rejected; charge-payment timed out for good; charge-payment failed for good; undo charge-payment stuck, then redriven; confirm-booking rejected; confirm-booking timed out for good; confirm-booking failed for good; confirm-booking stuck, then redriven
        revision 8, reserve-booking #4 timed out: back off 1s 664ms -> undo reserve-booking #1
          in: reserve-booking timed out for good
        revision 8, reserve-booking failed: back off 1s 664ms -> compensated
          in: reserve-booking failed for good
    1 file is right
    exit code 0
    ");
}

#[test]
fn the_same_version_has_no_change() {
    let same = booking("version = 1", "version = 2");
    insta::assert_snapshot!(compared(&same, &[]), @"
    new.toml: booking version 2 is right
    against booking version 1:
      no change
      of its baseline runs 13 go the same way, 0 another
    1 file is right
    exit code 0
    ");
}

#[test]
fn programs_get_the_same_as_json() {
    let longer = booking("version = 1", "version = 2").replace("\"15m\"", "\"1h\"");
    insta::assert_snapshot!(compared(&longer, &["--format", "json"]), @r#"
    [
      {
        "file": "new.toml",
        "ok": true,
        "definition": {
          "name": "booking",
          "version": 2
        },
        "problems": [],
        "against": {
          "file": "old.toml",
          "name": "booking",
          "version": 1,
          "changes": [
            {
              "change": "the deadline: 15m -> 1h",
              "forRunning": "their deadline stays 15m",
              "forNew": "they are cancelled after 1h"
            }
          ],
          "rehearsals": {
            "same": 13,
            "unknown": 0,
            "diverging": []
          }
        },
        "modelCheck": {
          "states": N,
          "complete": true
        }
      }
    ]
    exit code 0
    "#);
}

#[test]
fn an_older_version_that_is_none_is_wrong_itself() {
    let files = [("old.toml", "name = 7"), ("new.toml", shipped("booking"))];
    let printed = run(&files, &["check", "new.toml", "--against", "old.toml"]);
    assert!(printed.contains("old.toml:1:") && printed.ends_with("exit code 1"), "{printed}");
    let printed = run(&files, &["check", "new.toml", "--against", "missing.toml"]);
    assert!(printed.contains("missing.toml: cannot be read"), "{printed}");
}
