//! The participants: what one of them does with a command that arrives, and what it may come to.

use saga_defs::ids::Direction;
use saga_defs::participant::{Admission, Incoming, Recorded};

use crate::rules::Rules;
use crate::world::{Answer, Fault, Sent, World};

/// What a handler does when it is let, or its process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Handling {
    /// The effect, its record and the reply.
    Succeed,
    /// Business refuses.
    Reject,
    /// It certainly did nothing, and says so.
    Fail,
    /// The effect lies outside: it is claimed, then the process crashes before the call.
    Claim,
    /// The effect lies outside: it is claimed and called, then the process crashes before the result is recorded.
    Call,
}

impl Handling {
    const ALL: [Self; 5] = [Self::Succeed, Self::Reject, Self::Fail, Self::Claim, Self::Call];
}

/// What became of a command that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Did {
    Handled(Handling),
    /// The stored reply was sent again.
    Replayed(Answer),
    /// There was nothing to undo, and from now on there never will be.
    Tombstoned,
    /// It was undone before it came.
    TooLate,
}

/// The ways in which the handling of a command can go.
pub(crate) fn handlings(rules: &impl Rules, world: &World, sent: Sent) -> impl Iterator<Item = Handling> {
    let executes = admission(rules, world, sent) == Admission::Execute;
    let book = world.talk(sent).books[rules.identity(sent).0];
    Handling::ALL.into_iter().filter(move |handling| match handling {
        Handling::Succeed => true,
        // The outside gives its first answer again.
        Handling::Reject => executes && !book.made,
        // An earlier call may have happened, so nobody says that it did not.
        Handling::Fail => executes && book.recorded != Some(Recorded::Claimed),
        Handling::Claim | Handling::Call => executes,
    })
}

/// A command arrives.
pub(crate) fn take(rules: &impl Rules, world: &mut World, sent: Sent, handling: Handling) -> Did {
    match admission(rules, world, sent) {
        Admission::Execute => {
            execute(rules, world, sent, handling);
            Did::Handled(handling)
        }
        Admission::Replay => {
            let answer = match world.talk(sent).books[rules.identity(sent).0].recorded {
                Some(Recorded::Rejected { .. }) => Answer::Rejected,
                Some(Recorded::Failed { .. }) => Answer::Failed,
                Some(Recorded::Succeeded | Recorded::Claimed | Recorded::Tombstoned) | None => {
                    Answer::Succeeded
                }
            };
            world.answer(sent, answer);
            Did::Replayed(answer)
        }
        Admission::Tombstone => {
            record(rules, world, Sent { direction: Direction::Forward, ..sent }, Recorded::Tombstoned);
            record(rules, world, sent, Recorded::Succeeded);
            world.answer(sent, Answer::Succeeded);
            Did::Tombstoned
        }
        Admission::Refuse => {
            world.answer(sent, Answer::Rejected);
            Did::TooLate
        }
    }
}

/// Whether this sending would change anything but the replies.
pub(crate) fn runs(rules: &impl Rules, world: &World, sent: Sent) -> bool {
    match admission(rules, world, sent) {
        Admission::Execute | Admission::Tombstone => true,
        Admission::Replay | Admission::Refuse => false,
    }
}

fn admission(rules: &impl Rules, world: &World, sent: Sent) -> Admission {
    let Sent { step, direction, attempt, redrive } = sent;
    let step = &world.steps[step.at()];
    let identity = rules.identity(sent).0;
    let own = step.talk(direction).books[identity].recorded;
    let forward = step.forward.books[identity].recorded;
    rules.admit(own, forward, Incoming { direction, attempt, redrive })
}

fn execute(rules: &impl Rules, world: &mut World, sent: Sent, handling: Handling) {
    let Sent { attempt, redrive, .. } = sent;
    match handling {
        Handling::Succeed => {
            effect(rules, world, sent, false);
            record(rules, world, sent, Recorded::Succeeded);
            let forward = Sent { direction: Direction::Forward, ..sent };
            let recorded = world.talk(forward).books[rules.identity(forward).0].recorded;
            if sent.direction == Direction::Compensation && rules.leaves_tombstone(recorded) {
                record(rules, world, forward, Recorded::Tombstoned);
            }
            world.answer(sent, Answer::Succeeded);
        }
        Handling::Reject => {
            record(rules, world, sent, Recorded::Rejected { redrive });
            world.answer(sent, Answer::Rejected);
        }
        Handling::Fail => {
            record(rules, world, sent, Recorded::Failed { attempt, redrive });
            world.answer(sent, Answer::Failed);
        }
        Handling::Claim => record(rules, world, sent, Recorded::Claimed),
        Handling::Call => {
            effect(rules, world, sent, true);
            record(rules, world, sent, Recorded::Claimed);
        }
    }
}

fn record(rules: &impl Rules, world: &mut World, sent: Sent, recorded: Recorded) {
    world.steps[sent.step.at()].outside |= recorded == Recorded::Claimed;
    world.talk_mut(sent).books[rules.identity(sent).0].recorded = Some(recorded);
}

/// The effect happens. One outside happens once under one id, and undoing what is not there does nothing there.
fn effect(rules: &impl Rules, world: &mut World, sent: Sent, outside: bool) {
    let identity = rules.identity(sent).0;
    let step = &mut world.steps[sent.step.at()];
    let book = &mut step.talk_mut(sent.direction).books[identity];
    let outside = outside || book.recorded == Some(Recorded::Claimed);
    let again = std::mem::replace(&mut book.made, true);
    match sent.direction {
        Direction::Forward if outside && again => {}
        Direction::Forward => step.done += 1,
        Direction::Compensation if step.done == 0 && (outside || step.outside) => {}
        Direction::Compensation => step.done -= 1,
    }
    let twice = again && !outside && !step.outside;
    if twice || !(0..=1).contains(&step.done) {
        world.fault = Some(Fault::Twice);
    }
}
