//! What is known of a registry's ids: whose they are, and which are known to be nobody's. Data only; bounded.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::time::Instant;

use crate::avsc::Avsc;
use crate::catalog::Entry;
use crate::codec;
use crate::shape::RecordShape;

/// Ids of other people's schemas that are remembered; the one learned first goes. Those of our own schemas always stay.
pub(crate) const LEARNED_LIMIT: usize = 10_000;
/// Ids that are remembered as unknown; the one that was found so first goes.
pub(crate) const UNKNOWN_LIMIT: usize = 10_000;

/// What a registry calls a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id in front of a message, if it is in the registry's wire format.
pub(super) fn framed(message: &[u8]) -> Option<SchemaId> {
    match codec::split(message) {
        Ok((codec::Writer::Registered(id), _)) => Some(id),
        _ => None,
    }
}

/// A schema that somebody wrote messages with.
#[derive(Debug)]
pub(crate) struct Learned {
    /// Its record.
    pub(crate) shape: Arc<RecordShape>,
    /// How it lays out bytes: one of ours may do so alike.
    pub(crate) fingerprint: u64,
}

impl Learned {
    pub(super) fn of(schema: Avsc) -> Self {
        Self { shape: Arc::new(schema.shape), fingerprint: schema.fingerprint }
    }
}

/// An id whose schema could not be found.
#[derive(Debug, Clone)]
pub(super) struct Unknown {
    why: Arc<str>,
    /// When it may be asked for again.
    until: Instant,
}

impl Unknown {
    pub(super) fn until(until: Instant, why: impl Into<Arc<str>>) -> Self {
        Self { why: why.into(), until }
    }
}

/// All of it. Read for each message, written seldom.
#[derive(Debug, Default)]
pub(crate) struct Ids(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    writers: HashMap<Arc<str>, SchemaId>,
    /// `<topic>-<name>.v<N>` of those that are known to stand under a subject.
    placed: HashSet<Arc<str>>,
    schemas: HashMap<SchemaId, Arc<Learned>>,
    /// Those of `schemas` that may go, in the order in which they came.
    learned: VecDeque<SchemaId>,
    unknown: HashMap<SchemaId, Unknown>,
    /// Those of `unknown`, in the order in which they came.
    found_unknown: VecDeque<SchemaId>,
}

impl Ids {
    /// The id to write with, of a schema by its name and version.
    pub(crate) fn of_writer(&self, key: &str) -> Option<SchemaId> {
        self.read().writers.get(key).copied()
    }

    /// The schema of an id, or why it is not known.
    pub(crate) fn schema(&self, id: SchemaId) -> Result<Arc<Learned>, Arc<str>> {
        let table = self.read();
        match (table.schemas.get(&id), table.unknown.get(&id)) {
            (Some(learned), _) => Ok(learned.clone()),
            (None, Some(unknown)) => Err(unknown.why.clone()),
            (None, None) => Err("it was not asked for yet".into()),
        }
    }

    /// How many schemas have ids to be written with.
    pub(super) fn written(&self) -> usize {
        self.read().writers.len()
    }

    /// One of the ids that we write with.
    pub(super) fn any_own(&self) -> Option<SchemaId> {
        self.read().writers.values().next().copied()
    }

    /// Whether nothing is known of this id, or what is known against it is old.
    pub(super) fn is_worth_asking(&self, id: SchemaId, now: Instant) -> bool {
        let table = self.read();
        !table.schemas.contains_key(&id) && table.unknown.get(&id).is_none_or(|unknown| unknown.until <= now)
    }

    /// Whether a schema of ours is known to stand under its subject.
    pub(super) fn is_placed(&self, entry: &Entry) -> bool {
        self.read().placed.contains(&entry.place)
    }

    /// A schema of ours has this id. Registries give one schema one id in all subjects; with one that does not, the first
    /// is written, and all are read.
    pub(super) fn know_own(&self, entry: &Entry, id: SchemaId) {
        let learned = Learned { shape: entry.shape.clone(), fingerprint: entry.fingerprint };
        let mut table = self.write();
        table.writers.entry(entry.key.clone()).or_insert(id);
        table.placed.insert(entry.place.clone());
        table.schemas.insert(id, Arc::new(learned));
        table.learned.retain(|other| *other != id);
        table.forget_unknown(id);
    }

    /// Somebody's schema has this id.
    pub(super) fn know(&self, id: SchemaId, learned: Learned) {
        let mut table = self.write();
        table.forget_unknown(id);
        if table.schemas.insert(id, Arc::new(learned)).is_none() {
            table.learned.push_back(id);
        }
        if table.learned.len() > LEARNED_LIMIT
            && let Some(first) = table.learned.pop_front()
        {
            table.schemas.remove(&first);
        }
    }

    /// No schema is known to have this id.
    pub(super) fn lack(&self, id: SchemaId, unknown: Unknown) {
        let mut table = self.write();
        if table.unknown.insert(id, unknown).is_none() {
            table.found_unknown.push_back(id);
        }
        if table.found_unknown.len() > UNKNOWN_LIMIT
            && let Some(first) = table.found_unknown.pop_front()
        {
            table.unknown.remove(&first);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget_unknown(&mut self, id: SchemaId) {
        if self.unknown.remove(&id).is_some() {
            self.found_unknown.retain(|other| *other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn schema() -> Learned {
        let text = r#"{"type": "record", "name": "a.A", "fields": []}"#;
        Learned::of(crate::avsc::parse(text).unwrap())
    }

    #[test]
    fn what_is_unknown_is_asked_for_again_when_it_is_old() {
        let (ids, now, life) = (Ids::default(), Instant::now(), Duration::from_secs(60));
        assert!(ids.is_worth_asking(SchemaId(7), now));
        ids.lack(SchemaId(7), Unknown::until(now + life, "nobody's"));
        assert_eq!(&*ids.schema(SchemaId(7)).unwrap_err(), "nobody's");
        assert!(!ids.is_worth_asking(SchemaId(7), now + life - Duration::from_millis(1)));
        assert!(ids.is_worth_asking(SchemaId(7), now + life));
        ids.know(SchemaId(7), schema());
        assert!(ids.schema(SchemaId(7)).is_ok());
        assert!(!ids.is_worth_asking(SchemaId(7), now + life));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_first_goes() {
        let (ids, now) = (Ids::default(), Instant::now());
        let size = u32::try_from(LEARNED_LIMIT.max(UNKNOWN_LIMIT)).unwrap();
        for id in 0..=size {
            ids.know(SchemaId(id), schema());
            ids.lack(SchemaId(size + 1 + id), Unknown::until(now, ""));
        }
        let table = ids.read();
        assert_eq!((table.schemas.len(), table.unknown.len()), (LEARNED_LIMIT, UNKNOWN_LIMIT));
        assert!(!table.schemas.contains_key(&SchemaId(0)) && table.schemas.contains_key(&SchemaId(size)));
    }
}
