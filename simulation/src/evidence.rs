//! What is left of a schedule, as the oracle of the end-to-end tests looks at it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ::orchestrator::engine::{DEAD_LETTERS, EVENTS, INBOX};
use ::orchestrator::store::commit::{JournalRow, SagaWrite};
use ::orchestrator::store::snapshot::{AuditLine, JournalLine, LetterLine, SagaLine, ShardLine, Small};
use saga_defs::ids::SagaId;
use tests::oracle::evidence::{Evidence, Letter, Line, Place, Start, Tolerance, Topic, Trace};

use crate::recipes;
use crate::store::rows::Rows;
use crate::worker::Participant;
use crate::worker::books::Effect;
use crate::world::World;

/// Everything that there is to look at.
pub fn gather(world: &World, participants: &[Arc<Participant>], starts: Vec<Start>) -> Evidence {
    let rows = world.rows();
    Evidence {
        starts,
        tolerance: Tolerance::Failures,
        small: small(&rows),
        journal: rows.journal.values().flatten().map(line).collect(),
        sagas: rows.sagas.values().map(saga_line).collect(),
        letters: letter_lines(&rows),
        audit: audit_lines(&rows),
        keys: rows.keys.values().chain(&rows.doubled_keys).map(|key| SagaId::from_uuid(key.saga)).collect(),
        read: rows.shards.iter().map(|(shard, row)| (i32::from(shard.0), row.inbox_offset)).collect(),
        updates: rows.updates.clone(),
        traces: traces(participants),
        units: Vec::new(),
        recorded: recorded(participants),
        topics: topics(world),
        kept: kept(&rows),
        planted: Vec::new(),
        calm: Vec::new(),
        used: Vec::new(),
    }
}

fn small(rows: &Rows) -> Small {
    let shard = |(shard, row): (&saga_defs::ids::Shard, &crate::store::rows::ShardRow)| ShardLine {
        id: i32::from(shard.0),
        next_seq: row.next_seq,
        published_seq: row.published_seq,
        open_from: row.open_from,
    };
    let used: HashSet<&str> = rows.sagas.values().map(|saga| &*saga.definition).collect();
    let definitions = recipes::all().iter().filter(|recipe| used.contains(&*recipe.id.name));
    Small {
        shard_count: i32::try_from(rows.shards.len()).ok(),
        shards: rows.shards.iter().map(shard).collect(),
        definitions: definitions
            .map(|recipe| (recipe.id.name.to_string(), 1, recipe.source.to_string()))
            .collect(),
        journal_from: None,
        journal_rows: rows.journal.values().map(|rows| rows.len() as u64).sum(),
        keys_without_saga: rows
            .keys
            .values()
            .map(|key| key.saga)
            .filter(|saga| !saga.is_nil() && !rows.sagas.contains_key(saga))
            .collect(),
        // The chain is the database's own; the audit is not simulated.
        chain_ends: Vec::new(),
    }
}

fn line(row: &JournalRow) -> Line {
    let body = (!row.body.is_empty()).then(|| row.body.clone());
    let row = JournalLine {
        saga: row.saga,
        revision: i32::try_from(row.revision.0).unwrap_or(i32::MAX),
        shard: i32::from(row.shard.0),
        seq: row.seq,
        at: row.at,
        status: row.status.into(),
        event: row.event.clone().into(),
        effects: row.effects.clone().into(),
        body_bytes: i32::try_from(row.body.len()).unwrap_or(i32::MAX),
    };
    Line { row, body }
}

fn saga_line(row: &SagaWrite) -> SagaLine {
    SagaLine {
        id: row.id.as_uuid(),
        shard: i32::from(row.shard.0),
        definition: row.definition.clone(),
        version: row.version,
        business_key: row.business_key.as_deref().map(Into::into),
        revision: i32::try_from(row.revision.0).unwrap_or(i32::MAX),
        status: row.status.as_str().into(),
        step: row.step.as_deref().map(Into::into),
        wake_at: row.wake_at,
        started_at: row.started_at,
        updated_at: row.updated_at,
        finished_at: row.finished_at,
        body: row.body.clone().into(),
    }
}

fn letter_lines(rows: &Rows) -> Vec<LetterLine> {
    let of_sagas = rows.letters.all().filter_map(|(row, status)| Some((row.saga?, row.id, status)));
    let line = |(saga, id, status): (SagaId, saga_defs::ids::DeadLetterId, &'static str)| LetterLine {
        saga: saga.as_uuid(),
        id: id.as_uuid(),
        status: status.into(),
    };
    let mut lines: Vec<LetterLine> = of_sagas.map(line).collect();
    lines.sort_by_key(|line| (line.saga, line.id));
    lines
}

fn audit_lines(rows: &Rows) -> Vec<AuditLine> {
    let line = |row: &::orchestrator::store::audit::AuditRow| {
        Some(AuditLine { saga: row.saga?.as_uuid(), at: row.at, verb: row.verb.into() })
    };
    let mut lines: Vec<AuditLine> = rows.audit.iter().filter_map(line).collect();
    lines.sort_by_key(|line| (line.saga, line.at));
    lines
}

fn kept(rows: &Rows) -> Vec<Letter> {
    let letter = |(row, _): (&::orchestrator::store::letters::LetterRow, &'static str)| Letter {
        id: row.id.as_uuid(),
        reason: row.reason.clone(),
        place: row.partition.zip(row.offset).map(|(partition, offset)| Place {
            topic: row.topic.clone(),
            partition,
            offset,
        }),
        key: row.key.clone(),
        value: row.value.clone(),
        headers: row.headers.clone(),
    };
    rows.letters.all().map(letter).collect()
}

/// What bookings and payments look like in the databases of their workers.
fn traces(participants: &[Arc<Participant>]) -> HashMap<SagaId, Trace> {
    let mut traces: HashMap<SagaId, Trace> = HashMap::new();
    for participant in participants {
        for effect in participant.books().effects() {
            let of_booking = ["booking.", "payment."].iter().any(|p| effect.message_type.starts_with(p));
            if of_booking {
                note(traces.entry(effect.saga).or_default(), effect);
            }
        }
    }
    traces
}

fn note(trace: &mut Trace, effect: &Effect) {
    match &*effect.message_type {
        "booking.ReserveBooking" => trace.booking = Some("reserved".to_owned()),
        "booking.ConfirmBooking" => trace.booking = Some("confirmed".to_owned()),
        "booking.CancelBooking" => {
            trace.booking = trace.booking.as_ref().map(|_| "cancelled".to_owned());
            trace.cancelled_at = Some(effect.at);
        }
        "payment.ChargePayment" => {
            trace.payments.push("completed".to_owned());
            trace.charges += 1;
        }
        _ => {
            trace.payments.iter_mut().for_each(|status| "refunded".clone_into(status));
            trace.refunds += 1;
            trace.refunded_at = Some(effect.at);
        }
    }
}

/// The oracle knows its participants by name.
fn recorded(participants: &[Arc<Participant>]) -> BTreeMap<&'static str, HashSet<saga_defs::ids::CommandId>> {
    const NAMES: [&str; 8] =
        ["accounts", "booking", "carriers", "flights", "hotels", "notices", "payment", "stock"];
    let mut recorded = BTreeMap::new();
    for participant in participants {
        if let Some(name) = NAMES.iter().find(|name| **name == participant.name()) {
            recorded.insert(*name, participant.books().recorded().collect());
        }
    }
    recorded
}

fn topics(world: &World) -> BTreeMap<String, Topic> {
    let replaced = world.broker.replaced() > 0;
    let dump = |topic: Arc<str>| {
        let remembered = &*topic != INBOX && &*topic != DEAD_LETTERS;
        let records = world.broker.dump(&topic, remembered);
        (topic.to_string(), Topic { records, whole: remembered || !replaced })
    };
    let looked_at =
        |topic: &Arc<str>| [INBOX, EVENTS, DEAD_LETTERS].contains(&&**topic) || topic.ends_with(".commands");
    world.broker.topics().into_iter().filter(looked_at).map(dump).collect()
}
