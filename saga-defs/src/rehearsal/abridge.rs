//! Leaving out of a transcript what is the same again and again.

use crate::definition::Definition;
use crate::ids::{Direction, StepIndex};
use crate::machine::Transition;
use crate::render::{Line, transcript_line};
use crate::saga::{Event, Outcome, Saga};

use super::stage::Played;

/// Of more steps in a row than this that go the same way, only the first and the last [`KEPT_STEPS`] are shown.
const MANY_STEPS: usize = 8;
/// See [`MANY_STEPS`].
const KEPT_STEPS: usize = 2;
/// The lines of one attempt after the first: the end of the back-off, and the outcome.
const ATTEMPT_LINES: usize = 2;

/// What a move is about. Moves in a row about the same make a stretch.
#[derive(PartialEq, Eq)]
enum Stretch {
    /// Steps that succeed or are undone, one after the other.
    Steps(Direction),
    /// Attempts of one command.
    Attempts(StepIndex, Direction),
    /// Something of its own.
    Alone,
}

impl Stretch {
    fn of(played: &Played) -> Self {
        let current = played.before.as_ref().and_then(Saga::current);
        match (&played.event, current) {
            (Event::Replied { outcome: Outcome::Succeeded { .. }, .. }, Some(at)) => {
                Self::Steps(at.direction)
            }
            (
                Event::TimedOut(_)
                | Event::RetryDue(_)
                | Event::Replied { outcome: Outcome::Failed { .. }, .. },
                Some(at),
            ) => Self::Attempts(at.step, at.direction),
            _ => Self::Alone,
        }
    }
}

/// A line for each move, but for the middle of long stretches.
pub(super) fn abridge(definition: &Definition, played: &[Played]) -> Vec<Line> {
    let mut lines = Vec::new();
    for stretch in played.chunk_by(|one, next| Stretch::of(one) == Stretch::of(next)) {
        let length = stretch.len();
        let (head, left_out, tail) = match Stretch::of(&stretch[0]) {
            Stretch::Steps(_) if length > MANY_STEPS => {
                let many = length - 2 * KEPT_STEPS;
                (KEPT_STEPS, Some(format!("... {many} more steps alike")), KEPT_STEPS)
            }
            // The first attempt is one line, each later one two.
            Stretch::Attempts(..) if length > 1 + 2 * ATTEMPT_LINES => {
                let many = (length - 1 - ATTEMPT_LINES) / ATTEMPT_LINES;
                let attempts = if many == 1 { "attempt" } else { "attempts" };
                let tail = length - 1 - many * ATTEMPT_LINES;
                (1, Some(format!("... {many} more {attempts} alike")), tail)
            }
            Stretch::Steps(_) | Stretch::Attempts(..) | Stretch::Alone => (length, None, 0),
        };
        lines.extend(stretch[..head].iter().map(|played| line(definition, played)));
        lines.extend(left_out.map(|what| Line { what, ..Line::default() }));
        lines.extend(stretch[length - tail..].iter().map(|played| line(definition, played)));
    }
    lines
}

fn line(definition: &Definition, played: &Played) -> Line {
    let done = Transition::Moved(played.done.clone());
    transcript_line(definition, played.before.as_ref(), &played.event, &done)
}
