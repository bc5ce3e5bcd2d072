//! Laws about dead letters: each has one fate at a time, and none is forgotten.

use std::collections::BTreeMap;

use proptest::prelude::*;
use saga_defs::ids::{CommandId, DeadLetterId};
use saga_defs::saga::{Effect, State};

use crate::course::Course;
use crate::for_all_courses;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Redriven,
    Resolved,
}

/// Follows every letter through a course, and checks each turn of its fate.
fn fates(course: &Course) -> Result<BTreeMap<DeadLetterId, Fate>, TestCaseError> {
    let mut fates = BTreeMap::new();
    for step in &course.steps {
        for effect in &step.effects {
            match effect {
                Effect::DeadLetter { attempt, .. } => {
                    let recipe = course.definition.step(attempt.step).expect("a step");
                    let command = CommandId::derive(step.after.id, &recipe.name, attempt.direction);
                    let letter = DeadLetterId::of_command(command);
                    let was = fates.insert(letter, Fate::Open);
                    prop_assert!(was != Some(Fate::Redriven), "{letter} is stuck again and was not reopened");
                }
                Effect::RedriveLetter { letter } => {
                    prop_assert_eq!(fates.insert(*letter, Fate::Redriven), Some(Fate::Open));
                }
                // Letters of records are not the core's own; it hears of them only here.
                Effect::SendLetter { letter } => {
                    fates.insert(*letter, Fate::Redriven);
                }
                Effect::ResolveLetters { letters } => {
                    prop_assert!(!letters.is_empty());
                    for letter in letters {
                        let was = fates.insert(*letter, Fate::Resolved);
                        let stuck = step
                            .before
                            .as_ref()
                            .is_some_and(|before| matches!(before.state, State::Stuck { .. }));
                        let fine = was == Some(Fate::Redriven) || (stuck && was == Some(Fate::Open));
                        prop_assert!(fine, "{letter} was {was:?}");
                    }
                }
                Effect::ReopenLetters { letters } => {
                    prop_assert!(!letters.is_empty());
                    for letter in letters {
                        prop_assert_eq!(fates.insert(*letter, Fate::Open), Some(Fate::Redriven));
                    }
                }
                Effect::Send(_) | Effect::AnnounceStart | Effect::AnnounceEnd { .. } => {}
            }
        }
        let mut known = step.after.redriven.clone();
        known.sort();
        let redriven: Vec<DeadLetterId> =
            fates.iter().filter(|(_, fate)| **fate == Fate::Redriven).map(|(letter, _)| *letter).collect();
        prop_assert_eq!(known, redriven, "what the saga remembers is what is on its way");
    }
    Ok(fates)
}

/// A letter sent again is resolved once or reopened once, and the saga remembers exactly those that are neither yet.
#[test]
fn a_redriven_letter_is_resolved_or_reopened_once() {
    for_all_courses(|course| fates(course).map(|_| ()));
}

/// When a saga has ended, nothing of it is left for an operator; only letters of records that were reopened may be.
#[test]
fn an_ended_saga_leaves_no_letter_of_its_commands() {
    for_all_courses(|course| {
        let fates = fates(course)?;
        if course.saga().status().is_final() {
            prop_assert!(course.saga().redriven.is_empty());
            for effect in course.effects() {
                let Effect::DeadLetter { attempt, .. } = effect else { continue };
                let recipe = course.definition.step(attempt.step).expect("a step");
                let command = CommandId::derive(course.saga().id, &recipe.name, attempt.direction);
                prop_assert_eq!(fates.get(&DeadLetterId::of_command(command)), Some(&Fate::Resolved));
            }
        }
        Ok(())
    });
}

/// A stuck saga has its letter open, unless an operator just sent it again by itself.
#[test]
fn a_stuck_saga_has_an_open_letter() {
    for_all_courses(|course| {
        let fates = fates(course)?;
        if let State::Stuck { at, .. } = &course.saga().state {
            let recipe = course.definition.step(at.step).expect("a step");
            let command = CommandId::derive(course.saga().id, &recipe.name, at.direction);
            prop_assert_eq!(fates.get(&DeadLetterId::of_command(command)), Some(&Fate::Open));
        }
        Ok(())
    });
}
