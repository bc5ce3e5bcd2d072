//! A saga's row against the saga that its journal gives. Pure.

use std::sync::Arc;

use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{DefinitionRef, Revision, SagaId};
use saga_defs::saga::Saga;
use saga_defs::time::Timestamp;

use super::difference::{Difference, Found, Kind, Place};
use crate::engine::shards::shown_wake;
use crate::store::body::{SagaBody, current_step};
use crate::store::snapshot::SagaLine;

pub use crate::store::body::json;

/// The saga of a row.
///
/// # Errors
/// Its body is not what this version writes.
pub fn read(row: &SagaLine) -> Result<Saga, serde_json::Error> {
    let body: SagaBody = serde_json::from_slice(&row.body)?;
    Ok(Saga {
        id: SagaId::from_uuid(row.id),
        definition: DefinitionRef {
            name: row.definition.clone(),
            version: u32::try_from(row.version).unwrap_or_default(),
        },
        business_key: row.business_key.as_deref().map(Arc::from),
        revision: Revision(u32::try_from(row.revision).unwrap_or_default()),
        state: body.state,
        steps: body.steps,
        data: body.data,
        reason: body.reason,
        correction: body.correction,
        redriven: body.redriven,
        uncounted: body.uncounted,
        traceparent: body.traceparent,
        started_at: row.started_at,
        updated_at: row.updated_at,
        finished_at: row.finished_at,
    })
}

/// Names every column that is not as the replayed saga has it.
pub fn compare_columns(row: &SagaLine, definition: &Definition, saga: &Saga, found: &mut Found<'_>) {
    let mut columns = Columns { place: Place::of_saga(row.id), found };
    columns.number("revision", i64::from(saga.revision.0), row.revision.into());
    if saga.status().as_str().as_bytes() != row.status {
        let there = String::from_utf8_lossy(&row.status);
        columns.text("status", Some(saga.status().as_str()), Some(&there));
    }
    columns.text("step", current_step(definition, saga).map(|name| &**name), row.step.as_deref());
    // The row's wake-up was worked out at the saga's last transition.
    columns.time("wake_at", shown_wake(definition, saga, saga.updated_at), row.wake_at);
    columns.text("business_key", saga.business_key.as_deref(), row.business_key.as_deref());
    columns.time("started_at", Some(saga.started_at), Some(row.started_at));
    columns.time("updated_at", Some(saga.updated_at), Some(row.updated_at));
    columns.time("finished_at", saga.finished_at, row.finished_at);
}

struct Columns<'a, 'f> {
    place: Place,
    found: &'a mut Found<'f>,
}

impl Columns<'_, '_> {
    fn number(&mut self, name: &str, expected: i64, there: i64) {
        self.differs(name, expected == there, || (expected.to_string(), there.to_string()));
    }

    fn text(&mut self, name: &str, expected: Option<&str>, there: Option<&str>) {
        let shown = |text: Option<&str>| text.map_or_else(|| "none".to_owned(), str::to_owned);
        self.differs(name, expected == there, || (shown(expected), shown(there)));
    }

    fn time(&mut self, name: &str, expected: Option<Timestamp>, there: Option<Timestamp>) {
        let shown = |at: Option<Timestamp>| at.map_or_else(|| "none".to_owned(), |at| at.to_string());
        self.differs(name, expected == there, || (shown(expected), shown(there)));
    }

    fn differs(&mut self, name: &str, same: bool, shown: impl FnOnce() -> (String, String)) {
        if !same {
            let (expected, there) = shown();
            let (expected, there) = (format!("{name} {expected}"), format!("{name} {there}"));
            (self.found)(Difference::new(self.place, Kind::Row, expected, there));
        }
    }
}

/// Names every part of the body that is not as the replayed saga has it. `read` is the saga of the row.
pub fn compare_bodies(saga: &Saga, read: &Saga, found: &mut Found<'_>) {
    let place = Place::of_saga(saga.id.as_uuid());
    let mut part = |name: &str, expected: String, there: String| {
        if expected != there {
            let (expected, there) = (format!("{name} {expected}"), format!("{name} {there}"));
            found(Difference::new(place, Kind::Body, expected, there));
        }
    };
    part("state", json(&saga.state), json(&read.state));
    part("number of steps", saga.steps.len().to_string(), read.steps.len().to_string());
    for (step, (expected, there)) in saga.steps.iter().zip(&read.steps).enumerate() {
        part(&format!("step {}", step + 1), json(expected), json(there));
    }
    for name in saga.data.keys().chain(read.data.keys().filter(|name| !saga.data.contains_key(*name))) {
        let value = |data: &Data| data.get(name).map_or_else(|| "none".to_owned(), json);
        part(&format!("data.{name}"), value(&saga.data), value(&read.data));
    }
    part("reason", json(&saga.reason), json(&read.reason));
    part("correction", json(&saga.correction), json(&read.correction));
    part("redriven", json(&saga.redriven), json(&read.redriven));
    part("traceparent", json(&saga.traceparent), json(&read.traceparent));
}
