//! The rule for versions: any two of one record can read each other.
//!
//! This is Avro's full transitive compatibility, and a little stricter: a type keeps its meaning, too. Avro would let
//! int become timestamp-millis, and string become bytes; here both mean something else in JSON.

use crate::shape::{EnumShape, FieldType, RecordShape};

/// Why two versions cannot read each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The field.
    pub(crate) field: String,
    /// What is wrong and what to do, from the newer version's point of view.
    pub(crate) message: String,
}

/// Every reason why an older and a newer version of a record cannot read each other.
pub(crate) fn conflicts(older: &RecordShape, newer: &RecordShape) -> Vec<Conflict> {
    let mut found = Vec::new();
    records(older, newer, "", &mut found);
    found
}

fn records(older: &RecordShape, newer: &RecordShape, place: &str, found: &mut Vec<Conflict>) {
    let inside = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    for field in &newer.fields {
        match older.field(&field.name) {
            Some(old) => types(&old.ty, &field.ty, &inside(&field.name), found),
            None if field.has_default() => {}
            None => found.push(Conflict {
                field: inside(&field.name),
                message: "is new and has no default, so older messages cannot be read: give it a default"
                    .to_owned(),
            }),
        }
    }
    for field in older.fields.iter().filter(|field| newer.field(&field.name).is_none()) {
        if !field.has_default() {
            found.push(Conflict {
                field: inside(&field.name),
                message:
                    "is gone but has no default in the older version, so readers of that version cannot do \
                          without it: keep it"
                        .to_owned(),
            });
        }
    }
}

fn types(older: &FieldType, newer: &FieldType, place: &str, found: &mut Vec<Conflict>) {
    match (older, newer) {
        (FieldType::Record(old), FieldType::Record(new)) if old.full_name == new.full_name => {
            records(old, new, place, found);
        }
        (FieldType::Array(old), FieldType::Array(new)) => types(old, new, &format!("{place}[]"), found),
        (FieldType::Map(old), FieldType::Map(new)) => types(old, new, &format!("{place}.*"), found),
        (FieldType::Enum(old), FieldType::Enum(new)) if old.full_name == new.full_name => {
            symbols(old, new, place, found);
        }
        (FieldType::Union(old), FieldType::Union(new)) if same_kinds(old, new) => {
            for old in old.iter() {
                for new in new.iter().filter(|new| new.json_kind() == old.json_kind()) {
                    types(old, new, place, found);
                }
            }
        }
        _ if older == newer => {}
        _ => found.push(Conflict {
            field: place.to_owned(),
            message: format!(
                "was {older} and is {newer}: keep its type, and add a new field with a default beside it"
            ),
        }),
    }
}

fn same_kinds(older: &[FieldType], newer: &[FieldType]) -> bool {
    let has = |types: &[FieldType], one: &FieldType| types.iter().any(|ty| ty.json_kind() == one.json_kind());
    older.len() == newer.len() && older.iter().all(|ty| has(newer, ty))
}

fn symbols(older: &EnumShape, newer: &EnumShape, place: &str, found: &mut Vec<Conflict>) {
    let missing_in = |these: &EnumShape, those: &EnumShape| {
        let missing = these.symbols.iter().filter(|symbol| !those.symbols.contains(symbol));
        let missing: Vec<&str> = missing.map(|symbol| &**symbol).collect();
        (!missing.is_empty() && those.default.is_none()).then(|| missing.join(", "))
    };
    if let Some(missing) = missing_in(older, newer) {
        found.push(Conflict {
            field: place.to_owned(),
            message: format!("no longer has {missing}: keep the symbols, or give the enum a default symbol"),
        });
    }
    if let Some(missing) = missing_in(newer, older) {
        found.push(Conflict {
            field: place.to_owned(),
            message: format!(
                "has new symbols ({missing}), but the enum of the older version has no default symbol to read them \
                 as: add a new field with a default instead"
            ),
        });
    }
}
