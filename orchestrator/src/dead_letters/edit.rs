//! A letter's value with an operator's changes. Pure.

use saga_defs::Data;
use schemas::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Changes that are kept and shown; there is no message with nearly as many fields.
const MAX_CHANGES: usize = 200;

/// What is sent in place of a letter's own value.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The value's bytes: written by the newest version of its record, which took it.
    pub value: Vec<u8>,
    /// The same as fields.
    pub fields: Data,
    /// What is other than in the letter.
    pub changes: Vec<Change>,
}

/// One field that is other than it was. A field that is not there is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Where: `seat`, `lines.0.price`.
    pub field: String,
    /// What the letter has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// A JSON merge patch (RFC 7396): members that are null are removed, objects are merged, everything else is replaced.
pub fn merge(target: &mut Data, patch: &Data) {
    for (name, wanted) in patch {
        match wanted {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(inner) => {
                let there = target.entry(name.clone()).or_insert(Value::Null);
                let mut merged = match there.take() {
                    Value::Object(fields) => fields,
                    _ => Data::new(),
                };
                merge(&mut merged, inner);
                *there = Value::Object(merged);
            }
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

/// Each field that differs, in order of name; of arrays and objects what differs in them.
pub fn changes(before: &Data, after: &Data) -> Vec<Change> {
    let mut found = Vec::new();
    let side = |data: &Data| Value::Object(data.clone());
    compare("", Some(&side(before)), Some(&side(after)), &mut found);
    found.truncate(MAX_CHANGES);
    found
}

fn compare(place: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    let below = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                compare(&below(name), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for at in 0..old.len().max(new.len()) {
                compare(&below(&at.to_string()), old.get(at), new.get(at), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => {
            let (from, to) = (before.cloned(), after.cloned());
            found.push(Change { field: place.to_owned(), from, to });
        }
    }
}

/// Which record a letter's value is: the one that its header names, if there is a schema for it, else the one that its
/// bytes name.
pub fn message_type(catalog: &Catalog, named: Option<&str>, value: Option<&[u8]>) -> Option<String> {
    let known = named.filter(|name| catalog.record(name).is_some()).map(str::to_owned);
    known.or_else(|| {
        let decoded = value.and_then(|bytes| catalog.decode(bytes).ok());
        decoded.map(|found| found.message_type.to_string())
    })
}

/// Why a letter cannot be sent with another value.
#[derive(Clone, Debug, PartialEq)]
pub enum NoEdit {
    /// Nobody knows which record it is.
    UnknownType,
    /// A patch changes a value, and this one cannot be read.
    Unreadable(String),
    /// The newest version of its record refuses the fields, each with why.
    Refused(Vec<schemas::FieldProblem>),
}

/// A letter's value, replaced.
///
/// # Errors
/// The value is not what the letter's record takes.
pub fn replaced(
    catalog: &Catalog,
    named: Option<&str>,
    value: Option<&[u8]>,
    fields: Data,
) -> Result<Edit, NoEdit> {
    let message_type = message_type(catalog, named, value).ok_or(NoEdit::UnknownType)?;
    let before = value.and_then(|bytes| catalog.decode(bytes).ok()).map(|found| found.fields);
    edit(catalog, &message_type, &before.unwrap_or_default(), fields)
}

/// A letter's value, changed by a merge patch.
///
/// # Errors
/// The value cannot be read, or what comes out is not what the letter's record takes.
pub fn patched(catalog: &Catalog, value: Option<&[u8]>, patch: &Data) -> Result<Edit, NoEdit> {
    let bytes = value.ok_or_else(|| NoEdit::Unreadable("the record has no value".to_owned()))?;
    let found = catalog.decode(bytes).map_err(|error| NoEdit::Unreadable(error.to_string()))?;
    let mut fields = found.fields.clone();
    merge(&mut fields, patch);
    edit(catalog, &found.message_type, &found.fields, fields)
}

fn edit(catalog: &Catalog, message_type: &str, before: &Data, fields: Data) -> Result<Edit, NoEdit> {
    let wrong = catalog.validate(message_type, &fields);
    if !wrong.is_empty() {
        return Err(NoEdit::Refused(wrong));
    }
    let value = catalog.encode(message_type, &fields).map_err(|error| {
        NoEdit::Refused(vec![schemas::FieldProblem { field: String::new(), message: error.to_string() }])
    })?;
    Ok(Edit { value, changes: changes(before, &fields), fields })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: Value) -> Data {
        value.as_object().cloned().unwrap_or_default()
    }

    /// The table at the end of RFC 7396, as far as it is about objects.
    #[test]
    fn patches_are_merged_as_the_rfc_says() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({"a": "foo"}), json!({"a": {"b": null}}), json!({"a": {}})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = data(target.clone());
            merge(&mut merged, &data(patch.clone()));
            assert_eq!(Value::Object(merged), expected, "{target} {patch}");
        }
    }

    #[test]
    fn changes_name_each_field_that_differs() {
        let before = data(json!({"seat": "5C", "gone": 1, "lines": [{"price": 1}, 2], "same": true}));
        let after = data(json!({"seat": "6A", "new": null, "lines": [{"price": 3}], "same": true}));
        insta::assert_snapshot!(serde_json::to_string_pretty(&changes(&before, &after)).unwrap_or_default(), @r#"
        [
          {
            "field": "gone",
            "from": 1
          },
          {
            "field": "lines.0.price",
            "from": 1,
            "to": 3
          },
          {
            "field": "lines.1",
            "from": 2
          },
          {
            "field": "new",
            "to": null
          },
          {
            "field": "seat",
            "from": "5C",
            "to": "6A"
          }
        ]
        "#);
        assert_eq!(changes(&before, &before), vec![]);
    }
}
