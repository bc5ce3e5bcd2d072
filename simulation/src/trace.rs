//! What happened in a schedule, line by line: its hash tells whether two runs were the same, its last lines what led to a
//! violation.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use saga_defs::time::Timestamp;

/// FNV-1a.
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The lines of a schedule.
#[derive(Debug)]
pub struct Trace(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    hash: u64,
    count: u64,
    kept: VecDeque<String>,
    keep: usize,
}

impl Trace {
    /// That keeps the last `keep` lines.
    pub const fn keeping(keep: usize) -> Self {
        Self(Mutex::new(Lines { hash: OFFSET_BASIS, count: 0, kept: VecDeque::new(), keep }))
    }

    /// Something happened.
    pub fn note(&self, at: Timestamp, what: fmt::Arguments<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{:>9} {what}", at.unix_millis() % 1_000_000_000);
        for byte in line.bytes() {
            lines.hash = (lines.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        lines.count += 1;
        if lines.keep == 0 {
            return;
        }
        if lines.kept.len() == lines.keep {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line);
    }

    /// Of all lines.
    pub fn hash(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hash
    }

    /// How many lines there were.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// The last lines.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).kept.iter().cloned().collect()
    }
}
