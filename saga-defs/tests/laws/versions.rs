//! Laws about two versions of a definition.

use proptest::prelude::*;
use saga_defs::compare::{Change, Course as Replayed, StepChange, compare};
use saga_defs::definition::Definition;
use saga_defs::rehearsal::{Move, rehearse};

use super::course::{Course, Step, courses};
use super::recipe::definitions;
use super::{for_all, for_all_courses};

/// The same recipe with the next number.
fn next(definition: &Definition) -> Definition {
    let mut next = definition.clone();
    next.id.version += 1;
    next
}

#[test]
fn the_same_recipe_changes_no_course() {
    for_all_courses(|course| {
        let (old, new) = (&course.definition, next(&course.definition));
        prop_assert_eq!(compare(old, &new), []);
        let moves = moves(course);
        prop_assert_eq!(Replayed::of(old, &new, course.saga().id, &moves), Replayed::Same);
        Ok(())
    });
}

#[test]
fn other_times_change_no_course() {
    for_all_courses(|course| {
        let mut new = next(&course.definition);
        new.deadline *= 2;
        new.deadline_stands_while_held = false;
        for step in &mut new.steps {
            step.timeout *= 3;
            step.retry.initial *= 2;
            step.compensation_retry.max *= 2;
        }
        let timing = |change: &Change| {
            use StepChange::{CompensationRetry, Retry, Timeout};
            matches!(
                change,
                Change::Deadline(_)
                    | Change::DeadlineStands(_)
                    | Change::Step { what: Timeout(_) | Retry(_) | CompensationRetry(_), .. }
            )
        };
        prop_assert!(compare(&course.definition, &new).iter().all(timing));
        let moves = moves(course);
        prop_assert_eq!(Replayed::of(&course.definition, &new, course.saga().id, &moves), Replayed::Same);
        Ok(())
    });
}

/// Whatever the two are: the words never fail, and a run parts where a change says so.
#[test]
fn a_run_parts_only_where_something_changed() {
    for_all(200, &(definitions(), definitions()), |(old, new)| {
        let changes = compare(&old, &new);
        for change in &changes {
            let words = [change.to_string(), change.for_running(), change.for_new()].join(" ");
            prop_assert!(!words.contains('\n'), "one line: {}", words);
        }
        let recipe = |change: &Change| !matches!(change, Change::NotNewer(_));
        for run in rehearse(&old) {
            match Replayed::of(&old, &new, run.saga, &run.moves) {
                Replayed::Same => {}
                Replayed::Diverges(divergence) => {
                    prop_assert!(changes.iter().any(recipe), "{}: {divergence}", run.title);
                    prop_assert_ne!(divergence.expected, divergence.got);
                }
                Replayed::Unknown => prop_assert!(false, "{} is whole", run.title),
            }
        }
        Ok(())
    });
}

#[test]
fn a_history_with_a_gap_is_unknown() {
    for_all(100, &(courses(), any::<prop::sample::Index>()), |(course, at)| {
        let mut moves = moves(&course);
        let lost = at.index(moves.len());
        moves.remove(lost);
        let replayed = Replayed::of(&course.definition, &next(&course.definition), course.saga().id, &moves);
        let whole = lost > 0 && lost == moves.len();
        prop_assert_eq!(replayed, if whole { Replayed::Same } else { Replayed::Unknown });
        Ok(())
    });
}

fn moves(course: &Course) -> Vec<Move> {
    let of = |step: &Step| Move {
        revision: step.after.revision,
        at: step.at,
        event: step.event.clone(),
        effects: step.effects.clone(),
    };
    course.steps.iter().map(of).collect()
}
