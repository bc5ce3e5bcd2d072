//! How JSON values become Avro and come back, and what is said about values and bytes that do not fit.

use saga_defs::check::Type;
use schemas::{BodyFault, Catalog, Data, DecodeError, EncodeError};
use serde_json::{Value, json};

fn data(fields: Value) -> Data {
    fields.as_object().expect("an object").clone()
}

/// A catalog with the one record `test.Any`.
fn any(fields: Value) -> Catalog {
    let text = json!({ "type": "record", "name": "Any", "namespace": "test", "fields": fields }).to_string();
    Catalog::default().with_sources([("Any.avsc".to_owned(), text)]).expect("a schema")
}

/// A catalog with a record of one field `f`.
fn one(ty: Value) -> Catalog {
    any(json!([{ "name": "f", "type": ty }]))
}

/// A value of that type comes back as it went in.
#[track_caller]
fn check_same(ty: Value, values: Value) {
    let catalog = one(ty);
    for value in values.as_array().expect("a list") {
        let fields = data(json!({ "f": value }));
        let bytes = catalog.encode("test.Any", &fields).expect("encode");
        assert_eq!(catalog.decode_as("test.Any", &bytes), Ok(fields.clone()));
        assert_eq!(catalog.validate("test.Any", &fields), []);
    }
}

/// A value that does not fit that type; the sentence said about it.
#[track_caller]
fn wrong(ty: Value, value: Value) -> String {
    let catalog = one(ty);
    let fields = data(json!({ "f": value }));
    let problems = match catalog.encode("test.Any", &fields) {
        Err(EncodeError::Fields { problems, .. }) => problems,
        other => panic!("{value}: {other:?}"),
    };
    assert_eq!(catalog.validate("test.Any", &fields), problems, "both ways to ask say the same");
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn logical(ty: &str, logical: &str) -> Value {
    json!({ "type": ty, "logicalType": logical })
}

#[test]
fn values_of_every_type_come_back_as_they_went_in() {
    check_same(json!("null"), json!([null]));
    check_same(json!("boolean"), json!([true, false]));
    check_same(json!("int"), json!([0, -1, 1, i32::MIN, i32::MAX]));
    check_same(json!("long"), json!([0, -1, 63, 64, -64, -65, i64::MIN, i64::MAX]));
    check_same(json!("float"), json!([0.5, -2.0, f32::MAX]));
    check_same(json!("double"), json!([0.1, -1e300, f64::MIN_POSITIVE]));
    check_same(json!("bytes"), json!(["", "AAEC/w=="]));
    check_same(json!("string"), json!(["", "a\u{0}b", "\u{1F600}", "x".repeat(1000)]));
    check_same(logical("string", "uuid"), json!(["0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"]));
    check_same(logical("int", "date"), json!([19_000]));
    check_same(logical("int", "time-millis"), json!([1]));
    check_same(logical("long", "time-micros"), json!([1]));
    check_same(logical("long", "timestamp-millis"), json!([1_700_000_000_123_i64]));
    check_same(logical("long", "timestamp-micros"), json!([1_700_000_000_123_456_i64]));
    check_same(json!({ "type": "fixed", "name": "F", "size": 2 }), json!(["AAE="]));
    check_same(json!({ "type": "enum", "name": "E", "symbols": ["A", "B"] }), json!(["A", "B"]));
    check_same(json!({ "type": "array", "items": "int" }), json!([[], [1, 2, 3]]));
    check_same(json!({ "type": "map", "values": "string" }), json!([{}, { "a": "b", "": "c" }]));
    check_same(json!(["null", "string"]), json!([null, "a"]));
    check_same(
        json!(["string", "long", "null", { "type": "array", "items": "long" }]),
        json!(["a", 1, null, [1]]),
    );
    let inner = json!({ "type": "record", "name": "Inner", "fields": [{ "name": "x", "type": "int" }] });
    check_same(json!({ "type": "array", "items": inner }), json!([[{ "x": 1 }, { "x": 2 }]]));
}

#[test]
fn a_whole_number_fills_a_floating_point_field() {
    let catalog = one(json!("double"));
    let bytes = catalog.encode("test.Any", &data(json!({ "f": 3 }))).expect("encode");
    assert_eq!(catalog.decode_as("test.Any", &bytes), Ok(data(json!({ "f": 3.0 }))));
}

#[test]
fn a_wrong_value_is_shown_with_what_was_expected() {
    let inner = json!({ "type": "record", "name": "Inner", "fields": [{ "name": "x", "type": "int" }] });
    let said = [
        wrong(json!("null"), json!(0)),
        wrong(json!("boolean"), json!("true")),
        wrong(json!("int"), json!(3_000_000_000_u64)),
        wrong(json!("long"), json!("abc")),
        wrong(json!("long"), json!(1.5)),
        wrong(json!("long"), json!(u64::MAX)),
        wrong(json!("long"), json!(null)),
        wrong(json!("float"), json!(1e300)),
        wrong(json!("double"), json!([1])),
        wrong(json!("bytes"), json!("not base64!")),
        wrong(json!("string"), json!(7)),
        wrong(logical("string", "uuid"), json!("0190a6b01c2d7e3f8a4b5c6d7e8f9a0b")),
        wrong(logical("string", "uuid"), json!("z".repeat(100))),
        wrong(logical("int", "date"), json!("2024-01-01")),
        wrong(logical("long", "timestamp-millis"), json!("now")),
        wrong(json!({ "type": "fixed", "name": "F", "size": 2 }), json!("AAEC")),
        wrong(json!({ "type": "enum", "name": "E", "symbols": ["A", "B"] }), json!("C")),
        wrong(json!({ "type": "array", "items": "int" }), json!([1, "two", 3, null])),
        wrong(json!({ "type": "map", "values": "int" }), json!({ "a": 1, "b": { } , "c\u{0}": 0.5})),
        wrong(json!(["null", "string"]), json!(5)),
        wrong(json!({ "type": "array", "items": inner }), json!([{ "x": 1 }, { "x": "2" }, {}])),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    f: expected null, found 0
    f: expected true or false, found "true"
    f: expected an int (32 bits), found 3000000000
    f: expected a long, found "abc"
    f: expected a long, found 1.5
    f: expected a long, found 18446744073709551615
    f: expected a long, found null
    f: expected a float, found 1e+300
    f: expected a double, found a list
    f: expected base64 text, found "not base64!"
    f: expected a string, found 7
    f: expected a uuid, found "0190a6b01c2d7e3f8a4b5c6d7e8f9a0b"
    f: expected a uuid, found "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz...
    f: expected an int (date), found "2024-01-01"
    f: expected a long (timestamp-millis), found "now"
    f: expected base64 text of 2 bytes, found "AAEC"
    f: expected one of A, B, found "C"
    f[1]: expected an int (32 bits), found "two"
    f[3]: expected an int (32 bits), found null
    f.b: expected an int (32 bits), found an object
    f.c\0: expected an int (32 bits), found 0.5
    f: expected null or a string, found 5
    f[1].x: expected an int (32 bits), found "2"
    f[2].x: missing: expected an int (32 bits)
    "#);
}

#[test]
fn every_missing_and_wrong_field_is_named_and_input_must_not_have_others() {
    let catalog = Catalog::shipped();
    let fields = data(json!({ "userId": "me", "amountMinor": "12", "currencY": "EUR" }));
    let error = catalog.encode("booking.StartBooking", &fields).expect_err("wrong");
    insta::assert_snapshot!(error, @r#"booking.StartBooking cannot be written: userId: expected a uuid, found "me"; resourceId: missing: expected a uuid; amountMinor: expected a long, found "12""#);
    let problems = catalog.validate("booking.StartBooking", &fields);
    insta::assert_snapshot!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), @r#"
    userId: expected a uuid, found "me"
    resourceId: missing: expected a uuid
    amountMinor: expected a long, found "12"
    currencY: unknown: the fields of booking.StartBooking are userId, resourceId, amountMinor, currency, forcedPaymentOutcome
    "#);

    let inner = json!({ "type": "record", "name": "Inner", "fields": [{ "name": "x", "type": "int" }] });
    let nested = data(json!({ "f": [{ "x": 1, "y\u{0}": 2 }] }));
    let problems = one(json!({ "type": "array", "items": inner })).validate("test.Any", &nested);
    insta::assert_snapshot!(problems[0], @r#"f[0].y\0: unknown: the fields of test.Inner are x"#);
}

#[test]
fn a_message_is_picked_from_data_that_has_more_and_defaults_fill_the_rest() {
    let catalog = Catalog::shipped();
    let id = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
    let fields = data(json!({ "userId": id, "resourceId": id, "sagaId": id, "paymentId": 7 }));
    let bytes = catalog.encode("booking.StartBooking", &fields).expect("encode");
    let expected = json!({
        "userId": id, "resourceId": id, "amountMinor": 0, "currency": "EUR", "forcedPaymentOutcome": null
    });
    assert_eq!(catalog.decode_as("booking.StartBooking", &bytes), Ok(data(expected)));
}

#[test]
fn defaults_of_every_type_are_filled_in() {
    let inner = json!({ "type": "record", "name": "Inner", "fields": [
        { "name": "x", "type": "int" }, { "name": "y", "type": "int", "default": 2 }
    ] });
    let catalog = any(json!([
        { "name": "bytes", "type": "bytes", "default": "\u{0}\u{ff}" },
        { "name": "fixed", "type": { "type": "fixed", "name": "F", "size": 1 }, "default": "A" },
        { "name": "unit", "type": { "type": "enum", "name": "E", "symbols": ["A", "B"] }, "default": "B" },
        { "name": "inner", "type": inner, "default": { "x": 1 } },
        { "name": "list", "type": { "type": "array", "items": ["null", "bytes"] }, "default": [null] },
        { "name": "map", "type": { "type": "map", "values": "Inner" }, "default": { "k": { "x": 3, "y": 4 } } },
        { "name": "maybe", "type": ["string", "null"], "default": "s" },
    ]));
    let expected = json!({
        "bytes": "AP8=", "fixed": "QQ==", "unit": "B", "inner": { "x": 1, "y": 2 }, "list": [null],
        "map": { "k": { "x": 3, "y": 4 } }, "maybe": "s",
    });
    let bytes = catalog.encode("test.Any", &Data::new()).expect("encode");
    assert_eq!(catalog.decode_as("test.Any", &bytes), Ok(data(expected.clone())));
    for field in catalog.record("test.Any").expect("known").fields() {
        assert_eq!(field.default(), Some(&expected[field.name()]));
    }
}

#[test]
fn a_type_that_is_not_known_is_named() {
    let catalog = Catalog::shipped();
    let error = catalog.encode("booking.Nothing", &Data::new()).expect_err("unknown");
    assert_eq!(error.to_string(), "no schema is named booking.Nothing");
    assert_eq!(
        catalog.validate("booking.Nothing", &Data::new())[0].to_string(),
        "no schema is named booking.Nothing"
    );
    assert!(catalog.record("booking.Nothing").is_none());
}

#[test]
fn no_more_than_a_hundred_problems_are_named() {
    let catalog = one(json!({ "type": "array", "items": "int" }));
    let fields = data(json!({ "f": vec!["x"; 1000] }));
    assert_eq!(catalog.validate("test.Any", &fields).len(), 100);
    let unknown: Data = (0..1000).map(|n| (format!("x{n}"), Value::Null)).collect();
    assert_eq!(catalog.validate("test.Any", &unknown).len(), 100);
}

#[test]
fn small_fields_cannot_write_a_huge_message() {
    let inner = json!({ "type": "record", "name": "Inner", "fields": [
        { "name": "x", "type": "string", "default": "x".repeat(16_000) }
    ] });
    let catalog = one(json!({ "type": "array", "items": inner }));
    let fields = data(json!({ "f": vec![json!({}); 100_000] }));
    let error = catalog.encode("test.Any", &fields).expect_err("1.6 GB");
    assert_eq!(error.to_string(), "test.Any cannot be written: it takes more than 16777216 bytes");
}

/// Bytes of `test.Any { f }` with this body.
fn message(catalog: &Catalog, valid: Value, body: &[u8]) -> Vec<u8> {
    let mut bytes = catalog.encode("test.Any", &data(json!({ "f": valid }))).expect("encode");
    bytes.truncate(10);
    bytes.extend_from_slice(body);
    bytes
}

#[track_caller]
fn check_fault(ty: Value, valid: Value, body: &[u8], place: &str, expected: BodyFault) {
    let catalog = one(ty);
    match catalog.decode(&message(&catalog, valid, body)) {
        Err(DecodeError::Body { field, fault, .. }) => assert_eq!((field.as_str(), fault), (place, expected)),
        other => panic!("{body:?}: {other:?}"),
    }
}

#[test]
fn each_kind_of_wrong_body_has_a_name_and_a_place() {
    use BodyFault::*;
    let last = |found, last| NoSuchIndex { found, last };
    check_fault(json!("int"), json!(0), &[], "f", Truncated);
    check_fault(json!("int"), json!(0), &[0, 0, 0], "", LeftOver { count: 2 });
    check_fault(json!("int"), json!(0), &[0x80, 0x80, 0x80, 0x80, 0x10], "f", IntegerRange);
    check_fault(json!("long"), json!(0), &[0xff; 11], "f", IntegerRange);
    check_fault(
        json!("long"),
        json!(0),
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        "f",
        IntegerRange,
    );
    check_fault(json!("boolean"), json!(true), &[2], "f", NotBoolean { found: 2 });
    check_fault(json!("string"), json!(""), &[1], "f", NegativeLength);
    check_fault(json!("string"), json!(""), &[2, 0xff], "f", NotUtf8);
    check_fault(json!("string"), json!(""), &[0xfe, 0xff, 0xff, 0xff, 0x0f, b'a'], "f", Truncated);
    check_fault(json!("double"), json!(0.0), &f64::NAN.to_le_bytes(), "f", NotFinite);
    check_fault(json!("float"), json!(0.0), &f32::INFINITY.to_le_bytes(), "f", NotFinite);
    check_fault(json!(["null", "int"]), json!(0), &[4], "f", last(2, 1));
    check_fault(json!(["null", "int"]), json!(0), &[1], "f", last(-1, 1));
    check_fault(json!({ "type": "enum", "name": "E", "symbols": ["A"] }), json!("A"), &[2], "f", last(1, 0));
    let uuid = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
    check_fault(logical("string", "uuid"), json!(uuid), &[2, b'x'], "f", NotUuid);
    check_fault(
        json!({ "type": "array", "items": "boolean" }),
        json!([]),
        &[4, 1, 7],
        "f[1]",
        NotBoolean { found: 7 },
    );
    check_fault(
        json!({ "type": "map", "values": "boolean" }),
        json!({}),
        &[2, 2, b'k', 7],
        "f.k",
        NotBoolean { found: 7 },
    );
}

#[test]
fn a_list_may_come_in_blocks_with_or_without_their_size() {
    let catalog = one(json!({ "type": "array", "items": "int" }));
    let bytes = message(&catalog, json!([]), &[2, 2, 3, 4, 4, 6, 0]);
    assert_eq!(catalog.decode_as("test.Any", &bytes), Ok(data(json!({ "f": [1, 2, 3] }))));
}

#[test]
fn what_is_no_message_is_refused_by_its_header() {
    let catalog = Catalog::shipped();
    let message =
        catalog.encode("saga.Refusal", &data(json!({ "code": "a", "message": "b" }))).expect("encode");
    let said = |bytes: &[u8]| catalog.decode(bytes).expect_err("refused").to_string();
    let mut unknown = message.clone();
    unknown[2..10].fill(0);
    let all = [
        said(&[]),
        said(&[0xc3]),
        said(&message[..9]),
        said(b"{\"code\": \"a\"}"),
        said(&[0, 0, 0, 0, 7, 1, 2]),
        said(&unknown),
        said(&message[..12]),
        said(&[message.as_slice(), b"!"].concat()),
        catalog.decode_as("booking.BookingConfirmed", &message).expect_err("refused").to_string(),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    0 bytes are too few for a message: its header alone has 10
    1 bytes are too few for a message: its header alone has 10
    9 bytes are too few for a message: its header alone has 10
    starts with 7b 22, not with c3 01 as Avro's single-object encoding does
    is in the wire format of a schema registry (schema id 7), and none is set: SCHEMA_REGISTRY_URL says where it is
    no known schema has the fingerprint 0000000000000000
    saga.Refusal cannot be read: message: the bytes end too early
    saga.Refusal cannot be read: 1 bytes are left over after the last field
    is a saga.Refusal, not a booking.BookingConfirmed
    ");
}

#[track_caller]
fn check_accepts(field: Value, value: Value, expected: bool) {
    let ty = |ty: &Value| -> Type {
        one(ty.clone()).record("test.Any").expect("known").field("f").expect("a field").ty().into()
    };
    assert_eq!(ty(&field).accepts(&ty(&value)), expected, "{field} takes {value}");
}

#[test]
fn a_field_takes_values_of_types_that_lose_nothing() {
    let uuid = || logical("string", "uuid");
    let symbols = |symbols: &[&str]| json!({ "type": "enum", "name": "E", "symbols": symbols });
    let record = |fields: Value| json!({ "type": "record", "name": "R", "fields": fields });
    for ty in ["null", "boolean", "int", "long", "float", "double", "bytes", "string"] {
        check_accepts(json!(ty), json!(ty), true);
    }
    check_accepts(json!("long"), json!("int"), true);
    check_accepts(json!("int"), json!("long"), false);
    check_accepts(json!("double"), json!("int"), true);
    check_accepts(json!("double"), json!("long"), false);
    check_accepts(json!("string"), uuid(), true);
    check_accepts(uuid(), json!("string"), false);
    check_accepts(json!("string"), json!("bytes"), false);
    check_accepts(logical("long", "timestamp-millis"), json!("long"), false);
    check_accepts(json!("long"), logical("long", "timestamp-millis"), true);
    check_accepts(json!("int"), logical("long", "timestamp-millis"), false);
    check_accepts(json!("int"), logical("int", "date"), true);
    check_accepts(json!(["null", "string"]), json!("string"), true);
    check_accepts(json!(["null", "string"]), uuid(), true);
    check_accepts(json!(["null", "string"]), json!(["null", "string"]), true);
    check_accepts(json!("string"), json!(["null", "string"]), false);
    check_accepts(symbols(&["A", "B"]), symbols(&["B"]), true);
    check_accepts(symbols(&["B"]), symbols(&["A", "B"]), false);
    check_accepts(
        json!({ "type": "array", "items": "long" }),
        json!({ "type": "array", "items": "int" }),
        true,
    );
    let x = json!({ "name": "x", "type": "long" });
    let y = json!({ "name": "y", "type": "int", "default": 1 });
    check_accepts(record(json!([x, y])), record(json!([x])), true);
    check_accepts(record(json!([x, y])), record(json!([y])), false);
    check_accepts(record(json!([x])), record(json!([{ "name": "x", "type": "string" }])), false);
}
