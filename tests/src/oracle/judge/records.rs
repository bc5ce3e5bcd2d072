//! I3, I8: what was decided is on its topic, in order, in one form; and nothing is that was not decided.

use std::collections::{BTreeMap, HashMap, HashSet};

use messaging::Received;
use messaging::headers::{CommandHeaders, name, redrive_of};
use saga_defs::definition::Definition;
use saga_defs::ids::{CommandId, SagaId};
use saga_defs::saga::{Effect, Event, Try};
use schemas::Catalog;
use serde_json::Value;

use super::{Violation, World, ended, status, violation};
use crate::oracle::evidence::{Line, Place, Topic};

/// Where everyone is told of starts and ends.
const EVENTS: &str = "saga.events";

pub(super) fn judge(world: &World<'_>, found: &mut Vec<Violation>) {
    let planted: HashSet<&Place> = world.evidence.planted.iter().map(|planted| &planted.place).collect();
    let mut decided = decided(world);
    for (topic, dump) in world.evidence.topics.iter().filter(|(topic, _)| topic.ends_with(".commands")) {
        let ours = dump
            .records
            .iter()
            .filter(|record| redrive_of(&record.headers).is_none() && !planted.contains(&Place::of(record)));
        let ours: Vec<&Received> = ours.collect();
        one_form(topic, &ours, found);
        in_order(topic, dump, &ours, &mut decided, found);
    }
    announced(world, found);
    told(world, found);
}

/// One sending of a command.
type Sending = (CommandId, u32, u32);

/// What the journal decided to send.
struct Decided<'a> {
    saga: SagaId,
    revision: i32,
    topic: String,
    body: &'a [u8],
    published: bool,
}

/// Every sending that the journal knows, with the command's bytes.
fn decided<'a>(world: &World<'a>) -> HashMap<Sending, Decided<'a>> {
    let mut decided = HashMap::new();
    for (saga, lines) in &world.lines {
        let Some(recipe) = world.sagas.get(saga).and_then(|row| world.recipe(row)) else { continue };
        for line in lines {
            let effects: Vec<Effect> = serde_json::from_slice(&line.row.effects).unwrap_or_default();
            for effect in effects {
                let (Effect::Send(at), Some(body)) = (effect, &line.body) else { continue };
                let Some(step) = recipe.step(at.step).filter(|_| !refused(lines, at)) else { continue };
                let id = CommandId::derive(*saga, &step.name, at.direction);
                let sending = Decided {
                    saga: *saga,
                    revision: line.row.revision,
                    topic: format!("{}.commands", step.participant),
                    body,
                    published: false,
                };
                decided.insert((id, at.attempt.0, at.redrive), sending);
            }
        }
    }
    decided
}

/// Whether the broker did not take that sending.
fn refused(lines: &[&Line], at: Try) -> bool {
    let events = lines.iter().filter_map(|line| Event::from_json(&line.row.event).ok());
    events.into_iter().any(|event| matches!(event, Event::Unsendable { attempt, .. } if attempt == at))
}

/// All records of one command have the same bytes, and all of one sending are the same altogether.
fn one_form(topic: &str, records: &[&Received], found: &mut Vec<Violation>) {
    let mut values: HashMap<(String, String), &Received> = HashMap::new();
    let mut sendings: HashMap<(String, String, String), &Received> = HashMap::new();
    let mut partitions = HashMap::new();
    for record in records {
        let text = |name| record.headers.text(name).unwrap_or_default().to_owned();
        let (command, redrive) = (text(name::COMMAND_ID), text(name::REDRIVE));
        let first = values.entry((command.clone(), redrive.clone())).or_insert(record);
        if first.value != record.value {
            found.push(violation(3, "command copies differ", format!("{topic}: the values of {command}")));
        }
        let first = sendings.entry((command.clone(), redrive, text(name::ATTEMPT))).or_insert(record);
        if (&first.key, &first.headers, first.timestamp_ms)
            != (&record.key, &record.headers, record.timestamp_ms)
        {
            found.push(violation(3, "command copies differ", format!("{topic}: the headers of {command}")));
        }
        let partition = partitions.entry(record.key.clone()).or_insert(record.partition);
        if *partition != record.partition {
            let detail = format!("{topic}: {command} in partition {}, not {partition}", record.partition);
            found.push(violation(8, "saga in two partitions", detail));
        }
    }
}

/// Each sending that the journal decided on is there, each that is there was decided on, and the first copies of a
/// saga's sendings are in the order of the decisions.
fn in_order(
    topic: &str,
    dump: &Topic,
    records: &[&Received],
    decided: &mut HashMap<Sending, Decided<'_>>,
    found: &mut Vec<Violation>,
) {
    let mut last: HashMap<SagaId, i32> = HashMap::new();
    for record in records {
        let Ok(headers) = CommandHeaders::read(&record.headers) else {
            found.push(violation(8, "command nobody decided", format!("{topic}: {:?}", record.headers)));
            continue;
        };
        let sending = (headers.command_id, headers.attempt.0, headers.redrive);
        let Some(decision) = decided.get_mut(&sending).filter(|decision| decision.topic == topic) else {
            let detail = format!("{topic}: {} of {}", headers.command_id, headers.saga_id);
            found.push(violation(8, "command nobody decided", detail));
            continue;
        };
        if record.value.as_deref() != Some(decision.body) {
            let detail = format!("{topic}: {} is not what the journal has", headers.command_id);
            found.push(violation(3, "command copies differ", detail));
        }
        if std::mem::replace(&mut decision.published, true) {
            continue;
        }
        let before = last.entry(decision.saga).or_default();
        if *before > decision.revision {
            let (command, attempt) = (headers.command_id, headers.attempt.0);
            let order = format!("revision {before} before {}", decision.revision);
            let detail = format!("{topic}: {order}: {command} attempt {attempt} of {}", decision.saga);
            found.push(violation(8, "commands out of order", detail));
        }
        // One that comes late does not excuse those after it.
        *before = decision.revision.max(*before);
    }
    let missing =
        decided.iter().filter(|(_, decision)| dump.whole && decision.topic == topic && !decision.published);
    found.extend(missing.map(|((command, attempt, _), decision)| {
        let detail = format!("{topic}: {command} attempt {attempt} of {}", decision.saga);
        violation(8, "command never published", detail)
    }));
}

/// `saga.events` has the start and then the end of each saga, and no other end.
fn announced(world: &World<'_>, found: &mut Vec<Violation>) {
    let Some(dump) = world.evidence.topics.get(EVENTS).filter(|dump| dump.whole) else { return };
    let catalog = Catalog::shipped();
    let mut said: HashMap<String, Vec<String>> = HashMap::new();
    for record in &dump.records {
        let Ok(decoded) = catalog.decode(record.value.as_deref().unwrap_or_default()) else {
            found.push(violation(8, "announcement out of order", format!("{EVENTS}: {:?}", record.headers)));
            continue;
        };
        let text = |name: &str| decoded.fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let word = if &*decoded.message_type == "saga.SagaStarted" { "started" } else { text("status") };
        let words = said.entry(text("sagaId").to_owned()).or_default();
        if !words.iter().any(|said| said == word) {
            words.push(word.to_owned());
        }
    }
    for (id, row) in world.sagas.iter().filter(|(_, row)| ended(row)) {
        let words = said.get(&id.to_string()).cloned().unwrap_or_default();
        if words != ["started", status(row)] {
            let detail = format!("{EVENTS} says of {id}, which is {}: {words:?}", status(row));
            found.push(violation(8, "announced wrongly", detail));
        }
    }
}

/// Every domain event of a booking is on its topic, under one id however often it was published.
fn told(world: &World<'_>, found: &mut Vec<Violation>) {
    use booking_worker::{CANCELLED, CONFIRMED, CREATED};
    use payment_worker::COMPLETED;
    let bookings: BTreeMap<SagaId, &str> = world
        .sagas
        .iter()
        .filter(|(_, row)| row.definition.ends_with("booking"))
        .map(|(id, row)| (*id, status(row)))
        .collect();
    for topic in [CREATED, COMPLETED, CONFIRMED, CANCELLED] {
        let Some(dump) = world.evidence.topics.get(topic) else { continue };
        let mut ids: HashMap<String, HashSet<&str>> = HashMap::new();
        for record in &dump.records {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            ids.entry(key).or_default().insert(record.headers.text("event-id").unwrap_or_default());
        }
        for (id, status) in &bookings {
            let cancelled = || {
                let trace = world.evidence.traces.get(id);
                trace.is_some_and(|trace| trace.booking.as_deref() == Some("cancelled"))
            };
            let is_due = if topic == CANCELLED { cancelled() } else { *status == "completed" };
            if is_due && dump.whole && !ids.contains_key(&id.to_string()) {
                found.push(violation(8, "event never told", format!("{topic} says nothing of {id}")));
            }
        }
        let doubled = ids.iter().filter(|(_, ids)| ids.len() > 1);
        found.extend(doubled.map(|(key, ids)| {
            violation(3, "event happened twice", format!("{topic} of {key} has {} ids", ids.len()))
        }));
    }
}

/// Every command that the recipe of a saga has.
pub(super) fn commands(recipe: &Definition, saga: SagaId) -> impl Iterator<Item = CommandId> {
    use saga_defs::ids::Direction::{Compensation, Forward};
    recipe.steps.iter().flat_map(move |step| {
        [Forward, Compensation].map(|direction| CommandId::derive(saga, &step.name, direction))
    })
}
