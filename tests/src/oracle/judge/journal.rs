//! I5, and the order of I4: the journal has no gap, replays to what the rows say, and undoes from last to first. What
//! that means is `orchestrator verify`'s to know; here its pure parts are given the lines.

use std::collections::HashMap;

use orchestrator::store::snapshot::{AuditLine, LetterLine};
use orchestrator::verify::difference::{Difference, Kind};
use orchestrator::verify::history::{About, History, NoRecipe};
use orchestrator::verify::shards::ShardChecks;
use saga_defs::ids::SagaId;
use uuid::Uuid;

use super::{Violation, World, violation};

pub(super) fn judge(world: &World<'_>, found: &mut Vec<Violation>) {
    let evidence = world.evidence;
    let mut differences = Vec::new();
    let mut shards = ShardChecks::new(&evidence.small);
    for line in &evidence.journal {
        shards.line(line.row.shard, line.row.seq);
    }
    let letters = by_saga(&evidence.letters, |letter: &LetterLine| letter.saga);
    let audit = by_saga(&evidence.audit, |line: &AuditLine| line.saga);
    for row in &evidence.sagas {
        let tell = &mut |difference: Difference| differences.push(difference);
        let about = About {
            definition: world.recipe(row).cloned().ok_or(NoRecipe::Missing),
            shard: shards.of_saga(row.id),
            journal_from: evidence.small.journal_from,
        };
        let mut history = History::new(row, about, tell);
        for line in world.lines.get(&SagaId::from_uuid(row.id)).into_iter().flatten() {
            history.line(&line.row, tell);
        }
        let of = |all: &HashMap<Uuid, Vec<LetterLine>>| all.get(&row.id).cloned().unwrap_or_default();
        let audit = audit.get(&row.id).cloned().unwrap_or_default();
        if history.finish(&of(&letters), &audit, tell).waits {
            shards.waits(row.id, row.shard, tell);
        }
    }
    let broken = shards.finish(&mut |difference| differences.push(difference));
    found.extend(differences.into_iter().map(|difference| {
        let (invariant, name) = named(difference.kind);
        violation(invariant, name, difference.to_string())
    }));
    for shard in broken {
        let sequence: Vec<i64> = sequence(world, i32::from(shard.0));
        let jump = sequence.windows(2).find(|pair| pair[1] != pair[0] + 1).unwrap_or_default();
        found.push(violation(5, "journal gap", format!("shard {}: after seq comes {jump:?}", shard.0)));
    }
    let strangers = world.lines.keys().filter(|saga| !world.sagas.contains_key(saga));
    found.extend(strangers.map(|saga| violation(5, "journal without a saga", format!("{saga} has no row"))));
}

fn sequence(world: &World<'_>, shard: i32) -> Vec<i64> {
    let lines = world.evidence.journal.iter().filter(|line| line.row.shard == shard);
    let mut sequence: Vec<i64> = lines.map(|line| line.row.seq).collect();
    sequence.sort_unstable();
    sequence
}

fn by_saga<T: Clone>(rows: &[T], saga: impl Fn(&T) -> Uuid) -> HashMap<Uuid, Vec<T>> {
    let mut by_saga: HashMap<Uuid, Vec<T>> = HashMap::new();
    for row in rows {
        by_saga.entry(saga(row)).or_default().push(row.clone());
    }
    by_saga
}

/// The invariant that a difference breaks, and its name here.
const fn named(kind: Kind) -> (u8, &'static str) {
    match kind {
        Kind::AfterEnd => (5, "transition after the end"),
        Kind::Sequence | Kind::NextSeq | Kind::Revision => (5, "journal gap"),
        Kind::UndoneWrongly => (4, "wrong order of compensation"),
        Kind::NotCompleted | Kind::NotCompensated => (4, "end that is none"),
        Kind::Command => (8, "command not kept"),
        Kind::KeyWithoutSaga => (1, "lost saga"),
        _ => (5, "journal and rows differ"),
    }
}
