//! Schemas as definitions are checked against them.

use std::sync::Arc;

use saga_defs::check::{Field, Messages, Record, Type};

use crate::catalog::Catalog;
use crate::shape::{FieldShape, FieldType, RecordShape};

impl Messages for Catalog {
    fn record(&self, full_name: &str) -> Option<Record> {
        Self::record(self, full_name).map(Record::from)
    }

    fn names(&self) -> Vec<String> {
        self.message_types().map(str::to_owned).collect()
    }
}

impl From<&RecordShape> for Record {
    fn from(shape: &RecordShape) -> Self {
        Self { full_name: shape.full_name.clone(), fields: shape.fields.iter().map(Field::from).collect() }
    }
}

impl From<&FieldShape> for Field {
    fn from(field: &FieldShape) -> Self {
        Self { name: field.name.clone(), ty: Type::from(&field.ty), has_default: field.has_default() }
    }
}

impl From<&FieldType> for Type {
    fn from(ty: &FieldType) -> Self {
        match ty {
            FieldType::Null => Self::Null,
            FieldType::Boolean => Self::Boolean,
            FieldType::Int => Self::Int,
            FieldType::Long => Self::Long,
            FieldType::Float => Self::Float,
            FieldType::Double => Self::Double,
            FieldType::Bytes => Self::Bytes,
            FieldType::String => Self::String,
            FieldType::Uuid => Self::Uuid,
            FieldType::Time(time) => Self::Time { unit: time.as_str(), is_int: time.is_int() },
            FieldType::Fixed(fixed) => Self::Fixed { size: fixed.size },
            FieldType::Enum(symbols) => Self::Enum(symbols.symbols.clone()),
            FieldType::Array(items) => Self::Array(Arc::new(Self::from(&**items))),
            FieldType::Map(values) => Self::Map(Arc::new(Self::from(&**values))),
            FieldType::Union(branches) => Self::Union(branches.iter().map(Self::from).collect()),
            FieldType::Record(record) => Self::Record(Arc::new(Record::from(&**record))),
        }
    }
}
