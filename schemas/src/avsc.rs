//! From the text of an `.avsc` to a [`RecordShape`] and its fingerprint.
//!
//! The text is not given to the parser as it is. Defaults are taken out, because the parser tries them out on types
//! that a short text can make exponentially large; they are checked here, against types of bounded size. Everything
//! that does not lay out bytes goes too, because the parser's canonical form keeps some of it (logical types,
//! attributes that are called like keywords), which would give another fingerprint than other languages compute.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::error::Details;
use apache_avro::rabin::Rabin;
use apache_avro::schema::{EnumSchema, Name, RecordField, RecordSchema, UuidSchema};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use crate::codec::{Decoder, Encoded, Encoder, UnknownNames};
use crate::shape::{
    DefaultValue, EnumShape, FieldShape, FieldType, FixedShape, JsonKind, RecordShape, TimeType,
};

/// Most types in one schema, each counted as often as it is used.
const TYPES_LIMIT: usize = 4096;

/// Deepest nesting of types; values nest as deep, and so does the codec's recursion.
const DEPTH_LIMIT: usize = 32;

/// Most bytes that the default of one field may take, encoded.
const DEFAULT_LIMIT_BYTES: usize = 16 * 1024;

/// Most bytes of a fixed.
const FIXED_LIMIT_BYTES: u64 = 1024 * 1024;

/// The key under which a field's default passes the parser.
const DEFAULT_ASIDE: &str = "set-aside-default";

/// One schema, ready for use.
#[derive(Debug)]
pub(crate) struct Avsc {
    pub(crate) shape: RecordShape,
    /// CRC-64-AVRO of the parsing canonical form.
    pub(crate) fingerprint: u64,
    /// What two texts must share to be the same schema: everything but layout, order of keys and documentation.
    pub(crate) content: Value,
    /// The text as it was, read as JSON: with documentation and attributes of its author's.
    pub(crate) source: Value,
}

/// Why a text is not a usable schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The field, when it is about one; else empty.
    pub(crate) field: String,
    /// What is wrong and what to do.
    pub(crate) reason: String,
}

impl Refused {
    fn new(reason: impl Into<String>) -> Self {
        Self { field: String::new(), reason: reason.into() }
    }

    fn inside(mut self, name: &str) -> Self {
        self.field = if self.field.is_empty() { name.to_owned() } else { format!("{name}.{}", self.field) };
        self
    }
}

/// Reads the text of an `.avsc`.
pub(crate) fn parse(text: &str) -> Result<Avsc, Refused> {
    let source: Value =
        serde_json::from_str(text).map_err(|error| Refused::new(format!("not JSON: {error}")))?;
    let parse = |keep| {
        let plain = plain(&source, keep)?;
        Schema::parse(&plain).map_err(|error| match error.details() {
            Details::ParsePrimitive(name) => Refused::new(format!(
                "no type is named {name} in this file: define it where it is used first"
            )),
            _ => Refused::new(error.to_string()),
        })
    };
    let Schema::Record(record) = parse(Keep::All)? else {
        return Err(Refused::new("not a record: a message is a record"));
    };
    let FieldType::Record(shape) = Compiler::default().record(&record, 0)? else {
        return Err(Refused::new("not a record: a message is a record"));
    };
    let digest = parse(Keep::Layout)?.fingerprint::<Rabin>();
    let fingerprint = digest.bytes.first_chunk().copied().map(u64::from_le_bytes);
    Ok(Avsc {
        shape: Arc::unwrap_or_clone(shape),
        fingerprint: fingerprint.ok_or_else(|| Refused::new("has no fingerprint"))?,
        content: plain(&source, Keep::All)?,
        source,
    })
}

/// What is kept of a schema beside the layout of the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Logical types, and defaults under another key.
    All,
    /// Nothing.
    Layout,
}

/// The schema with only the keys that mean something to the parser at that place. As deep as the JSON, which its
/// parser bounds.
fn plain(schema: &Value, keep: Keep) -> Result<Value, Refused> {
    let object = match schema {
        Value::Object(object) => object,
        Value::Array(branches) => {
            return branches
                .iter()
                .map(|branch| plain(branch, keep))
                .collect::<Result<_, _>>()
                .map(Value::Array);
        }
        _ => return Ok(schema.clone()),
    };
    let mut kept = Map::new();
    let mut copy = |keys: &[&str]| {
        for key in keys {
            if let Some(value) = object.get(*key) {
                kept.insert((*key).to_owned(), value.clone());
            }
        }
    };
    let logical = object.get("logicalType").and_then(Value::as_str);
    match object.get("type").and_then(Value::as_str) {
        Some("record") => {
            copy(&["type", "name", "namespace"]);
            if let Some(Value::Array(fields)) = object.get("fields") {
                let fields = fields.iter().map(|field| plain_field(field, keep)).collect::<Result<_, _>>()?;
                kept.insert("fields".to_owned(), Value::Array(fields));
            }
        }
        Some("enum") => copy(&["type", "name", "namespace", "symbols", "default"]),
        Some("fixed") => {
            if let Some(logical) = logical {
                return Err(Refused::new(format!("{logical} as a fixed is not supported: use a string")));
            }
            if object.get("size").and_then(Value::as_u64).is_some_and(|size| size > FIXED_LIMIT_BYTES) {
                return Err(Refused::new(format!("a fixed has at most {FIXED_LIMIT_BYTES} bytes")));
            }
            copy(&["type", "name", "namespace", "size"]);
        }
        Some(collection @ ("array" | "map")) => {
            copy(&["type"]);
            let key = if collection == "array" { "items" } else { "values" };
            if let Some(inner) = object.get(key) {
                kept.insert(key.to_owned(), plain(inner, keep)?);
            }
        }
        _ => {
            if let Some(unsupported @ ("decimal" | "big-decimal" | "duration")) = logical {
                let advice = "use a long of minor units, or a string";
                return Err(Refused::new(format!("{unsupported} is not supported: {advice}")));
            }
            if let Some(inner) = object.get("type") {
                kept.insert("type".to_owned(), plain(inner, keep)?);
            }
            if keep == Keep::All
                && let Some(logical) = object.get("logicalType")
            {
                kept.insert("logicalType".to_owned(), logical.clone());
            }
        }
    }
    Ok(Value::Object(kept))
}

fn plain_field(field: &Value, keep: Keep) -> Result<Value, Refused> {
    let Value::Object(object) = field else {
        return Err(Refused::new("an entry of \"fields\" is not an object"));
    };
    let mut kept = Map::new();
    if let Some(name) = object.get("name") {
        kept.insert("name".to_owned(), name.clone());
    }
    if let Some(ty) = object.get("type") {
        let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
        kept.insert("type".to_owned(), plain(ty, keep).map_err(|refused| refused.inside(name))?);
    }
    if keep == Keep::All
        && let Some(default) = object.get("default")
    {
        kept.insert(DEFAULT_ASIDE.to_owned(), default.clone());
    }
    Ok(Value::Object(kept))
}

/// Builds types in the order of the text, in which a name is defined before it is used.
#[derive(Default)]
struct Compiler {
    named: HashMap<String, Named>,
    types: usize,
}

/// A type that may be used again by name.
struct Named {
    ty: FieldType,
    types: usize,
    depth: usize,
}

impl Compiler {
    fn compile(&mut self, schema: &Schema, depth: usize) -> Result<FieldType, Refused> {
        self.count(1)?;
        too_deep(depth)?;
        Ok(match schema {
            Schema::Null => FieldType::Null,
            Schema::Boolean => FieldType::Boolean,
            Schema::Int => FieldType::Int,
            Schema::Long => FieldType::Long,
            Schema::Float => FieldType::Float,
            Schema::Double => FieldType::Double,
            Schema::Bytes => FieldType::Bytes,
            Schema::String => FieldType::String,
            Schema::Uuid(UuidSchema::String) => FieldType::Uuid,
            Schema::Date => FieldType::Time(TimeType::Date),
            Schema::TimeMillis => FieldType::Time(TimeType::TimeMillis),
            Schema::TimeMicros => FieldType::Time(TimeType::TimeMicros),
            Schema::TimestampMillis => FieldType::Time(TimeType::TimestampMillis),
            Schema::TimestampMicros => FieldType::Time(TimeType::TimestampMicros),
            Schema::TimestampNanos => FieldType::Time(TimeType::TimestampNanos),
            Schema::LocalTimestampMillis => FieldType::Time(TimeType::LocalTimestampMillis),
            Schema::LocalTimestampMicros => FieldType::Time(TimeType::LocalTimestampMicros),
            Schema::LocalTimestampNanos => FieldType::Time(TimeType::LocalTimestampNanos),
            Schema::Array(array) => FieldType::Array(Arc::new(self.compile(&array.items, depth + 1)?)),
            Schema::Map(map) => FieldType::Map(Arc::new(self.compile(&map.types, depth + 1)?)),
            Schema::Union(union) => self.union(union.variants(), depth)?,
            Schema::Fixed(fixed) => {
                let full_name = self.define(&fixed.name)?;
                let ty = FieldType::Fixed(Arc::new(FixedShape { full_name, size: fixed.size }));
                self.defined(&fixed.name, ty, 1, 0)
            }
            Schema::Enum(symbols) => self.symbols(symbols)?,
            Schema::Record(record) => self.record(record, depth)?,
            Schema::Ref { name } => self.again(name, depth)?,
            Schema::Uuid(_) => return Err(Refused::new("a uuid that is not a string is not supported")),
            Schema::Decimal(_) | Schema::BigDecimal | Schema::Duration(_) => {
                return Err(Refused::new("decimal and duration are not supported: use a long or a string"));
            }
        })
    }

    fn record(&mut self, record: &RecordSchema, depth: usize) -> Result<FieldType, Refused> {
        let full_name = self.define(&record.name)?;
        let types_before = self.types;
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            fields.push(self.field(field, depth).map_err(|refused| refused.inside(&field.name))?);
        }
        let deepest = fields.iter().map(|field| depth_of(&field.ty) + 1).max().unwrap_or(0);
        let ty = FieldType::Record(Arc::new(RecordShape { full_name, fields }));
        Ok(self.defined(&record.name, ty, self.types - types_before + 1, deepest))
    }

    fn field(&mut self, field: &RecordField, depth: usize) -> Result<FieldShape, Refused> {
        let ty = self.compile(&field.schema, depth + 1)?;
        let default = match field.custom_attributes.get(DEFAULT_ASIDE) {
            Some(json) => Some(default_value(&ty, json)?),
            None => None,
        };
        Ok(FieldShape { name: field.name.as_str().into(), ty, default })
    }

    fn union(&mut self, variants: &[Schema], depth: usize) -> Result<FieldType, Refused> {
        if variants.len() < 2 {
            return Err(Refused::new("a union needs two types: give the type without the brackets"));
        }
        let mut branches: Vec<FieldType> = Vec::with_capacity(variants.len());
        for variant in variants {
            let branch = self.compile(variant, depth + 1)?;
            if let Some(alike) = branches.iter().find(|other| other.json_kind() == branch.json_kind()) {
                return Err(Refused::new(format!(
                    "a union of {alike} and {branch} is not supported: in JSON their values look alike; \
                     use two optional fields"
                )));
            }
            branches.push(branch);
        }
        Ok(FieldType::Union(branches.into()))
    }

    fn symbols(&mut self, schema: &EnumSchema) -> Result<FieldType, Refused> {
        let full_name = self.define(&schema.name)?;
        if schema.symbols.is_empty() {
            return Err(Refused::new(format!("the enum {full_name} has no symbols")));
        }
        let symbols = schema.symbols.iter().map(|symbol| symbol.as_str().into()).collect();
        let default =
            schema.default.as_ref().and_then(|default| schema.symbols.iter().position(|s| s == default));
        let ty = FieldType::Enum(Arc::new(EnumShape { full_name, symbols, default }));
        Ok(self.defined(&schema.name, ty, 1, 0))
    }

    /// The full name of a type whose definition starts here.
    fn define(&self, name: &Name) -> Result<Arc<str>, Refused> {
        let full_name = name.fullname(None);
        if self.named.contains_key(&full_name) {
            return Err(Refused::new(format!(
                "{full_name} is defined twice: define it once, then use its name"
            )));
        }
        Ok(full_name.into())
    }

    fn defined(&mut self, name: &Name, ty: FieldType, types: usize, depth: usize) -> FieldType {
        self.named.insert(name.fullname(None), Named { ty: ty.clone(), types, depth });
        ty
    }

    /// A type that is used by its name.
    fn again(&mut self, name: &Name, depth: usize) -> Result<FieldType, Refused> {
        let Some(named) = self.named.get(&name.fullname(None)) else {
            return Err(Refused::new(format!(
                "{} contains itself, which is not supported",
                name.fullname(None)
            )));
        };
        too_deep(depth + named.depth)?;
        let (ty, types) = (named.ty.clone(), named.types);
        self.count(types)?;
        Ok(ty)
    }

    fn count(&mut self, types: usize) -> Result<(), Refused> {
        self.types += types;
        if self.types > TYPES_LIMIT {
            return Err(Refused::new(format!(
                "more than {TYPES_LIMIT} types, each counted as often as used"
            )));
        }
        Ok(())
    }
}

fn too_deep(depth: usize) -> Result<(), Refused> {
    if depth > DEPTH_LIMIT {
        return Err(Refused::new(format!("types are nested deeper than {DEPTH_LIMIT}")));
    }
    Ok(())
}

fn depth_of(ty: &FieldType) -> usize {
    match ty {
        FieldType::Array(inner) | FieldType::Map(inner) => depth_of(inner) + 1,
        FieldType::Union(branches) => branches.iter().map(depth_of).max().unwrap_or(0) + 1,
        FieldType::Record(record) => {
            record.fields.iter().map(|field| depth_of(&field.ty) + 1).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Checks a default and brings it into both forms that the codec needs.
fn default_value(ty: &FieldType, json: &Value) -> Result<DefaultValue, Refused> {
    let refused = |what: String| Refused::new(format!("the default {what}"));
    let value = from_default_form(ty, json)?;
    let encoder = Encoder::new(Vec::new(), DEFAULT_LIMIT_BYTES, UnknownNames::Refused);
    let encoded = match encoder.single("default", ty, &value) {
        Encoded::Bytes(bytes) => bytes.into_boxed_slice(),
        Encoded::TooLarge => return Err(refused(format!("takes more than {DEFAULT_LIMIT_BYTES} bytes"))),
        Encoded::Problems(problems) => {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            return Err(Refused::new(first));
        }
    };
    let json = Decoder::new(&encoded).value(ty).map_err(|_| refused("cannot be read back".to_owned()))?;
    Ok(DefaultValue { json, encoded })
}

/// Avro writes the bytes of a default as text with one character per byte; everywhere else this crate has base64. And
/// the default of a union is one of its first branch, so that every Avro library can read it.
fn from_default_form(ty: &FieldType, json: &Value) -> Result<Value, Refused> {
    Ok(match (ty, json) {
        (FieldType::Bytes | FieldType::Fixed(_), Value::String(text)) => {
            let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
            let bytes = bytes.map_err(|_| Refused::new("the default has a character above \\u00ff"))?;
            Value::String(BASE64.encode(bytes))
        }
        (FieldType::Union(branches), _) => {
            let first = &branches[0];
            if first.json_kind() != JsonKind::of(json) {
                return Err(Refused::new(format!(
                    "the default of a union is a value of its first type, here {first}: change their order"
                )));
            }
            from_default_form(first, json)?
        }
        (FieldType::Array(items), Value::Array(values)) => values
            .iter()
            .map(|value| from_default_form(items, value))
            .collect::<Result<_, _>>()
            .map(Value::Array)?,
        (FieldType::Map(values), Value::Object(entries)) => {
            let entry =
                |(name, value): (&String, &Value)| Ok((name.clone(), from_default_form(values, value)?));
            Value::Object(entries.iter().map(entry).collect::<Result<_, Refused>>()?)
        }
        (FieldType::Record(record), Value::Object(fields)) => {
            let field = |(name, value): (&String, &Value)| {
                let value = match record.field(name) {
                    Some(field) => from_default_form(&field.ty, value)?,
                    None => value.clone(),
                };
                Ok((name.clone(), value))
            };
            Value::Object(fields.iter().map(field).collect::<Result<_, Refused>>()?)
        }
        _ => json.clone(),
    })
}
