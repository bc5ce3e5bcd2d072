//! What a saga's data holds at some point of its course.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::types::{Record, Type};

/// Names that are in the data for certain, each with its type and where it comes from.
#[derive(Default)]
pub(super) struct Known {
    names: BTreeMap<Arc<str>, Value>,
    /// Whether a message without a schema may have added others.
    pub(super) open: bool,
}

/// One name of the data.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) ty: Type,
    /// As in "it is a string …".
    pub(super) from: Arc<str>,
}

impl Known {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.names.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    pub(super) fn add(&mut self, name: &str, ty: Type, from: &Arc<str>) {
        self.names.insert(name.into(), Value { ty, from: from.clone() });
    }

    /// Adds what a record's fields hold, where it is no contradiction.
    pub(super) fn learn(&mut self, record: &Record, from: &Arc<str>) {
        for field in &record.fields {
            if self.get(&field.name).is_none_or(|known| known.ty.accepts(&field.ty)) {
                self.add(&field.name, field.ty.clone(), from);
            }
        }
    }
}
