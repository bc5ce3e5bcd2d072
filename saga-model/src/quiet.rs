//! What can make no difference any more is forgotten, so that worlds which differ in it alone are one.
//!
//! - Replies to a command that the saga has left: it ignores them. The model checks that of every saga it meets.
//! - Sendings of a command that the saga has left, once the participant would run none of them: no further sending comes,
//!   and only a sending that runs changes what it has recorded (a tombstone makes it run still less).
//! - The records of a step that the saga has left for good, once no sending of it is kept.
//! - All of a step whose compensation an operator skipped, since from then on it is theirs.

use saga_defs::ids::{Direction, StepIndex};
use saga_defs::saga::{Saga, State, StepStatus};

use crate::participants::runs;
use crate::rules::Rules;
use crate::world::{Interventions, World};

/// Forgets what can make no difference in this world.
pub(crate) fn forget(rules: &impl Rules, saga: &Saga, world: &mut World) {
    if !matches!(saga.state, State::Awaiting(_)) {
        world.seen = false;
    }
    if saga.current().is_none() {
        world.interventions_left = Interventions::NONE;
    }
    for step in (0..world.steps.len() as u16).map(StepIndex) {
        let mut all_left = true;
        for direction in [Direction::Forward, Direction::Compensation] {
            let left = has_left(saga, step, direction);
            if left {
                world.steps[step.at()].talk_mut(direction).forget_replies();
            }
            let running = world.commands_of(step, direction).any(|sent| runs(rules, world, sent));
            if left && !running {
                world.steps[step.at()].talk_mut(direction).forget_sendings();
            }
            all_left &= left && !running;
        }
        let kept = &mut world.steps[step.at()];
        if all_left || kept.undo.skipped {
            kept.forget_all_but_what_is_done();
        }
    }
}

/// Whether the saga will not send this command again, nor for the first time.
pub(crate) fn has_left(saga: &Saga, step: StepIndex, direction: Direction) -> bool {
    let Some(current) = saga.current() else { return true };
    let status = saga.steps[step.at()].status;
    let is_current = (current.step, current.direction) == (step, direction);
    match direction {
        Direction::Forward => !is_current && status != StepStatus::Pending,
        Direction::Compensation => matches!(status, StepStatus::Rejected | StepStatus::Compensated),
    }
}
