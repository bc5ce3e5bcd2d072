//! One saga: its journal is replayed through the machine, line by line, and held against what the journal says came of
//! it and against the saga's row. Pure.

use std::sync::Arc;

use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{CommandId, DeadLetterId, Direction, SagaId, StepIndex};
use saga_defs::machine::{self, Moment, Moved, Transition, Why};
use saga_defs::saga::{Effect, Event, Saga, State, Status, StepStatus, Try};
use saga_defs::time::Timestamp;

use super::difference::{Difference, Found, Kind, Place};
use super::row;
use crate::store::body::body_of;
use crate::store::snapshot::{AuditLine, JournalLine, LetterLine, SagaLine};

/// What is known of a saga besides its journal and row.
#[derive(Clone, Debug)]
pub struct About {
    /// Its recipe, or why there is none.
    pub definition: Result<Arc<Definition>, NoRecipe>,
    /// The shard it belongs to, if the number of shards is known.
    pub shard: Option<i32>,
    /// Where the journal begins, if older days have been dropped.
    pub journal_from: Option<Timestamp>,
}

/// Why a saga has no recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRecipe {
    /// It is not published.
    Missing,
    /// Its text cannot be parsed.
    Unreadable(String),
}

/// How far the replay is.
#[derive(Debug)]
enum Replay {
    /// No line yet.
    Ahead,
    /// So far the saga is this.
    At(Box<Saga>),
    /// The beginning was dropped with its day: only the numbers of what is left can be checked.
    Tail,
    /// A difference was found that leaves nothing to go on from.
    Lost,
}

/// What came of one saga's check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Whether its whole journal was there to be replayed.
    pub replayed: bool,
    /// Whether it waits for a reply or a timer.
    pub waits: bool,
}

/// The check of one saga. Memory: the saga, and its operators' verbs.
pub struct History<'a> {
    row: &'a SagaLine,
    about: About,
    replay: Replay,
    revision: i32,
    status: Option<Status>,
    /// A sending whose command the last line did not have; then the next line must say that it cannot be built.
    unbuilt: Option<(Try, Place)>,
    /// The step whose compensation was asked for last.
    undone: Option<StepIndex>,
    verbs: Vec<Verb>,
    effects: Vec<u8>,
}

/// An operator's act, as the journal has it.
struct Verb {
    at: Timestamp,
    place: Place,
    /// Under which names the audit may have it.
    names: &'static [&'static str],
}

impl<'a> History<'a> {
    /// Of the saga with that row.
    pub fn new(row: &'a SagaLine, about: About, found: &mut Found<'_>) -> Self {
        let place = Place::of_saga(row.id);
        let named = format!("{} version {}", row.definition, row.version);
        match &about.definition {
            Ok(_) => {}
            Err(NoRecipe::Missing) => {
                found(Difference::new(place, Kind::NoDefinition, format!("a definition {named}"), "none"));
            }
            Err(NoRecipe::Unreadable(problem)) => {
                let kind = Kind::UnreadableDefinition;
                found(Difference::new(place, kind, format!("a definition {named}"), problem.as_str()));
            }
        }
        if let Some(shard) = about.shard.filter(|&shard| shard != row.shard) {
            found(Difference::new(place, Kind::Shard, format!("shard {shard}"), format!("{}", row.shard)));
        }
        Self {
            row,
            about,
            replay: Replay::Ahead,
            revision: 0,
            status: None,
            unbuilt: None,
            undone: None,
            verbs: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// The next line of its journal.
    pub fn line(&mut self, line: &JournalLine, found: &mut Found<'_>) {
        let place = Place {
            chain: None,
            saga: Some(line.saga),
            revision: Some(line.revision),
            shard: Some(line.shard),
            seq: Some(line.seq),
        };
        self.numbers(line, place, found);
        let recorded = std::str::from_utf8(&line.status).ok().and_then(Status::parse);
        self.status = recorded;
        let event = match Event::from_json(&line.event) {
            Ok(event) => event,
            Err(error) => {
                let what = format!("{} ({error})", String::from_utf8_lossy(&line.event));
                found(Difference::new(place, Kind::UnreadableEvent, "an event", what));
                self.replay = Replay::Lost;
                return;
            }
        };
        self.built(Some(&event), found);
        self.verbs.extend(names(&event).map(|names| Verb { at: line.at, place, names }));
        let Some(moved) = self.moved(line.at, &event, place, found) else { return };
        let status = moved.saga.status();
        if recorded != Some(status) {
            let text = String::from_utf8_lossy(&line.status).into_owned();
            found(Difference::new(place, Kind::Status, status.as_str(), text));
        }
        self.effects(line, &moved, place, found);
        if line.body_bytes == 0 {
            let sent = moved.effects.iter().find_map(|effect| match effect {
                Effect::Send(at) => Some(*at),
                _ => None,
            });
            self.unbuilt = sent.map(|at| (at, place));
        }
        self.replay = Replay::At(Box::new(moved.saga));
    }

    /// Holds the end of the journal against the row.
    pub fn finish(mut self, letters: &[LetterLine], audit: &[AuditLine], found: &mut Found<'_>) -> Checked {
        let place = Place::of_saga(self.row.id);
        self.built(None, found);
        if self.revision == 0 && matches!(self.replay, Replay::Ahead) {
            if self.dropped_before(self.row.updated_at) {
                self.replay = Replay::Tail;
                self.revision = self.row.revision;
            } else {
                let expected = format!("a journal of {} revisions", self.row.revision);
                found(Difference::new(place, Kind::NoJournal, expected, "none"));
                self.replay = Replay::Lost;
            }
        }
        self.audited(audit, found);
        let replayed = match (std::mem::replace(&mut self.replay, Replay::Lost), &self.about.definition) {
            (Replay::At(saga), Ok(definition)) => {
                row::compare_columns(self.row, definition, &saga, found);
                ended_well(&saga, place, found);
                Some(saga)
            }
            (replay, _) => {
                self.replay = replay;
                None
            }
        };
        // A body that is the same text need not be read.
        let (saga, replayed) = match replayed {
            Some(saga) if body_of(&saga).as_bytes() == self.row.body => (Some(saga), true),
            replayed => {
                let read = self.read(found);
                match (&replayed, &read) {
                    (Some(saga), Some(read)) => row::compare_bodies(saga, read, found),
                    (None, Some(read)) => self.tail(read, place, found),
                    (_, None) => {}
                }
                (read, replayed.is_some())
            }
        };
        let Some(saga) = saga else { return Checked { replayed, waits: false } };
        if let (State::Stuck { at, .. }, Ok(definition)) = (&saga.state, &self.about.definition) {
            stuck_with_letter(definition, &saga, *at, letters, found);
        }
        Checked { replayed, waits: matches!(saga.state, State::Awaiting(_) | State::Backoff { .. }) }
    }

    /// A command is kept with the line that asks for it, unless the saga was told at once that it cannot be built or is
    /// withheld.
    fn built(&mut self, next: Option<&Event>, found: &mut Found<'_>) {
        let Some((at, place)) = self.unbuilt.take() else { return };
        let told = match next {
            Some(Event::Unsendable { attempt, .. } | Event::Withheld(attempt)) => *attempt == at,
            _ => false,
        };
        if !told {
            let name = self.about.definition.as_ref().ok().and_then(|recipe| recipe.step(at.step));
            let name = name.map_or("?", |step| &*step.name);
            found(Difference::new(place, Kind::Command, format!("the command of {name}"), "none"));
        }
    }

    fn read(&self, found: &mut Found<'_>) -> Option<Box<Saga>> {
        row::read(self.row)
            .map(Box::new)
            .inspect_err(|error| {
                let what = format!("{} ({error})", String::from_utf8_lossy(&self.row.body));
                let place = Place::of_saga(self.row.id);
                found(Difference::new(place, Kind::UnreadableRow, "a saga", what));
            })
            .ok()
    }

    fn dropped_before(&self, at: Timestamp) -> bool {
        self.about.journal_from.is_some_and(|from| at < from)
    }

    /// Revision and shard of a line.
    fn numbers(&mut self, line: &JournalLine, place: Place, found: &mut Found<'_>) {
        // Once is enough: the others will be there too.
        if let Some(shard) = self.about.shard.take_if(|shard| *shard != line.shard) {
            found(Difference::new(place, Kind::Shard, format!("shard {shard}"), format!("{}", line.shard)));
        }
        let first = matches!(self.replay, Replay::Ahead);
        if first && line.revision > 1 && self.dropped_before(self.row.started_at) {
            self.replay = Replay::Tail;
        } else if line.revision != self.revision + 1 {
            let expected = format!("revision {}", self.revision + 1);
            found(Difference::new(place, Kind::Revision, expected, format!("revision {}", line.revision)));
            self.replay = Replay::Lost;
        }
        self.revision = line.revision;
    }

    /// What the machine makes of the event.
    fn moved(&mut self, at: Timestamp, event: &Event, place: Place, found: &mut Found<'_>) -> Option<Moved> {
        let Ok(definition) = &self.about.definition else { return None };
        let why = match (&self.replay, event) {
            (Replay::Tail | Replay::Lost, _) => return None,
            (Replay::Ahead, Event::Started { input, business_key, traceparent }) => {
                let id = SagaId::from_uuid(self.row.id);
                return Some(machine::start(
                    definition,
                    id,
                    input,
                    business_key.clone(),
                    traceparent.clone(),
                    at,
                ));
            }
            (Replay::Ahead, _) => "it does not begin the saga",
            (Replay::At(saga), event) => {
                match machine::transition(definition, saga, event, Moment::of(saga, at)) {
                    Transition::Moved(moved) => return Some(moved),
                    Transition::Ignored(Why::Ended) => "ended",
                    Transition::Ignored(why) => why.as_str(),
                }
            }
        };
        let shown = row::json(event);
        let ended = matches!(&self.replay, Replay::At(saga) if saga.current().is_none());
        if ended {
            found(Difference::new(place, Kind::AfterEnd, "no transition after the end", shown));
        } else {
            let expected = "an event that moves the saga";
            found(Difference::new(place, Kind::IgnoredEvent, expected, format!("{shown}, ignored ({why})")));
        }
        self.replay = Replay::Lost;
        None
    }

    /// The effects as recorded against those of the machine: as text first, since that is how they were written.
    fn effects(&mut self, line: &JournalLine, moved: &Moved, place: Place, found: &mut Found<'_>) {
        self.effects.clear();
        // Our own types always have a JSON form; without one the texts differ.
        let _ = serde_json::to_writer(&mut self.effects, &moved.effects);
        if self.effects == *line.effects {
            return self.undone_in_order(&moved.effects, place, found);
        }
        match serde_json::from_slice::<Vec<Effect>>(&line.effects) {
            Ok(recorded) => {
                if recorded != moved.effects {
                    let text = String::from_utf8_lossy(&line.effects).into_owned();
                    found(Difference::new(place, Kind::Effects, row::json(&moved.effects), text));
                }
                self.undone_in_order(&recorded, place, found);
            }
            Err(error) => {
                let what = format!("{} ({error})", String::from_utf8_lossy(&line.effects));
                found(Difference::new(place, Kind::Effects, row::json(&moved.effects), what));
            }
        }
    }

    /// Compensations go from the last step to the first, never concern a step that has none, and nothing goes forward
    /// after them. Looks at the recorded effects alone, so that it does not lean on the machine.
    fn undone_in_order(&mut self, recorded: &[Effect], place: Place, found: &mut Found<'_>) {
        for effect in recorded {
            let Effect::Send(at) = effect else { continue };
            let Ok(definition) = &self.about.definition else { return };
            let step = definition.step(at.step);
            let name = step.map_or("no step", |step| &*step.name);
            let wrong = match (at.direction, self.undone) {
                (Direction::Forward, None) => None,
                (Direction::Forward, Some(_)) => Some(format!("{name} going forward after a compensation")),
                (Direction::Compensation, Some(last)) if at.step > last => {
                    Some(format!("{name} undone after a step before it"))
                }
                (Direction::Compensation, _) => {
                    let undoable =
                        step.is_some_and(|step| matches!(step.kind, StepKind::Compensatable { .. }));
                    (!undoable).then(|| format!("{name} undone, which cannot be"))
                }
            };
            if let Some(wrong) = wrong {
                found(Difference::new(place, Kind::UndoneWrongly, "compensations from last to first", wrong));
            }
            if at.direction == Direction::Compensation {
                self.undone = Some(at.step);
            }
        }
    }

    /// Without a replay, the last line must still agree with the row.
    fn tail(&self, row: &Saga, place: Place, found: &mut Found<'_>) {
        if matches!(self.replay, Replay::Lost) && self.revision == 0 {
            return;
        }
        if self.revision != self.row.revision {
            let expected = format!("revision {}", self.revision);
            found(Difference::new(place, Kind::Row, expected, format!("revision {}", self.row.revision)));
        }
        let status = self.status.unwrap_or_else(|| row.status());
        if self.row.status != status.as_str() || row.status() != status {
            let text = String::from_utf8_lossy(&self.row.status);
            let what = format!("status {text} and a body that is {}", row.status().as_str());
            found(Difference::new(place, Kind::Row, format!("status {}", status.as_str()), what));
        }
    }

    /// Each verb has its line in the audit, and each line its verb.
    fn audited(&self, audit: &[AuditLine], found: &mut Found<'_>) {
        let mut left: Vec<&AuditLine> = audit.iter().collect();
        for verb in &self.verbs {
            let matches = |line: &&AuditLine| line.at == verb.at && verb.names.contains(&&*line.verb);
            match left.iter().position(matches) {
                Some(position) => {
                    left.swap_remove(position);
                }
                None => {
                    let expected = format!("the verb {} in the audit", verb.names[0]);
                    found(Difference::new(verb.place, Kind::NoAudit, expected, "none"));
                }
            }
        }
        // A letter of an ended saga is redriven or discarded without a transition.
        let of_sagas = |line: &&AuditLine| VERBS.contains(&&*line.verb) && !self.dropped_before(line.at);
        for line in left.into_iter().filter(of_sagas) {
            let what = format!("the audit of {} at {}", line.verb, line.at);
            let place = Place::of_saga(self.row.id);
            found(Difference::new(place, Kind::AuditOnly, "a transition for each verb", what));
        }
    }
}

/// What the audit calls the verbs that always are a transition.
const VERBS: [&str; 4] = ["cancel", "redrive", "skip", "retry-now"];

/// What the audit may call the verb that an event comes from; `None` where no operator is behind it.
fn names(event: &Event) -> Option<&'static [&'static str]> {
    match event {
        Event::Cancel { .. } => Some(&["cancel"]),
        Event::Redrive { .. } => Some(&["redrive", "redrive-dead-letter"]),
        Event::Skip { .. } => Some(&["skip"]),
        Event::RetryNow { .. } => Some(&["retry-now"]),
        Event::LetterRedriven { .. } => Some(&["redrive-dead-letter"]),
        Event::Started { .. }
        | Event::Replied { .. }
        | Event::TimedOut(_)
        | Event::RetryDue(_)
        | Event::DeadlinePassed
        | Event::DeadlineStopped
        | Event::DeadlineResumed
        | Event::Unsendable { .. }
        | Event::Withheld(_)
        | Event::Quarantined { .. } => None,
    }
}

/// `completed` means that every step is done, `compensated` that nothing is left.
fn ended_well(saga: &Saga, place: Place, found: &mut Found<'_>) {
    let left = |wrong: fn(StepStatus) -> bool| {
        saga.steps
            .iter()
            .position(|record| wrong(record.status))
            .and_then(|at| Some((at, saga.steps.get(at)?)))
    };
    let (kind, expected, wrong) = match saga.state {
        State::Completed => {
            (Kind::NotCompleted, "every step succeeded", left(|status| status != StepStatus::Succeeded))
        }
        State::Compensated => {
            let harmless = |status| {
                matches!(status, StepStatus::Pending | StepStatus::Rejected | StepStatus::Compensated)
            };
            let left = saga.steps.iter().enumerate().find(|(_, record)| !harmless(record.status));
            (Kind::NotCompensated, "nothing left to undo", left)
        }
        State::Awaiting(_) | State::Backoff { .. } | State::Stuck { .. } => return,
    };
    if let Some((step, record)) = wrong {
        found(Difference::new(
            place,
            kind,
            expected,
            format!("step {} {}", step + 1, record.status.as_str()),
        ));
    }
}

/// A saga that waits for a person can be seen in the list of dead letters, unless a person took it off.
fn stuck_with_letter(
    definition: &Definition,
    saga: &Saga,
    at: Try,
    letters: &[LetterLine],
    found: &mut Found<'_>,
) {
    let Some(step) = definition.step(at.step) else { return };
    let id = DeadLetterId::of_command(CommandId::derive(saga.id, &step.name, at.direction));
    let place = Place::of_saga(saga.id.as_uuid());
    let expected = format!("the dead letter {id} of step {}", step.name);
    match letters.iter().find(|letter| letter.id == id.as_uuid()) {
        None => found(Difference::new(place, Kind::NoLetter, expected, "none")),
        Some(letter) if &*letter.status == "resolved" => {
            found(Difference::new(place, Kind::LetterResolved, format!("{expected}, open"), "resolved"));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use saga_defs::saga::StepStatus;

    use super::*;

    const BOOKING: &str = include_str!("../../../saga-defs/definitions/booking.toml");

    fn check(state: State, statuses: [StepStatus; 3]) -> String {
        let definition = Definition::parse(BOOKING).unwrap();
        let id = SagaId::new(Timestamp::from_unix_millis(0), [0; 10]);
        let at = Timestamp::from_unix_millis(0);
        let mut saga = machine::start(&definition, id, &Default::default(), None, None, at).saga;
        saga.state = state;
        for (record, status) in saga.steps.iter_mut().zip(statuses) {
            record.status = status;
        }
        let mut lines = Vec::new();
        ended_well(&saga, Place::default(), &mut |difference| lines.push(difference.to_string()));
        lines.join("\n")
    }

    /// The machine does not come to these; the check must not lean on that.
    #[test]
    fn an_end_that_is_none_is_named() {
        use StepStatus::{Compensated, InDoubt, Pending, Rejected, Succeeded};
        assert_eq!(check(State::Completed, [Succeeded; 3]), "");
        assert_eq!(check(State::Compensated, [Compensated, Rejected, Pending]), "");
        insta::assert_snapshot!(check(State::Completed, [Succeeded, InDoubt, Succeeded]), @": not_completed: expected every step succeeded, found step 2 in_doubt; see the saga's history and ask its participants; report it, for the machine must not allow it");
        insta::assert_snapshot!(check(State::Compensated, [Compensated, InDoubt, Pending]), @": not_compensated: expected nothing left to undo, found step 2 in_doubt; see the saga's history and ask its participants; report it, for the machine must not allow it");
        insta::assert_snapshot!(check(State::Compensated, [Succeeded, Compensated, Rejected]), @": not_compensated: expected nothing left to undo, found step 1 succeeded; see the saga's history and ask its participants; report it, for the machine must not allow it");
    }
}
