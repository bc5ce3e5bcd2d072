//! The sagas that are kept in memory: as many as there is room for, in number and in size.

use std::collections::{HashMap, VecDeque};

use saga_defs::ids::SagaId;
use serde_json::Value;

use super::super::batch::Held;
use super::super::{CACHED_BYTES, CACHED_SAGAS};

/// What a saga takes beside the texts in its data.
const SAGA_BYTES: usize = 2_048;
/// What a value takes beside its text.
const VALUE_BYTES: usize = 64;

/// Open sagas in memory.
#[derive(Default)]
pub(in super::super) struct Memory {
    sagas: HashMap<SagaId, Held>,
    /// In the order in which they came, with some that have left.
    order: VecDeque<SagaId>,
    bytes: usize,
}

impl Memory {
    /// All of them.
    pub(super) const fn all(&self) -> &HashMap<SagaId, Held> {
        &self.sagas
    }

    pub(super) fn get(&self, id: SagaId) -> Option<&Held> {
        self.sagas.get(&id)
    }

    pub(super) fn contains(&self, id: SagaId) -> bool {
        self.sagas.contains_key(&id)
    }

    /// Takes a saga in, or what has become of it.
    pub(super) fn insert(&mut self, id: SagaId, held: Held) {
        self.bytes += size(&held);
        match self.sagas.insert(id, held) {
            Some(before) => self.bytes -= size(&before),
            None => self.order.push_back(id),
        }
    }

    pub(super) fn remove(&mut self, id: SagaId) {
        if let Some(held) = self.sagas.remove(&id) {
            self.bytes -= size(&held);
        }
        // Those that have left leave stale entries behind.
        if self.order.len() > CACHED_SAGAS.max(2 * self.sagas.len()) {
            self.order.retain(|id| self.sagas.contains_key(id));
        }
    }

    pub(super) fn retain(&mut self, stays: impl Fn(SagaId) -> bool) {
        let bytes = &mut self.bytes;
        self.sagas.retain(|&id, held| {
            let stays = stays(id);
            if !stays {
                *bytes -= size(held);
            }
            stays
        });
    }

    /// The oldest, if there is no room for all.
    pub(super) fn oldest_too_many(&mut self) -> Option<SagaId> {
        while self.sagas.len() > CACHED_SAGAS || self.bytes > CACHED_BYTES {
            let oldest = self.order.pop_front()?;
            if self.sagas.contains_key(&oldest) {
                return Some(oldest);
            }
        }
        None
    }

    /// It stays for now, as the youngest.
    pub(super) fn keep(&mut self, id: SagaId) {
        self.order.push_back(id);
    }
}

/// About how much memory a saga takes. The same as long as it is the same.
fn size(held: &Held) -> usize {
    let values = held.saga.data.values().map(size_of_value).sum::<usize>();
    SAGA_BYTES + values
}

fn size_of_value(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of_value).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size_of_value(value)).sum(),
    };
    VALUE_BYTES + inside
}
