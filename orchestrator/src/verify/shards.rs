//! The shards' rows against the journal: no gap, no repetition, and nothing beyond.

use std::collections::BTreeMap;

use saga_defs::ids::{SagaId, Shard, ShardCount};
use uuid::Uuid;

use super::difference::{Difference, Found, Kind, Place};
use crate::store::snapshot::{Gap, ShardLine, Small};

/// What is kept of a shard's sequence while its rows come by in another order: enough to tell whether each number from
/// the lowest to the highest was there once.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    lowest: i64,
    highest: i64,
    rows: u64,
    /// The sum of a hash of each number. Two sets of numbers with the same sum are the same but for a chance of 2⁻⁶⁴.
    sum: u64,
}

impl Default for Sequence {
    fn default() -> Self {
        Self { lowest: i64::MAX, highest: i64::MIN, rows: 0, sum: 0 }
    }
}

impl Sequence {
    fn take(&mut self, seq: i64) {
        self.lowest = self.lowest.min(seq);
        self.highest = self.highest.max(seq);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(mixed(seq));
    }

    /// Whether every number from the lowest to the highest was there, once.
    fn is_whole(&self) -> bool {
        let numbers = self.highest.saturating_sub(self.lowest).saturating_add(1);
        u64::try_from(numbers) == Ok(self.rows)
            && (self.lowest..=self.highest).fold(0_u64, |sum, seq| sum.wrapping_add(mixed(seq))) == self.sum
    }
}

/// The last step of `SplitMix64`: each bit of the number reaches each bit of the result.
const fn mixed(seq: i64) -> u64 {
    let mut x = (seq as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The shards of the database, and what was seen of their journals.
#[derive(Debug)]
pub struct ShardChecks {
    count: Option<ShardCount>,
    rows: Vec<ShardLine>,
    /// Whether days of the journal have been dropped.
    cut: bool,
    /// By the shard's number.
    seen: Vec<Sequence>,
    /// Of numbers that are no shard's.
    foreign: BTreeMap<i32, u64>,
}

impl ShardChecks {
    /// For the shards of a snapshot.
    pub fn new(small: &Small) -> Self {
        let count = small.shard_count.and_then(|count| u16::try_from(count).ok()).and_then(ShardCount::new);
        let shards = usize::from(count.map_or(0, ShardCount::get));
        Self {
            count,
            rows: small.shards.clone(),
            cut: small.journal_from.is_some(),
            seen: vec![Sequence::default(); shards],
            foreign: BTreeMap::new(),
        }
    }

    /// A row of the journal.
    pub fn line(&mut self, shard: i32, seq: i64) {
        match usize::try_from(shard).ok().and_then(|shard| self.seen.get_mut(shard)) {
            Some(sequence) => sequence.take(seq),
            None => *self.foreign.entry(shard).or_default() += 1,
        }
    }

    /// The shard that a saga belongs to.
    pub fn of_saga(&self, saga: Uuid) -> Option<i32> {
        self.count.map(|count| i32::from(SagaId::from_uuid(saga).shard(count).0))
    }

    /// A saga that waits for a reply or a timer: a take-over must find it.
    pub fn waits(&self, saga: Uuid, shard: i32, found: &mut Found<'_>) {
        let row = usize::try_from(shard).ok().and_then(|shard| self.rows.get(shard));
        if let Some(row) = row.filter(|row| row.id == shard && saga < row.open_from) {
            let expected = format!("open_from of shard {shard} not above this waiting saga");
            found(Difference::new(Place::of_saga(saga), Kind::OpenFrom, expected, row.open_from.to_string()));
        }
    }

    /// Holds the rows against what was seen. Gives the shards whose sequence is not whole.
    pub fn finish(&self, found: &mut Found<'_>) -> Vec<Shard> {
        if self.count.is_none() && !self.rows.is_empty() {
            let place = Place::of_shard(self.rows[0].id);
            found(Difference::new(place, Kind::Shards, "the number of shards in the cluster table", "none"));
            return Vec::new();
        }
        for (shard, rows) in &self.foreign {
            let expected = format!("shards below {}", self.seen.len());
            let found_rows = format!("{rows} journal rows of this shard");
            found(Difference::new(Place::of_shard(*shard), Kind::Shards, expected, found_rows));
        }
        let mut broken = Vec::new();
        for (number, sequence) in self.seen.iter().enumerate() {
            let shard = i32::try_from(number).unwrap_or(i32::MAX);
            let Some(row) = self.rows.iter().find(|row| row.id == shard) else {
                let place = Place::of_shard(shard);
                found(Difference::new(place, Kind::Shards, "a row in the shard table", "none"));
                continue;
            };
            self.numbers(row, sequence, found);
            if sequence.rows > 0 && !sequence.is_whole() {
                broken.extend(u16::try_from(shard).ok().map(Shard));
            }
        }
        broken
    }

    fn numbers(&self, row: &ShardLine, seen: &Sequence, found: &mut Found<'_>) {
        let place = Place::of_shard(row.id);
        if row.published_seq >= row.next_seq {
            let expected = format!("published_seq below next_seq {}", row.next_seq);
            let there = format!("published_seq {}", row.published_seq);
            found(Difference::new(place, Kind::PublishedSeq, expected, there));
        }
        if seen.rows == 0 {
            if row.next_seq != 1 && !self.cut {
                let (expected, none) = (format!("{} journal rows", row.next_seq - 1), "none");
                found(Difference::new(place, Kind::Sequence, expected, none));
            }
            return;
        }
        if seen.lowest != 1 && !self.cut {
            let lowest = format!("{}", seen.lowest);
            found(Difference::new(place, Kind::Sequence, "a journal that begins with seq 1", lowest));
        }
        if row.next_seq != seen.highest.saturating_add(1) {
            let expected =
                format!("next_seq {}, one above the journal's last", seen.highest.saturating_add(1));
            found(Difference::new(place, Kind::NextSeq, expected, format!("next_seq {}", row.next_seq)));
        }
    }
}

impl Gap {
    /// In one line.
    pub fn difference(self) -> Difference {
        let Self { shard, before, after } = self;
        let place = Place { seq: Some(after), ..Place::of_shard(shard.0.into()) };
        let what = if before == after {
            format!("seq {after} twice")
        } else {
            format!("{} rows missing after seq {before}", after - before - 1)
        };
        Difference::new(place, Kind::Sequence, "a sequence without gap or repetition", what)
    }
}
