//! Bytes to fields. Everything in the bytes is taken for a lie until it is checked.

use std::mem::size_of;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use saga_defs::Data;
use serde_json::{Number, Value};

use super::encode::is_uuid;
use super::{BodyFault, DECODED_LIMIT_BYTES, DecodeError, shown_name};
use crate::shape::{EnumShape, FieldType, RecordShape};

/// Reads the body of a message that was written as `written`, as `wanted` (the same, or a newer version).
pub(crate) fn read_message(
    written: &RecordShape,
    wanted: &RecordShape,
    body: &[u8],
) -> Result<Data, DecodeError> {
    let mut decoder = Decoder::new(body);
    let fields = if std::ptr::eq(written, wanted) {
        decoder.record(wanted)
    } else {
        decoder.resolved_record(written, wanted)
    };
    fields.and_then(|fields| decoder.finish().map(|()| fields)).map_err(|fault| DecodeError::Body {
        message_type: wanted.full_name.clone(),
        field: fault.path(),
        fault: fault.what,
    })
}

/// Reads a body as it was written. The error says as well at which byte of the body the value begins that it is about.
pub(crate) fn read_as_written(written: &RecordShape, body: &[u8]) -> Result<Data, (DecodeError, usize)> {
    let mut decoder = Decoder::new(body);
    let fields = decoder.record(written).and_then(|fields| decoder.finish().map(|()| fields));
    fields.map_err(|fault| {
        let (message_type, field) = (written.full_name.clone(), fault.path());
        let left = match fault.what {
            BodyFault::LeftOver { count } => count,
            _ => decoder.left_at_value,
        };
        (DecodeError::Body { message_type, field, fault: fault.what }, body.len() - left)
    })
}

/// Reads values from bytes, within a budget of memory.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    budget_bytes: usize,
    /// How many bytes were left where the last value began.
    left_at_value: usize,
}

/// What is wrong, and where: the segments of the place, innermost first.
#[derive(Debug)]
pub(crate) struct Fault {
    what: BodyFault,
    place: Vec<String>,
}

impl Fault {
    #[cold]
    fn inside(mut self, segment: String) -> Self {
        self.place.push(segment);
        self
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.place.iter().rev() {
            if !path.is_empty() && !segment.starts_with('[') {
                path.push('.');
            }
            path.push_str(segment);
        }
        path
    }
}

impl From<BodyFault> for Fault {
    fn from(what: BodyFault) -> Self {
        Self { what, place: Vec::new() }
    }
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, budget_bytes: DECODED_LIMIT_BYTES, left_at_value: bytes.len() }
    }

    /// Nothing may be left.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(BodyFault::LeftOver { count }.into()),
        }
    }

    pub(crate) fn value(&mut self, ty: &FieldType) -> Result<Value, Fault> {
        // Counted for each value, also for those that take no bytes: a list may claim a billion nulls.
        self.left_at_value = self.rest.len();
        self.spend(size_of::<Value>())?;
        Ok(match ty {
            FieldType::Null => Value::Null,
            FieldType::Boolean => match self.byte()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                found => return Err(BodyFault::NotBoolean { found }.into()),
            },
            FieldType::Int => self.int()?.into(),
            FieldType::Long => self.long()?.into(),
            FieldType::Time(time) if time.is_int() => self.int()?.into(),
            FieldType::Time(_) => self.long()?.into(),
            FieldType::Float => finite(f64::from(f32::from_le_bytes(self.array()?)))?,
            FieldType::Double => finite(f64::from_le_bytes(self.array()?))?,
            FieldType::Bytes => {
                let bytes = self.prefixed()?;
                self.base64(bytes)?
            }
            FieldType::Fixed(fixed) => {
                let bytes = self.take(fixed.size)?;
                self.base64(bytes)?
            }
            FieldType::String => Value::String(self.text()?),
            FieldType::Uuid => match self.text()? {
                text if is_uuid(&text) => Value::String(text),
                _ => return Err(BodyFault::NotUuid.into()),
            },
            FieldType::Enum(symbols) => {
                let index = self.index(symbols.symbols.len())?;
                self.symbol(symbols, index)?
            }
            FieldType::Array(items) => self.list(|decoder| decoder.value(items))?,
            FieldType::Map(values) => self.map(|decoder| decoder.value(values))?,
            FieldType::Union(branches) => {
                let index = self.index(branches.len())?;
                self.value(&branches[index])?
            }
            FieldType::Record(record) => Value::Object(self.record(record)?),
        })
    }

    fn record(&mut self, shape: &RecordShape) -> Result<Data, Fault> {
        let mut fields = Data::new();
        for field in &shape.fields {
            let value = self.value(&field.ty).map_err(|fault| fault.inside(field.name.to_string()))?;
            self.insert(&mut fields, &field.name, value)?;
        }
        Ok(fields)
    }

    /// As [`Self::record`], for a writer that had another version: its own fields come in its own order, those that
    /// are gone are read and dropped, those that are new get their defaults.
    fn resolved_record(&mut self, written: &RecordShape, wanted: &RecordShape) -> Result<Data, Fault> {
        let mut fields = Data::new();
        for old in &written.fields {
            let inside = |fault: Fault| fault.inside(old.name.to_string());
            match wanted.field(&old.name) {
                Some(new) => {
                    let value = self.resolved(&old.ty, &new.ty).map_err(inside)?;
                    self.insert(&mut fields, &old.name, value)?;
                }
                None => drop(self.value(&old.ty).map_err(inside)?),
            }
        }
        for new in wanted.fields.iter().filter(|new| written.field(&new.name).is_none()) {
            let default = new.default.as_ref().ok_or(BodyFault::NoPlace)?;
            // Read from its bytes, so that it is counted like everything else.
            let value = self.aside(&default.encoded, |decoder| decoder.value(&new.ty))?;
            self.insert(&mut fields, &new.name, value)?;
        }
        Ok(fields)
    }

    fn resolved(&mut self, written: &FieldType, wanted: &FieldType) -> Result<Value, Fault> {
        match (written, wanted) {
            (FieldType::Union(old), FieldType::Union(new)) => {
                let old = &old[self.index(old.len())?];
                let new = new.iter().find(|new| new.json_kind() == old.json_kind());
                self.resolved(old, new.ok_or(BodyFault::NoPlace)?)
            }
            (FieldType::Record(old), FieldType::Record(new)) => {
                self.resolved_record(old, new).map(Value::Object)
            }
            (FieldType::Array(old), FieldType::Array(new)) => self.list(|decoder| decoder.resolved(old, new)),
            (FieldType::Map(old), FieldType::Map(new)) => self.map(|decoder| decoder.resolved(old, new)),
            (FieldType::Enum(old), FieldType::Enum(new)) => {
                let found = &old.symbols[self.index(old.symbols.len())?];
                let known = new.symbols.iter().position(|symbol| symbol == found);
                self.symbol(new, known.or(new.default).ok_or(BodyFault::NoPlace)?)
            }
            _ if written == wanted => self.value(wanted),
            _ => Err(BodyFault::NoPlace.into()),
        }
    }

    /// Reads from other bytes on the same budget.
    fn aside<T>(
        &mut self,
        bytes: &[u8],
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut decoder =
            Decoder { rest: bytes, budget_bytes: self.budget_bytes, left_at_value: bytes.len() };
        let value = read(&mut decoder)?;
        self.budget_bytes = decoder.budget_bytes;
        Ok(value)
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        self.spend(size_of::<Value>())?;
        let mut items = Vec::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                items.push(item(self).map_err(|fault| fault.inside(format!("[{}]", items.len())))?);
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, mut value: impl FnMut(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        self.spend(size_of::<Value>())?;
        let mut entries = Data::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                let name = self.text()?;
                let value = value(self).map_err(|fault| fault.inside(shown_name(&name).into_owned()))?;
                self.spend(size_of::<String>())?;
                entries.insert(name, value);
            }
        }
        Ok(Value::Object(entries))
    }

    /// The number of items in the next block of a list or map; `None` after the last one.
    fn block(&mut self) -> Result<Option<u64>, Fault> {
        let count = self.long()?;
        if count < 0 {
            // A negative count is followed by the size of the block, for readers that skip.
            self.long()?;
        }
        Ok((count != 0).then_some(count.unsigned_abs()))
    }

    fn symbol(&mut self, symbols: &EnumShape, index: usize) -> Result<Value, Fault> {
        let symbol = &symbols.symbols[index];
        self.spend(size_of::<Value>() + symbol.len())?;
        Ok(Value::String(symbol.to_string()))
    }

    fn insert(&mut self, fields: &mut Data, name: &str, value: Value) -> Result<(), Fault> {
        self.spend(size_of::<String>() + name.len())?;
        fields.insert(name.to_owned(), value);
        Ok(())
    }

    /// An index into `count` branches or symbols.
    fn index(&mut self, count: usize) -> Result<usize, Fault> {
        let found = self.long()?;
        match usize::try_from(found) {
            Ok(index) if index < count => Ok(index),
            _ => Err(BodyFault::NoSuchIndex { found, last: count.saturating_sub(1) }.into()),
        }
    }

    fn base64(&mut self, bytes: &[u8]) -> Result<Value, Fault> {
        self.spend(bytes.len().div_ceil(3) * 4)?;
        Ok(Value::String(BASE64.encode(bytes)))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let bytes = self.prefixed()?;
        let text = std::str::from_utf8(bytes).map_err(|_| BodyFault::NotUtf8)?;
        self.spend(text.len())?;
        Ok(text.to_owned())
    }

    /// Bytes after their length.
    fn prefixed(&mut self) -> Result<&'a [u8], Fault> {
        let length = usize::try_from(self.long()?).map_err(|_| BodyFault::NegativeLength)?;
        self.take(length)
    }

    fn int(&mut self) -> Result<i32, Fault> {
        Ok(i32::try_from(self.long()?).map_err(|_| BodyFault::IntegerRange)?)
    }

    fn long(&mut self) -> Result<i64, Fault> {
        let mut bits = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let seven = u64::from(byte & 0x7f);
            if shift == 63 && seven > 1 {
                break;
            }
            bits |= seven << shift;
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err(BodyFault::IntegerRange.into())
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.rest.split_first().ok_or(BodyFault::Truncated)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(BodyFault::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(BodyFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.budget_bytes = self.budget_bytes.checked_sub(bytes).ok_or(BodyFault::TooLarge)?;
        Ok(())
    }
}

fn finite(number: f64) -> Result<Value, Fault> {
    Ok(Value::Number(Number::from_f64(number).ok_or(BodyFault::NotFinite)?))
}
