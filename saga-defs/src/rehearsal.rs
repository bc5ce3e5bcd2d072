//! Runs of a definition as they will be: its baseline, made by the machine itself against participants that answer by
//! rule.
//!
//! [`rehearse`] gives the runs that a person who reviews a definition wants to see: every step succeeds; each step is
//! rejected, times out for good, fails for good; each compensation gets stuck and is redriven, and each step that can
//! get stuck too. They are the same every time, so that two versions of a definition can be compared by them.

mod abridge;
mod stage;

use std::fmt;

use crate::definition::{Definition, Step, StepKind};
use crate::ids::{Direction, Revision, SagaId, StepIndex};
use crate::render::{Columns, Line};
use crate::saga::{Effect, Event, Status, Try};
use crate::time::Timestamp;

use stage::Stage;

/// A transcript has at most this many lines, however many steps and attempts the definition has.
pub const MAX_LINES: usize = 40;

/// One run of a definition.
#[derive(Clone, PartialEq, Debug)]
pub struct Rehearsal {
    /// What is special about it, e.g. `charge-payment rejected`. Unique among the runs of a definition.
    pub title: String,
    /// What happened, for people: at most [`MAX_LINES`] lines. Of a long stretch of attempts or of steps that all go
    /// the same way the middle is one line that says how many are left out.
    pub transcript: Vec<Line>,
    /// The saga's id: the same in every rehearsal.
    pub saga: SagaId,
    /// What happened, all of it, as the journal would have it (and without jitter).
    pub moves: Vec<Move>,
    /// The saga's status at the end: final, or stuck.
    pub ended: Status,
}

/// One transition of a rehearsal.
#[derive(Clone, PartialEq, Debug)]
pub struct Move {
    /// The saga's revision after it; 1 for the start.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// What followed.
    pub effects: Vec<Effect>,
}

/// The title, the transcript and the end, with line breaks.
impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for line in Columns::lines(&self.transcript).lines() {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "    = {}", self.ended.as_str())
    }
}

/// The baseline runs of a definition: one where every step succeeds, and four for each step.
pub fn rehearse(definition: &Definition) -> Vec<Rehearsal> {
    rehearsals(definition).collect()
}

/// The same, one at a time: for a definition of very many steps and attempts, whose moves need not all be held at once.
pub fn rehearsals(definition: &Definition) -> impl Iterator<Item = Rehearsal> + '_ {
    let steps = definition.steps.iter().zip(0_u16..);
    let troubled = steps.flat_map(|(step, at)| scenes_of(step, StepIndex(at)));
    std::iter::once(Scene::smooth()).chain(troubled).map(|scene| Stage::new(definition).play(scene))
}

/// How a run goes.
struct Scene {
    title: String,
    /// The command that does not go smoothly; all others succeed.
    trouble: Option<(StepIndex, Direction, Trouble)>,
    /// An operator cancels while the troubled step's command is out, so that its compensation runs.
    cancelled: bool,
    /// When the saga is stuck an operator sends it on its way again, and the trouble is over.
    redriven: bool,
}

/// How the participant of the troubled command answers all its attempts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Rejected,
    Failed,
    /// It does its work and the reply is lost.
    Silent,
}

impl Scene {
    fn smooth() -> Self {
        Self { title: "every step succeeds".to_owned(), trouble: None, cancelled: false, redriven: false }
    }

    fn concerns(&self, at: Try) -> Option<Trouble> {
        let (step, direction, trouble) = self.trouble?;
        let over = self.redriven && at.redrive > 0;
        (step == at.step && direction == at.direction && !over).then_some(trouble)
    }
}

fn scenes_of(step: &Step, at: StepIndex) -> Vec<Scene> {
    let scene = |end: &str, trouble| Scene {
        title: format!("{} {end}", step.name),
        trouble: Some((at, Direction::Forward, trouble)),
        cancelled: false,
        redriven: false,
    };
    let last = match step.kind {
        StepKind::Compensatable { .. } => Scene {
            title: format!("undo {} stuck, then redriven", step.name),
            trouble: Some((at, Direction::Compensation, Trouble::Failed)),
            cancelled: true,
            redriven: true,
        },
        StepKind::Pivot | StepKind::Retriable => {
            Scene { redriven: true, ..scene("stuck, then redriven", Trouble::Silent) }
        }
    };
    vec![
        scene("rejected", Trouble::Rejected),
        scene("timed out for good", Trouble::Silent),
        scene("failed for good", Trouble::Failed),
        last,
    ]
}
