//! Laws, on schemas and values that nobody thought of; Apache's own codec is the witness.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use schemas::{Catalog, Data, EncodeError};
use serde_json::{Value, json};

mod accepting;

/// Magic and fingerprint, which Apache's datum codec does not know.
const HEADER_LEN: usize = 10;

/// A type to be written as `.avsc`, and to draw values of.
#[derive(Debug, Clone, PartialEq)]
enum Ty {
    Plain(&'static str),
    Logical(&'static str, &'static str),
    Enum(u8),
    Fixed(u8),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Optional(Box<Ty>),
    /// Text, list or null, in an order that is not Apache's favourite.
    Mixed,
    Record(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    ty: Ty,
    default: Option<Value>,
}

impl Ty {
    /// As `.avsc`. `path` makes the names of named types unique, and the same in every version.
    fn avsc(&self, path: &str) -> Value {
        match self {
            Self::Plain(name) => json!(name),
            Self::Logical(base, logical) => json!({ "type": base, "logicalType": logical }),
            Self::Enum(count) => {
                let symbols: Vec<String> = (0..*count).map(|n| format!("S{n}")).collect();
                json!({ "type": "enum", "name": format!("E{path}"), "symbols": symbols, "default": "S0" })
            }
            Self::Fixed(size) => json!({ "type": "fixed", "name": format!("F{path}"), "size": size }),
            Self::Array(items) => json!({ "type": "array", "items": items.avsc(path) }),
            Self::Map(values) => json!({ "type": "map", "values": values.avsc(path) }),
            Self::Optional(ty) => json!(["null", ty.avsc(path)]),
            Self::Mixed => json!(["string", { "type": "array", "items": "int" }, "null"]),
            Self::Record(fields) => record_avsc(&format!("R{path}"), fields, path),
        }
    }

    fn value(&self) -> BoxedStrategy<Value> {
        match self {
            Self::Plain("null") => Just(Value::Null).boxed(),
            Self::Plain("boolean") => any::<bool>().prop_map(Value::from).boxed(),
            Self::Plain("int") | Self::Logical("int", _) => any::<i32>().prop_map(Value::from).boxed(),
            Self::Plain("long") | Self::Logical("long", _) => any::<i64>().prop_map(Value::from).boxed(),
            Self::Plain("float") => {
                any::<f32>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from).boxed()
            }
            Self::Plain("double") => {
                any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from).boxed()
            }
            Self::Plain("bytes") => {
                vec(any::<u8>(), 0..20).prop_map(|bytes| json!(BASE64.encode(bytes))).boxed()
            }
            Self::Plain("string") => any::<String>().prop_map(Value::from).boxed(),
            Self::Plain(other) => unreachable!("{other}"),
            Self::Logical(..) => {
                any::<u128>().prop_map(|n| json!(uuid::Uuid::from_u128(n).to_string())).boxed()
            }
            Self::Enum(count) => (0..*count).prop_map(|n| json!(format!("S{n}"))).boxed(),
            Self::Fixed(size) => {
                vec(any::<u8>(), usize::from(*size)).prop_map(|bytes| json!(BASE64.encode(bytes))).boxed()
            }
            Self::Array(items) => vec(items.value(), 0..4).prop_map(Value::from).boxed(),
            Self::Map(values) => btree_map(any::<String>(), values.value(), 0..4)
                .prop_map(|map| map.into_iter().collect())
                .boxed(),
            Self::Optional(ty) => prop_oneof![Just(Value::Null), ty.value()].boxed(),
            Self::Mixed => prop_oneof![
                Just(Value::Null),
                any::<String>().prop_map(Value::from),
                vec(any::<i32>(), 0..3).prop_map(Value::from)
            ]
            .boxed(),
            Self::Record(fields) => values_of(fields).prop_map(Value::Object).boxed(),
        }
    }
}

fn record_avsc(name: &str, fields: &[Field], path: &str) -> Value {
    let field = |field: &Field| {
        let mut avsc =
            json!({ "name": field.name, "type": field.ty.avsc(&format!("{path}_{}", field.name)) });
        if let Some(default) = &field.default {
            avsc["default"] = default.clone();
        }
        avsc
    };
    json!({ "type": "record", "name": name, "fields": fields.iter().map(field).collect::<Vec<_>>() })
}

fn values_of(fields: &[Field]) -> BoxedStrategy<Data> {
    let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    let values: Vec<_> = fields.iter().map(|field| field.ty.value()).collect();
    values.prop_map(move |values| names.iter().cloned().zip(values).collect()).boxed()
}

fn leaf() -> impl Strategy<Value = Ty> {
    let plain = ["boolean", "int", "long", "float", "double", "bytes", "string"];
    let logical =
        [("string", "uuid"), ("int", "date"), ("long", "timestamp-millis"), ("long", "time-micros")];
    prop_oneof![
        4 => proptest::sample::select(plain.to_vec()).prop_map(Ty::Plain),
        2 => proptest::sample::select(logical.to_vec()).prop_map(|(base, logical)| Ty::Logical(base, logical)),
        1 => (1_u8..4).prop_map(Ty::Enum),
        1 => (0_u8..5).prop_map(Ty::Fixed),
        1 => Just(Ty::Mixed),
    ]
}

fn ty() -> impl Strategy<Value = Ty> {
    leaf().prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|ty| Ty::Array(Box::new(ty))),
            inner.clone().prop_map(|ty| Ty::Map(Box::new(ty))),
            inner
                .clone()
                .prop_filter("one null is enough", |ty| !matches!(ty, Ty::Optional(_) | Ty::Mixed))
                .prop_map(|ty| Ty::Optional(Box::new(ty))),
            fields_of(inner).prop_map(Ty::Record),
        ]
    })
}

/// A default that looks the same in `.avsc` and in [`Data`].
fn default_for(ty: &Ty) -> Option<Value> {
    match ty {
        Ty::Plain("boolean") => Some(json!(true)),
        Ty::Plain("int" | "long") | Ty::Logical("int" | "long", _) => Some(json!(7)),
        Ty::Plain("float" | "double") => Some(json!(0.5)),
        Ty::Plain("string") | Ty::Mixed => Some(json!("default")),
        Ty::Enum(_) => Some(json!("S0")),
        Ty::Array(_) => Some(json!([])),
        Ty::Map(_) => Some(json!({})),
        Ty::Optional(_) => Some(Value::Null),
        Ty::Plain(_) | Ty::Logical(..) | Ty::Fixed(_) | Ty::Record(_) => None,
    }
}

fn fields_of(ty: impl Strategy<Value = Ty>) -> impl Strategy<Value = Vec<Field>> {
    vec((ty, any::<bool>()), 0..5).prop_map(|fields| {
        let field = |(n, (ty, has_default)): (usize, (Ty, bool))| {
            let default = if has_default { default_for(&ty) } else { None };
            Field { name: format!("f{n}"), ty, default }
        };
        fields.into_iter().enumerate().map(field).collect()
    })
}

/// What somebody may do to a record between two versions, wisely or not.
#[derive(Debug, Clone)]
enum Edit {
    Add(Ty, bool),
    Remove(Index),
    Retype(Index, Ty),
    MoveToFront(Index),
    /// The same inside a nested record.
    Inside(Index, Box<Edit>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let edit = prop_oneof![
        4 => (ty(), any::<bool>()).prop_map(|(ty, default)| Edit::Add(ty, default)),
        2 => any::<Index>().prop_map(Edit::Remove),
        1 => (any::<Index>(), leaf()).prop_map(|(at, ty)| Edit::Retype(at, ty)),
        2 => any::<Index>().prop_map(Edit::MoveToFront),
    ];
    edit.prop_recursive(2, 3, 1, |inner| {
        (any::<Index>(), inner).prop_map(|(at, edit)| Edit::Inside(at, Box::new(edit)))
    })
}

fn apply(edit: &Edit, fields: &mut Vec<Field>) {
    match edit {
        Edit::Add(ty, default) => {
            let name = format!("g{}", fields.len());
            if fields.iter().all(|field| field.name != name) {
                let default = if *default { default_for(ty) } else { None };
                fields.push(Field { name, ty: ty.clone(), default });
            }
        }
        _ if fields.is_empty() => {}
        Edit::Remove(at) => drop(fields.remove(at.index(fields.len()))),
        Edit::Retype(at, ty) => {
            let at = at.index(fields.len());
            fields[at].ty = ty.clone();
            fields[at].default = default_for(ty);
        }
        Edit::MoveToFront(at) => {
            let at = at.index(fields.len());
            fields[..=at].rotate_right(1);
        }
        Edit::Inside(at, edit) => {
            let at = at.index(fields.len());
            let mut ty = &mut fields[at].ty;
            while let Ty::Array(inner) | Ty::Map(inner) | Ty::Optional(inner) = ty {
                ty = inner;
            }
            if let Ty::Record(fields) = ty {
                apply(edit, fields);
            }
        }
    }
}

/// Apache's value as this crate would hand it out.
fn as_json(value: &Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(truth) => json!(truth),
        Avro::Int(n) | Avro::Date(n) | Avro::TimeMillis(n) => json!(n),
        Avro::Long(n) | Avro::TimeMicros(n) | Avro::TimestampMillis(n) => json!(n),
        Avro::Float(n) => json!(n),
        Avro::Double(n) => json!(n),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => json!(BASE64.encode(bytes)),
        Avro::String(text) | Avro::Enum(_, text) => json!(text),
        Avro::Uuid(uuid) => json!(uuid.to_string()),
        Avro::Union(_, value) => as_json(value),
        Avro::Array(items) => items.iter().map(as_json).collect(),
        Avro::Map(entries) => entries.iter().map(|(name, value)| (name.clone(), as_json(value))).collect(),
        Avro::Record(fields) => fields.iter().map(|(name, value)| (name.clone(), as_json(value))).collect(),
        other => unreachable!("{other:?} is not drawn"),
    }
}

fn message_avsc(fields: &[Field]) -> String {
    record_avsc("Message", fields, "").to_string()
}

fn load(versions: &[String]) -> Result<Catalog, Vec<schemas::SchemaError>> {
    let numbered = versions.iter().enumerate();
    Catalog::default()
        .with_sources(numbered.map(|(n, text)| (format!("Message.v{}.avsc", n + 1), text.clone())))
}

fn apache(text: &str) -> Schema {
    Schema::parse_str(text).expect("a schema that this crate takes is one that Apache takes")
}

/// A record and a value of it.
fn message() -> impl Strategy<Value = (Vec<Field>, Data)> {
    fields_of(ty()).prop_flat_map(|fields| (Just(fields.clone()), values_of(&fields)))
}

/// As [`message`], and the record's next version.
fn evolved() -> impl Strategy<Value = (Vec<Field>, Data, Vec<Field>)> {
    (message(), vec(edit(), 0..3)).prop_map(|((fields, data), edits)| {
        let mut next = fields.clone();
        for edit in &edits {
            apply(edit, &mut next);
        }
        (fields, data, next)
    })
}

proptest! {
    #[test]
    fn what_is_written_here_apache_reads_and_the_other_way_round((fields, data) in message()) {
        let text = message_avsc(&fields);
        let catalog = load(std::slice::from_ref(&text)).expect("a schema");
        let bytes = catalog.encode("Message", &data).expect("encode");
        prop_assert_eq!(catalog.decode_as("Message", &bytes), Ok(data.clone()));

        let schema = apache(&text);
        let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
        let read = reader.read_value(&mut &bytes[HEADER_LEN..]).expect("Apache reads it");
        prop_assert_eq!(as_json(&read), Value::Object(data.clone()));

        let mut theirs = bytes[..HEADER_LEN].to_vec();
        let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
        writer.write_value(&mut theirs, read).expect("Apache writes it");
        prop_assert_eq!(catalog.decode_as("Message", &theirs), Ok(data));
    }

    #[test]
    fn versions_that_are_taken_read_each_other_in_apaches_eyes_too((older, data, newer) in evolved()) {
        let texts = [message_avsc(&older), message_avsc(&newer)];
        let Ok(catalog) = load(&texts) else { return Ok(()) };
        let [written, wanted] = texts.each_ref().map(|text| apache(text));
        prop_assert_eq!(SchemaCompatibility::mutual_read(&written, &wanted), Ok(Compatibility::Full));

        let bytes = load(&texts[..1]).expect("version 1").encode("Message", &data).expect("encode");
        let reader = GenericDatumReader::builder(&written).reader_schema(&wanted).build().expect("a reader");
        let read = reader.read_value(&mut &bytes[HEADER_LEN..]).expect("Apache reads it");
        prop_assert_eq!(catalog.decode_as("Message", &bytes).map(Value::Object), Ok(as_json(&read)));
    }

    #[test]
    fn a_cut_message_is_an_error((fields, data) in message(), cut in any::<Index>()) {
        let catalog = load(&[message_avsc(&fields)]).expect("a schema");
        let bytes = catalog.encode("Message", &data).expect("encode");
        prop_assert!(catalog.decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_message_with_more_after_it_is_an_error((fields, data) in message(), more in vec(any::<u8>(), 1..20)) {
        let catalog = load(&[message_avsc(&fields)]).expect("a schema");
        let bytes = catalog.encode("Message", &data).expect("encode");
        prop_assert!(catalog.decode(&[bytes, more].concat()).is_err());
    }

    #[test]
    fn flipped_bits_never_panic_and_what_is_read_can_be_written(
        (fields, data, newer) in evolved(),
        flips in vec((any::<Index>(), 0_u8..8), 1..4),
    ) {
        let texts = [message_avsc(&fields), message_avsc(&newer)];
        let first = load(&texts[..1]).expect("version 1");
        let mut bytes = first.encode("Message", &data).expect("encode");
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        for catalog in [Ok(first), load(&texts)].into_iter().flatten() {
            if let Ok(read) = catalog.decode(&bytes) {
                let again = catalog.encode("Message", &read.fields).expect("what was read can be written");
                prop_assert_eq!(catalog.decode(&again), Ok(read));
            }
        }
    }

    #[test]
    fn garbage_never_panics((fields, data) in message(), garbage in vec(any::<u8>(), 0..200)) {
        let catalog = load(&[message_avsc(&fields)]).expect("a schema");
        let header = &catalog.encode("Message", &data).expect("encode")[..HEADER_LEN];
        let _ = catalog.decode(&[header, &garbage].concat());
        let _ = catalog.decode(&garbage);
    }

    #[test]
    fn any_json_is_either_written_or_its_problems_are_named(
        fields in fields_of(ty()),
        values in vec(ty().prop_flat_map(|ty| ty.value()), 5),
    ) {
        let catalog = load(&[message_avsc(&fields)]).expect("a schema");
        let data: Data = values.into_iter().enumerate().map(|(n, value)| (format!("f{n}"), value)).collect();
        let refused = match catalog.encode("Message", &data) {
            Ok(_) => Vec::new(),
            Err(EncodeError::Fields { problems, .. }) => problems,
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        // Input is held to the same rules, but for names that a message would leave out.
        let mut problems = catalog.validate("Message", &data);
        problems.retain(|problem| !problem.message.starts_with("unknown: "));
        prop_assert_eq!(refused, problems);
    }

    #[test]
    fn no_text_upsets_the_loader(text in any::<String>(), fields in fields_of(ty()), cut in any::<Index>(), with in any::<char>()) {
        let _ = load(&[text]);
        let avsc = message_avsc(&fields);
        let at = cut.index(avsc.len());
        if avsc.is_char_boundary(at) && avsc.is_char_boundary(at + 1) {
            let _ = load(&[format!("{}{with}{}", &avsc[..at], &avsc[at + 1..])]);
        }
    }
}

#[test]
fn a_mebibyte_of_anything_is_no_message_of_any_type() {
    let catalog = Catalog::shipped();
    for name in catalog.message_types() {
        let shape = catalog.record(name).expect("listed");
        let fields = shape.fields().iter().map(|field| (field.name().to_owned(), sample(field.ty())));
        let header = &catalog.encode(name, &fields.collect()).expect("encode")[..HEADER_LEN];
        for byte in [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff] {
            assert!(catalog.decode(&[header, &vec![byte; 1024 * 1024]].concat()).is_err(), "{name} {byte}");
            assert!(catalog.decode(&vec![byte; 1024 * 1024]).is_err());
        }
    }
}

fn sample(ty: &schemas::FieldType) -> Value {
    use schemas::FieldType;
    match ty {
        FieldType::Uuid => json!("0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"),
        FieldType::Union(_) => Value::Null,
        FieldType::Int | FieldType::Long | FieldType::Time(_) => json!(1),
        _ => json!("text"),
    }
}
