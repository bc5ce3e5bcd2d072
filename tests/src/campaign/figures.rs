//! What a run came to, beside its verdict. Pure.

use std::collections::{BTreeMap, HashMap};

use messaging::headers::name;
use saga_defs::time::Timestamp;
use serde::Serialize;

use super::nemesis::Injection;
use super::run::Plan;
use crate::oracle::Seen;
use crate::oracle::evidence::{Evidence, Update};
use crate::oracle::judge::Violation;

/// See the module.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) injections: Vec<Injection>,
    /// Starts that clients asked for, and how many of them were accepted.
    pub(crate) starts: usize,
    pub(crate) accepted: usize,
    /// Sagas that were started in a second, on average, from the beginning of harm until it was taken back.
    pub(crate) started_per_s_during_harm: f64,
    /// Requests beyond the first of each start.
    pub(crate) repeated_starts: u64,
    pub(crate) completed: usize,
    pub(crate) compensated: usize,
    /// Transitions in the journal.
    pub(crate) transitions: usize,
    /// Copies of commands and replies beyond the first of each sending.
    pub(crate) duplicates: BTreeMap<String, u64>,
    pub(crate) dead_letters: usize,
    /// From the end or halt of an orchestrator to the claim of each of its shards by another, in milliseconds, in order.
    pub(crate) takeovers_ms: Vec<u64>,
    /// From the moment at which harm was taken back to the next end of a saga, in milliseconds, in order.
    pub(crate) recoveries_ms: Vec<u64>,
    /// The longest time without an end of a saga, in milliseconds.
    pub(crate) standstill_ms: u64,
    /// The most that one process held.
    pub(crate) most_resident_mib: u64,
    pub(crate) most_files: u64,
    pub(crate) violations: Vec<Violation>,
}

impl Outcome {
    /// In one line.
    pub(crate) fn line(&self) -> String {
        let verdict = match self.violations.len() {
            0 => "everything holds".to_owned(),
            count => format!("{count} VIOLATIONS, the first: {}", self.violations[0]),
        };
        format!(
            "{} (seed {}): {} strikes, {} sagas, {} starts repeated: {verdict}",
            self.name,
            self.seed,
            self.injections.len(),
            self.completed + self.compensated,
            self.repeated_starts
        )
    }
}

/// The one in the middle, and the longest.
pub(crate) fn middle_and_most(times: &[u64]) -> Option<(u64, u64)> {
    Some((*times.get(times.len() / 2)?, *times.last()?))
}

/// Of a run whose evidence this is.
pub(crate) fn outcome(
    plan: &Plan<'_>,
    injections: Vec<Injection>,
    evidence: &Evidence,
    violations: Vec<Violation>,
) -> Outcome {
    let seen = Seen::of(evidence);
    let victims: Vec<(String, Timestamp)> =
        injections.iter().flat_map(|injection| injection.victims.clone()).collect();
    let mut ends: Vec<Timestamp> = evidence.sagas.iter().filter_map(|row| row.finished_at).collect();
    ends.sort_unstable();
    let started_per_s_during_harm = started_per_s(&injections, evidence);
    let healed: Vec<Timestamp> = injections.iter().map(|injection| injection.healed).collect();
    Outcome {
        name: plan.name.to_owned(),
        seed: plan.seed,
        injections,
        starts: evidence.starts.len(),
        accepted: evidence.starts.iter().filter(|start| !start.accepted.is_empty()).count(),
        started_per_s_during_harm,
        repeated_starts: evidence
            .starts
            .iter()
            .map(|start| u64::from(start.requests.saturating_sub(1)))
            .sum(),
        completed: seen.completed,
        compensated: seen.compensated,
        transitions: evidence.journal.len(),
        duplicates: duplicates(evidence),
        dead_letters: evidence.kept.len(),
        takeovers_ms: takeovers(&victims, &evidence.updates),
        recoveries_ms: recoveries(&healed, &ends),
        standstill_ms: standstill(&ends),
        most_resident_mib: evidence.used.iter().map(|used| used.resident_mib).max().unwrap_or(0),
        most_files: evidence.used.iter().map(|used| used.files).max().unwrap_or(0),
        violations,
    }
}

/// Sagas by second of the times in which harm was done.
fn started_per_s(injections: &[Injection], evidence: &Evidence) -> f64 {
    let started = evidence.sagas.iter().filter(|row| {
        injections.iter().any(|harm| harm.at <= row.started_at && row.started_at <= harm.healed)
    });
    let seconds: f64 = injections.iter().map(|harm| harm.healed.since(harm.at).as_secs_f64()).sum();
    started.count() as f64 / seconds.max(0.001)
}

/// Records beyond the first of each sending, by topic.
fn duplicates(evidence: &Evidence) -> BTreeMap<String, u64> {
    let mut duplicates = BTreeMap::new();
    for (topic, dump) in &evidence.topics {
        if topic != "saga.inbox" && !topic.ends_with(".commands") {
            continue;
        }
        let mut copies: HashMap<[&str; 3], u64> = HashMap::new();
        for record in &dump.records {
            let part = |name| record.headers.text(name).unwrap_or_default();
            *copies.entry([name::COMMAND_ID, name::ATTEMPT, name::OUTCOME].map(part)).or_default() += 1;
        }
        duplicates.insert(topic.clone(), copies.values().map(|copies| copies - 1).sum());
    }
    duplicates
}

/// For each shard that a victim held when it ended, how long it took until another process had claimed it.
fn takeovers(victims: &[(String, Timestamp)], updates: &[Update]) -> Vec<u64> {
    let mut taken = Vec::new();
    for (victim, at) in victims {
        let mut holders: BTreeMap<i32, &str> = BTreeMap::new();
        let before = updates.partition_point(|update| update.at <= *at);
        for update in &updates[..before] {
            holders.insert(update.shard, &update.process);
        }
        let held = holders.into_iter().filter(|(_, holder)| holder == victim);
        taken.extend(held.filter_map(|(shard, _)| {
            let next =
                updates[before..].iter().find(|update| update.shard == shard && update.process != *victim)?;
            u64::try_from(next.at.since(*at).as_millis()).ok()
        }));
    }
    taken.sort_unstable();
    taken
}

/// How long after each of these moments the next saga ended.
fn recoveries(healed: &[Timestamp], ends: &[Timestamp]) -> Vec<u64> {
    let next = |at: &Timestamp| {
        let end = ends.get(ends.partition_point(|end| end < at))?;
        u64::try_from(end.since(*at).as_millis()).ok()
    };
    let mut recoveries: Vec<u64> = healed.iter().filter_map(next).collect();
    recoveries.sort_unstable();
    recoveries
}

/// The longest time between two ends, which are in order.
fn standstill(ends: &[Timestamp]) -> u64 {
    let gaps = ends.windows(2).map(|pair| pair[1].since(pair[0]).as_millis());
    u64::try_from(gaps.max().unwrap_or(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_the_next_claim_of_a_shard_that_the_victim_held() {
        let at = Timestamp::from_unix_millis;
        let update = |ms, shard, process: &str| Update {
            at: at(ms),
            shard,
            epoch: 1,
            process: process.to_owned(),
            seq: (1, 1),
            published: 0,
        };
        let updates = [
            update(0, 1, "a"),
            update(10, 2, "b"),
            update(20, 3, "a"),
            update(130, 2, "c"),
            update(150, 1, "b"),
            update(400, 3, "b"),
        ];
        assert_eq!(takeovers(&[("a".to_owned(), at(100))], &updates), [50, 300]);
        assert!(takeovers(&[("d".to_owned(), at(100))], &updates).is_empty());
        assert_eq!(standstill(&[at(0), at(5), at(700)]), 695);
        assert_eq!(recoveries(&[at(6), at(1), at(701)], &[at(0), at(5), at(700)]), [4, 694]);
    }
}
