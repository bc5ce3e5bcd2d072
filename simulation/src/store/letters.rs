//! Dead letters in memory, and what may become of them.

use std::collections::BTreeMap;

use ::orchestrator::store::letters::{LetterChange, LetterRow, StoredLetter};
use saga_defs::ids::DeadLetterId;

/// The letters that are kept.
#[derive(Debug, Clone, Default)]
pub struct Letters(BTreeMap<DeadLetterId, Kept>);

#[derive(Debug, Clone)]
struct Kept {
    row: LetterRow,
    status: &'static str,
    lineage: Vec<&'static str>,
}

impl Letters {
    /// Carries a change out; how many letters it found to change.
    pub fn apply(&mut self, change: &LetterChange) -> usize {
        match change {
            LetterChange::Keep(row) => self.keep(row, false),
            LetterChange::KeepOrReopen(row) => self.keep(row, true),
            LetterChange::Redrive { id, .. } => self.turn(*id, &["open"], "redriven"),
            LetterChange::Resolve { id, .. } => self.turn(*id, &["open", "redriven"], "resolved"),
            LetterChange::Reopen { id, at, .. } => {
                let found = self.turn(*id, &["redriven"], "open");
                if let Some(kept) = self.0.get_mut(id).filter(|_| found > 0) {
                    kept.row.last_failed_at = *at;
                }
                found
            }
            LetterChange::Discard { id, .. } => self.turn(*id, &["open"], "discarded"),
        }
    }

    fn keep(&mut self, row: &LetterRow, reopen: bool) -> usize {
        let row = storable(row);
        match self.0.get_mut(&row.id) {
            None => {
                self.0.insert(row.id, Kept { row, status: "open", lineage: vec!["failed"] });
                1
            }
            Some(_) if !reopen => 0,
            Some(kept) => {
                let attempts = kept.row.attempts + row.attempts;
                let first_failed_at = kept.row.first_failed_at;
                let LetterRow { reason, message, value, headers, timestamp, last_failed_at, .. } = row;
                let newer = LetterRow {
                    reason,
                    message,
                    value,
                    headers,
                    timestamp,
                    last_failed_at,
                    attempts,
                    first_failed_at,
                    ..kept.row.clone()
                };
                kept.row = newer;
                kept.status = "open";
                kept.lineage.push("failed");
                1
            }
        }
    }

    fn turn(&mut self, id: DeadLetterId, from: &[&str], to: &'static str) -> usize {
        match self.0.get_mut(&id) {
            Some(kept) if from.contains(&kept.status) => {
                kept.status = to;
                kept.lineage.push(to);
                1
            }
            _ => 0,
        }
    }

    /// Those of these ids that there are.
    pub fn find(&self, ids: &[DeadLetterId]) -> Vec<StoredLetter> {
        ids.iter()
            .filter_map(|id| self.0.get(id))
            .map(|kept| StoredLetter { row: kept.row.clone(), status: kept.status.to_owned() })
            .collect()
    }

    /// All of them, with their status.
    pub fn all(&self) -> impl Iterator<Item = (&LetterRow, &'static str)> {
        self.0.values().map(|kept| (&kept.row, kept.status))
    }

    /// What a letter has been through, e.g. `failed, redriven, open`.
    pub fn lineage(&self, id: DeadLetterId) -> String {
        self.0.get(&id).map(|kept| kept.lineage.join(", ")).unwrap_or_default()
    }
}

/// As a database that has no NUL in its texts keeps it.
fn storable(row: &LetterRow) -> LetterRow {
    let text = |text: &String| text.replace('\0', "\u{fffd}");
    LetterRow {
        reason: text(&row.reason),
        message: text(&row.message),
        source: text(&row.source),
        topic: text(&row.topic),
        message_type: row.message_type.as_ref().map(text),
        step: row.step.as_ref().map(text),
        ..row.clone()
    }
}
