//! I1, I2: every accepted start has its saga, which ended as it should; no key made two; nobody's saga is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use orchestrator::store::snapshot::SagaLine;
use saga_defs::ids::SagaId;
use serde_json::Value;
use uuid::Uuid;

use super::{Violation, World, ended, status, violation};
use crate::load::End;
use crate::oracle::evidence::{Start, Tolerance};

/// Reasons of a compensation that come of a participant that was away.
const AWAY: [&str; 1] = ["timed_out"];
/// The reason of what somebody has cancelled.
const CANCELLED: &str = "cancelled";
/// Of so many bookings one may end otherwise than asked for, when participants were away or failed; and a few in any case.
const MOST_EXCUSED: usize = 20;
const FEW: usize = 20;

pub(super) fn judge(world: &World<'_>, found: &mut Vec<Violation>) {
    not_too_many(world, found);
    let users = users(world);
    let mut known: HashMap<SagaId, usize> = HashMap::new();
    for start in &world.evidence.starts {
        found.extend(start.odd.iter().map(|odd| violation(1, "odd answer", odd.clone())));
        let sagas: BTreeSet<SagaId> = start.accepted.iter().copied().collect();
        for saga in &sagas {
            *known.entry(*saga).or_default() += 1;
            accepted(world, *saga, start, found);
        }
        if sagas.len() > 1 {
            found.push(violation(2, "key acted twice", format!("one key was answered with {sagas:?}")));
        }
        let Some(made) = start.user.and_then(|user| users.get(&user)) else { continue };
        if made.len() > 1 {
            found.push(violation(2, "key acted twice", format!("one key made {made:?}")));
        }
        if let Some(other) = sagas.iter().find(|saga| world.sagas.contains_key(saga) && !made.contains(saga))
        {
            found.push(violation(2, "another's saga", format!("the client of {made:?} was told {other}")));
        }
        known.extend(made.iter().filter(|saga| !sagas.contains(saga)).map(|saga| (*saga, 1)));
    }
    let shared = known.iter().filter(|(_, starts)| **starts > 1);
    found.extend(shared.map(|(saga, starts)| {
        violation(2, "one saga for several starts", format!("{saga} is the answer to {starts}"))
    }));
    let mut keys: HashMap<SagaId, usize> = HashMap::new();
    for saga in &world.evidence.keys {
        *keys.entry(*saga).or_default() += 1;
    }
    let several = keys.iter().filter(|(_, keys)| **keys > 1);
    found.extend(several.map(|(saga, keys)| violation(2, "several keys", format!("{saga} has {keys}"))));
    let nobodys = world.sagas.keys().filter(|id| !known.contains_key(id) && !keys.contains_key(id));
    found.extend(nobodys.map(|id| violation(2, "nobody's saga", format!("{id} was asked for by nobody"))));
}

fn accepted(world: &World<'_>, saga: SagaId, start: &Start, found: &mut Vec<Violation>) {
    let Some(row) = world.sagas.get(&saga) else {
        found.push(violation(1, "lost saga", format!("{saga} was accepted and is not there")));
        return;
    };
    let status = status(row);
    if !ended(row) {
        let step = row.step.as_deref().unwrap_or("no step");
        found.push(violation(1, "saga without an end", format!("{saga} is {status} at {step}")));
        return;
    }
    if let Fit::Not(code) = fit(world, row, start) {
        let (end, code) = (start.end, if code.is_empty() { "nothing" } else { &code });
        let detail = format!("{saga} should have been {end:?}, but is {status} because of {code}");
        found.push(violation(1, "wrong end", detail));
    }
}

/// How an end goes with what was asked for.
enum Fit {
    As,
    /// It does not, for the reason of this code, and may.
    Excused(String),
    /// It does not, for the reason of this code.
    Not(String),
}

fn fit(world: &World<'_>, row: &SagaLine, start: &Start) -> Fit {
    let status = status(row);
    let fits = match start.end {
        None => true,
        Some(End::Completed) => status == "completed",
        Some(End::Compensated) => status == "compensated",
    };
    if fits {
        return Fit::As;
    }
    let code = reason(&row.body);
    let excused = match world.evidence.tolerance {
        Tolerance::None => false,
        Tolerance::Timeouts => AWAY.contains(&&*code),
        Tolerance::Failures if code == CANCELLED => was_cancelled(world, row),
        Tolerance::Failures => status == "compensated" && !code.is_empty(),
    };
    if excused && !in_calm(world, row) { Fit::Excused(code) } else { Fit::Not(code) }
}

/// Whether nothing has disturbed it from its start to its end.
fn in_calm(world: &World<'_>, row: &SagaLine) -> bool {
    let mut calm = world.evidence.calm.iter();
    calm.any(|(from, to)| *from <= row.started_at && row.finished_at.is_some_and(|end| end <= *to))
}

/// Whether somebody has asked for that.
fn was_cancelled(world: &World<'_>, row: &SagaLine) -> bool {
    world.evidence.audit.iter().any(|line| line.saga == row.id && &*line.verb == "cancel")
}

/// See [`super::excused`].
pub(super) fn excused(world: &World<'_>) -> BTreeMap<String, usize> {
    let mut excused = BTreeMap::new();
    for start in &world.evidence.starts {
        let accepted: BTreeSet<SagaId> = start.accepted.iter().copied().collect();
        for row in accepted.iter().filter_map(|saga| world.sagas.get(saga)).filter(|row| ended(row)) {
            if let Fit::Excused(code) = fit(world, row, start) {
                *excused.entry(code).or_default() += 1;
            }
        }
    }
    excused
}

/// An excuse that serves for too many is none. What operators have cancelled needs none.
fn not_too_many(world: &World<'_>, found: &mut Vec<Violation>) {
    let excused = excused(world);
    let count: usize = excused.iter().filter(|(code, _)| *code != CANCELLED).map(|(_, count)| count).sum();
    let accepted = world.evidence.starts.iter().filter(|start| !start.accepted.is_empty()).count();
    if count > FEW && count * MOST_EXCUSED > accepted {
        let detail = format!("of {accepted} bookings {count} ended otherwise than asked for: {excused:?}");
        found.push(violation(1, "too many given up", detail));
    }
}

/// The code in a saga's reason; empty if it has none.
fn reason(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["reason"]["code"].as_str().unwrap_or_default().to_owned()
}

/// The sagas of each user, as their first transitions have it.
fn users(world: &World<'_>) -> HashMap<Uuid, Vec<SagaId>> {
    let mut users: HashMap<Uuid, Vec<SagaId>> = HashMap::new();
    if world.evidence.starts.iter().all(|start| start.user.is_none()) {
        return users;
    }
    for (saga, lines) in &world.lines {
        let Some(first) = lines.iter().find(|line| line.row.revision == 1) else { continue };
        let event: Value = serde_json::from_slice(&first.row.event).unwrap_or_default();
        let user = event["input"]["userId"].as_str().and_then(|user| Uuid::parse_str(user).ok());
        users.entry(user.unwrap_or_default()).or_default().push(*saga);
    }
    users.values_mut().for_each(|sagas| sagas.sort_unstable());
    users
}
