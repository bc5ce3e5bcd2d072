//! I1, I2: every accepted start has its saga, which ended as it should; no key made two; nobody's saga is there.

use std::collections::{BTreeSet, HashMap};

use saga_defs::ids::SagaId;
use serde_json::Value;
use uuid::Uuid;

use super::{Violation, World, ended, status, violation};
use crate::load::End;
use crate::oracle::evidence::{Start, Tolerance};

/// Reasons of a compensation that come of a participant that was away.
const AWAY: [&str; 1] = ["timed_out"];

pub(super) fn judge(world: &World<'_>, found: &mut Vec<Violation>) {
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
    let fits = match start.end {
        None => true,
        Some(End::Completed) => status == "completed",
        Some(End::Compensated) => status == "compensated",
    };
    let code = reason(&row.body);
    let tolerated = match world.evidence.tolerance {
        Tolerance::None => false,
        Tolerance::Timeouts => AWAY.contains(&&*code),
        Tolerance::Failures => status == "compensated" && !code.is_empty(),
    };
    if !fits && !tolerated {
        let (end, code) = (start.end, if code.is_empty() { "nothing" } else { &code });
        found.push(violation(
            1,
            "wrong end",
            format!("{saga} should have been {end:?}, but is {status} because of {code}"),
        ));
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
