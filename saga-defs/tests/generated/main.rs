//! The same tests for every definition: nothing is written per saga, a new definition is tested by being there.
//!
//! Each run is a way that the participants answer (all succeed; one step is rejected, fails for good, hears nothing, or
//! is not heard), over a network that behaves in some manner, perhaps with a deadline or an operator's cancel at one
//! point. Then whoever is stuck is redriven, and every command and reply that there ever was comes once more. See
//! [`play`](play::Play) for what is demanded of all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use saga_defs::definition::{Definition, Step, StepKind};
use saga_defs::ids::{Direction, StepIndex};
use saga_defs::saga::{Event, Status};

use play::{Manner, Network, Play, Way};

#[path = "../participants/mod.rs"]
mod participants;
mod play;

/// Commands are tried at most this often here: more attempts are more of the same.
const ATTEMPTS: u32 = 4;

/// Every definition that the project has: the shipped ones, and those of the documentation and of the scenarios.
fn definitions() -> Vec<Definition> {
    let shipped = saga_defs::shipped().iter().map(|shipped| shipped.definition());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["docs/examples", "tests/definitions"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let mut definitions: Vec<Definition> = shipped.chain(files.iter().map(|file| read(file))).collect();
    for step in definitions.iter_mut().flat_map(|definition| &mut definition.steps) {
        for policy in [&mut step.retry, &mut step.compensation_retry] {
            policy.max_attempts = policy.max_attempts.min(ATTEMPTS);
        }
    }
    definitions
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads the examples")]
fn read(file: &Path) -> Definition {
    let text = std::fs::read_to_string(file).expect("a file");
    Definition::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Every way that one step can go wrong, and the one in which none does.
fn ways(definition: &Definition) -> Vec<Way> {
    let mut ways = vec![Way::smooth()];
    for (step, at) in definition.steps.iter().zip(0_u16..) {
        for direction in directions(step) {
            for manner in [Manner::Reject, Manner::Fail, Manner::LoseCommands, Manner::LoseReplies] {
                ways.push(Way::troubled(StepIndex(at), direction, manner));
            }
        }
    }
    ways
}

fn directions(step: &Step) -> Vec<Direction> {
    match step.kind {
        StepKind::Compensatable { .. } => vec![Direction::Forward, Direction::Compensation],
        StepKind::Pivot | StepKind::Retriable => vec![Direction::Forward],
    }
}

/// Plays each way of each definition over a network; or the same with the event at each of its points. Gives the places
/// that the runs came to.
fn check(network: Network, interruption: Option<&Event>) -> BTreeSet<Status> {
    let mut seen = BTreeSet::new();
    for definition in definitions() {
        for way in ways(&definition) {
            let smooth = Play::new(&definition, &way, network, None).finish();
            let points = interruption.map_or(0, |_| smooth.turns);
            seen.extend(smooth.statuses);
            for point in 0..points {
                let interruption = interruption.map(|event| (point, event.clone()));
                seen.extend(Play::new(&definition, &way, network, interruption).finish().statuses);
            }
        }
    }
    seen
}

const EVERYWHERE: [Status; 3] = [Status::Stuck, Status::Completed, Status::Compensated];

#[test]
fn each_step_rejected_failed_and_timed_out() {
    assert!(check(Network::Fair, None).into_iter().eq(EVERYWHERE));
}

#[test]
fn every_command_and_every_compensation_executed_twice() {
    assert!(check(Network::CommandsTwice, None).into_iter().eq(EVERYWHERE));
}

#[test]
fn every_reply_delivered_twice() {
    assert!(check(Network::RepliesTwice, None).into_iter().eq(EVERYWHERE));
}

#[test]
fn every_reply_delivered_late_and_twice() {
    assert!(check(Network::RepliesLate, None).into_iter().eq(EVERYWHERE));
}

#[test]
fn the_deadline_at_each_point() {
    for network in [Network::Fair, Network::RepliesLate] {
        assert!(check(network, Some(&Event::DeadlinePassed)).into_iter().eq(EVERYWHERE));
    }
}

#[test]
fn a_cancel_at_each_point() {
    let cancel = Event::Cancel { reason: "not wanted any more".into() };
    for network in [Network::Fair, Network::CommandsTwice] {
        assert!(check(network, Some(&cancel)).into_iter().eq(EVERYWHERE));
    }
}

/// The list is not empty by mistake.
#[test]
fn the_shipped_the_documented_and_the_scenarios_definitions_are_tested() {
    let names: Vec<String> = definitions().iter().map(|definition| definition.id.name.to_string()).collect();
    for name in ["booking", "trip", "stock-transfer", "erasure", "postpaid", "greeting", "patient-trip"] {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
    }
}
