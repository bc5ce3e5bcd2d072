//! Rehearsals of definitions that nobody thought of.

use proptest::prelude::*;
use saga_defs::definition::StepKind;
use saga_defs::machine::replay;
use saga_defs::rehearsal::{MAX_LINES, rehearsals};
use saga_defs::saga::{Status, StepStatus};

use crate::for_all;
use crate::recipe::definitions;

/// Its moves are a journal of its definition; it ends, or is stuck at a step that is never undone.
#[test]
fn a_rehearsal_is_a_run_that_comes_to_an_end() {
    for_all(100, &definitions(), |definition| {
        prop_assert_eq!(rehearsals(&definition).count(), 1 + 4 * definition.steps.len());
        for run in rehearsals(&definition) {
            let journal = run.moves.iter().map(|made| (made.at, &made.event));
            let saga = replay(&definition, run.saga, journal);
            prop_assert_eq!(saga.as_ref().map(|saga| saga.status()), Some(run.ended), "{}", run);
            prop_assert!(run.transcript.len() <= MAX_LINES, "{}", run);
            prop_assert!(run.moves.is_sorted_by_key(|made| made.at), "{}", run);
            let stuck =
                saga.iter().flat_map(|saga| &saga.steps).position(|step| step.status == StepStatus::Stuck);
            let undoable =
                stuck.is_some_and(|at| matches!(definition.steps[at].kind, StepKind::Compensatable { .. }));
            prop_assert_eq!(stuck.is_some(), run.ended == Status::Stuck, "{}", run);
            prop_assert!(!undoable && (stuck.is_some() || run.ended.is_final()), "{}", run);
        }
        Ok(())
    });
}
