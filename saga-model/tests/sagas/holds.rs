//! Definitions of which every run ends as it should. The numbers of worlds are pinned: one that changes says that the
//! rules or the model did, and that somebody has to look why.

use std::time::Duration;

use insta::assert_snapshot;
use saga_defs::definition::Definition;
use saga_defs::shipped;
use saga_model::{Bound, Bounds, Interventions, Real, Verdict, check, check_with};

use crate::shape::{UNBOUNDED, shape};

/// How many worlds each of these has, with this many interventions at most.
fn worlds(definitions: impl IntoIterator<Item = (Definition, u8)>, name: impl Fn(usize) -> String) -> String {
    let line = |(n, (definition, interventions)): (usize, (Definition, u8))| match check_with(
        &Real,
        &definition,
        Interventions(interventions),
        UNBOUNDED,
    ) {
        Verdict::Holds { states } => {
            format!("{:20} {interventions} interventions {states:7} worlds\n", name(n))
        }
        verdict @ (Verdict::Wrong { .. } | Verdict::TooLarge { .. }) => format!("{}: {verdict:?}\n", name(n)),
    };
    definitions.into_iter().enumerate().map(line).collect()
}

/// Definitions of up to this many steps are checked with two interventions, larger ones with one: so that each takes a few
/// seconds at most.
const FEW_STEPS: usize = 2;

#[test]
fn every_shipped_definition() {
    let definitions = shipped().iter().map(|shipped| {
        let definition = shipped.definition();
        let interventions = if definition.steps.len() <= FEW_STEPS { 2 } else { 1 };
        (definition, interventions)
    });
    assert_snapshot!(worlds(definitions, |n| shipped()[n].file.to_owned()), @r"
        booking.toml         1 interventions   32043 worlds
        erasure.toml         2 interventions    5154 worlds
        stock-transfer.toml  1 interventions   59841 worlds
        trip.toml            1 interventions   85297 worlds
    ");
}

#[test]
fn every_shape_up_to_two_steps_and_some_larger_ones() {
    let small = ["c", "p", "r", "cc", "cp", "cr", "pr", "rr"].map(|kinds| (kinds, 2));
    let larger = ["ccc", "cpr", "ccr", "ccprr"].map(|kinds| (kinds, 1));
    let shapes: Vec<(&str, u8)> = small.into_iter().chain(larger).collect();
    let definitions: Vec<_> = shapes.iter().map(|(kinds, n)| (shape(kinds), *n)).collect();
    assert_snapshot!(worlds(definitions, |n| shapes[n].0.to_owned()), @r"
        c                    2 interventions   28244 worlds
        p                    2 interventions    4503 worlds
        r                    2 interventions    5154 worlds
        cc                   2 interventions  108121 worlds
        cp                   2 interventions   45017 worlds
        cr                   2 interventions   40248 worlds
        pr                   2 interventions   35773 worlds
        rr                   2 interventions   38234 worlds
        ccc                  1 interventions   59841 worlds
        cpr                  1 interventions   17610 worlds
        ccr                  1 interventions   28494 worlds
        ccprr                1 interventions   85297 worlds
    ");
}

#[test]
fn what_is_too_large_says_so() {
    let definition = shape(&"c".repeat(64));
    let few = Bounds { states: 1_000, ..UNBOUNDED };
    let Verdict::TooLarge { states, bound, complete } = check(&definition, few) else {
        panic!("64 steps are too many")
    };
    assert!(states >= 1_000, "{states}");
    assert_eq!((bound, complete), (Bound::States(1_000), None));
    let short = Bounds { time: Duration::ZERO, ..UNBOUNDED };
    assert_eq!(
        check(&definition, short),
        Verdict::TooLarge { states: 0, bound: Bound::Time(Duration::ZERO), complete: None }
    );
}

#[test]
fn what_is_too_large_says_how_much_of_it_was_seen() {
    let Verdict::TooLarge { complete, .. } = check(&shape("cc"), Bounds { states: 5_000, ..UNBOUNDED })
    else {
        panic!("two steps with an intervention have more worlds");
    };
    assert_eq!(complete, Some(Interventions(0)));
}
