//! What ships, what its bytes look like, and which schemas are taken or refused beside it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use schemas::{Catalog, Data, SchemaError};
use serde_json::{Value, json};

fn data(fields: Value) -> Data {
    fields.as_object().expect("an object").clone()
}

fn avro_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/avro"))
}

/// Each file of `avro/`: its name and its JSON.
fn files() -> Vec<(String, Value)> {
    let sources = Catalog::read_dir(avro_dir()).expect("read");
    let parsed = |(origin, text): (String, String)| {
        let name = Path::new(&origin).file_name().expect("a file").to_str().expect("UTF-8").to_owned();
        (name, serde_json::from_str(&text).expect("JSON"))
    };
    sources.into_iter().map(parsed).collect()
}

/// An old and a new version of a record, and a message of the old one.
fn renamed() -> (Catalog, Vec<u8>) {
    let old = r#"{"type": "record", "name": "travel.Book", "fields": [
        {"name": "seat", "type": "string"}, {"name": "window", "type": "boolean", "default": true}]}"#;
    let new = r#"{"type": "record", "name": "travel.Book", "fields": [
        {"name": "seat", "type": "string"}, {"name": "coach", "type": "long", "default": 1}]}"#;
    let before = Catalog::default().with_sources([("travel.Book.v1.avsc".to_owned(), old.to_owned())]);
    let before = before.expect("taken");
    let bytes = before.encode("travel.Book", &data(json!({"seat": "5C", "window": false}))).expect("written");
    let now = before.with_sources([("travel.Book.v2.avsc".to_owned(), new.to_owned())]);
    (now.expect("taken"), bytes)
}

#[test]
fn a_message_is_shown_as_it_was_written() {
    let (catalog, bytes) = renamed();
    let written = catalog.decode_as_written(&bytes).expect("read");
    assert_eq!((&*written.message_type, written.version, written.newest), ("travel.Book", Some(1), 2));
    assert_eq!(Value::from(written.fields), json!({"seat": "5C", "window": false}));
    let read = catalog.decode(&bytes).expect("read");
    assert_eq!(Value::from(read.fields), json!({"seat": "5C", "coach": 1}));
}

#[test]
fn what_is_no_message_says_at_which_byte() {
    let (catalog, bytes) = renamed();
    let said = |bytes: &[u8]| catalog.decode_as_written(bytes).expect_err("no message").to_string();
    let mut wrong_boolean = bytes.clone();
    wrong_boolean[13] = 7;
    let mut unknown = bytes.clone();
    unknown[2] ^= 1;
    let longer = [&bytes[..], b"xy"].concat();
    insta::assert_snapshot!(
        [&bytes[..12], &bytes[..4], b"{}", &wrong_boolean, &unknown, &longer].map(said).join("\n"),
        @r"
    travel.Book cannot be read: seat: the bytes end too early, at byte 10
    4 bytes are too few for a message: its header alone has 10, at byte 4
    starts with 7b 7d, not with c3 01 as Avro's single-object encoding does, at byte 0
    travel.Book cannot be read: window: a boolean is 7, not 0 or 1, at byte 13
    no known schema has the fingerprint 5001406351cdf16e, at byte 2
    travel.Book cannot be read: 2 bytes are left over after the last field, at byte 14
    "
    );
}

#[test]
fn every_message_and_its_fields() {
    let catalog = Catalog::shipped();
    let mut lines = String::new();
    for name in catalog.message_types() {
        let field = |field: &schemas::FieldShape| match field.default() {
            Some(default) => format!("{}: {} = {default}", field.name(), field.ty()),
            None => format!("{}: {}", field.name(), field.ty()),
        };
        let fields: Vec<String> = catalog.record(name).expect("listed").fields().iter().map(field).collect();
        lines.push_str(&format!("{name} {{ {} }}\n", fields.join(", ")));
    }
    insta::assert_snapshot!(lines, @r#"
    accounts.AccountErased { records: long }
    accounts.EraseAccount { requestId: uuid, userId: uuid, requestedBy: string }
    accounts.RequestErasure { userId: uuid, requestedBy: string }
    booking.BookingCancelled { bookingId: uuid, reason: string }
    booking.BookingConfirmed { bookingId: uuid }
    booking.BookingCreated { bookingId: uuid, userId: uuid, resourceId: uuid }
    booking.BookingReservationCancelled { bookingId: uuid }
    booking.BookingReserved { bookingId: uuid, reservedAt: null | timestamp-millis = null }
    booking.CancelBooking { bookingId: uuid, resourceId: uuid }
    booking.ConfirmBooking { bookingId: uuid }
    booking.ReserveBooking { bookingId: uuid, userId: uuid, resourceId: uuid }
    booking.StartBooking { userId: uuid, resourceId: uuid, amountMinor: long = 0, currency: string = "EUR", forcedPaymentOutcome: null | string = null }
    carriers.BookCarrier { transferId: uuid, origin: string, destination: string, weightGrams: long }
    carriers.CancelCarrier { transferId: uuid }
    carriers.CarrierBooked { pickupAt: null | string }
    flights.BuyTicket { tripId: uuid, traveller: string, flightNumber: string, fareMinor: long, currency: string }
    flights.FlightHeld { flightNumber: string, fareMinor: long }
    flights.HoldFlight { tripId: uuid, traveller: string, origin: string, destination: string, departure: string }
    flights.ReleaseFlight { tripId: uuid }
    flights.TicketBought { ticketNumber: string }
    hotels.ConfirmRoom { reference: uuid, hotel: string, flight: null | string = null }
    hotels.ReleaseRoom { reference: uuid, guest: string }
    hotels.ReserveRoom { reference: uuid, guest: string, city: string, arrival: string, nights: int }
    hotels.RoomConfirmed { confirmationCode: string }
    hotels.RoomReserved { hotel: string, pricePerNightMinor: long }
    notices.ItinerarySent {  }
    notices.SendItinerary { recipient: string, subject: string, reference: string, hotel: string, confirmationCode: string }
    payment.ChargePayment { bookingId: uuid, userId: uuid, reference: string, amountMinor: long, currency: string, forcedPaymentOutcome: null | string = null }
    payment.PaymentCompleted { paymentId: uuid, bookingId: uuid, reference: string }
    payment.PaymentFailed { paymentId: uuid, bookingId: uuid, reason: string }
    payment.PaymentRefunded { bookingId: uuid, paymentId: null | uuid = null }
    payment.RefundPayment { bookingId: uuid, reference: string }
    saga.Refusal { code: string, message: string }
    saga.SagaEnded { sagaId: uuid, definition: string, version: int, status: string, reasonCode: null | string = null, at: timestamp-millis }
    saga.SagaStarted { sagaId: uuid, definition: string, version: int, businessKey: null | string = null, at: timestamp-millis }
    saga.Undone {  }
    stock.AnnounceDelivery { transferId: uuid, warehouse: string, article: string, quantity: int, pickupAt: null | string = null }
    stock.DeliveryAnnounced { dock: string }
    stock.GoodsSetAside { weightGrams: long }
    stock.PutGoodsBack { transferId: uuid, warehouse: string, article: string, quantity: int }
    stock.SetGoodsAside { transferId: uuid, warehouse: string, article: string, quantity: int }
    stock.StartTransfer { article: string, quantity: int, origin: string, destination: string }
    stock.WithdrawDelivery { transferId: uuid, warehouse: string }
    trips.StartTrip { traveller: string, email: string, origin: string, destination: string, departure: string, nights: int = 1, currency: string = "EUR" }
    "#);
}

#[test]
fn every_file_ships_under_its_own_name_and_is_documented() {
    let catalog = Catalog::shipped();
    let mut in_files = BTreeSet::new();
    for (file, avsc) in files() {
        let full_name =
            format!("{}.{}", avsc["namespace"].as_str().expect(&file), avsc["name"].as_str().expect(&file));
        let version =
            file.strip_prefix(&format!("{full_name}.v")).and_then(|rest| rest.strip_suffix(".avsc"));
        assert!(version.is_some_and(|version| version.parse::<u32>().is_ok()), "{file} holds {full_name}");
        assert!(avsc["doc"].as_str().is_some_and(|doc| !doc.is_empty()), "{file}: no doc");
        for field in avsc["fields"].as_array().expect(&file) {
            assert!(
                field["doc"].as_str().is_some_and(|doc| !doc.is_empty()),
                "{file}: {} has no doc",
                field["name"]
            );
        }
        in_files.insert(full_name);
    }
    let shipped: BTreeSet<String> = catalog.message_types().map(str::to_owned).collect();
    assert_eq!(shipped, in_files);
    // Every text on disk is compiled in: any other would be a version that is not known, or known with another content.
    let again = catalog.with_sources(Catalog::read_dir(avro_dir()).expect("read")).expect("the same again");
    assert_eq!(again.versions(), catalog.versions());
}

/// The wire format of a message must never drift: old messages lie in topics, other programs read them. The fingerprint
/// and the bytes were computed with another Avro library (fastavro 1.13).
#[track_caller]
fn check_golden(message_type: &str, fields: Value, header: &str, body: &str) {
    let catalog = Catalog::shipped();
    let bytes = catalog.encode(message_type, &data(fields.clone())).expect("encode");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, format!("c301{header}{body}"));
    assert_eq!(catalog.decode_as(message_type, &bytes).expect("decode"), data(fields));
}

#[test]
fn the_bytes_of_charge_payment_are_these() {
    check_golden(
        "payment.ChargePayment",
        json!({
            "bookingId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b",
            "userId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "reference": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b",
            "amountMinor": 12999,
            "currency": "EUR",
            "forcedPaymentOutcome": "declined",
        }),
        "493c5a0650c3b435",
        "4830313930613662302d316332642d376533662d386134622d356336643765386639613062\
         4837633965363637392d373432352d343064652d393434622d653037666331663930616537\
         4830313930613662302d316332642d376533662d386134622d356336643765386639613062\
         8ecb010645555202106465636c696e6564",
    );
}

#[test]
fn the_bytes_of_saga_ended_are_these() {
    check_golden(
        "saga.SagaEnded",
        json!({
            "sagaId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b",
            "definition": "booking",
            "version": 1,
            "status": "completed",
            "reasonCode": null,
            "at": 1_700_000_000_123_i64,
        }),
        "57ffafb4ac511c87",
        "4830313930613662302d316332642d376533662d386134622d356336643765386639613062\
         0e626f6f6b696e670212636f6d706c6574656400f6a1abfef962",
    );
}

/// A schema of `test.Order` with these fields.
fn order(fields: Value) -> String {
    json!({ "type": "record", "name": "Order", "namespace": "test", "fields": fields }).to_string()
}

fn with(sources: &[(&str, String)]) -> Result<Catalog, Vec<SchemaError>> {
    let owned = sources.iter().map(|(origin, text)| ((*origin).to_owned(), text.clone()));
    Catalog::default().with_sources(owned)
}

/// What is said about sources that are refused, one line per error.
#[track_caller]
fn refusal(sources: &[(&str, String)]) -> String {
    let errors = with(sources).expect_err("should be refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_older_message_is_read_as_the_newest_version_and_a_newer_service_writes_that() {
    let id = json!({ "name": "id", "type": "string" });
    let note = json!({ "name": "note", "type": ["null", "string"], "default": null });
    let priority = json!({ "name": "priority", "type": "int", "default": 3 });
    let first = order(json!([id, note]));
    let second = order(json!([priority, id]));
    let before = with(&[("test.Order.v1.avsc", first.clone())]).expect("v1");
    let after = with(&[("test.Order.v1.avsc", first), ("test.Order.v2.avsc", second)]).expect("v1 and v2");

    let old = before.encode("test.Order", &data(json!({ "id": "a", "note": "fragile" }))).expect("encode");
    assert_eq!(after.decode_as("test.Order", &old), Ok(data(json!({ "id": "a", "priority": 3 }))));

    let new = after.encode("test.Order", &data(json!({ "id": "b", "priority": 1 }))).expect("encode");
    assert_eq!(after.decode_as("test.Order", &new), Ok(data(json!({ "id": "b", "priority": 1 }))));
    assert!(before.decode(&new).is_err(), "a catalog without version 2 cannot know its layout");
    let names = |catalog: &Catalog| -> Vec<String> {
        catalog.record("test.Order").expect("known").fields().iter().map(|f| f.name().to_owned()).collect()
    };
    assert_eq!(names(&after), ["priority", "id"]);
}

#[test]
fn versions_may_come_in_any_order() {
    let first = order(json!([{ "name": "id", "type": "string" }]));
    let second =
        order(json!([{ "name": "id", "type": "string" }, { "name": "n", "type": "int", "default": 1 }]));
    let catalog = with(&[("Order.v2.avsc", second), ("Order.v1.avsc", first)]).expect("both");
    assert!(catalog.record("test.Order").expect("known").field("n").is_some());
}

#[test]
fn a_changed_default_is_a_new_version_with_the_same_bytes() {
    let field = |default: i32| order(json!([{ "name": "n", "type": "int", "default": default }]));
    let before = with(&[("Order.v1.avsc", field(1))]).expect("v1");
    let after = with(&[("Order.v1.avsc", field(1)), ("Order.v2.avsc", field(2))]).expect("both");
    let old = before.encode("test.Order", &Data::new()).expect("encode");
    assert_eq!(after.decode_as("test.Order", &old), Ok(data(json!({ "n": 1 }))));
    let new = after.encode("test.Order", &Data::new()).expect("encode");
    assert_eq!(after.decode_as("test.Order", &new), Ok(data(json!({ "n": 2 }))));
}

#[test]
fn the_same_content_again_is_fine_whatever_its_documentation() {
    let text = order(json!([{ "name": "id", "type": "string" }]));
    let documented = order(json!([{ "name": "id", "type": "string", "doc": "The order." }]));
    let second =
        order(json!([{ "name": "id", "type": "string" }, { "name": "n", "type": "int", "default": 1 }]));
    let catalog = with(&[("v1", text), ("Order.v2.avsc", second.clone())]).expect("two versions");
    // Without a number, it may be any version that is known.
    for (origin, text) in [("posted", documented.clone()), ("Order.v1.avsc", documented), ("posted", second)]
    {
        let same = catalog.with_sources([(origin.to_owned(), text)]).expect("the same again");
        assert_eq!(same.versions(), [("test.Order", 1), ("test.Order", 2)]);
    }
}

#[test]
fn a_published_version_does_not_change() {
    let text = order(json!([{ "name": "id", "type": "string" }]));
    let other =
        order(json!([{ "name": "id", "type": "string" }, { "name": "n", "type": "int", "default": 1 }]));
    insta::assert_snapshot!(refusal(&[("a/Order.avsc", text), ("b/Order.avsc", other)]), @"b/Order.avsc: test.Order version 1 is already known from a/Order.avsc with another content; a published version never changes: save the change as test.Order.v2.avsc");
}

#[test]
fn versions_that_cannot_read_each_other_are_refused_with_every_reason() {
    let unit = |symbols: Value| json!({ "type": "enum", "name": "Unit", "symbols": symbols });
    let line = |fields: Value| json!({ "type": "array", "items": { "type": "record", "name": "Line", "fields": fields } });
    let first = order(json!([
        { "name": "id", "type": "string" },
        { "name": "amount", "type": "long" },
        { "name": "at", "type": "long" },
        { "name": "unit", "type": unit(json!(["KG", "PIECE"])) },
        { "name": "lines", "type": line(json!([{ "name": "sku", "type": "string" }])) },
        { "name": "note", "type": ["null", "string"], "default": null },
    ]));
    let second = order(json!([
        { "name": "amount", "type": "int" },
        { "name": "at", "type": { "type": "long", "logicalType": "timestamp-millis" } },
        { "name": "unit", "type": unit(json!(["KG", "LITRE"])) },
        { "name": "lines", "type": line(json!([{ "name": "sku", "type": "string" }, { "name": "count", "type": "int" }])) },
        { "name": "note", "type": "string", "default": "" },
        { "name": "urgent", "type": "boolean" },
    ]));
    insta::assert_snapshot!(refusal(&[("Order.v1.avsc", first), ("dir/Order.v2.avsc", second)]), @r"
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `amount` was long and is int: keep its type, and add a new field with a default beside it
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `at` was long and is timestamp-millis: keep its type, and add a new field with a default beside it
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `unit` no longer has PIECE: keep the symbols, or give the enum a default symbol
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `unit` has new symbols (LITRE), but the enum of the older version has no default symbol to read them as: add a new field with a default instead
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `lines[].count` is new and has no default, so older messages cannot be read: give it a default
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `note` was null | string and is string: keep its type, and add a new field with a default beside it
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `urgent` is new and has no default, so older messages cannot be read: give it a default
    dir/Order.v2.avsc: test.Order versions 1 and 2 cannot read each other: `id` is gone but has no default in the older version, so readers of that version cannot do without it: keep it
    ");
}

#[test]
fn a_text_that_is_no_usable_schema_is_refused_with_its_origin_and_reason() {
    let field = |ty: Value| order(json!([{ "name": "f", "type": ty }]));
    let with_default =
        |ty: Value, default: Value| order(json!([{ "name": "f", "type": ty, "default": default }]));
    let texts = [
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
        "\"string\"".to_owned(),
        json!({ "type": "record", "name": "Order" }).to_string(),
        json!({ "type": "record", "name": "not a name", "fields": [] }).to_string(),
        order(json!(["f"])),
        order(json!([{ "name": "f" }])),
        order(json!([{ "name": "f", "type": "int" }, { "name": "f", "type": "int" }])),
        field(json!("Elsewhere")),
        field(json!({ "type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2 })),
        field(json!({ "type": "fixed", "name": "D", "size": 12, "logicalType": "duration" })),
        field(json!({ "type": "bytes", "logicalType": "uuid" })),
        field(json!({ "type": "fixed", "name": "Big", "size": u64::MAX })),
        field(json!(["null", "Order"])),
        field(json!(["null"])),
        field(json!(["int", "long"])),
        field(json!([{ "type": "enum", "name": "A", "symbols": ["X"] }, "string"])),
        field(json!({ "type": "enum", "name": "A", "symbols": [] })),
        with_default(json!("int"), json!("many")),
        with_default(json!("int"), json!(3_000_000_000_u64)),
        with_default(json!(["string", "null"]), json!(null)),
        with_default(json!("bytes"), json!("\u{100}")),
        with_default(json!("string"), json!("x".repeat(20_000))),
        " ".repeat(300_000),
    ];
    let said: Vec<String> = texts.into_iter().map(|text| refusal(&[("Order.avsc", text)])).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    Order.avsc: not JSON: EOF while parsing a value at line 1 column 0
    Order.avsc: not JSON: EOF while parsing an object at line 1 column 1
    Order.avsc: Must be a JSON string, object or array
    Order.avsc: not a record: a message is a record
    Order.avsc: No `fields` in record
    Order.avsc: Invalid schema name not a name. It must match the regex '^((?P<namespace>([A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)?)\.)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)$'
    Order.avsc: an entry of "fields" is not an object
    Order.avsc: No `type` in record field
    Order.avsc: Duplicate field name f
    Order.avsc: no type is named test.Elsewhere in this file: define it where it is used first
    Order.avsc: field f: decimal is not supported: use a long of minor units, or a string
    Order.avsc: field f: duration as a fixed is not supported: use a string
    Order.avsc: field f: a uuid that is not a string is not supported
    Order.avsc: field f: a fixed has at most 1048576 bytes
    Order.avsc: field f: test.Order contains itself, which is not supported
    Order.avsc: field f: a union needs two types: give the type without the brackets
    Order.avsc: field f: a union of int and long is not supported: in JSON their values look alike; use two optional fields
    Order.avsc: field f: a union of enum test.A and string is not supported: in JSON their values look alike; use two optional fields
    Order.avsc: field f: the enum test.A has no symbols
    Order.avsc: field f: default: expected an int (32 bits), found "many"
    Order.avsc: field f: default: expected an int (32 bits), found 3000000000
    Order.avsc: field f: the default of a union is a value of its first type, here string: change their order
    Order.avsc: field f: the default has a character above \u00ff
    Order.avsc: field f: the default takes more than 16384 bytes
    Order.avsc: larger than 262144 bytes
    "#);
}

#[test]
fn a_short_schema_cannot_make_a_large_type() {
    // Each record has the one before it twice, with defaults: 2^60 values if anybody were to write them out.
    let mut fields = vec![
        json!({ "name": "f0", "type": { "type": "record", "name": "R0", "fields": [] }, "default": {} }),
    ];
    for n in 1..60 {
        let below = format!("R{}", n - 1);
        let twice = json!([{ "name": "a", "type": below, "default": {} }, { "name": "b", "type": below, "default": {} }]);
        let ty = json!({ "type": "record", "name": format!("R{n}"), "fields": twice });
        fields.push(json!({ "name": format!("f{n}"), "type": ty, "default": {} }));
    }
    let mut chain = vec![json!({ "name": "f0", "type": { "type": "record", "name": "R0", "fields": [] } })];
    for n in 1..60 {
        let inner = json!([{ "name": "a", "type": format!("R{}", n - 1) }]);
        let ty = json!({ "type": "record", "name": format!("R{n}"), "fields": inner });
        chain.push(json!({ "name": format!("f{n}"), "type": ty }));
    }
    let said = refusal(&[("wide.avsc", order(json!(fields))), ("deep.avsc", order(json!(chain)))]);
    insta::assert_snapshot!(said, @r"
    wide.avsc: field f10.a: more than 4096 types, each counted as often as used
    deep.avsc: field f32.a: types are nested deeper than 32
    ");
}

#[test]
fn attributes_named_like_keywords_neither_upset_the_parser_nor_change_the_fingerprint() {
    let bare = order(json!([{ "name": "f", "type": "int" }]));
    let odd = json!({
        "type": "record", "name": "Order", "namespace": "test", "size": "large", "symbols": 7, "aliases": ["x y"],
        "fields": [{ "name": "f", "type": { "type": "int", "precision": "?", "logicalType": "unheard-of" },
                     "order": 5, "items": null, "scale": "x" }],
    });
    let one = with(&[("Order.avsc", bare)]).expect("bare").encode("test.Order", &data(json!({ "f": 1 })));
    let two =
        with(&[("Order.avsc", odd.to_string())]).expect("odd").encode("test.Order", &data(json!({ "f": 1 })));
    assert_eq!(one, two);
}

#[test]
fn a_directory_that_cannot_be_read_is_named() {
    let error = Catalog::read_dir(Path::new("/nowhere/schemas")).expect_err("not there");
    assert_eq!(error.to_string(), "schemas: cannot read /nowhere/schemas");
}

#[test]
fn the_shipped_catalog_is_parsed_once() {
    assert!(Arc::ptr_eq(&Catalog::shipped(), &Catalog::shipped()));
}
