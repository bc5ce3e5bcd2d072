//! The chains of the audit: each row has the hash of itself and of the row before it. Pure.

use std::collections::BTreeMap;

use super::difference::{Difference, Found, Kind, Place};
use crate::store::snapshot::{ChainEnd, ChainLine};

/// Where the walk along one chain is.
#[derive(Clone, Debug, Default)]
struct Walked {
    rows: i64,
    seq: i64,
    hash: Vec<u8>,
}

/// The chains while their rows come by, chain by chain in order.
#[derive(Debug, Default)]
pub struct Chains {
    walked: BTreeMap<i32, Walked>,
}

impl Chains {
    /// The next row. One that is missing or too many is named by the row after it, one that was changed by itself.
    pub fn line(&mut self, line: &ChainLine, found: &mut Found<'_>) {
        let before = self.walked.entry(line.chain).or_default();
        let place =
            Place { saga: line.saga, chain: Some(line.chain), seq: Some(line.seq), ..Place::default() };
        if line.seq != before.seq + 1 {
            let (expected, there) = (format!("seq {}", before.seq + 1), format!("seq {}", line.seq));
            found(Difference::new(place, Kind::AuditGap, expected, there));
        } else if line.previous_hash != before.hash {
            let expected = format!("the hash of the row before, {}", hex(&before.hash));
            found(Difference::new(place, Kind::AuditLink, expected, hex(&line.previous_hash)));
        }
        let own = line.hashed().hash(&line.previous_hash);
        if own != *line.hash {
            let what = format!("{} by {} ({})", line.verb, line.actor, line.reason);
            let expected = format!("the row that has the hash {}", hex(&line.hash));
            found(Difference::new(place, Kind::AuditAltered, expected, what));
        }
        *before = Walked { rows: before.rows + 1, seq: line.seq, hash: line.hash.to_vec() };
    }

    /// How many rows came by.
    pub fn rows(&self) -> i64 {
        self.walked.values().map(|walked| walked.rows).sum()
    }

    /// Holds the ends of the chains against what came by.
    pub fn finish(&self, ends: &[ChainEnd], found: &mut Found<'_>) {
        let told = |seq: i64, hash: &[u8]| format!("an end at seq {seq}, {}", hex(hash));
        for end in ends {
            let none = Walked::default();
            let walked = self.walked.get(&end.chain).unwrap_or(&none);
            if (walked.seq, &*walked.hash) != (end.seq, &*end.hash) {
                let place = Place { chain: Some(end.chain), ..Place::default() };
                let (expected, there) = (told(end.seq, &end.hash), told(walked.seq, &walked.hash));
                found(Difference::new(place, Kind::AuditEnd, expected, there));
            }
        }
        for (&chain, walked) in &self.walked {
            if ends.iter().all(|end| end.chain != chain) {
                let place = Place { chain: Some(chain), ..Place::default() };
                let there = format!("{} rows", walked.rows);
                found(Difference::new(place, Kind::AuditEnd, "no such chain", there));
            }
        }
    }
}

/// The beginning of a hash, enough to tell two apart.
fn hex(hash: &[u8]) -> String {
    if hash.is_empty() {
        return "none".to_owned();
    }
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
