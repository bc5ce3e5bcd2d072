//! The rules of moving: what ends mean, what is undone and in which order, attempts, and what each state says.

use std::time::Duration;

use proptest::prelude::*;
use saga_defs::definition::StepKind;
use saga_defs::ids::{Attempt, Direction, StepIndex};
use saga_defs::saga::{Effect, Event, Outcome, State, Status, StepStatus, Try};

use crate::course::{Course, Step};
use crate::for_all_courses;

fn sends(step: &Step) -> impl Iterator<Item = Try> {
    step.effects.iter().filter_map(|effect| match effect {
        Effect::Send(at) => Some(*at),
        _ => None,
    })
}

fn all_sends(course: &Course) -> impl Iterator<Item = Try> {
    course.steps.iter().flat_map(sends)
}

fn undoable(course: &Course, step: StepIndex) -> bool {
    let kind = course.definition.step(step).map(|step| &step.kind);
    matches!(kind, Some(StepKind::Compensatable { .. }))
}

#[test]
fn completed_means_that_every_step_succeeded() {
    for_all_courses(|course| {
        let saga = course.saga();
        if saga.status() == Status::Completed {
            prop_assert!(
                saga.steps.iter().all(|step| step.status == StepStatus::Succeeded),
                "{:?}",
                saga.steps
            );
            prop_assert!(all_sends(course).all(|at| at.direction == Direction::Forward));
            prop_assert_eq!(&saga.reason, &None);
        }
        Ok(())
    });
}

#[test]
fn compensated_means_that_nothing_is_left() {
    for_all_courses(|course| {
        let saga = course.saga();
        if saga.status() == Status::Compensated {
            for (i, step) in saga.steps.iter().enumerate() {
                let fine = match step.status {
                    StepStatus::Pending | StepStatus::Rejected => true,
                    StepStatus::Compensated => undoable(course, StepIndex(i as u16)),
                    _ => false,
                };
                prop_assert!(fine, "step {i} is {:?}", step.status);
            }
            prop_assert!(saga.reason.is_some());
        }
        Ok(())
    });
}

#[test]
fn a_saga_begins_once_and_ends_once() {
    for_all_courses(|course| {
        let count = |wanted: fn(&Effect) -> bool| course.effects().filter(|effect| wanted(effect)).count();
        prop_assert_eq!(count(|effect| *effect == Effect::AnnounceStart), 1);
        let ended = course.saga().status().is_final();
        prop_assert_eq!(count(|effect| matches!(effect, Effect::AnnounceEnd { .. })), usize::from(ended));
        for step in &course.steps {
            let status = step.after.status();
            prop_assert_eq!(step.after.finished_at.is_some(), status.is_final());
            prop_assert_eq!(step.effects.contains(&Effect::AnnounceEnd { status }), status.is_final());
        }
        Ok(())
    });
}

#[test]
fn no_pivot_and_no_retriable_step_is_ever_undone() {
    for_all_courses(|course| {
        for at in all_sends(course) {
            prop_assert!(at.direction == Direction::Forward || undoable(course, at.step), "{at:?}");
        }
        Ok(())
    });
}

#[test]
fn nothing_is_undone_past_a_pivot_that_succeeded_or_a_retriable_step_that_began() {
    for_all_courses(|course| {
        let mut past = false;
        for step in &course.steps {
            for at in sends(step) {
                prop_assert!(!(past && at.direction == Direction::Compensation), "{at:?}");
            }
            past |=
                course.definition.steps.iter().zip(&step.after.steps).any(|(step, record)| match step.kind {
                    StepKind::Compensatable { .. } => false,
                    StepKind::Pivot => record.status == StepStatus::Succeeded,
                    StepKind::Retriable => record.status != StepStatus::Pending,
                });
        }
        Ok(())
    });
}

/// A pivot or a retriable step that may have happened is left only by an answer or by an operator's word.
#[test]
fn what_cannot_be_undone_is_left_only_by_an_answer() {
    for_all_courses(|course| {
        for step in &course.steps {
            let Some(at) = step.before.as_ref().and_then(|before| before.current()) else { continue };
            if undoable(course, at.step) || step.after.current().is_some_and(|after| after.step == at.step) {
                continue;
            }
            let left_by_word = matches!(step.event, Event::Replied { .. } | Event::Skip { .. });
            prop_assert!(left_by_word || !at.doubt, "{:?} at {at:?}", step.event);
        }
        Ok(())
    });
}

/// Once an attempt timed out, only the participant's own refusal says that nothing happened.
#[test]
fn what_may_have_happened_is_not_taken_for_rejected() {
    for_all_courses(|course| {
        for step in &course.steps {
            let Some(at) = step.before.as_ref().and_then(|before| before.current()) else { continue };
            let refused = matches!(&step.event, Event::Replied { outcome: Outcome::Rejected { .. }, .. });
            let record = &step.after.steps[at.step.at()];
            prop_assert!(!at.doubt || refused || record.status != StepStatus::Rejected, "{:?}", step.event);
        }
        Ok(())
    });
}

#[test]
fn the_last_done_is_the_first_undone() {
    for_all_courses(|course| {
        let mut undone: Vec<StepIndex> = all_sends(course)
            .filter(|at| at.direction == Direction::Compensation)
            .map(|at| at.step)
            .collect();
        undone.dedup();
        prop_assert!(undone.is_sorted_by(|a, b| a > b), "{undone:?}");
        let mut done: Vec<StepIndex> =
            all_sends(course).filter(|at| at.direction == Direction::Forward).map(|at| at.step).collect();
        done.dedup();
        prop_assert!(done.is_sorted_by(|a, b| a < b), "{done:?}");
        Ok(())
    });
}

#[test]
fn attempts_count_from_one_to_the_policy() {
    for_all_courses(|course| {
        let mut last: Option<Try> = None;
        for step in &course.steps {
            if let Event::Withheld(at) = step.event {
                // It is as if it had never been sent.
                last =
                    at.attempt.0.checked_sub(1).filter(|&n| n > 0).map(|n| Try { attempt: Attempt(n), ..at });
            }
            for at in sends(step) {
                let recipe = course.definition.step(at.step).expect("a step");
                let policy = match at.direction {
                    Direction::Forward => &recipe.retry,
                    Direction::Compensation => &recipe.compensation_retry,
                };
                prop_assert!(at.attempt.0 <= policy.max_attempts, "{at:?}");
                let same = last.filter(|last| (last.step, last.direction) == (at.step, at.direction));
                let expected = match (same, &step.event) {
                    (None, _) | (Some(_), Event::Redrive { .. }) => Attempt::FIRST,
                    (Some(last), _) => last.attempt.next(),
                };
                prop_assert_eq!(at.attempt, expected);
                last = Some(at);
            }
        }
        Ok(())
    });
}

#[test]
fn back_offs_are_as_long_as_the_policy_says() {
    for_all_courses(|course| {
        for step in &course.steps {
            let State::Backoff { next, until } = step.after.state else { continue };
            if step.before.as_ref().is_some_and(|before| before.state == step.after.state) {
                continue;
            }
            if matches!(step.event, Event::Withheld(_)) {
                prop_assert_eq!(until, step.at);
                continue;
            }
            let recipe = course.definition.step(next.step).expect("a step");
            let policy = match next.direction {
                Direction::Forward => &recipe.retry,
                Direction::Compensation => &recipe.compensation_retry,
            };
            let wait = until.since(step.at);
            prop_assert!(
                wait >= policy.initial && wait <= policy.max.mul_f64(1.0 + policy.jitter),
                "{wait:?}"
            );
        }
        Ok(())
    });
}

/// The time from being withheld, or from the word that it waits for a held participant, to whatever moves the saga next does
/// not count, and no deadline passes in it; without the key all time counts.
#[test]
fn a_deadline_moves_by_the_time_that_it_stood_still() {
    for_all_courses(|course| {
        let stands = course.definition.deadline_stands_while_held;
        let (mut stood, mut since) = (Duration::ZERO, None);
        for step in &course.steps {
            let forward = step.after.current().is_some_and(|at| at.direction == Direction::Forward);
            let stops =
                stands && forward && matches!(step.event, Event::Withheld(_) | Event::DeadlineStopped);
            prop_assert!(since.is_none() || step.event != Event::DeadlinePassed);
            if !stops && !matches!(step.event, Event::LetterRedriven { .. }) {
                stood += since.take().map(|since| step.at.since(since)).unwrap_or_default();
            } else if stops {
                since.get_or_insert(step.at);
            }
            let expected = step.after.started_at.after(course.definition.deadline + stood);
            let runs = forward && since.is_none();
            prop_assert_eq!(step.after.deadline(&course.definition), runs.then_some(expected));
        }
        Ok(())
    });
}

#[test]
fn stuck_is_said_by_a_dead_letter_and_nothing_else_is() {
    for_all_courses(|course| {
        for step in &course.steps {
            let letters: Vec<&Effect> =
                step.effects.iter().filter(|effect| matches!(effect, Effect::DeadLetter { .. })).collect();
            let stays = matches!(step.event, Event::LetterRedriven { .. });
            match &step.after.state {
                State::Stuck { at, cause } if !stays => {
                    let letter = Effect::DeadLetter { attempt: *at, cause: cause.clone() };
                    prop_assert_eq!(letters, vec![&letter]);
                }
                _ => prop_assert!(letters.is_empty(), "{letters:?}"),
            }
        }
        Ok(())
    });
}

/// One command at a time, and the step's own status agrees with the saga's state.
#[test]
fn the_steps_agree_with_the_state() {
    for_all_courses(|course| {
        for step in &course.steps {
            let saga = &step.after;
            let expected = match &saga.state {
                State::Stuck { at, .. } => Some((at.step, StepStatus::Stuck)),
                State::Awaiting(at) | State::Backoff { next: at, .. } => Some(match at.direction {
                    Direction::Forward => (at.step, StepStatus::Running),
                    Direction::Compensation => (at.step, StepStatus::Compensating),
                }),
                State::Completed | State::Compensated => None,
            };
            let busy = [StepStatus::Running, StepStatus::Compensating, StepStatus::Stuck];
            let mut active =
                saga.steps.iter().enumerate().filter(|(_, record)| busy.contains(&record.status));
            let found = active.next().map(|(i, record)| (StepIndex(i as u16), record.status));
            prop_assert_eq!(found, expected);
            prop_assert_eq!(active.next(), None);
        }
        Ok(())
    });
}

/// A command goes out exactly when the saga begins to wait for its answer.
#[test]
fn a_command_is_sent_when_its_answer_is_awaited() {
    for_all_courses(|course| {
        for step in &course.steps {
            let stays = step.before.as_ref().is_some_and(|before| before.state == step.after.state);
            let sent: Vec<Try> = sends(step).collect();
            match step.after.state {
                State::Awaiting(at) if !stays => prop_assert_eq!(sent, vec![at]),
                _ => prop_assert!(sent.is_empty(), "{sent:?}"),
            }
        }
        Ok(())
    });
}

#[test]
fn the_reason_is_there_while_compensating_and_never_changes() {
    for_all_courses(|course| {
        for step in &course.steps {
            let saga = &step.after;
            let back = match &saga.state {
                State::Compensated => true,
                State::Completed => false,
                State::Awaiting(at) | State::Backoff { next: at, .. } | State::Stuck { at, .. } => {
                    at.direction == Direction::Compensation
                }
            };
            prop_assert_eq!(saga.reason.is_some(), back);
            if let Some(reason) = step.before.as_ref().and_then(|before| before.reason.as_ref()) {
                prop_assert_eq!(saga.reason.as_ref(), Some(reason));
            }
        }
        Ok(())
    });
}

#[test]
fn the_data_of_every_success_is_kept_and_nothing_else_comes_in() {
    for_all_courses(|course| {
        for step in &course.steps[1..] {
            let before = step.before.as_ref().expect("not the start");
            let forward = before.current().is_some_and(|at| at.direction == Direction::Forward);
            let mut expected = (*before.data).clone();
            if let Event::Replied { outcome: Outcome::Succeeded { fields }, .. } = &step.event
                && forward
            {
                expected.extend(fields.clone());
            }
            prop_assert_eq!(&*step.after.data, &expected);
        }
        Ok(())
    });
}
