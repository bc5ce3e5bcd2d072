//! The model check: every run that a definition allows, in a world where what can go wrong does. A breadth-first search
//! by stateright over the real rules of `saga_defs`: [`saga_defs::machine::transition`] for the saga,
//! [`saga_defs::participant::admit`] for its participants.
//!
//! **The world.** What was ever sent, a command or a reply, may arrive at any time from then on, in any order, once, often
//! or never. So one set of messages stands for a network that loses, repeats, delays and reorders; for an orchestrator
//! that crashes between commit and publication, or is taken over and publishes again; for a participant that crashes
//! between commit and reply. A participant carries a command out, refuses it or fails, inside its transaction or outside
//! under a claim with a crash before or after the call. A timer fires whenever the saga waits, and so do the deadline,
//! `cancel` and `retry-now`. A command may turn out not to be sendable. Operators redrive and skip, and the database parks
//! the saga.
//!
//! **What must be true** is listed in `model.rs`, with its exceptions: a step whose forward command an operator skipped
//! need not be done in a completed saga, and one whose compensation an operator skipped may be left done in a
//! compensated one.
//!
//! **Simplifications.**
//! - A command is tried at most twice: the first try, and a last one. What lies between repeats the first.
//! - Redrives, skips and parkings are few in one run: [`Interventions`]. One command is redriven at most once.
//! - There is no data. Whether a command's fields can be filled is checked elsewhere; here any command may be unsendable.
//! - There is no time: timers fire in any order. What only takes long is not wrong here.
//! - The echo of a success is not looked at, of a rejection only the redrive: as `transition` does.
//! - A participant is one process with one database. An effect outside happens once under one command id, and undoing
//!   what is not there does nothing; a call that hangs is not made after its command was undone.
//! - What can make no difference any more is forgotten (`quiet.rs`). What happens to a step is no longer looked at once an
//!   operator has skipped its compensation.
//! - A message sent for another saga, a forged one and letters that are redriven are not in the model. A copy of a letter
//!   is a message that was sent before.

mod model;
mod participants;
mod quiet;
mod rules;
mod sagas;
mod transcript;
mod world;

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use saga_defs::definition::Definition;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::model::{End, Run};

pub use rules::{Identity, Real, Rules};
pub use world::{Interventions, Sent};

/// How far a check may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Worlds looked at, for each number of interventions.
    pub states: usize,
    /// Time taken in all.
    pub time: Duration,
}

impl Bounds {
    /// For a check that somebody waits for, e.g. at registration: four or five steps are checked to the end, about eight
    /// without interventions.
    pub const WAITED_FOR: Self = Self { states: 200_000, time: Duration::from_secs(5) };
}

/// The interventions of [`check`].
pub const INTERVENTIONS: Interventions = Interventions(1);

/// What a check came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every run ends as it should.
    Holds {
        /// How many different worlds there are.
        states: usize,
    },
    /// Nothing wrong was found as far as the bounds let it look.
    TooLarge {
        /// How many different worlds were found.
        states: usize,
        /// Which bound was met.
        bound: Bound,
        /// Every run with this many interventions was looked at; `None`: not even all without any.
        complete: Option<Interventions>,
    },
    /// A run ends wrong, or there is no run that ends as one should.
    Wrong {
        /// What should have been true, e.g. `what is compensated leaves nothing done`.
        property: &'static str,
        /// The shortest run that breaks it, with the fewest interventions; a line each. Empty if there is no run of the
        /// kind that `property` names.
        transcript: String,
    },
}

/// A bound that a check met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// [`Bounds::states`].
    States(usize),
    /// [`Bounds::time`].
    Time(Duration),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::States(states) => write!(f, "{states} states"),
            Self::Time(time) => write!(f, "{} s", time.as_secs_f32()),
        }
    }
}

/// Checks every run of a definition with up to [`INTERVENTIONS`]. Blocks its thread for up to `bounds.time` and a moment.
pub fn check(definition: &Definition, bounds: Bounds) -> Verdict {
    check_with(&Real, definition, INTERVENTIONS, bounds)
}

/// Checks every run of a definition under these rules. It begins without interventions and allows one more each time, so
/// that what goes wrong by itself is found first.
pub fn check_with<R: Rules + Clone>(
    rules: &R,
    definition: &Definition,
    interventions: Interventions,
    bounds: Bounds,
) -> Verdict {
    let until = Instant::now() + bounds.time;
    let mut complete = None;
    let mut states = 0;
    for allowed in (0..=interventions.0).map(Interventions) {
        let run = Run::new(rules.clone(), definition, allowed, bounds.states, until);
        match search(run, bounds) {
            Verdict::Holds { states: found } => (states, complete) = (found, Some(allowed)),
            Verdict::TooLarge { states, bound, .. } => return Verdict::TooLarge { states, bound, complete },
            wrong @ Verdict::Wrong { .. } => return wrong,
        }
    }
    Verdict::Holds { states }
}

fn search<R: Rules>(run: Run<R>, bounds: Bounds) -> Verdict {
    let checker = run.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let run = checker.model();
    run.search.retelling.store(true, Ordering::Relaxed);
    let states = checker.unique_state_count();
    let mut discoveries = checker.discoveries();
    let properties = run.properties();
    let wrong = properties.iter().filter(|property| property.expectation.discovery_is_failure());
    for property in wrong {
        if let Some(path) = discoveries.remove(property.name) {
            let transcript = transcript::write(&run.sagas, &path.into_vec());
            return Verdict::Wrong { property: property.name, transcript };
        }
    }
    match run.search.end.get() {
        Some(End::States) => {
            return Verdict::TooLarge { states, bound: Bound::States(bounds.states), complete: None };
        }
        Some(End::Time) => {
            return Verdict::TooLarge { states, bound: Bound::Time(bounds.time), complete: None };
        }
        Some(End::Found) | None => {}
    }
    let missing = properties.iter().find(|property| {
        property.expectation == Expectation::Sometimes && !discoveries.contains_key(property.name)
    });
    match missing {
        Some(property) => Verdict::Wrong { property: property.name, transcript: String::new() },
        None => Verdict::Holds { states },
    }
}
