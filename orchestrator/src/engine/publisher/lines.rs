//! Which records must come to the broker in the order in which they were sent: those of one key on one topic, as Kafka
//! itself keeps the order of a key.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use messaging::Record;

use super::super::DEAD_LETTERS;

/// Records in lines: the producer has the first of each, the others wait. If what became of the first is not known, it is
/// sent again before any other, so none is at the broker before one that was sent earlier. Except where the broker refuses
/// the repetition: the saga goes on, and what became of the first copy stays unknown.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By a hash of topic and key: two lines that share one only wait for each other.
    lines: HashMap<u64, Line>,
    behind: usize,
}

#[derive(Debug)]
struct Line {
    /// The token of the record that may be with the producer.
    first: u64,
    /// Those that wait for it, in order.
    behind: VecDeque<u64>,
}

impl Lines {
    /// Whether the record may go at once; if not, it waits in its line.
    pub(super) fn join(&mut self, record: &Record, token: u64) -> bool {
        let Some(line) = line_of(record) else { return true };
        let mut is_first = false;
        let line = self.lines.entry(line).or_insert_with(|| {
            is_first = true;
            Line { first: token, behind: VecDeque::new() }
        });
        if !is_first {
            line.behind.push_back(token);
            self.behind += 1;
        }
        is_first
    }

    /// The first of a line is done: whose turn it is now.
    pub(super) fn leave(&mut self, record: &Record) -> Option<u64> {
        let id = line_of(record)?;
        let line = self.lines.get_mut(&id)?;
        let next = line.behind.pop_front();
        match next {
            Some(next) => {
                line.first = next;
                self.behind -= 1;
            }
            None => _ = self.lines.remove(&id),
        }
        next
    }

    /// Takes out what is not `wanted` any more: whose turn it is now, in the order in which they were sent.
    pub(super) fn retain(&mut self, wanted: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut next = Vec::new();
        self.lines.retain(|_, line| {
            line.behind.retain(|&token| wanted(token));
            if wanted(line.first) {
                return true;
            }
            let Some(first) = line.behind.pop_front() else { return false };
            line.first = first;
            next.push(first);
            true
        });
        self.behind = self.lines.values().map(|line| line.behind.len()).sum();
        next.sort_unstable();
        next
    }

    /// How many wait for another.
    pub(super) const fn behind(&self) -> usize {
        self.behind
    }
}

/// `None`: its order does not matter. Dead letters have nothing to do with each other.
fn line_of(record: &Record) -> Option<u64> {
    if &*record.topic == DEAD_LETTERS {
        return None;
    }
    let key = record.key.as_deref()?;
    let mut hasher = DefaultHasher::new();
    (&*record.topic, key).hash(&mut hasher);
    Some(hasher.finish())
}
