//! What holds for every saga of every definition, whatever happens to it: checked on random courses, and against a
//! world of participants behind a network that repeats, reorders and loses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use course::{Course, courses};
use saga_defs::machine::Why;
use saga_defs::saga::{Status, StepStatus};

mod course;
mod letters;
mod moving;
mod network;
mod parsing;
#[path = "../participants/mod.rs"]
mod participants;
mod recipe;
mod rehearsals;
mod rules;
mod typed;
mod versions;

/// Checks a law on random values.
fn for_all<S: Strategy>(cases: u32, values: &S, law: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(values, law) {
        panic!("{error}");
    }
}

/// Checks a law on random courses.
fn for_all_courses(law: impl Fn(&Course) -> TestCaseResult) {
    for_all(100, &courses(), |course| law(&course));
}

/// The laws say something only if the courses go everywhere.
#[test]
fn the_courses_go_everywhere() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let count = RefCell::new(&mut seen);
    for_all(400, &courses(), |course| {
        let mut found: BTreeSet<String> =
            course.ignored.iter().map(|(_, _, why)| format!("{why:?}")).collect();
        found.insert(format!("{:?}", course.saga().status()));
        let undone = course.saga().steps.iter().filter(|step| step.status == StepStatus::Compensated).count();
        found.insert(format!("undone {undone}"));
        for place in found {
            *count.borrow_mut().entry(place).or_default() += 1;
        }
        Ok(())
    });
    let wanted = Status::ALL.map(|status| format!("{status:?}")).into_iter();
    let wanted = wanted.chain(Why::ALL.map(|why| format!("{why:?}"))).chain(["undone 2".to_owned()]);
    for place in wanted {
        assert!(seen.contains_key(&place), "no course came to {place}: {seen:?}");
    }
}
