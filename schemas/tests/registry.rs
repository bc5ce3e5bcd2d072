//! Messages with a registry's ids, against a registry that keeps to the published REST shapes; against a real one where
//! `TEST_SCHEMA_REGISTRY_URL` names it.

use std::sync::Arc;
use std::time::Duration;

use schemas::registry::{Address, Limits, Mode, ObtainError, Registry, Standing};
use schemas::testing::StubRegistry;
use schemas::{Catalog, Data, DecodeError};
use secrecy::SecretString;
use serde_json::{Value, json};

const ORDER_1: &str = r#"{"type": "record", "name": "test.Order", "topic": "orders", "fields": [{"name": "id", "type": "string"}]}"#;
const ORDER_2: &str = r#"{"type": "record", "name": "test.Order", "topic": "orders", "fields": [
    {"name": "id", "type": "string"}, {"name": "priority", "type": "int", "default": 3}]}"#;
const ORDER_3: &str = r#"{"type": "record", "name": "test.Order", "topic": "orders", "fields": [
    {"name": "id", "type": "string"}, {"name": "note", "type": "string", "default": "none"}]}"#;
/// No default, so the others cannot be read as it.
const ORDER_WRONG: &str = r#"{"type": "record", "name": "test.Order", "topic": "orders", "fields": [
    {"name": "id", "type": "string"}, {"name": "weight", "type": "int"}]}"#;

fn catalog(versions: &[&str]) -> Catalog {
    let sources = versions.iter().zip(1..);
    let sources = sources.map(|(text, number)| (format!("test.Order.v{number}.avsc"), (*text).to_owned()));
    Catalog::default().with_sources(sources).expect("schemas")
}

fn data(value: Value) -> Data {
    value.as_object().expect("an object").clone()
}

fn limits() -> Limits {
    let (long, look) = (Duration::from_secs(60), Duration::from_millis(20));
    Limits { question: long, learn: long, look, ..Limits::default() }
}

fn registry(stub: &StubRegistry, mode: Mode) -> Arc<Registry> {
    Arc::new(Registry::new(&stub.address(), mode, limits()).expect("a client"))
}

/// A catalog whose schemas have ids.
async fn registered(stub: &StubRegistry, versions: &[&str]) -> Catalog {
    let registry = registry(stub, Mode::Register);
    let catalog = catalog(versions).with_registry(registry.clone());
    registry.obtain(&catalog).await.expect("ids");
    catalog
}

#[tokio::test]
async fn a_message_begins_with_a_zero_and_the_id_and_both_formats_are_read() {
    let stub = StubRegistry::start().await;
    let with = registered(&stub, &[ORDER_1, ORDER_2]).await;
    let fields = data(json!({ "id": "a", "priority": 7 }));
    let framed = with.encode("test.Order", &fields).unwrap();
    assert_eq!(framed[..5], [0, 0, 0, 0, 2]);
    let plain = catalog(&[ORDER_1, ORDER_2]);
    let single = plain.encode("test.Order", &fields).unwrap();
    assert_eq!(single[10..], framed[5..], "the body is the same");
    for bytes in [&framed, &single] {
        assert_eq!(with.decode_as("test.Order", bytes), Ok(fields.clone()));
        let written = with.decode_as_written(bytes).unwrap();
        assert_eq!((&*written.message_type, written.version, written.newest), ("test.Order", Some(2), 2));
    }
    // An older version's id gives the newest version's fields.
    let old = [&[0, 0, 0, 0, 1, 2][..], b"b"].concat();
    assert_eq!(with.decode_as("test.Order", &old), Ok(data(json!({ "id": "b", "priority": 3 }))));
    assert_eq!(with.decode_as_written(&old).unwrap().version, Some(1));
    insta::assert_snapshot!(plain.decode(&framed).unwrap_err(), @"is in the wire format of a schema registry (schema id 2), and none is set: SCHEMA_REGISTRY_URL says where it is");
    insta::assert_snapshot!(with.decode(&framed[..4]).unwrap_err(), @"4 bytes are too few for a message: its header alone has 5");
}

#[tokio::test]
async fn who_only_reads_ids_writes_none_and_needs_none() {
    let stub = StubRegistry::start().await;
    let others = registered(&stub, &[ORDER_1]).await;
    let registry = registry(&stub, Mode::Read);
    let with = catalog(&[ORDER_1]).with_registry(registry.clone());
    stub.asked();
    registry.obtain(&with).await.unwrap();
    let fields = data(json!({ "id": "a" }));
    assert_eq!(with.encode("test.Order", &fields).unwrap()[..2], [0xC3, 1]);
    assert_eq!(stub.asked(), [""; 0]);
    let message = others.encode("test.Order", &fields).unwrap();
    registry.learn([&*message]).await;
    assert_eq!(with.decode_as("test.Order", &message), Ok(fields));
    assert_eq!(registry.told(), (true, "answers; nothing is written with its ids".to_owned()));
}

#[tokio::test]
async fn schemas_are_registered_once_under_topic_and_record_and_the_full_rule() {
    let stub = StubRegistry::start().await;
    registered(&stub, &[ORDER_1, ORDER_2]).await;
    assert_eq!(stub.subjects(), [("orders-test.Order".to_owned(), 2)]);
    assert_eq!(stub.rule("orders-test.Order").as_deref(), Some("FULL_TRANSITIVE"));
    stub.asked();
    // Another process finds them, and needs no leave to register. It asks once for each.
    let other = registry(&stub, Mode::Write);
    let catalog = catalog(&[ORDER_1, ORDER_2]);
    other.obtain(&catalog).await.unwrap();
    other.obtain(&catalog).await.unwrap();
    assert_eq!(stub.asked(), ["POST /subjects/orders-test.Order", "POST /subjects/orders-test.Order"]);
}

/// A step, and what undoes it.
const PACKING: &str = r#"
name = "packing"
version = 1
input = "test.Packing"

[[step]]
name = "pack"
participant = "depot"
kind = "compensatable"
command = "test.Order"
reply = "test.Packed"
compensation = "test.Unpack"
timeout = "1m"
retry = { max_attempts = 3, initial = "1s", max = "5s" }
"#;

#[tokio::test]
async fn a_record_of_several_topics_has_several_subjects_and_one_id() {
    let stub = StubRegistry::start().await;
    let registry = registry(&stub, Mode::Register);
    let known = catalog(&[ORDER_1]).with_registry(registry.clone());
    registry.obtain(&known).await.unwrap();
    let more = known.with_topics([("test.Order".to_owned(), "depot.commands".to_owned())]);
    stub.asked();
    registry.obtain(&more).await.unwrap();
    registry.obtain(&more).await.unwrap();
    assert_eq!(
        stub.asked(),
        [
            "POST /subjects/depot.commands-test.Order",
            "PUT /config/depot.commands-test.Order",
            "POST /subjects/depot.commands-test.Order/versions"
        ],
        "what has an id is asked for under its new subject alone"
    );
    assert_eq!(
        stub.subjects(),
        [("depot.commands-test.Order".to_owned(), 1), ("orders-test.Order".to_owned(), 1)]
    );
    assert_eq!(stub.rule("depot.commands-test.Order").as_deref(), Some("FULL_TRANSITIVE"));
    assert_eq!(more.encode("test.Order", &data(json!({ "id": "a" }))).unwrap()[..5], [0, 0, 0, 0, 1]);
    assert_eq!(registry.told().1, "answers; 1 schemas have ids");
}

#[tokio::test]
async fn a_record_of_no_known_topic_is_not_asked_for_and_has_no_id() {
    let stub = StubRegistry::start().await;
    let registry = registry(&stub, Mode::Write);
    let homeless = ORDER_1.replace(r#""topic": "orders", "#, "");
    let known = catalog(&[&homeless]).with_registry(registry.clone());
    assert_eq!(known.without_topic().collect::<Vec<_>>(), ["test.Order"]);
    registry.obtain(&known).await.unwrap();
    assert_eq!(stub.asked(), [""; 0]);
    assert_eq!(known.encode("test.Order", &data(json!({ "id": "a" }))).unwrap()[..2], [0xC3, 1]);
}

#[test]
fn definitions_and_schemas_say_where_records_go() {
    let unpacked = r#"{"type": "record", "name": "test.Unpacked", "answers": "test.Unpack", "fields": []}"#;
    let unpack = r#"{"type": "record", "name": "test.Unpack", "fields": []}"#;
    let sources = [unpacked, unpack].map(|text| (String::new(), text.to_owned()));
    let definition = saga_defs::definition::Definition::parse(PACKING).expect("a definition");
    let known = catalog(&[ORDER_1]).with_sources(sources).unwrap().with_definitions([&definition]);
    let topics = |catalog: &Catalog| {
        let line = |name: &str| {
            let topics: Vec<String> = catalog.topics(name).iter().map(ToString::to_string).collect();
            format!("{name}: {}", topics.join(" ")).trim_end().to_owned()
        };
        catalog.message_types().map(line).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(topics(&known), @r"
    test.Order: depot.commands orders
    test.Unpack: depot.commands
    test.Unpacked: saga.inbox
    ");
    insta::assert_snapshot!(topics(&Catalog::shipped()), @r"
    accounts.AccountErased: saga.inbox
    accounts.EraseAccount: accounts.commands
    accounts.RequestErasure:
    booking.BookingCancelled: booking.cancelled
    booking.BookingConfirmed: booking.confirmed saga.inbox
    booking.BookingCreated: booking.created
    booking.BookingReservationCancelled: saga.inbox
    booking.BookingReserved: saga.inbox
    booking.CancelBooking: booking.commands
    booking.ConfirmBooking: booking.commands
    booking.ReserveBooking: booking.commands
    booking.StartBooking:
    carriers.BookCarrier: carriers.commands
    carriers.CancelCarrier: carriers.commands
    carriers.CarrierBooked: saga.inbox
    flights.BuyTicket: flights.commands
    flights.FlightHeld: saga.inbox
    flights.HoldFlight: flights.commands
    flights.ReleaseFlight: flights.commands
    flights.TicketBought: saga.inbox
    hotels.ConfirmRoom: hotels.commands
    hotels.ReleaseRoom: hotels.commands
    hotels.ReserveRoom: hotels.commands
    hotels.RoomConfirmed: saga.inbox
    hotels.RoomReserved: saga.inbox
    notices.ItinerarySent: saga.inbox
    notices.SendItinerary: notices.commands
    payment.ChargePayment: payment.commands
    payment.PaymentCompleted: payment.completed saga.inbox
    payment.PaymentFailed: payment.failed
    payment.PaymentRefunded: payment.refunded saga.inbox
    payment.RefundPayment: payment.commands
    saga.Refusal: saga.inbox
    saga.SagaEnded: saga.events
    saga.SagaStarted: saga.events
    saga.Undone: saga.inbox
    stock.AnnounceDelivery: stock.commands
    stock.DeliveryAnnounced: saga.inbox
    stock.GoodsSetAside: saga.inbox
    stock.PutGoodsBack: stock.commands
    stock.SetGoodsAside: stock.commands
    stock.StartTransfer:
    stock.WithdrawDelivery: stock.commands
    trips.StartTrip:
    ");
}

#[tokio::test]
async fn what_is_not_registered_and_may_not_be_is_named() {
    let stub = StubRegistry::start().await;
    let registry = registry(&stub, Mode::Write);
    let error = registry.obtain(&Catalog::shipped()).await.unwrap_err();
    insta::assert_snapshot!(error, @"the schema registry (SCHEMA_REGISTRY_URL) lacks accounts.commands-accounts.EraseAccount.v1, booking.cancelled-booking.BookingCancelled.v1, booking.commands-booking.CancelBooking.v1 and 40 more: run `orchestrator schemas register`, or set SCHEMA_REGISTRY_MODE=register");
    assert!(!error.passes() && stub.subjects().is_empty());
    let (is_well, told) = registry.told();
    assert!(!is_well && told.contains("lacks accounts.commands-accounts.EraseAccount.v1"), "{told}");
    // Until it has an id, a message is written so that everybody can read it.
    let catalog = catalog(&[ORDER_1]).with_registry(registry);
    let bytes = catalog.encode("test.Order", &data(json!({ "id": "a" }))).unwrap();
    assert_eq!(bytes[..2], [0xC3, 1]);
}

#[tokio::test]
async fn a_schema_that_does_not_go_with_the_registered_ones_is_refused() {
    let stub = StubRegistry::start().await;
    stub.put("orders-test.Order", ORDER_WRONG);
    let registry = registry(&stub, Mode::Register);
    let error = registry.obtain(&catalog(&[ORDER_1])).await.unwrap_err();
    insta::assert_snapshot!(error, @r#"the schema registry (SCHEMA_REGISTRY_URL), asked for orders-test.Order.v1: says 409 (code 409): Schema being registered is incompatible with an earlier schema for subject "orders-test.Order""#);
}

#[tokio::test]
async fn an_id_that_was_never_seen_is_asked_for_once() {
    let stub = StubRegistry::start().await;
    let with = registered(&stub, &[ORDER_1, ORDER_2]).await;
    let id = stub.put("orders-test.Order", ORDER_3);
    // Somebody's release that is ahead of ours: what it has more is left out, what it lacks has its default.
    let theirs = catalog(&[ORDER_3]).encode("test.Order", &data(json!({ "id": "c", "note": "x" }))).unwrap();
    let message = [&[0][..], &id.0.to_be_bytes(), &theirs[10..]].concat();
    insta::assert_snapshot!(with.decode(&message).unwrap_err(), @"the schema with the id 3 of the schema registry is not known: it was not asked for yet");
    let registry = with.registry().unwrap();
    stub.asked();
    for _ in 0..3 {
        registry.learn([&*message, &message]).await;
    }
    assert_eq!(stub.asked(), ["GET /schemas/ids/3"]);
    assert_eq!(with.decode_as("test.Order", &message), Ok(data(json!({ "id": "c", "priority": 3 }))));
    let written = with.decode_as_written(&message).unwrap();
    assert_eq!((written.version, written.fields["note"].as_str()), (None, Some("x")));
}

#[tokio::test]
async fn an_id_that_nobody_has_is_remembered_as_such() {
    let stub = StubRegistry::start().await;
    let with = registered(&stub, &[ORDER_1]).await;
    let message = [0, 0, 0, 0, 99, 2, b'a'];
    stub.asked();
    for _ in 0..3 {
        with.registry().unwrap().learn([&message[..]]).await;
    }
    assert_eq!(stub.asked(), ["GET /schemas/ids/99"; 3], "three tries, and none after them");
    insta::assert_snapshot!(with.decode(&message).unwrap_err(), @"the schema with the id 99 of the schema registry is not known: the registry has no such id");
}

#[tokio::test]
async fn a_record_that_nobody_knows_here_is_named() {
    let stub = StubRegistry::start().await;
    let with = registered(&stub, &[ORDER_1]).await;
    let id = stub.put("other.Thing", r#"{"type": "record", "name": "other.Thing", "fields": []}"#);
    let message = [&[0][..], &id.0.to_be_bytes()].concat();
    with.registry().unwrap().learn([&*message]).await;
    insta::assert_snapshot!(with.decode(&message).unwrap_err(), @"is a other.Thing (schema id 2 of the schema registry), and no schema is known here by that name");
    assert!(!with.knows_writer(&message));
}

#[tokio::test]
async fn what_somebody_registered_that_does_not_go_with_ours_is_unreadable_by_name() {
    let stub = StubRegistry::start().await;
    let with = registered(&stub, &[ORDER_1]).await;
    let wrong = r#"{"type": "record", "name": "test.Order", "topic": "orders", "fields": [{"name": "id", "type": "int"}]}"#;
    let id = stub.put("orders-test.Order", wrong);
    let message = [&[0][..], &id.0.to_be_bytes(), &[2]].concat();
    with.registry().unwrap().learn([&*message]).await;
    insta::assert_snapshot!(with.decode(&message).unwrap_err(), @"test.Order cannot be read: id: the newest version that is known here cannot hold what was written with another schema");
}

#[tokio::test]
async fn a_registry_that_goes_away_stops_nothing_that_is_known() {
    let stub = StubRegistry::start().await;
    let impatient = Limits { learn: Duration::from_millis(300), ..limits() };
    let registry = Arc::new(Registry::new(&stub.address(), Mode::Register, impatient).unwrap());
    let with = catalog(&[ORDER_1]).with_registry(registry.clone());
    registry.obtain(&with).await.unwrap();
    stub.set_away(true);
    let fields = data(json!({ "id": "a" }));
    let bytes = with.encode("test.Order", &fields).unwrap();
    registry.learn([&*bytes]).await;
    assert_eq!(with.decode_as("test.Order", &bytes), Ok(fields));
    assert_eq!(registry.standing(), Standing::Well, "nobody had to ask");
    // What is not known waits for a while, and is then unreadable for a while: each of a batch.
    let message = [0, 0, 0, 0, 99, 2, b'a'];
    let others: Vec<[u8; 5]> = (100..120).map(|id| [0, 0, 0, 0, id]).collect();
    registry.learn(others.iter().map(|other| &other[..]).chain([&message[..]])).await;
    insta::assert_snapshot!(with.decode(&message).unwrap_err(), @"the schema with the id 99 of the schema registry is not known: the registry did not answer for 0.3 s");
    insta::assert_snapshot!(registry.told().1, @"does not answer; 1 schemas go on with the ids they have");
    stub.asked();
    registry.learn(others.iter().map(|other| &other[..]).chain([&message[..]])).await;
    assert_eq!(stub.asked(), [""; 0]);
    stub.set_away(false);
    registry.obtain(&with).await.unwrap();
    assert_eq!(registry.told(), (true, "answers; 1 schemas have ids".to_owned()));
}

#[tokio::test]
async fn a_registry_that_is_away_at_the_start_is_waited_for() {
    let stub = StubRegistry::start().await;
    stub.set_away(true);
    let registry = registry(&stub, Mode::Register);
    let catalog = Arc::new(catalog(&[ORDER_1]).with_registry(registry.clone()));
    let error = registry.obtain(&catalog).await.unwrap_err();
    assert!(error.passes(), "{error}");
    assert!(error.to_string().contains("asked for orders-test.Order.v1: does not answer"), "{error}");
    stub.set_away(false);
    let known = catalog.clone();
    tokio::select! {
        () = registry.keep(move || known.clone()) => {}
        () = until(|| registry.standing() == Standing::Well) => {}
    }
    assert_eq!(catalog.encode("test.Order", &data(json!({ "id": "" }))).unwrap(), [0, 0, 0, 0, 1, 0]);
}

/// Waits for a condition that comes true by itself.
async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("it comes true");
}

#[tokio::test]
async fn a_registry_may_ask_who_asks() {
    let stub = StubRegistry::start().await;
    stub.demand("me", "hunter2");
    let mut address = stub.address();
    let catalog = catalog(&[ORDER_1]);
    let obtain = async |address: &Address| {
        let registry = Registry::new(address, Mode::Register, limits()).unwrap();
        assert!(!format!("{registry:?} {address:?}").contains("hunter2"));
        registry.obtain(&catalog).await
    };
    let error = obtain(&address).await.unwrap_err();
    assert!(matches!(&error, ObtainError::Registry { source, .. } if !source.is_away()));
    insta::assert_snapshot!(error, @"the schema registry (SCHEMA_REGISTRY_URL), asked for orders-test.Order.v1: says 401 (code 40101): Unauthorized");
    address.user = Some(("me".to_owned(), SecretString::from("hunter2")));
    obtain(&address).await.unwrap();
}

/// An authority of that name, and a certificate of `localhost` that it has signed: PEM of the authority, of the certificate, of its key.
fn authority(name: &str) -> [String; 3] {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let mut root = CertificateParams::new([]).expect("no names");
    root.distinguished_name.push(DnType::CommonName, name);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().expect("a key");
    let authority = root.self_signed(&root_key).expect("an authority").pem();
    let key = KeyPair::generate().expect("a key");
    let host = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let signed = host.signed_by(&key, &Issuer::new(root, root_key)).expect("a certificate");
    [authority, signed.pem(), key.serialize_pem()]
}

#[tokio::test]
async fn a_registry_over_tls_is_asked_if_its_authority_is_trusted() {
    let [right, certificate, key] = authority("right");
    let [wrong, ..] = authority("wrong");
    let stub = StubRegistry::start_over_tls(&certificate, &key).await;
    let catalog = catalog(&[ORDER_1]);
    let obtain = async |url: &str, trusted: Option<&str>| {
        let mut address = Address::parse(url).unwrap();
        address.authorities = trusted.map(|pem| pem.as_bytes().to_vec());
        Registry::new(&address, Mode::Register, limits()).unwrap().obtain(&catalog).await
    };
    let url = stub.url();
    insta::assert_snapshot!(obtain(&url, Some(&wrong)).await.unwrap_err(), @"the schema registry (SCHEMA_REGISTRY_URL), asked for orders-test.Order.v1: does not answer (error sending request: client error (Connect): invalid peer certificate: UnknownIssuer; SCHEMA_REGISTRY_CA names the authorities that are trusted beside the system's)");
    insta::assert_snapshot!(obtain(&url, None).await.unwrap_err(), @"the schema registry (SCHEMA_REGISTRY_URL), asked for orders-test.Order.v1: does not answer (error sending request: client error (Connect): invalid peer certificate: UnknownIssuer; SCHEMA_REGISTRY_CA names the authorities that are trusted beside the system's)");
    let other_name = url.replace("localhost", "127.0.0.1");
    insta::assert_snapshot!(obtain(&other_name, Some(&right)).await.unwrap_err(), @r#"the schema registry (SCHEMA_REGISTRY_URL), asked for orders-test.Order.v1: does not answer (error sending request: client error (Connect): invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost"); SCHEMA_REGISTRY_CA names the authorities that are trusted beside the system's)"#);
    assert_eq!(stub.subjects(), [], "nobody was told anything");
    obtain(&url, Some(&right)).await.unwrap();
    assert_eq!(stub.subjects(), [("orders-test.Order".to_owned(), 1)]);
}

#[test]
fn an_address_is_a_url_without_a_user() {
    for (text, expected) in [
        ("http://here:8081", true),
        ("https://here/registry/", true),
        ("https://me:secret@here", false),
        ("https://me@here", false),
        ("ftp://here", false),
        ("file:///etc/passwd", false),
        ("here:8081", false),
        ("http://here/?a=b", false),
    ] {
        assert_eq!(Address::parse(text).is_some(), expected, "{text}");
    }
}

#[tokio::test]
async fn a_comparison_says_what_differs_and_what_cannot_be() {
    let stub = StubRegistry::start().await;
    let ours = catalog(&[ORDER_1, ORDER_2]);
    let compare = async || {
        let reports = registry(&stub, Mode::Write).compare(&ours).await.unwrap();
        let lines = reports.into_iter().flat_map(|report| report.differences);
        lines
            .map(|one| format!("{}{one}", if one.is_conflict() { "! " } else { "" }))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(compare().await, @"the registry has no such subject");
    stub.put("orders-test.Order", ORDER_1);
    stub.put("orders-test.Order", ORDER_3);
    insta::assert_snapshot!(compare().await, @r"
    version 2 of the registry is not known here
    test.Order.v2 is not registered
    its compatibility is BACKWARD, not FULL_TRANSITIVE
    ");
    stub.put("orders-test.Order", ORDER_WRONG);
    stub.put("orders-test.Order", r#"{"type": "enum", "name": "test.Order", "symbols": ["A"]}"#);
    insta::assert_snapshot!(compare().await, @r"
    version 2 of the registry is not known here
    ! test.Order.v1 and version 3 of the registry cannot read each other: `weight` is gone but has no default in the older version, so readers of that version cannot do without it: keep it
    ! test.Order.v2 and version 3 of the registry cannot read each other: `weight` is gone but has no default in the older version, so readers of that version cannot do without it: keep it
    ! version 4 of the registry cannot be worked with: not a record: a message is a record
    test.Order.v2 is not registered
    its compatibility is BACKWARD, not FULL_TRANSITIVE
    ");
    let stub = StubRegistry::start().await;
    let registry = registry(&stub, Mode::Register);
    assert_eq!(registry.register(&ours).await.unwrap(), ["orders-test.Order.v1", "orders-test.Order.v2"]);
    assert_eq!(registry.register(&ours).await.unwrap(), [""; 0]);
    assert_eq!(registry.compare(&ours).await.unwrap()[0].differences, []);
}

/// Against a real registry: what the stub is taken for.
#[tokio::test]
async fn a_real_registry_says_the_same() {
    let Ok(url) = std::env::var("TEST_SCHEMA_REGISTRY_URL") else {
        eprintln!("TEST_SCHEMA_REGISTRY_URL names no registry; the stub alone was asked");
        return;
    };
    let registry =
        Arc::new(Registry::new(&Address::parse(&url).unwrap(), Mode::Register, Limits::default()).unwrap());
    let catalog = Catalog::shipped().with_registry(registry.clone());
    registry.obtain(&catalog).await.unwrap();
    for report in registry.compare(&catalog).await.unwrap() {
        assert_eq!(report.differences, [], "{}", report.subject);
    }
    let fields = data(json!({ "code": "a", "message": "b" }));
    let bytes = catalog.encode("saga.Refusal", &fields).unwrap();
    assert_eq!(bytes[0], 0);
    let other =
        Arc::new(Registry::new(&Address::parse(&url).unwrap(), Mode::Write, Limits::default()).unwrap());
    let reader = Catalog::shipped().with_registry(other.clone());
    other.learn([&*bytes]).await;
    assert_eq!(reader.decode_as("saga.Refusal", &bytes), Ok(fields));
    let nobodys = [0, 0x7f, 0xff, 0xff, 0xff];
    other.learn([&nobodys[..]]).await;
    assert!(matches!(reader.decode(&nobodys), Err(DecodeError::UnknownId { .. })));
}
