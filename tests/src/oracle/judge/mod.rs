//! The judgement: what of the invariants does not hold. Pure, and no file below this one knows where evidence comes from.
//!
//! I1 an accepted start comes to its end · I2 a key acts once · I3 a command has one effect and one form · I4 an end
//! leaves what it says · I5 a journal without gaps, and nothing after the end · I6 every record is accounted for · I7 a
//! dead letter is the record, byte for byte · I8 what was decided is published, in order, and nothing else · I9 commits
//! of two epochs never interleave · I10 nothing grows without bounds · I11 there is progress.

mod bounds;
mod effects;
mod epochs;
mod journal;
mod letters;
mod records;
mod starts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use orchestrator::store::snapshot::SagaLine;
use saga_defs::definition::Definition;
use saga_defs::ids::SagaId;
use serde::Serialize;

use super::evidence::{Evidence, Line};
pub use bounds::judged;

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which of I1 to I11.
    pub invariant: u8,
    /// What it is called.
    pub name: &'static str,
    /// Whose, and what was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{} {}: {}", self.invariant, self.name, self.detail)
    }
}

/// Everything that does not hold.
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let world = World::of(evidence);
    let mut found = Vec::new();
    starts::judge(&world, &mut found);
    journal::judge(&world, &mut found);
    effects::judge(&world, &mut found);
    records::judge(&world, &mut found);
    letters::judge(&world, &mut found);
    epochs::judge(&evidence.updates, &mut found);
    bounds::judge(&world, &mut found);
    found
}

/// How many bookings ended otherwise than asked for, by the code of the reason, where the disturbances excuse it.
pub fn excused(evidence: &Evidence) -> BTreeMap<String, usize> {
    starts::excused(&World::of(evidence))
}

/// The evidence by saga.
struct World<'a> {
    evidence: &'a Evidence,
    /// By name and version.
    recipes: HashMap<(Arc<str>, i32), Arc<Definition>>,
    sagas: HashMap<SagaId, &'a SagaLine>,
    lines: HashMap<SagaId, Vec<&'a Line>>,
}

impl<'a> World<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let definitions = evidence.small.definitions.iter();
        let recipes = definitions.filter_map(|(name, version, source)| {
            let parsed = Definition::parse(source).ok()?;
            Some(((name.as_str().into(), *version), Arc::new(parsed)))
        });
        let mut lines: HashMap<SagaId, Vec<&Line>> = HashMap::new();
        for line in evidence.journal.iter().filter(|line| !line.row.saga.is_nil()) {
            lines.entry(SagaId::from_uuid(line.row.saga)).or_default().push(line);
        }
        let sagas = evidence.sagas.iter().map(|row| (SagaId::from_uuid(row.id), row)).collect();
        Self { evidence, recipes: recipes.collect(), sagas, lines }
    }

    fn recipe(&self, row: &SagaLine) -> Option<&Arc<Definition>> {
        self.recipes.get(&(row.definition.clone(), row.version))
    }
}

fn status(row: &SagaLine) -> &str {
    std::str::from_utf8(&row.status).unwrap_or("?")
}

fn ended(row: &SagaLine) -> bool {
    matches!(status(row), "completed" | "compensated")
}

fn violation(invariant: u8, name: &'static str, detail: impl Into<String>) -> Violation {
    Violation { invariant, name, detail: detail.into() }
}
