//! What the generated runs of a definition look like, and that they are short and the same every time.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use saga_defs::Shipped;
use saga_defs::definition::{Definition, MAX_ATTEMPTS, MAX_STEPS};
use saga_defs::machine::replay;
use saga_defs::rehearsal::{MAX_LINES, Rehearsal, rehearsals, rehearse};

fn shipped(name: &str) -> Definition {
    Shipped::named(name).expect("it is shipped").definition()
}

/// The runs whose title has these words.
fn check(definition: &Definition, title: &str) -> String {
    let runs = rehearsals(definition).filter(|run| run.title.contains(title));
    runs.map(|run| format!("{run}\n")).collect()
}

#[test]
fn the_booking_succeeds() {
    assert_snapshot!(check(&shipped("booking"), "every step"), @r"
    every step succeeds
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment succeeded  -> confirm-booking #1
        confirm-booking succeeded -> completed
        = completed
    ");
}

#[test]
fn the_booking_in_trouble_with_its_reservation() {
    assert_snapshot!(check(&shipped("booking"), "reserve-booking"), @r"
    reserve-booking rejected
        start                    -> reserve-booking #1
        reserve-booking rejected -> compensated         refused
        = compensated

    reserve-booking timed out for good
        start                        -> reserve-booking #1
        reserve-booking #1 timed out -> back off 200ms
        ... 3 more attempts alike
        reserve-booking #5 due       -> reserve-booking #5
        reserve-booking #5 timed out -> undo reserve-booking #1  in doubt
        reserve-booking undone       -> compensated              timed_out
        = compensated

    reserve-booking failed for good
        start                  -> reserve-booking #1
        reserve-booking failed -> back off 200ms      unavailable
        ... 3 more attempts alike
        reserve-booking #5 due -> reserve-booking #5
        reserve-booking failed -> compensated         unavailable
        = compensated

    undo reserve-booking stuck, then redriven
        start                        -> reserve-booking #1
        cancel                       -> undo reserve-booking #1        not wanted any more
        undo reserve-booking failed  -> back off 500ms                 unavailable
        ... 8 more attempts alike
        undo reserve-booking #10 due -> undo reserve-booking #10
        undo reserve-booking failed  -> stuck at undo reserve-booking  unavailable
        redrive                      -> undo reserve-booking #1        repaired
        reserve-booking undone       -> compensated                    cancelled, letter resolved
        = compensated
    ");
}

#[test]
fn the_booking_in_trouble_with_its_payment() {
    assert_snapshot!(check(&shipped("booking"), "charge-payment"), @r"
    charge-payment rejected
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment rejected   -> undo reserve-booking #1  refused
        reserve-booking undone    -> compensated              refused
        = compensated

    charge-payment timed out for good
        start                       -> reserve-booking #1
        reserve-booking succeeded   -> charge-payment #1
        charge-payment #1 timed out -> back off 200ms
        ... 3 more attempts alike
        charge-payment #5 due       -> charge-payment #5
        charge-payment #5 timed out -> undo charge-payment #1   in doubt
        charge-payment undone       -> undo reserve-booking #1
        reserve-booking undone      -> compensated              timed_out
        = compensated

    charge-payment failed for good
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment failed     -> back off 200ms           unavailable
        ... 3 more attempts alike
        charge-payment #5 due     -> charge-payment #5
        charge-payment failed     -> undo reserve-booking #1  unavailable
        reserve-booking undone    -> compensated              unavailable
        = compensated

    undo charge-payment stuck, then redriven
        start                       -> reserve-booking #1
        reserve-booking succeeded   -> charge-payment #1
        cancel                      -> undo charge-payment #1        not wanted any more
        undo charge-payment failed  -> back off 500ms                unavailable
        ... 8 more attempts alike
        undo charge-payment #10 due -> undo charge-payment #10
        undo charge-payment failed  -> stuck at undo charge-payment  unavailable
        redrive                     -> undo charge-payment #1        repaired
        charge-payment undone       -> undo reserve-booking #1       letter resolved
        reserve-booking undone      -> compensated                   cancelled
        = compensated
    ");
}

#[test]
fn the_booking_in_trouble_with_its_pivot() {
    assert_snapshot!(check(&shipped("booking"), "confirm-booking"), @r"
    confirm-booking rejected
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment succeeded  -> confirm-booking #1
        confirm-booking rejected  -> undo charge-payment #1   refused
        charge-payment undone     -> undo reserve-booking #1
        reserve-booking undone    -> compensated              refused
        = compensated

    confirm-booking timed out for good
        start                        -> reserve-booking #1
        reserve-booking succeeded    -> charge-payment #1
        charge-payment succeeded     -> confirm-booking #1
        confirm-booking #1 timed out -> back off 200ms
        ... 3 more attempts alike
        confirm-booking #5 due       -> confirm-booking #5
        confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
        = stuck

    confirm-booking failed for good
        start                     -> reserve-booking #1
        reserve-booking succeeded -> charge-payment #1
        charge-payment succeeded  -> confirm-booking #1
        confirm-booking failed    -> back off 200ms           unavailable
        ... 3 more attempts alike
        confirm-booking #5 due    -> confirm-booking #5
        confirm-booking failed    -> undo charge-payment #1   unavailable
        charge-payment undone     -> undo reserve-booking #1
        reserve-booking undone    -> compensated              unavailable
        = compensated

    confirm-booking stuck, then redriven
        start                        -> reserve-booking #1
        reserve-booking succeeded    -> charge-payment #1
        charge-payment succeeded     -> confirm-booking #1
        confirm-booking #1 timed out -> back off 200ms
        ... 3 more attempts alike
        confirm-booking #5 due       -> confirm-booking #5
        confirm-booking #5 timed out -> stuck at confirm-booking  in doubt
        redrive                      -> confirm-booking #1        repaired
        confirm-booking succeeded    -> completed                 letter resolved
        = completed
    ");
}

/// A definition of this many steps of each kind, each with this many attempts.
fn definition(
    compensatable: usize,
    pivot: bool,
    retriable: usize,
    attempts: u32,
    deadline: &str,
) -> Definition {
    let kinds = std::iter::repeat_n("compensatable", compensatable)
        .chain(pivot.then_some("pivot"))
        .chain(std::iter::repeat_n("retriable", retriable));
    let steps = kinds.enumerate().map(|(n, kind)| {
        let undo = if kind == "compensatable" {
            format!("compensation = \"t.Undo\"\ncompensation_retry = {{ max_attempts = {attempts} }}\n")
        } else {
            String::new()
        };
        format!(
            "[[step]]\nname = \"step-{n}\"\nparticipant = \"p\"\nkind = \"{kind}\"\ncommand = \"t.Do\"\n\
             reply = \"t.Done\"\nretry = {{ max_attempts = {attempts} }}\n{undo}"
        )
    });
    let head = format!("name = \"d\"\nversion = 1\ndeadline = \"{deadline}\"\ninput = \"t.Input\"\n");
    Definition::parse(&(head + &steps.collect::<String>())).expect("a valid definition")
}

#[test]
fn a_retriable_step_is_stuck_or_done() {
    assert_snapshot!(check(&definition(1, false, 1, 2, "1m"), "step-1"), @r"
    step-1 rejected
        start            -> step-0 #1
        step-0 succeeded -> step-1 #1
        step-1 rejected  -> stuck at step-1  refused
        = stuck

    step-1 timed out for good
        start               -> step-0 #1
        step-0 succeeded    -> step-1 #1
        step-1 #1 timed out -> back off 200ms
        step-1 #2 due       -> step-1 #2
        step-1 #2 timed out -> stuck at step-1  in doubt
        = stuck

    step-1 failed for good
        start            -> step-0 #1
        step-0 succeeded -> step-1 #1
        step-1 failed    -> back off 200ms   unavailable
        step-1 #2 due    -> step-1 #2
        step-1 failed    -> stuck at step-1  unavailable
        = stuck

    step-1 stuck, then redriven
        start               -> step-0 #1
        step-0 succeeded    -> step-1 #1
        step-1 #1 timed out -> back off 200ms
        step-1 #2 due       -> step-1 #2
        step-1 #2 timed out -> stuck at step-1  in doubt
        redrive             -> step-1 #1        repaired
        step-1 succeeded    -> completed        letter resolved
        = completed
    ");
}

/// The orchestrator cancels a saga whose deadline has passed; so does a rehearsal.
#[test]
fn a_deadline_that_comes_before_the_last_attempt() {
    assert_snapshot!(check(&definition(2, false, 0, 5, "8s"), "step-1 timed out"), @r"
    step-1 timed out for good
        start               -> step-0 #1
        step-0 succeeded    -> step-1 #1
        step-1 #1 timed out -> back off 200ms
        step-1 #2 due       -> step-1 #2
        deadline passed     -> undo step-1 #1
        step-1 undone       -> undo step-0 #1
        step-0 undone       -> compensated     deadline_exceeded
        = compensated
    ");
}

#[test]
fn a_long_definition_has_short_transcripts() {
    let long = definition(MAX_STEPS - 11, true, 10, 20, "366d");
    assert_snapshot!(check(&long, "step-52 timed out"), @r"
    step-52 timed out for good
        start                 -> step-0 #1
        step-0 succeeded      -> step-1 #1
        step-1 succeeded      -> step-2 #1
        ... 48 more steps alike
        step-50 succeeded     -> step-51 #1
        step-51 succeeded     -> step-52 #1
        step-52 #1 timed out  -> back off 200ms
        ... 18 more attempts alike
        step-52 #20 due       -> step-52 #20
        step-52 #20 timed out -> undo step-52 #1  in doubt
        step-52 undone        -> undo step-51 #1
        step-51 undone        -> undo step-50 #1
        ... 49 more steps alike
        step-1 undone         -> undo step-0 #1
        step-0 undone         -> compensated      timed_out
        = compensated
    ");
    let runs = rehearse(&long);
    assert_eq!(runs.len(), 1 + 4 * MAX_STEPS);
    let longest = runs.iter().map(|run| run.transcript.len()).max();
    assert!(longest <= Some(MAX_LINES), "{longest:?}");
}

#[test]
fn many_attempts_have_short_transcripts() {
    for run in rehearsals(&definition(2, true, 2, MAX_ATTEMPTS, "366d")) {
        assert!(run.transcript.len() <= MAX_LINES, "{run}");
    }
}

fn some() -> Vec<Definition> {
    let shipped = saga_defs::shipped().iter().map(Shipped::definition);
    shipped.chain([definition(0, false, 1, 1, "1s"), definition(3, true, 2, 3, "1s")]).collect()
}

#[test]
fn they_are_the_same_every_time_and_each_has_a_title_of_its_own() {
    for definition in some() {
        let runs = rehearse(&definition);
        assert_eq!(runs, rehearse(&definition));
        let titles: BTreeSet<&str> = runs.iter().map(|run| run.title.as_str()).collect();
        assert_eq!(titles.len(), runs.len());
    }
}

#[test]
fn the_moves_are_a_journal() {
    for definition in some() {
        for run in rehearsals(&definition) {
            let journal = run.moves.iter().map(|made| (made.at, &made.event));
            let saga = replay(&definition, run.saga, journal).expect("every event moves the saga");
            assert_eq!(saga.status(), run.ended, "{run}");
            let revisions: Vec<u32> = run.moves.iter().map(|made| made.revision.0).collect();
            assert!(revisions.into_iter().eq(1..=saga.revision.0), "{run}");
        }
    }
}

/// A rehearsal ends, or is stuck where an operator is needed.
#[test]
fn redriven_ones_end() {
    let redriven = |run: &Rehearsal| run.title.contains("redriven");
    for definition in some() {
        for run in rehearsals(&definition).filter(redriven) {
            assert!(run.ended.is_final(), "{run}");
        }
    }
}
