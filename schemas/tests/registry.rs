//! Messages with a registry's ids, against a registry that keeps to the published REST shapes; against a real one where
//! `TEST_SCHEMA_REGISTRY_URL` names it.

use std::sync::Arc;
use std::time::Duration;

use schemas::registry::{Address, Limits, Mode, ObtainError, Registry, Standing};
use schemas::testing::StubRegistry;
use schemas::{Catalog, Data, DecodeError};
use secrecy::SecretString;
use serde_json::{Value, json};

const ORDER_1: &str =
    r#"{"type": "record", "name": "test.Order", "fields": [{"name": "id", "type": "string"}]}"#;
const ORDER_2: &str = r#"{"type": "record", "name": "test.Order", "fields": [
    {"name": "id", "type": "string"}, {"name": "priority", "type": "int", "default": 3}]}"#;
const ORDER_3: &str = r#"{"type": "record", "name": "test.Order", "fields": [
    {"name": "id", "type": "string"}, {"name": "note", "type": "string", "default": "none"}]}"#;
/// No default, so the others cannot be read as it.
const ORDER_WRONG: &str = r#"{"type": "record", "name": "test.Order", "fields": [
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
async fn schemas_are_registered_once_under_the_records_name_and_the_full_rule() {
    let stub = StubRegistry::start().await;
    registered(&stub, &[ORDER_1, ORDER_2]).await;
    assert_eq!(stub.subjects(), [("test.Order".to_owned(), 2)]);
    assert_eq!(stub.rule("test.Order").as_deref(), Some("FULL_TRANSITIVE"));
    stub.asked();
    // Another process finds them, and needs no leave to register. It asks once for each.
    let other = registry(&stub, Mode::Write);
    let catalog = catalog(&[ORDER_1, ORDER_2]);
    other.obtain(&catalog).await.unwrap();
    other.obtain(&catalog).await.unwrap();
    assert_eq!(stub.asked(), ["POST /subjects/test.Order", "POST /subjects/test.Order"]);
}

#[tokio::test]
async fn what_is_not_registered_and_may_not_be_is_named() {
    let stub = StubRegistry::start().await;
    let registry = registry(&stub, Mode::Write);
    let error = registry.obtain(&Catalog::shipped()).await.unwrap_err();
    insta::assert_snapshot!(error, @"the schema registry (SCHEMA_REGISTRY_URL) lacks accounts.AccountErased.v1, accounts.EraseAccount.v1, accounts.RequestErasure.v1 and 41 more: run `orchestrator schemas register`, or set SCHEMA_REGISTRY_MODE=register");
    assert!(!error.passes() && stub.subjects().is_empty());
    let (is_well, told) = registry.told();
    assert!(!is_well && told.contains("lacks accounts.AccountErased.v1"), "{told}");
    // Until it has an id, a message is written so that everybody can read it.
    let catalog = catalog(&[ORDER_1]).with_registry(registry);
    let bytes = catalog.encode("test.Order", &data(json!({ "id": "a" }))).unwrap();
    assert_eq!(bytes[..2], [0xC3, 1]);
}

#[tokio::test]
async fn a_schema_that_does_not_go_with_the_registered_ones_is_refused() {
    let stub = StubRegistry::start().await;
    stub.put("test.Order", ORDER_WRONG);
    let registry = registry(&stub, Mode::Register);
    let error = registry.obtain(&catalog(&[ORDER_1])).await.unwrap_err();
    insta::assert_snapshot!(error, @r#"the schema registry (SCHEMA_REGISTRY_URL), asked for test.Order.v1: says 409 (code 409): Schema being registered is incompatible with an earlier schema for subject "test.Order""#);
}

#[tokio::test]
async fn an_id_that_was_never_seen_is_asked_for_once() {
    let stub = StubRegistry::start().await;
    let with = registered(&stub, &[ORDER_1, ORDER_2]).await;
    let id = stub.put("test.Order", ORDER_3);
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
    let wrong = r#"{"type": "record", "name": "test.Order", "fields": [{"name": "id", "type": "int"}]}"#;
    let id = stub.put("test.Order", wrong);
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
    assert!(error.to_string().contains("asked for test.Order.v1: does not answer"), "{error}");
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
    insta::assert_snapshot!(error, @"the schema registry (SCHEMA_REGISTRY_URL), asked for test.Order.v1: says 401 (code 40101): Unauthorized");
    address.user = Some(("me".to_owned(), SecretString::from("hunter2")));
    obtain(&address).await.unwrap();
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
    stub.put("test.Order", ORDER_1);
    stub.put("test.Order", ORDER_3);
    insta::assert_snapshot!(compare().await, @r"
    version 2 of the registry is not known here
    test.Order.v2 is not registered
    its compatibility is BACKWARD, not FULL_TRANSITIVE
    ");
    stub.put("test.Order", ORDER_WRONG);
    stub.put("test.Order", r#"{"type": "enum", "name": "test.Order", "symbols": ["A"]}"#);
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
    assert_eq!(registry.register(&ours).await.unwrap(), ["test.Order.v1", "test.Order.v2"]);
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
