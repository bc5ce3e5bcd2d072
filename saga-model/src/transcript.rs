//! A run of the model as text: the lines of a saga's transcript, and between them, indented, what its participants did.

use saga_defs::Data;
use saga_defs::definition::StepKind;
use saga_defs::ids::{Direction, StepIndex};
use saga_defs::machine::Transition;
use saga_defs::render::{Columns, Line, transcript_line};
use saga_defs::saga::{Event, Saga, State};

use crate::model::Action;
use crate::participants::{Did, Handling, take};
use crate::rules::Rules;
use crate::sagas::Sagas;
use crate::world::{Answer, Sent, World};

/// Writes a run down: its worlds, and what happened in each.
pub(crate) fn write<R: Rules>(sagas: &Sagas<R>, run: &[(World, Option<Action>)]) -> String {
    let begun = sagas.begin();
    let started = Event::Started { input: Data::new(), business_key: None, traceparent: None };
    let mut lines =
        vec![transcript_line(&sagas.definition, None, &started, &Transition::Moved(begun.clone()))];
    // The saga with its times and texts, which the model leaves out.
    let mut saga = begun.saga;
    for (world, action) in run {
        match action {
            Some(Action::Work(sent, handling)) => {
                let did = take(&sagas.rules, &mut world.clone(), *sent, *handling);
                lines.push(work(sagas, &saga, *sent, did));
            }
            Some(Action::Saga(what)) => {
                let Some((event, moved)) = sagas.apply(&saga, *what) else { continue };
                let done = Transition::Moved(moved.clone());
                lines.push(transcript_line(&sagas.definition, Some(&saga), &event, &done));
                saga = moved.saga;
            }
            None => {}
        }
    }
    let mut text = Columns::lines(&lines);
    if let Some((last, _)) = run.last() {
        text.push_str(&end(sagas, &saga, last));
    }
    text
}

fn work<R: Rules>(sagas: &Sagas<R>, saga: &Saga, sent: Sent, did: Did) -> Line {
    let participant = sagas.definition.step(sent.step).map_or("", |step| &*step.participant);
    let then = match did {
        Did::Handled(Handling::Succeed) => "done",
        Did::Handled(Handling::Reject) => "refused",
        Did::Handled(Handling::Fail) => "failed, nothing done",
        Did::Handled(Handling::Claim) => "claimed, then a crash before the call",
        Did::Handled(Handling::Call) => "claimed and called, then a crash",
        Did::Replayed(Answer::Succeeded) => "answered again: done",
        Did::Replayed(Answer::Rejected) => "answered again: refused",
        Did::Replayed(Answer::Failed) => "answered again: failed",
        Did::Tombstoned => "nothing to undo; a tombstone",
        Did::TooLate => "refused: already undone",
    };
    let awaited = matches!(saga.state, State::Awaiting(at) if Sent::from(at) == sent);
    Line {
        what: format!("  {participant}: {}", command(sagas, sent)),
        then: then.to_owned(),
        note: if awaited { String::new() } else { "late".to_owned() },
    }
}

fn command<R: Rules>(sagas: &Sagas<R>, sent: Sent) -> String {
    let undo = if sent.direction == Direction::Compensation { "undo " } else { "" };
    let again = if sent.redrive > 0 { " redriven" } else { "" };
    format!("{undo}{} #{}{again}", name(sagas, sent.step), sent.attempt)
}

fn name<R: Rules>(sagas: &Sagas<R>, step: StepIndex) -> &str {
    sagas.definition.step(step).map_or("", |step| &*step.name)
}

/// What the saga says, and what is really done.
fn end<R: Rules>(sagas: &Sagas<R>, saga: &Saga, world: &World) -> String {
    let statuses: Vec<&str> = saga.steps.iter().map(|step| step.status.as_str()).collect();
    let done: Vec<String> = (0_u16..)
        .map(StepIndex)
        .zip(&world.steps)
        .filter(|(_, step)| step.done != 0)
        .map(|(at, step)| {
            let times = if step.done == 1 { String::new() } else { format!(" {} times", step.done) };
            let kind = sagas.definition.step(at).map(|step| &step.kind);
            let undoable = matches!(kind, Some(StepKind::Compensatable { .. }));
            let for_ever = if undoable { "" } else { " (nothing undoes it)" };
            format!("{}{times}{for_ever}", name(sagas, at))
        })
        .collect();
    let done = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
    format!("= {}: {}\n= really done: {done}\n", saga.status().as_str(), statuses.join(", "))
}
