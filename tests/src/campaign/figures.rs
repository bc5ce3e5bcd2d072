//! What a run came to, beside its verdict. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use messaging::headers::name;
use saga_defs::time::Timestamp;
use serde::Serialize;

use super::nemesis::{self, Injection};
use super::run::Plan;
use crate::oracle::Seen;
use crate::oracle::evidence::{Evidence, Update};
use crate::oracle::judge::{Violation, excused, judged};

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
    /// Bookings that ended otherwise than asked for, where the harm excuses it, by the reason's code.
    pub(crate) excused: BTreeMap<String, usize>,
    /// How long of the calm times was judged by windows of five seconds, and how many such times lay between strikes.
    pub(crate) judged_s: u64,
    pub(crate) rests: usize,
    /// By fault, in the order of the first strikes.
    pub(crate) by_fault: Vec<ByFault>,
    /// From the last commit of an orchestrator that ended or stood still to the first one of another, for each of its
    /// shards, in milliseconds, in order.
    pub(crate) takeovers_ms: Vec<u64>,
    /// Shards of theirs in which nobody has committed anything since.
    pub(crate) never_taken: usize,
    /// From the moment at which harm was taken back to the next end of a saga, in milliseconds, in order.
    pub(crate) recoveries_ms: Vec<u64>,
    /// The longest time without an end of a saga, in milliseconds.
    pub(crate) standstill_ms: u64,
    /// The most that one process held.
    pub(crate) most_resident_mib: u64,
    pub(crate) most_files: u64,
    pub(crate) violations: Vec<Violation>,
}

/// What came of the strikes of one fault.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ByFault {
    pub(crate) fault: &'static str,
    pub(crate) strikes: usize,
    /// How long harm was done each time, in milliseconds, in order.
    pub(crate) lasted_ms: Vec<u64>,
    /// As [`Outcome::takeovers_ms`].
    pub(crate) takeovers_ms: Vec<u64>,
    /// As [`Outcome::recoveries_ms`].
    pub(crate) recoveries_ms: Vec<u64>,
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
    let (takeovers_ms, never_taken) = takeovers(&injections, &evidence.updates);
    let mut ends: Vec<Timestamp> = evidence.sagas.iter().filter_map(|row| row.finished_at).collect();
    ends.sort_unstable();
    let started_per_s_during_harm = started_per_s(&injections, evidence);
    let recoveries_ms = recoveries(&injections, &ends);
    let rests = nemesis::between(&injections).iter().filter(|calm| judged(calm) > Duration::ZERO).count();
    let by_fault = by_fault(&injections, &evidence.updates, &ends);
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
        excused: excused(evidence),
        judged_s: evidence.calm.iter().map(judged).sum::<Duration>().as_secs(),
        rests,
        by_fault,
        takeovers_ms,
        never_taken,
        recoveries_ms,
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

fn by_fault(injections: &[Injection], updates: &[Update], ends: &[Timestamp]) -> Vec<ByFault> {
    let mut faults: Vec<&'static str> = Vec::new();
    for injection in injections {
        if !faults.contains(&injection.fault) {
            faults.push(injection.fault);
        }
    }
    let of = |fault| {
        let own: Vec<Injection> = injections.iter().filter(|one| one.fault == fault).cloned().collect();
        let mut lasted_ms: Vec<u64> = own.iter().map(|one| millis(one.at, one.healed)).collect();
        lasted_ms.sort_unstable();
        ByFault {
            fault,
            strikes: own.len(),
            lasted_ms,
            takeovers_ms: takeovers(&own, updates).0,
            recoveries_ms: recoveries(&own, ends),
        }
    };
    faults.into_iter().map(of).collect()
}

fn millis(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// For each shard that a victim held when it was struck, how long nobody committed anything: from its last commit to the
/// first one of another. And how many of these shards nobody has committed anything to since, the victim neither.
fn takeovers(injections: &[Injection], updates: &[Update]) -> (Vec<u64>, usize) {
    let (mut taken, mut never) = (Vec::new(), 0);
    let is_commit = |update: &&Update| update.seq.1 > update.seq.0;
    for (victim, at) in injections.iter().flat_map(|injection| &injection.victims) {
        let mut holders: BTreeMap<i32, &str> = BTreeMap::new();
        let before = updates.partition_point(|update| update.at <= *at);
        for update in &updates[..before] {
            holders.insert(update.shard, &update.process);
        }
        for (shard, _) in holders.into_iter().filter(|(_, holder)| holder == victim) {
            let own = |update: &&Update| update.shard == shard && is_commit(update);
            let next = updates
                .iter()
                .enumerate()
                .skip(before)
                .find(|(_, update)| own(update) && update.process != *victim);
            let last = |updates: &[Update]| updates.iter().rev().find(own).map(|update| update.at);
            match next {
                Some((number, next)) => {
                    // One that stood still only may have gone on by itself, and lost the shard to another fault later.
                    let last = last(&updates[..number]).unwrap_or(*at);
                    taken.push(millis(last, next.at));
                }
                None if last(updates).is_none_or(|last| last <= *at) => never += 1,
                None => {}
            }
        }
    }
    taken.sort_unstable();
    (taken, never)
}

/// How long after each strike was taken back the next saga ended.
fn recoveries(injections: &[Injection], ends: &[Timestamp]) -> Vec<u64> {
    let next = |strike: &Injection| {
        let end = ends.get(ends.partition_point(|end| *end < strike.healed))?;
        Some(millis(strike.healed, *end))
    };
    let mut recoveries: Vec<u64> = injections.iter().filter_map(next).collect();
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
    fn a_takeover_is_from_the_last_commit_of_one_to_the_first_of_another() {
        let at = Timestamp::from_unix_millis;
        // A claim leaves the sequence as it is, a commit does not.
        let update = |ms, shard, process: &str, commits: i64| Update {
            at: at(ms),
            shard,
            epoch: 1,
            process: process.to_owned(),
            seq: (1, 1 + commits),
            published: 0,
        };
        let strike = |victim: &str, ms, healed| Injection {
            fault: "kill",
            what: String::new(),
            at: at(ms),
            healed: at(healed),
            victims: vec![(victim.to_owned(), at(ms))],
            settles: Duration::ZERO,
        };
        let updates = [
            update(0, 1, "a", 1),
            update(10, 2, "b", 1),
            update(20, 3, "a", 1),
            update(30, 4, "a", 1),
            // It goes on for a moment.
            update(110, 1, "a", 1),
            update(130, 2, "c", 1),
            update(150, 1, "b", 0),
            update(160, 1, "b", 1),
            update(400, 3, "b", 1),
        ];
        let (taken, never) = takeovers(&[strike("a", 100, 120)], &updates);
        assert_eq!((taken, never), (vec![50, 380], 1), "nobody has gone on with shard 4");
        assert_eq!(takeovers(&[strike("d", 100, 120)], &updates), (vec![], 0));
        assert_eq!(standstill(&[at(0), at(5), at(700)]), 695);
        let strikes = [strike("a", 0, 6), strike("a", 0, 1), strike("a", 0, 701)];
        assert_eq!(recoveries(&strikes, &[at(0), at(5), at(700)]), [4, 694]);
        let shown = by_fault(&strikes, &updates, &[at(0), at(5), at(700)]);
        assert_eq!((shown.len(), shown[0].strikes, &*shown[0].lasted_ms), (1, 3, &[1, 6, 701][..]));
    }
}
