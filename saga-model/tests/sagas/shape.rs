//! Small definitions by their kinds.

use std::fmt::Write as _;
use std::time::Duration;

use saga_defs::definition::{Definition, StepKind};
use saga_model::{Bounds, Interventions, Rules, Verdict, check_with};

/// No test here is cut short, however slow the machine is.
pub(crate) const UNBOUNDED: Bounds = Bounds { states: usize::MAX, time: Duration::from_secs(600) };

/// A step per letter, in the order written, be it right or wrong: `c`ompensatable, `p`ivot, `r`etriable. Two attempts
/// each.
pub(crate) fn shape(kinds: &str) -> Definition {
    let mut text = "name = \"shape\"\nversion = 1\ninput = \"t.Input\"\n".to_owned();
    for n in 1..=kinds.len() {
        let written = write!(
            text,
            "[[step]]\nname = \"step-{n}\"\nparticipant = \"p{n}\"\nkind = \"compensatable\"\ncommand = \"t.Do\"\n\
             reply = \"t.Done\"\ncompensation = \"t.Undo\"\nretry = {{ max_attempts = 2 }}\n\
             compensation_retry = {{ max_attempts = 2 }}\n"
        );
        written.expect("a string takes everything");
    }
    let mut definition = Definition::parse(&text).expect("a valid definition");
    for (step, kind) in definition.steps.iter_mut().zip(kinds.chars()) {
        match kind {
            'c' => {}
            'p' => step.kind = StepKind::Pivot,
            'r' => step.kind = StepKind::Retriable,
            other => panic!("not a kind: {other}"),
        }
    }
    definition
}

/// What goes wrong, for a snapshot.
pub(crate) fn wrong<R: Rules + Clone>(rules: &R, definition: &Definition, interventions: u8) -> String {
    match check_with(rules, definition, Interventions(interventions), UNBOUNDED) {
        Verdict::Wrong { property, transcript } => format!("not kept: {property}\n{transcript}"),
        verdict @ (Verdict::Holds { .. } | Verdict::TooLarge { .. }) => panic!("{verdict:?}"),
    }
}
