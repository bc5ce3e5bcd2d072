//! I3 and I4 for every recipe: what was done for a saga is what its end says. The oracle of the end-to-end tests knows
//! bookings; this knows any definition, from the effects of all participants in one order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use saga_defs::definition::StepKind;
use saga_defs::ids::{CommandId, Direction, SagaId};
use saga_defs::saga::{Event, Status};

use crate::recipes;
use crate::store::rows::Rows;
use crate::worker::Participant;
use crate::worker::books::Effect;

/// What of the effects does not fit the ends of the sagas.
pub fn judge(rows: &Rows, participants: &[Arc<Participant>]) -> Vec<String> {
    let mut effects: Vec<Effect> = Vec::new();
    for participant in participants {
        effects.extend(participant.books().effects().iter().cloned());
    }
    effects.sort_by_key(|effect| effect.at);
    let mut found = twice(&effects);
    let mut by_saga: BTreeMap<SagaId, Vec<&Effect>> = BTreeMap::new();
    for effect in &effects {
        by_saga.entry(effect.saga).or_default().push(effect);
    }
    let skipped = skipped(rows);
    for saga in rows.sagas.values().filter(|saga| !skipped.contains(&saga.id)) {
        let recipe = recipes::all().iter().find(|recipe| recipe.id.name == saga.definition);
        let done = by_saga.get(&saga.id).map(Vec::as_slice).unwrap_or_default();
        let steps = recipe.into_iter().flat_map(|recipe| &recipe.steps);
        let kinds: Vec<(&str, bool)> =
            steps.map(|step| (&*step.name, matches!(step.kind, StepKind::Compensatable { .. }))).collect();
        let complaint = match saga.status {
            Status::Completed => completed(&kinds, done),
            Status::Compensated => compensated(&kinds, done),
            _ => None,
        };
        found.extend(complaint.map(|what| format!("I4 {what}: {} ({})", saga.id, saga.definition)));
    }
    found
}

/// Sagas of which an operator took something as done: nobody can say what is.
pub(crate) fn skipped(rows: &Rows) -> HashSet<SagaId> {
    let skips = |event: &str| matches!(Event::from_json(event.as_bytes()), Ok(Event::Skip { .. }));
    let lines = rows.journal.values().flatten();
    lines.filter(|row| skips(&row.event)).map(|row| SagaId::from_uuid(row.saga)).collect()
}

fn twice(effects: &[Effect]) -> Vec<String> {
    let mut seen: HashSet<CommandId> = HashSet::new();
    let doubled = effects.iter().filter(|effect| !seen.insert(effect.command));
    doubled.map(|effect| format!("I3 effect happened twice: {} of {}", effect.step, effect.saga)).collect()
}

fn count(done: &[&Effect], step: &str, direction: Direction) -> usize {
    done.iter().filter(|effect| effect.step == step && effect.direction == direction).count()
}

fn completed(steps: &[(&str, bool)], done: &[&Effect]) -> Option<String> {
    for (step, _) in steps {
        let (forward, undone) =
            (count(done, step, Direction::Forward), count(done, step, Direction::Compensation));
        if (forward, undone) != (1, 0) {
            return Some(format!("completed with {step} done {forward} and undone {undone} times"));
        }
    }
    None
}

fn compensated(steps: &[(&str, bool)], done: &[&Effect]) -> Option<String> {
    let mut undone_order = Vec::new();
    for (place, (step, can_be_undone)) in steps.iter().enumerate() {
        let (forward, undone) =
            (count(done, step, Direction::Forward), count(done, step, Direction::Compensation));
        if forward != undone && (forward > 0 || undone > 1) || (forward > 0 && !can_be_undone) {
            return Some(format!("compensated with {step} done {forward} and undone {undone} times"));
        }
        let at = |wanted| done.iter().position(|e| e.step == *step && e.direction == wanted);
        if let (Some(doing), Some(undoing)) = (at(Direction::Forward), at(Direction::Compensation)) {
            if undoing < doing {
                return Some(format!("compensated with {step} done after it was undone"));
            }
            undone_order.push((undoing, place));
        }
    }
    undone_order.sort_unstable();
    let backwards = undone_order.windows(2).all(|pair| pair[0].1 > pair[1].1);
    (!backwards).then(|| "undone in a wrong order".to_owned())
}
