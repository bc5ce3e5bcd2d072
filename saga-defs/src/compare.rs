//! Two versions of a definition: what is different, and where a recorded run would have gone another way.
//!
//! Running sagas stay on the version they began with, whatever is published; [`compare`] says for each change what that
//! means. What a change does to the runs that there have been is not for reading alone: [`Course::of`] plays them again.

mod course;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::definition::{Definition, Step, StepKind};
use crate::retry::RetryPolicy;

pub use course::{Course, Divergence};

/// One difference between an older and a newer version.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// They are not versions of one definition.
    Name(Old<Arc<str>>),
    /// The newer one does not have the higher number.
    NotNewer(Old<u32>),
    /// The whole saga may take longer or less long.
    Deadline(Old<Duration>),
    /// Their deadline stands still while a participant is held, or does not any more.
    DeadlineStands(Old<bool>),
    /// Another record starts a saga.
    Input(Old<Arc<str>>),
    /// A step that was not there.
    Added {
        /// The step.
        step: Arc<str>,
        /// The step before it; `None` at the beginning.
        after: Option<Arc<str>>,
    },
    /// A step that is not there any more.
    Removed {
        /// The step.
        step: Arc<str>,
    },
    /// A step that does the same at the same place under another name.
    Renamed(Old<Arc<str>>),
    /// A step that comes earlier or later among those that stayed.
    Moved {
        /// The step.
        step: Arc<str>,
        /// The step that now comes before it, of those that stayed; `None` at the beginning.
        after: Option<Arc<str>>,
    },
    /// Something about a step that stayed.
    Step {
        /// The step, by its newer name.
        step: Arc<str>,
        /// What about it.
        what: StepChange,
    },
}

/// What is different about a step.
#[derive(Clone, PartialEq, Debug)]
pub enum StepChange {
    /// What may happen to it.
    Kind(Old<&'static str>),
    /// Who performs it.
    Participant(Old<Arc<str>>),
    /// The record of its command.
    Command(Old<Arc<str>>),
    /// The record of its reply.
    Reply(Old<Arc<str>>),
    /// The command that undoes it.
    Compensation(Old<Option<Arc<str>>>),
    /// Where a field is filled from.
    With {
        /// The field.
        field: String,
        /// The name in the saga's data.
        from: Old<Option<String>>,
    },
    /// How long an attempt waits for its reply.
    Timeout(Old<Duration>),
    /// How often and how fast the command is tried again.
    Retry(Old<RetryPolicy>),
    /// How often and how fast the compensation is tried again.
    CompensationRetry(Old<RetryPolicy>),
}

/// A value before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Old<T> {
    /// In the older version.
    pub old: T,
    /// In the newer version.
    pub new: T,
}

impl<T: PartialEq + Clone> Old<T> {
    fn differing(old: &T, new: &T) -> Option<Self> {
        (old != new).then(|| Self { old: old.clone(), new: new.clone() })
    }
}

/// Everything that differs: about the whole, then about steps that went, then step by step in the newer order.
pub fn compare(old: &Definition, new: &Definition) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(Old::differing(&old.id.name, &new.id.name).map(Change::Name));
    if new.id.name == old.id.name && new.id.version <= old.id.version {
        changes.push(Change::NotNewer(Old { old: old.id.version, new: new.id.version }));
    }
    changes.extend(Old::differing(&old.deadline, &new.deadline).map(Change::Deadline));
    let stands = Old::differing(&old.deadline_stands_while_held, &new.deadline_stands_while_held);
    changes.extend(stands.map(Change::DeadlineStands));
    changes.extend(Old::differing(&old.input, &new.input).map(Change::Input));
    let pairs = pairs(old, new);
    let paired = |at: usize| pairs.iter().any(|&(_, old)| old == Some(at));
    let removed = old.steps.iter().enumerate().filter(|(at, _)| !paired(*at));
    changes.extend(removed.map(|(_, step)| Change::Removed { step: step.name.clone() }));
    let moved = moved(&pairs);
    let mut stayed: Option<Arc<str>> = None;
    let mut before: Option<Arc<str>> = None;
    for (step, was) in &pairs {
        match was.and_then(|at| old.steps.get(at).map(|was| (at, was))) {
            None => changes.push(Change::Added { step: step.name.clone(), after: before.clone() }),
            Some((at, was)) => {
                changes.extend(Old::differing(&was.name, &step.name).map(Change::Renamed));
                if moved.contains(&at) {
                    changes.push(Change::Moved { step: step.name.clone(), after: stayed.clone() });
                }
                let about = |what| Change::Step { step: step.name.clone(), what };
                changes.extend(step_changes(was, step).into_iter().map(about));
                stayed = Some(step.name.clone());
            }
        }
        before = Some(step.name.clone());
    }
    changes
}

/// Each newer step and the place of the older one that it was: by name, else the one at the same place among those
/// without a namesake that sends the same commands.
fn pairs<'a>(old: &Definition, new: &'a Definition) -> Vec<(&'a Step, Option<usize>)> {
    let named = |steps: &[Step], name: &str| steps.iter().position(|step| *step.name == *name);
    let mut pairs: Vec<(&Step, Option<usize>)> =
        new.steps.iter().map(|step| (step, named(&old.steps, &step.name))).collect();
    for at in 0..pairs.len() {
        let (step, None) = pairs[at] else { continue };
        // Between the same neighbours: right after what the step before it was.
        let place = at.checked_sub(1).map_or(Some(0), |before| pairs[before].1.map(|was| was + 1));
        let same = place.and_then(|place| old.steps.get(place).map(|was| (place, was)));
        pairs[at].1 = same
            .filter(|(_, was)| named(&new.steps, &was.name).is_none() && does_the_same(was, step))
            .map(|(place, _)| place);
    }
    pairs
}

fn does_the_same(old: &Step, new: &Step) -> bool {
    old.kind == new.kind
        && old.participant == new.participant
        && old.command == new.command
        && old.reply == new.reply
}

/// The fewest older places that would have to be moved to get the newer order: all but a longest rising run.
fn moved(pairs: &[(&Step, Option<usize>)]) -> BTreeSet<usize> {
    let places: Vec<usize> = pairs.iter().filter_map(|(_, was)| *was).collect();
    // For each place the longest rising run that ends there. Definitions have few steps.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for &place in &places {
        let before = runs.iter().filter(|run| run.last().is_some_and(|&last| last < place));
        let mut run = before.max_by_key(|run| run.len()).cloned().unwrap_or_default();
        run.push(place);
        runs.push(run);
    }
    let longest = runs.into_iter().max_by_key(Vec::len).unwrap_or_default();
    places.into_iter().filter(|place| !longest.contains(place)).collect()
}

fn step_changes(old: &Step, new: &Step) -> Vec<StepChange> {
    let kinds = (old.kind.as_str(), new.kind.as_str());
    let mut changes: Vec<StepChange> = [
        Old::differing(&kinds.0, &kinds.1).map(StepChange::Kind),
        Old::differing(&old.participant, &new.participant).map(StepChange::Participant),
        Old::differing(&old.command, &new.command).map(StepChange::Command),
        Old::differing(&old.reply, &new.reply).map(StepChange::Reply),
        Old::differing(&compensation(old), &compensation(new)).map(StepChange::Compensation),
    ]
    .into_iter()
    .flatten()
    .collect();
    let fields: BTreeSet<&String> = old.with.keys().chain(new.with.keys()).collect();
    changes.extend(fields.into_iter().filter_map(|field| {
        let from = Old::differing(&old.with.get(field).cloned(), &new.with.get(field).cloned())?;
        Some(StepChange::With { field: field.clone(), from })
    }));
    changes.extend(Old::differing(&old.timeout, &new.timeout).map(StepChange::Timeout));
    changes.extend(Old::differing(&old.retry, &new.retry).map(StepChange::Retry));
    let undone = compensation(old).is_some() && compensation(new).is_some();
    let retry = Old::differing(&old.compensation_retry, &new.compensation_retry).filter(|_| undone);
    changes.extend(retry.map(StepChange::CompensationRetry));
    changes
}

fn compensation(step: &Step) -> Option<Arc<str>> {
    match &step.kind {
        StepKind::Compensatable { compensation } => Some(compensation.clone()),
        StepKind::Pivot | StepKind::Retriable => None,
    }
}

impl Change {
    /// What it means for sagas that run on the older version. They stay on it.
    pub fn for_running(&self) -> String {
        let keep = |what: fmt::Arguments<'_>| format!("{what} is needed until the last of them has ended");
        match self {
            Self::Name(_) => "none: these are two definitions".to_owned(),
            Self::NotNewer(_) => "none: a new start takes the highest version".to_owned(),
            Self::Deadline(Old { old, .. }) => format!("their deadline stays {}", length(*old)),
            Self::DeadlineStands(Old { old, .. }) => {
                format!("their deadline {} while a participant is held", stands_or_runs(*old))
            }
            Self::Input(_) => "they have begun already".to_owned(),
            Self::Added { step, .. } => format!("they end without {step}"),
            Self::Removed { step } => keep(format_args!("the participant of {step}")),
            Self::Renamed(Old { old, .. }) => {
                format!("their commands carry the step {old}, and ids that follow from it")
            }
            Self::Moved { .. } => "they keep their order".to_owned(),
            Self::Step { what, .. } => match what {
                StepChange::Participant(Old { old, .. }) => keep(format_args!("the participant {old}")),
                StepChange::Command(Old { old, .. }) | StepChange::Reply(Old { old, .. }) => {
                    keep(format_args!("{old}"))
                }
                StepChange::Compensation(Old { old: Some(old), .. }) => keep(format_args!("{old}")),
                StepChange::Kind(_)
                | StepChange::Compensation(_)
                | StepChange::With { .. }
                | StepChange::Timeout(_)
                | StepChange::Retry(_)
                | StepChange::CompensationRetry(_) => "they keep what they began with".to_owned(),
            },
        }
    }

    /// What it means for sagas that start on the newer version.
    pub fn for_new(&self) -> String {
        match self {
            Self::Name(_) => "both can be started, by their names".to_owned(),
            Self::NotNewer(Old { old, new }) if old == new => {
                "it cannot be published: a version never changes; give it the next number".to_owned()
            }
            Self::NotNewer(_) => "none start on it unless they ask for it by number".to_owned(),
            Self::Deadline(Old { new, .. }) => format!("they are cancelled after {}", length(*new)),
            Self::DeadlineStands(Old { new, .. }) => {
                format!("their deadline {} while a participant is held", stands_or_runs(*new))
            }
            Self::Input(Old { new, .. }) => format!("a start has to give a {new}; tell the clients first"),
            Self::Added { step, .. } => format!("they run {step}; its participant must be there first"),
            Self::Removed { step } => format!("they do without {step}; nothing may need its reply's fields"),
            Self::Renamed(Old { new, .. }) => format!("their commands carry the step {new}"),
            Self::Moved { step, .. } => format!("{step} is undone in the new order too"),
            Self::Step { step, what } => match what {
                StepChange::Kind(Old { new, .. }) => match *new {
                    "compensatable" => format!("{step} is undone when a later step is refused"),
                    "pivot" => format!("what was done is final once {step} has succeeded"),
                    _ => format!("{step} is tried until it succeeds and never undone"),
                },
                StepChange::Participant(Old { new, .. }) => {
                    format!("{step} is sent to {new}, which must be there first")
                }
                StepChange::Command(Old { new, .. }) => format!("the participant must take {new} first"),
                StepChange::Reply(Old { new, .. }) => format!("the participant must answer with {new}"),
                StepChange::Compensation(Old { new: Some(new), .. }) => {
                    format!("the participant must take {new} first")
                }
                StepChange::Compensation(Old { new: None, .. }) => format!("{step} is not undone"),
                StepChange::With { field, from } => match &from.new {
                    Some(from) => format!("{field} is filled from {from}"),
                    None => format!("{field} is filled from the name {field}"),
                },
                StepChange::Timeout(Old { new, .. }) => {
                    format!("an attempt is in doubt after {}", length(*new))
                }
                StepChange::Retry(Old { new, .. }) => format!("{step} is tried {} times", new.max_attempts),
                StepChange::CompensationRetry(Old { new, .. }) => {
                    format!("undoing {step} is tried {} times, then it is stuck", new.max_attempts)
                }
            },
        }
    }
}

/// What a deadline does while a participant is held.
const fn stands_or_runs(stands: bool) -> &'static str {
    if stands { "stands still" } else { "runs on" }
}

/// What is different, in one line.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |after: &Option<Arc<str>>| match after {
            Some(step) => format!("after {step}"),
            None => "at the beginning".to_owned(),
        };
        match self {
            Self::Name(Old { old, new }) => write!(f, "the name: {old} -> {new}"),
            Self::NotNewer(Old { old, new }) => write!(f, "the version: {old} -> {new}, which is not higher"),
            Self::Deadline(Old { old, new }) => {
                write!(f, "the deadline: {} -> {}", length(*old), length(*new))
            }
            Self::DeadlineStands(Old { old, new }) => {
                let (old, new) = (stands_or_runs(*old), stands_or_runs(*new));
                write!(f, "the deadline while a participant is held: {old} -> {new}")
            }
            Self::Input(Old { old, new }) => write!(f, "the input: {old} -> {new}"),
            Self::Added { step, after: at } => write!(f, "step {step}: added {}", after(at)),
            Self::Removed { step } => write!(f, "step {step}: removed"),
            Self::Renamed(Old { old, new }) => write!(f, "step {new}: renamed, was {old}"),
            Self::Moved { step, after: at } => write!(f, "step {step}: moved, now {}", after(at)),
            Self::Step { step, what } => write!(f, "step {step}: {what}"),
        }
    }
}

impl fmt::Display for StepChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("none").to_owned();
        match self {
            Self::Kind(Old { old, new }) => write!(f, "kind {old} -> {new}"),
            Self::Participant(Old { old, new }) => write!(f, "participant {old} -> {new}"),
            Self::Command(Old { old, new }) => write!(f, "command {old} -> {new}"),
            Self::Reply(Old { old, new }) => write!(f, "reply {old} -> {new}"),
            Self::Compensation(Old { old, new }) => {
                write!(f, "compensation {} -> {}", none(old), none(new))
            }
            Self::With { field, from: Old { old, new } } => {
                let from = |name: &Option<String>| name.as_deref().unwrap_or(field).to_owned();
                write!(f, "field {field} filled from {} -> {}", from(old), from(new))
            }
            Self::Timeout(Old { old, new }) => write!(f, "timeout {} -> {}", length(*old), length(*new)),
            Self::Retry(Old { old, new }) => write!(f, "retry {} -> {}", policy(old), policy(new)),
            Self::CompensationRetry(Old { old, new }) => {
                write!(f, "compensation_retry {} -> {}", policy(old), policy(new))
            }
        }
    }
}

fn length(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn policy(policy: &RetryPolicy) -> String {
    let RetryPolicy { max_attempts, initial, max, multiplier, jitter } = policy;
    format!(
        "{max_attempts} times, {} x {multiplier} up to {}, jitter {jitter}",
        length(*initial),
        length(*max)
    )
}
