//! A simulation that finds nothing proves nothing: each of these worlds breaks one rule, and is found out.
#![cfg(test)]

use simulation::wrong::Wrong;
use simulation::{Setting, run};

/// So many schedules are enough to find each.
const SCHEDULES: u64 = 400;

/// The seed that finds it, and what is found.
fn found(wrong: Wrong) -> Option<(u64, Vec<String>)> {
    (1..=SCHEDULES).find_map(|seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let report = runtime.unwrap().block_on(run(Setting { wrong: Some(wrong), ..Setting::seed(seed) }));
        (!report.violations.is_empty()).then_some((seed, report.violations))
    })
}

#[test]
fn every_wrong_world_is_found() {
    let mut missed = Vec::new();
    for wrong in Wrong::ALL {
        match found(wrong) {
            Some((seed, violations)) => println!("{wrong:?}: seed {seed}: {}", violations[0]),
            None => missed.push(wrong),
        }
    }
    assert!(missed.is_empty(), "not found in {SCHEDULES} schedules: {missed:?}");
}
