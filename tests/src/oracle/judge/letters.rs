//! I6, I7: every record was read and led to something, and a dead letter is its record, byte for byte.

use std::collections::{BTreeMap, HashMap, HashSet};

use messaging::Received;
use messaging::headers::{CommandHeaders, DeadLetterHeaders, ReplyHeaders, name};

use super::records::commands;
use super::{Violation, World, violation};
use crate::oracle::evidence::{Letter, Place};

const INBOX: &str = "saga.inbox";
/// The header with a letter's id.
const ID: &str = "saga-dlq-id";
/// Where everyone is told of dead letters.
const DEAD_LETTERS: &str = "saga.dead-letters";

pub(super) fn judge(world: &World<'_>, found: &mut Vec<Violation>) {
    let evidence = world.evidence;
    let kept: HashMap<&Place, &Letter> =
        evidence.kept.iter().filter_map(|letter| Some((letter.place.as_ref()?, letter))).collect();
    let dumped: HashMap<Place, &Received> = evidence
        .topics
        .values()
        .flat_map(|topic| &topic.records)
        .map(|record| (Place::of(record), record))
        .collect();
    all_read(world, found);
    for (topic, dump) in &evidence.topics {
        let Some(accounted) = accounted(world, topic) else { continue };
        for record in &dump.records {
            if !accounted(record) && !kept.contains_key(&Place::of(record)) {
                let detail = format!("{} led to nothing: {}", Place::of(record), words(record));
                found.push(violation(6, "record not accounted for", detail));
            }
        }
    }
    for planted in &evidence.planted {
        let reason = kept.get(&planted.place).map(|letter| letter.reason.as_str());
        let fits = reason.map_or(planted.letter.is_empty(), |reason| planted.letter.contains(&reason));
        if !fits {
            let (place, expected) = (&planted.place, planted.letter);
            let detail = format!("the letter of {place} should be one of {expected:?}, it is {reason:?}");
            found.push(violation(6, "stray record", detail));
        }
    }
    for (place, letter) in &kept {
        let Some(record) = dumped.get(*place) else { continue };
        if (&letter.key, &letter.value, &letter.headers) != (&record.key, &record.value, &record.headers) {
            let detail = format!("{} as it is kept is not the record at {place}", letter.id);
            found.push(violation(7, "altered dead letter", detail));
        }
    }
    exported(world, &kept, &dumped, found);
    commands_exported(world, found);
}

/// Whether a record led to something.
type Accounted<'w> = Box<dyn Fn(&Received) -> bool + 'w>;

/// Whether a record of a topic led to something, dead letters apart; `None` for topics that nobody of ours reads.
fn accounted<'w>(world: &'w World<'_>, topic: &'w str) -> Option<Accounted<'w>> {
    if topic == INBOX {
        // Applied, repeated or late: which of these the journal says, and all three are an account.
        return Some(Box::new(|record| {
            let Ok(reply) = ReplyHeaders::read(&record.headers) else { return false };
            let recipe = world.sagas.get(&reply.saga_id).and_then(|row| world.recipe(row));
            recipe.is_some_and(|recipe| commands(recipe, reply.saga_id).any(|id| id == reply.command_id))
        }));
    }
    let recorded = world.evidence.recorded.get(topic.strip_suffix(".commands")?)?;
    Some(Box::new(|record| {
        CommandHeaders::read(&record.headers).is_ok_and(|command| recorded.contains(&command.command_id))
    }))
}

/// Every partition of the inbox was read to its end.
fn all_read(world: &World<'_>, found: &mut Vec<Violation>) {
    let Some(dump) = world.evidence.topics.get(INBOX) else { return };
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for record in &dump.records {
        let end = ends.entry(record.partition).or_default();
        *end = (*end).max(record.offset + 1);
    }
    for (shard, end) in ends {
        let read = world.evidence.read.get(&shard).copied().unwrap_or(0);
        if read < end {
            found.push(violation(6, "records not read", format!("shard {shard} has read {read} of {end}")));
        }
    }
}

/// Every dead letter is on the topic, as its record was; and what is there is kept.
fn exported(
    world: &World<'_>,
    kept: &HashMap<&Place, &Letter>,
    dumped: &HashMap<Place, &Received>,
    found: &mut Vec<Violation>,
) {
    let Some(dump) = world.evidence.topics.get(DEAD_LETTERS) else { return };
    let mut seen: HashSet<Place> = HashSet::new();
    for letter in &dump.records {
        let id = letter.headers.text(ID).unwrap_or_default();
        if world.evidence.kept.iter().any(|kept| kept.place.is_none() && kept.id.to_string() == id) {
            continue;
        }
        let Ok(headers) = DeadLetterHeaders::read(&letter.headers) else {
            found.push(violation(
                7,
                "altered dead letter",
                format!("without its cause: {:?}", letter.headers),
            ));
            continue;
        };
        let place =
            Place { topic: headers.topic.to_string(), partition: headers.partition, offset: headers.offset };
        let Some(record) = dumped.get(&place) else { continue };
        let original = DeadLetterHeaders::original(&letter.headers);
        if (&letter.key, &letter.value, &original, letter.timestamp_ms)
            != (&record.key, &record.value, &record.headers, record.timestamp_ms)
        {
            let detail = format!("{} on {DEAD_LETTERS} is not the record at {place}", headers.id);
            found.push(violation(7, "altered dead letter", detail));
        }
        seen.insert(place);
    }
    let missing = kept.keys().filter(|place| dump.whole && !seen.contains(**place));
    found.extend(
        missing.map(|place| violation(7, "dead letter not told", format!("{place} is not on the topic"))),
    );
    let unkept = seen.iter().filter(|place| !kept.contains_key(place));
    found.extend(unkept.map(|place| {
        violation(6, "dead letter not kept", format!("{place} is on the topic, and nobody keeps it"))
    }));
}

/// The letter of a command that nobody could carry out is on the topic as it is kept. The command was on several offsets,
/// and each time that its saga gets stuck on it the letter is told anew, with the attempt that was the last.
fn commands_exported(world: &World<'_>, found: &mut Vec<Violation>) {
    let Some(dump) = world.evidence.topics.get(DEAD_LETTERS) else { return };
    for kept in world.evidence.kept.iter().filter(|letter| letter.place.is_none()) {
        let id = kept.id.to_string();
        let mut told = dump.records.iter().filter(|record| record.headers.text(ID) == Some(&id)).peekable();
        if told.peek().is_none() {
            if dump.whole {
                found.push(violation(7, "dead letter not told", format!("{id} is not on the topic")));
            }
            continue;
        }
        let is_kept = |record: &Received| {
            let original = DeadLetterHeaders::original(&record.headers);
            (&record.key, &record.value, &original) == (&kept.key, &kept.value, &kept.headers)
        };
        if !told.any(is_kept) {
            let detail = format!("{id} on {DEAD_LETTERS} is not what is kept");
            found.push(violation(7, "altered dead letter", detail));
        }
    }
}

/// What a record says of itself.
fn words(record: &Received) -> String {
    let text = |name| record.headers.text(name).unwrap_or("?").to_owned();
    format!("command {} of saga {}", text(name::COMMAND_ID), text(name::SAGA_ID))
}
