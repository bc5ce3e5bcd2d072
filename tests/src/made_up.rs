//! Messages made of nothing but their schema: the same every time.

use saga_defs::Data;
use schemas::{FieldType, RecordShape};
use serde_json::{Value, json};

/// A UUID for fields that want one.
const SOME_UUID: &str = "00000000-0000-4000-8000-000000000001";
/// A number for fields that want one.
const SOME_NUMBER: u32 = 1;

/// A record with a value in every field. All text is `text`; defaults are not used.
pub fn record(shape: &RecordShape, text: &str) -> Data {
    shape.fields().iter().map(|field| (field.name().to_owned(), value(field.ty(), text))).collect()
}

/// A reply to a command: fields that the command has too are echoed, all other texts are `text`.
pub fn reply(shape: &RecordShape, command: &RecordShape, fields: &Data, text: &str) -> Data {
    let answer = shape.fields().iter().map(|field| {
        let echoed = command
            .field(field.name())
            .filter(|other| field.ty() == other.ty())
            .and_then(|other| fields.get(other.name()));
        let value = echoed.cloned().unwrap_or_else(|| value(field.ty(), text));
        (field.name().to_owned(), value)
    });
    answer.collect()
}

fn value(ty: &FieldType, text: &str) -> Value {
    match ty {
        FieldType::Null => Value::Null,
        FieldType::Boolean => true.into(),
        FieldType::Int | FieldType::Long | FieldType::Float | FieldType::Double | FieldType::Time(_) => {
            SOME_NUMBER.into()
        }
        FieldType::String => text.into(),
        FieldType::Uuid => SOME_UUID.into(),
        FieldType::Bytes => "".into(),
        FieldType::Fixed(fixed) => {
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![0; fixed.size]).into()
        }
        FieldType::Enum(symbols) => symbols.symbols.first().map_or(Value::Null, |symbol| (**symbol).into()),
        FieldType::Array(items) => json!([value(items, text)]),
        FieldType::Map(values) => json!({ "key": value(values, text) }),
        FieldType::Union(branches) => branches.first().map_or(Value::Null, |branch| value(branch, text)),
        FieldType::Record(shape) => Value::Object(record(shape, text)),
    }
}
