//! One line per transition: what happened, what follows, and a word about why.

use std::fmt::Write as _;

use crate::definition::Definition;
use crate::ids::{CommandId, Direction, SagaId, StepIndex};
use crate::machine::{Transition, Why};
use crate::saga::{Effect, Event, Outcome, Reason, Saga, State, Status, Try};

use super::text::plain;

/// One transition in words. Every part is free of line breaks and control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Line {
    /// What happened, e.g. `charge-payment rejected`.
    pub what: String,
    /// What follows, e.g. `undo reserve-booking #1`, `back off`, `stuck at undo charge-payment`, `completed`. Empty in a
    /// line that stands for several.
    pub then: String,
    /// Why, e.g. `payment_declined`; may be empty.
    pub note: String,
}

impl Line {
    /// Whether it has its first part only.
    const fn is_alone(&self) -> bool {
        self.then.is_empty() && self.note.is_empty()
    }
}

/// One transition as the journal and the saga's row keep it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Whose transition.
    pub saga: SagaId,
    /// What happened.
    pub event: &'a Event,
    /// What followed.
    pub effects: &'a [Effect],
    /// The saga's status afterwards.
    pub status: Status,
    /// Why the saga compensates, if it does: the row's reason may be given with every entry, it is used only where the
    /// saga ends.
    pub reason: Option<&'a Reason>,
}

/// Says one transition in one line, from what is stored of it.
pub fn describe(definition: &Definition, entry: &Entry<'_>) -> Line {
    Line {
        what: what(definition, entry.saga, entry.event),
        then: then(definition, entry),
        note: note(definition, entry),
    }
}

/// Says in one line what an event did. `before` is the saga before it, `None` for a start. For a back-off the line has
/// its length; an ignored event has its line too.
pub fn transcript_line(
    definition: &Definition,
    before: Option<&Saga>,
    event: &Event,
    done: &Transition,
) -> Line {
    let moved = match done {
        Transition::Moved(moved) => moved,
        Transition::Ignored(why) => {
            let what = before.map_or_else(|| verb(event).to_owned(), |saga| what(definition, saga.id, event));
            return Line { what, then: "ignored".to_owned(), note: why_words(*why).to_owned() };
        }
    };
    let saga = &moved.saga;
    let entry = Entry {
        saga: saga.id,
        event,
        effects: &moved.effects,
        status: saga.status(),
        reason: saga.reason.as_ref(),
    };
    let mut line = describe(definition, &entry);
    if let State::Backoff { until, .. } = &saga.state
        && !before.is_some_and(|before| before.state == saga.state)
        && !matches!(event, Event::Withheld(_))
    {
        let wait = humantime::format_duration(until.since(saga.updated_at));
        line.then = format!("back off {wait}");
    }
    line
}

fn what(definition: &Definition, saga: SagaId, event: &Event) -> String {
    match event {
        Event::Replied { command_id, outcome, .. } => match step_of(definition, saga, *command_id) {
            Some((step, direction)) => {
                let step = plain(step);
                match (direction, outcome) {
                    (Direction::Forward, Outcome::Succeeded { .. }) => format!("{step} succeeded"),
                    (Direction::Forward, Outcome::Rejected { .. }) => format!("{step} rejected"),
                    (Direction::Forward, Outcome::Failed { .. }) => format!("{step} failed"),
                    (Direction::Compensation, Outcome::Succeeded { .. }) => format!("{step} undone"),
                    (Direction::Compensation, Outcome::Rejected { .. }) => format!("undo {step} rejected"),
                    (Direction::Compensation, Outcome::Failed { .. }) => format!("undo {step} failed"),
                }
            }
            None => "reply to an unknown command".to_owned(),
        },
        Event::TimedOut(at) => format!("{} timed out", command(definition, *at)),
        Event::RetryDue(at) => format!("{} due", command(definition, *at)),
        Event::Unsendable { attempt, .. } => format!("{} cannot be sent", command(definition, *attempt)),
        Event::Withheld(at) => format!("{} withheld", command(definition, *at)),
        Event::Started { .. }
        | Event::DeadlinePassed
        | Event::DeadlineStopped
        | Event::DeadlineResumed
        | Event::Quarantined { .. }
        | Event::LetterRedriven { .. }
        | Event::Cancel { .. }
        | Event::Redrive { .. }
        | Event::Skip { .. }
        | Event::RetryNow { .. } => verb(event).to_owned(),
    }
}

const fn verb(event: &Event) -> &'static str {
    match event {
        Event::Started { .. } => "start",
        Event::Replied { .. } => "reply",
        Event::TimedOut(_) => "timeout",
        Event::RetryDue(_) => "retry due",
        Event::DeadlinePassed => "deadline passed",
        Event::DeadlineStopped => "deadline stopped",
        Event::DeadlineResumed => "deadline resumed",
        Event::Unsendable { .. } => "cannot be sent",
        Event::Withheld(_) => "withheld",
        Event::Quarantined { .. } => "quarantined",
        Event::LetterRedriven { .. } => "dead letter redriven",
        Event::Cancel { .. } => "cancel",
        Event::Redrive { input: None, .. } => "redrive",
        Event::Redrive { input: Some(_), .. } => "redrive with input",
        Event::Skip { .. } => "skip",
        Event::RetryNow { .. } => "retry now",
    }
}

fn then(definition: &Definition, entry: &Entry<'_>) -> String {
    let mut then: Vec<String> = Vec::new();
    for effect in entry.effects {
        match effect {
            Effect::Send(at) => then.push(command(definition, *at)),
            Effect::AnnounceEnd { status } => then.push(status.as_str().to_owned()),
            Effect::DeadLetter { attempt, .. } => {
                then.push(format!("stuck at {}", undo(definition, attempt.step, attempt.direction)));
            }
            Effect::SendLetter { .. } => then.push("letter sent".to_owned()),
            Effect::AnnounceStart
            | Effect::RedriveLetter { .. }
            | Effect::ResolveLetters { .. }
            | Effect::ReopenLetters { .. } => {}
        }
    }
    match entry.event {
        Event::Withheld(at) => {
            let participant = definition.step(at.step).map_or("its participant", |step| &step.participant);
            format!("wait for {participant}")
        }
        Event::DeadlineStopped => "wait for a participant that is held".to_owned(),
        Event::DeadlineResumed => "wait for the answer".to_owned(),
        _ if then.is_empty() => "back off".to_owned(),
        _ => then.join(", "),
    }
}

fn note(definition: &Definition, entry: &Entry<'_>) -> String {
    let mut notes: Vec<String> = Vec::new();
    notes.extend(said(entry).map(|text| plain(&text)).filter(|text| !text.is_empty()));
    if in_doubt(definition, entry) {
        notes.push("in doubt".to_owned());
    }
    for effect in entry.effects {
        match effect {
            Effect::ResolveLetters { letters } => notes.push(counted(letters.len(), "resolved")),
            Effect::ReopenLetters { letters } => notes.push(counted(letters.len(), "reopened")),
            Effect::Send(_)
            | Effect::AnnounceStart
            | Effect::AnnounceEnd { .. }
            | Effect::DeadLetter { .. }
            | Effect::RedriveLetter { .. }
            | Effect::SendLetter { .. } => {}
        }
    }
    notes.join(", ")
}

/// The code or the words that came with the event, or at the end those that the saga compensated for.
fn said(entry: &Entry<'_>) -> Option<String> {
    match entry.event {
        Event::Replied { outcome: Outcome::Rejected { refusal } | Outcome::Failed { refusal }, .. } => {
            Some(refusal.code.to_string())
        }
        Event::Unsendable { cause, .. } | Event::Quarantined { cause } => Some(cause.code.to_string()),
        Event::Cancel { reason }
        | Event::Redrive { reason, .. }
        | Event::Skip { reason }
        | Event::RetryNow { reason }
        | Event::LetterRedriven { reason, .. } => Some(reason.to_string()),
        Event::Replied { outcome: Outcome::Succeeded { .. }, .. }
        | Event::Started { .. }
        | Event::TimedOut(_)
        | Event::RetryDue(_)
        | Event::Withheld(_)
        | Event::DeadlineStopped
        | Event::DeadlineResumed
        | Event::DeadlinePassed => {
            let compensated =
                |effect: &Effect| matches!(effect, Effect::AnnounceEnd { status: Status::Compensated });
            let reason = entry.reason.filter(|_| entry.effects.iter().any(compensated))?;
            Some(reason.refusal.code.to_string())
        }
    }
}

/// Whether the event left its step neither done nor undone for sure: its own compensation follows, or an operator.
fn in_doubt(definition: &Definition, entry: &Entry<'_>) -> bool {
    let step = match entry.event {
        Event::TimedOut(at) | Event::Unsendable { attempt: at, .. } => Some(at.step),
        Event::Replied { command_id, .. } => {
            step_of(definition, entry.saga, *command_id).and_then(|(name, direction)| {
                let forward = direction == Direction::Forward;
                let position = definition.steps.iter().position(|step| forward && *step.name == *name);
                position.and_then(|at| u16::try_from(at).ok()).map(StepIndex)
            })
        }
        Event::Started { .. }
        | Event::RetryDue(_)
        | Event::Withheld(_)
        | Event::DeadlinePassed
        | Event::DeadlineStopped
        | Event::DeadlineResumed
        | Event::Quarantined { .. }
        | Event::LetterRedriven { .. }
        | Event::Cancel { .. }
        | Event::Redrive { .. }
        | Event::Skip { .. }
        | Event::RetryNow { .. } => None,
    };
    entry.effects.iter().any(|effect| match effect {
        Effect::Send(at) => at.direction == Direction::Compensation && Some(at.step) == step,
        Effect::DeadLetter { attempt, .. } => attempt.direction == Direction::Forward && attempt.doubt,
        Effect::AnnounceStart
        | Effect::AnnounceEnd { .. }
        | Effect::RedriveLetter { .. }
        | Effect::SendLetter { .. }
        | Effect::ResolveLetters { .. }
        | Effect::ReopenLetters { .. } => false,
    })
}

fn counted(letters: usize, fate: &str) -> String {
    if letters == 1 { format!("letter {fate}") } else { format!("{letters} letters {fate}") }
}

fn step_of(definition: &Definition, saga: SagaId, command: CommandId) -> Option<(&str, Direction)> {
    definition.steps.iter().find_map(|step| {
        [Direction::Forward, Direction::Compensation]
            .into_iter()
            .find(|direction| CommandId::derive(saga, &step.name, *direction) == command)
            .map(|direction| (&*step.name, direction))
    })
}

/// `charge-payment #2`, `undo charge-payment #2`.
fn command(definition: &Definition, at: Try) -> String {
    format!("{} #{}", undo(definition, at.step, at.direction), at.attempt)
}

fn undo(definition: &Definition, step: StepIndex, direction: Direction) -> String {
    let name = definition.step(step).map_or_else(|| format!("step {}", step.0), |step| plain(&step.name));
    match direction {
        Direction::Forward => name,
        Direction::Compensation => format!("undo {name}"),
    }
}

const fn why_words(why: Why) -> &'static str {
    match why {
        Why::Ended => "the saga has ended",
        Why::Late => "late",
        Why::Foreign => "foreign",
        Why::Stale => "stale",
        Why::NotStuck => "not stuck",
        Why::NotInBackoff => "not in back-off",
        Why::Compensating => "compensates already",
        Why::PointOfNoReturn => "past the point of no return",
        Why::Begun => "begun already",
    }
}

/// The widths that align lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Columns {
    what: usize,
    then: usize,
}

impl Columns {
    /// As wide as these lines need; a line of one part alone needs no column.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Self {
        lines.into_iter().filter(|line| !line.is_alone()).fold(Self::default(), |widest, line| Self {
            what: widest.what.max(line.what.chars().count()),
            then: widest.then.max(line.then.chars().count()),
        })
    }

    /// Wide enough for what usually happens to sagas of this definition, for lines that come one at a time.
    pub fn for_definition(definition: &Definition) -> Self {
        let name = definition.steps.iter().map(|step| plain(&step.name).chars().count()).max().unwrap_or(0);
        Self { what: name + " succeeded".len(), then: name + "undo  #1".len() }
    }

    /// One line, without a line break: `what -> then   note`. A part that is wider than its column pushes the rest.
    pub fn line(self, line: &Line) -> String {
        let Line { what, then, note } = line;
        let (left, middle) = (self.what, self.then);
        if line.is_alone() {
            what.clone()
        } else if note.is_empty() {
            format!("{what:left$} -> {then}")
        } else {
            format!("{what:left$} -> {then:middle$}  {note}")
        }
    }

    /// Several lines, each with its line break.
    pub fn lines<'a>(lines: impl IntoIterator<Item = &'a Line> + Clone) -> String {
        let columns = Self::of(lines.clone());
        let mut text = String::new();
        for line in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", columns.line(line));
        }
        text
    }
}
