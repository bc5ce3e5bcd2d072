//! What holds for every saga of every definition, whatever happens to it: checked on random courses, and against a
//! world of participants behind a network that repeats, reorders and loses.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use course::{Course, courses};
use saga_defs::machine::Why;
use saga_defs::saga::{Status, StepStatus};

mod course;
mod letters;
mod moving;
mod network;
mod recipe;
mod rules;

/// Checks a law on random values.
fn for_all<S: Strategy>(cases: u32, values: &S, law: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(values, law) {
        panic!("{error}");
    }
}

/// Checks a law on random courses.
fn for_all_courses(law: impl Fn(&Course) -> TestCaseResult) {
    for_all(200, &courses(), |course| law(&course));
}

/// The laws say something only if the courses go everywhere.
#[test]
fn the_courses_go_everywhere() {
    let ended = RefCell::new(BTreeSet::new());
    let ignored = RefCell::new(HashSet::new());
    let undone = Cell::new(0);
    for_all_courses(|course| {
        ended.borrow_mut().insert(course.saga().status());
        ignored.borrow_mut().extend(course.ignored.iter().map(|(_, _, why)| *why));
        let most = course.saga().steps.iter().filter(|step| step.status == StepStatus::Compensated).count();
        undone.set(undone.get().max(most));
        Ok(())
    });
    assert_eq!(ended.into_inner(), BTreeSet::from(Status::ALL));
    assert_eq!(ignored.into_inner(), HashSet::from(Why::ALL));
    assert!(undone.get() >= 2, "no course undid two steps");
}
