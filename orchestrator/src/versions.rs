//! Two versions of a definition, for people and programs: what `check --against` prints and `/plan` answers.

use saga_defs::compare::{Change, Course, Divergence, compare};
use saga_defs::definition::Definition;
use saga_defs::rehearsal::rehearsals;
use serde::Serialize;
use utoipa::ToSchema;

/// One change from an older to a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DefinitionChange)]
pub struct ChangeView {
    /// What is different, e.g. `step charge-payment: timeout 5s -> 9s`.
    pub change: String,
    /// What it means for sagas that run on the older version; they stay on it.
    pub for_running: String,
    /// What it means for sagas that start on the newer version.
    pub for_new: String,
}

/// Every change from `old` to `new`.
pub fn changes(old: &Definition, new: &Definition) -> Vec<ChangeView> {
    let view = |change: Change| ChangeView {
        change: change.to_string(),
        for_running: change.for_running(),
        for_new: change.for_new(),
    };
    compare(old, new).into_iter().map(view).collect()
}

/// What became of runs that were played again on another version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReplayedRuns)]
pub struct Replayed {
    /// How many went the same way, transition by transition.
    pub same: u64,
    /// How many could not be played: their beginning is not in the journal any more.
    pub unknown: u64,
    /// The places where the others part, each with the runs that part there.
    pub diverging: Vec<Diverging>,
}

/// A place where recorded runs would have gone another way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DivergingRuns)]
pub struct Diverging {
    /// The saga's revision afterwards.
    pub revision: u32,
    /// What happened, e.g. `charge-payment rejected`.
    pub event: String,
    /// What followed, e.g. `undo reserve-booking #1`.
    pub expected: String,
    /// What would have followed; `ignored` and why where nothing would.
    pub got: String,
    /// Which runs: ids of sagas, or titles of rehearsals.
    pub runs: Vec<String>,
}

impl Replayed {
    /// Counts one run in.
    pub fn count(&mut self, run: String, course: Course) {
        match course {
            Course::Same => self.same += 1,
            Course::Unknown => self.unknown += 1,
            Course::Diverges(divergence) => self.diverges(run, divergence),
        }
    }

    fn diverges(&mut self, run: String, divergence: Divergence) {
        let Divergence { revision, event, expected, got } = divergence;
        let same = |known: &&mut Diverging| {
            known.revision == revision.0
                && known.event == event
                && known.expected == expected
                && known.got == got
        };
        match self.diverging.iter_mut().find(same) {
            Some(known) => known.runs.push(run),
            None => {
                let runs = vec![run];
                self.diverging.push(Diverging { revision: revision.0, event, expected, got, runs });
            }
        }
    }

    /// The baseline runs of `old`, played again on `new`.
    pub fn rehearsed(old: &Definition, new: &Definition) -> Self {
        let mut replayed = Self::default();
        for run in rehearsals(old) {
            let course = Course::of(old, new, run.saga, &run.moves);
            replayed.count(run.title, course);
        }
        replayed
    }
}
