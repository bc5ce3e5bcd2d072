//! Registering definitions: what is published, what is answered, and what is refused.

use local_postgres::TestServer;
use messaging::KafkaSettings;
use messaging::topics::TopicSpec;
use migrations::apply;
use migrations::orchestrator::Migrator;
use orchestrator::definitions::Definitions;
use orchestrator::registration::Registrar;
use orchestrator::registration::folders::Folders;
use orchestrator::store::Store;
use sea_orm::ConnectionTrait;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::harness::{Answered, Service};

pub(crate) const PARCEL: &str = r#"name = "parcel"
version = 1
deadline = "1h"
input = "parcel.StartParcel"

[[step]]
name = "collect"
participant = "courier"
kind = "compensatable"
command = "courier.Collect"
reply = "courier.Collected"
compensation = "courier.BringBack"

[[step]]
name = "deliver"
participant = "courier"
kind = "retriable"
command = "courier.Deliver"
reply = "courier.Delivered"
"#;

fn record(full_name: &str, fields: &[(&str, &str)]) -> Value {
    let (namespace, name) = full_name.rsplit_once('.').unwrap();
    let fields: Vec<Value> =
        fields.iter().map(|(name, kind)| json!({"name": name, "type": kind, "doc": "A field."})).collect();
    json!({"type": "record", "namespace": namespace, "name": name, "doc": "A message.", "fields": fields})
}

/// The record with one more field.
fn and(mut record: Value, name: &str, kind: &str, default: &Value) -> Value {
    let field = json!({"name": name, "type": kind, "default": default, "doc": "A field."});
    record["fields"].as_array_mut().unwrap().push(field);
    record
}

/// A record that ships, with one more field.
fn shipped_and(file: &str, name: &str, kind: &str, default: &Value) -> Value {
    let file = format!("{file}.avsc");
    let (_, text) =
        schemas::Catalog::shipped_sources().iter().find(|(shipped, _)| **shipped == file).unwrap();
    and(serde_json::from_str(text).unwrap(), name, kind, default)
}

fn parcel_schemas() -> Vec<Value> {
    vec![
        record("parcel.StartParcel", &[("street", "string")]),
        record("courier.Collect", &[("sagaId", "string"), ("street", "string")]),
        record("courier.Collected", &[("courier", "string")]),
        record("courier.BringBack", &[("sagaId", "string")]),
        record("courier.Deliver", &[("sagaId", "string"), ("courier", "string")]),
        record("courier.Delivered", &[]),
    ]
}

pub(crate) fn with_schemas(definition: &str) -> Value {
    json!({"definition": definition, "schemas": parcel_schemas()})
}

async fn toml(service: &Service, text: impl Into<Vec<u8>>) -> Answered {
    let request = service.request("POST", "/api/definitions").header("content-type", "application/toml");
    service.send(request.body(text.into())).await
}

async fn register(service: &Service, body: &Value) -> Answered {
    service.post("/api/definitions", body).await
}

/// Status, place and what was published, without what differs from run to run.
fn published(answered: &Answered) -> String {
    let body = answered.json();
    assert!(body["registeredAt"].as_str().is_some_and(|at| at.starts_with("20")), "{body}");
    format!(
        "{} {} {} version {}",
        answered.status,
        answered.header("location"),
        body["name"],
        body["version"]
    )
}

/// A refusal with each of its errors.
fn refused(answered: &Answered) -> String {
    let mut text = answered.problem();
    text.truncate(text.find(": ").unwrap());
    for error in answered.json()["errors"].as_array().into_iter().flatten() {
        let place = match (error["line"].as_u64(), error["column"].as_u64()) {
            (Some(line), Some(column)) => format!(" {line}:{column}"),
            _ => String::new(),
        };
        text.push_str(&format!(
            "\n  {}{place}: {}",
            error["field"].as_str().unwrap(),
            error["message"].as_str().unwrap()
        ));
    }
    text
}

#[tokio::test]
async fn a_definition_with_schemas_of_its_own_is_published() {
    let service = Service::start().await;
    let answered = register(&service, &with_schemas(PARCEL)).await;
    insta::assert_snapshot!(published(&answered), @r#"201 Created /api/definitions/parcel/1 "parcel" version 1"#);
    let shown = service.get("/api/definitions/parcel/1").await;
    assert_eq!(shown.json(), answered.json(), "the answer is what it is from now on");
    let begun =
        service.post("/api/sagas", &json!({"definition": "parcel", "input": {"street": "Elm Street"}})).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    let wrong = service.post("/api/sagas", &json!({"definition": "parcel", "input": {"road": "Elm"}})).await;
    insta::assert_snapshot!(wrong.problem(), @"422 validation: input.street: missing: expected a string; input.road: unknown: the fields of parcel.StartParcel are street [input.street, input.road]");
}

#[tokio::test]
async fn the_same_again_changes_nothing_and_other_content_is_refused() {
    let service = Service::start().await;
    let first = register(&service, &with_schemas(PARCEL)).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let spaced = PARCEL.replace("deadline = \"1h\"", "deadline='60m'  # an hour");
    let again = register(&service, &with_schemas(&spaced)).await;
    assert_eq!(again.status, 201, "{}", again.text);
    assert_eq!(again.json(), first.json(), "comments and spacing apart it is the same");
    assert_eq!(toml(&service, PARCEL).await.json(), first.json(), "its schemas are known");

    let other = PARCEL.replace("1h", "2h");
    insta::assert_snapshot!(refused(&toml(&service, &*other).await), @"
    422 definition-published
      definition 2:11: parcel version 1 is published with other content, and a published version never changes; give it version 2
    ");
    let next = toml(&service, other.replace("version = 1", "version = 2")).await;
    insta::assert_snapshot!(published(&next), @r#"201 Created /api/definitions/parcel/2 "parcel" version 2"#);
    insta::assert_snapshot!(refused(&toml(&service, PARCEL.replace("1h", "3h")).await), @"
    422 definition-published
      definition 2:11: parcel version 1 is published with other content, and a published version never changes; give it version 3
    ");
    let audit =
        service.texts("SELECT actor || ' ' || verb || ' ' || reason AS text FROM audit ORDER BY id").await;
    insta::assert_snapshot!(audit.join("\n"), @"
    anonymous register parcel version 1, with 6 schemas
    anonymous register parcel version 2
    ");
}

#[tokio::test]
async fn every_problem_is_named_with_its_place() {
    let service = Service::start().await;
    insta::assert_snapshot!(refused(&toml(&service, PARCEL).await), @"
    422 definition
      definition 4:9: no schema is named `parcel.StartParcel`; add its schema to those that come with the definition, or to SCHEMAS_DIR
      definition 10:11: no schema is named `courier.Collect`; add its schema to those that come with the definition, or to SCHEMAS_DIR
      definition 11:9: no schema is named `courier.Collected`; add its schema to those that come with the definition, or to SCHEMAS_DIR
      definition 12:16: no schema is named `courier.BringBack`; add its schema to those that come with the definition, or to SCHEMAS_DIR
      definition 18:11: no schema is named `courier.Deliver`; add its schema to those that come with the definition, or to SCHEMAS_DIR
      definition 19:9: no schema is named `courier.Delivered`; add its schema to those that come with the definition, or to SCHEMAS_DIR
    ");
    let wrong = PARCEL.replace("\"1h\"", "\"soon\"").replace("retriable", "retryable");
    insta::assert_snapshot!(refused(&register(&service, &with_schemas(&wrong)).await), @"
    422 definition
      definition 3:12: `soon` is not a duration; write e.g. 200ms, 5s, 15m, 2h
      definition 17:8: there is no kind `retryable`; did you mean `retriable`?
    ");
    let huge = PARCEL.replace("version = 1", "version = 4294967295");
    insta::assert_snapshot!(refused(&register(&service, &with_schemas(&huge)).await), @"
    422 definition
      definition 2:11: `version` is the number 4294967295, which is not allowed; give it a number from 1 to 2147483647
    ");
    insta::assert_snapshot!(refused(&toml(&service, "name = ").await), @"
    422 definition
      definition 1:8: this is not TOML: string values must be quoted, expected literal string; write one `key = value` a line, with texts in quotes
    ");
}

#[tokio::test]
async fn every_run_is_looked_at_before_a_definition_is_published() {
    let service = Service::start().await;
    let said = &register(&service, &with_schemas(PARCEL)).await.json()["modelCheck"];
    assert!(said["states"].as_u64().unwrap() > 100 && said["complete"] == true, "{said}");

    let (collect, deliver) = PARCEL.split_once("[[step]]").unwrap().1.split_once("[[step]]").unwrap();
    let head = PARCEL.split_once("[[step]]").unwrap().0.replace("parcel\"\nversion", "hasty\"\nversion");
    let deliver = deliver
        .replace("courier.Delivered", "courier.Collected")
        .replace("courier.Deliver\"", "courier.Collect\"");
    let hasty = format!("{head}[[step]]{deliver}\n[[step]]{collect}");
    let answered = toml(&service, &*hasty).await;
    insta::assert_snapshot!(refused(&answered), @"
    422 definition
      definition 16:8: step `collect` (compensatable) cannot come after `deliver` (retriable): the order is compensatable steps, at most one pivot, retriable steps; move it before `deliver`, or make it retriable if it may be tried until it succeeds
    ");
    insta::assert_snapshot!(answered.json()["run"].as_str().unwrap(), @"
    start                 -> deliver #1
      courier: deliver #1 -> done
    deliver succeeded     -> collect #1
      courier: collect #1 -> refused
    collect rejected      -> undo deliver #1  refused
    = compensating: compensating, rejected
    = really done: deliver (nothing undoes it)
    ");
}

#[tokio::test]
async fn every_wrong_schema_is_named() {
    let service = Service::start().await;
    let body = json!({"definition": PARCEL, "schemas": [
        {"type": "record", "name": "parcel.StartParcel", "fields": [{"name": "street", "type": "text"}]},
        "{",
        7,
    ]});
    insta::assert_snapshot!(refused(&register(&service, &body).await), @"
    422 validation
      schemas[2]: must be an Avro record, as an object or as a text; found 7
    ");
    let body = json!({"definition": PARCEL, "schemas": [
        {"type": "record", "name": "parcel.StartParcel", "fields": [{"name": "street", "type": "text"}]},
        "{",
        record("booking.ReserveBooking", &[("bookingId", "long")]),
    ]});
    insta::assert_snapshot!(refused(&register(&service, &body).await), @"
    422 definition
      schemas[0]: no type is named parcel.text in this file: define it where it is used first
      schemas[1]: not JSON: EOF while parsing an object at line 1 column 1
      schemas[2]: field bookingId: was uuid and is long: keep its type, and add a new field with a default beside it (booking.ReserveBooking versions 1 and 2 must read each other)
      schemas[2]: field userId: is gone but has no default in the older version, so readers of that version cannot do without it: keep it (booking.ReserveBooking versions 1 and 2 must read each other)
      schemas[2]: field resourceId: is gone but has no default in the older version, so readers of that version cannot do without it: keep it (booking.ReserveBooking versions 1 and 2 must read each other)
    ");
    let body = json!({"definition": PARCEL.replace("\"1h\"", "\"soon\""), "schemas": ["{"]});
    insta::assert_snapshot!(refused(&register(&service, &body).await), @"
    422 definition
      schemas[0]: not JSON: EOF while parsing an object at line 1 column 1
      definition 3:12: `soon` is not a duration; write e.g. 200ms, 5s, 15m, 2h
    ");
    assert_eq!(service.texts("SELECT name AS text FROM schema").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_schema_that_would_break_what_is_published_is_refused() {
    let service = Service::start().await;
    assert_eq!(register(&service, &with_schemas(PARCEL)).await.status, 201);
    let mut problems = Vec::new();
    let mut post = async |definition: &str, schemas: &[Value]| {
        let answered = register(&service, &json!({"definition": definition, "schemas": schemas})).await;
        problems.push(refused(&answered));
    };
    let next = PARCEL.replace("version = 1", "version = 2");
    let starting_with = |record: &str| next.replace("parcel.StartParcel", record);
    let collect = [("sagaId", "string"), ("street", "string")];
    // A command's field would have the name of the input's, and another type.
    let reserve = shipped_and("booking.ReserveBooking.v1", "amountMinor", "string", &json!(""));
    post(&next, std::slice::from_ref(&reserve)).await;
    let uses = next.replace("courier.Collect\"", "booking.ReserveBooking\"");
    post(&uses.replace("parcel.StartParcel", "booking.StartBooking"), &[reserve]).await;
    // A reply's default would replace what the saga has.
    let reserved = shipped_and("booking.BookingReserved.v1", "currency", "string", &json!("EUR"));
    post(&starting_with("booking.StartBooking"), &[reserved]).await;
    let collected =
        and(record("courier.Collected", &[("courier", "string")]), "street", "string", &json!(""));
    let unused = and(
        record("courier.Deliver", &[("sagaId", "string"), ("courier", "string")]),
        "sort",
        "long",
        &json!(0),
    );
    let same = record("courier.Collect", &collect);
    post(&next.replace("courier.Deliver\"", "courier.Collect\""), &[same, collected, unused]).await;
    insta::assert_snapshot!(problems.join("\n"), @r#"
    422 definition
      schemas[0]: booking version 1 is published and would break: line 11, column 11: `amountMinor` of booking.ReserveBooking is string, but it is long in the input booking.StartBooking; give booking.ReserveBooking no such field, or use a record of another name
      schemas[0]: delivery version 3 is published and would break: line 10, column 11: `amountMinor` of booking.ReserveBooking is string, but it is long in the input booking.StartBooking; give booking.ReserveBooking no such field, or use a record of another name
      schemas[0]: booking.ReserveBooking is known and parcel version 2 does not use it: a new version of a record comes with a definition that uses it, so leave it out
    422 definition
      schemas[0]: booking version 1 is published and would break: line 11, column 11: `amountMinor` of booking.ReserveBooking is string, but it is long in the input booking.StartBooking; give booking.ReserveBooking no such field, or use a record of another name
      schemas[0]: delivery version 3 is published and would break: line 10, column 11: `amountMinor` of booking.ReserveBooking is string, but it is long in the input booking.StartBooking; give booking.ReserveBooking no such field, or use a record of another name
      definition 10:11: booking.ReserveBooking needs `bookingId` (uuid), which nothing provides before it is sent; add it to booking.StartBooking, fill it with `with = { bookingId = "…" }`, or give it a default in the schema of booking.ReserveBooking
      definition 10:11: `amountMinor` of booking.ReserveBooking is string, but it is long in the input booking.StartBooking; give both the same type, or fill `amountMinor` from another name with `with`
      definition 10:11: booking.ReserveBooking is a command of `booking`, but it would be sent to `courier`; write `participant = "booking"`, or name a command of `courier`
    422 definition
      schemas[0]: field currency: booking version 1 is published, takes booking.BookingReserved as a reply and has a `currency` from elsewhere, which an older reply would replace by the default: give the field another name
      schemas[0]: field currency: delivery version 3 is published, takes booking.BookingReserved as a reply and has a `currency` from elsewhere, which an older reply would replace by the default: give the field another name
      schemas[0]: booking.BookingReserved is known and parcel version 2 does not use it: a new version of a record comes with a definition that uses it, so leave it out
      definition 10:11: courier.Collect needs `street` (string), which nothing provides before it is sent; add it to booking.StartBooking, fill it with `with = { street = "…" }`, or give it a default in the schema of courier.Collect
    422 definition
      schemas[1]: field street: parcel version 1 is published, takes courier.Collected as a reply and has a `street` from elsewhere, which an older reply would replace by the default: give the field another name
      schemas[2]: courier.Deliver is known and parcel version 2 does not use it: a new version of a record comes with a definition that uses it, so leave it out
    "#);
    let grown = "SELECT name AS text FROM schema WHERE version > 1";
    assert_eq!(service.texts(grown).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_schema_with_other_content_is_the_next_version_of_its_record() {
    let service = Service::start().await;
    assert_eq!(register(&service, &with_schemas(PARCEL)).await.status, 201);
    let deliver = record("courier.Deliver", &[("sagaId", "string"), ("courier", "string")]);
    let text = and(deliver, "note", "string", &json!("")).to_string();
    let body = json!({"definition": PARCEL.replace("version = 1", "version = 2"), "schemas": [text]});
    let answered = register(&service, &body).await;
    assert_eq!(answered.status, 201, "{}", answered.text);
    let deliver =
        "SELECT name || ' ' || version AS text FROM schema WHERE name = 'courier.Deliver' ORDER BY version";
    assert_eq!(service.texts(deliver).await, ["courier.Deliver 1", "courier.Deliver 2"]);
    assert_eq!(register(&service, &body).await.json(), answered.json());
    assert_eq!(service.texts(deliver).await.len(), 2, "the same content is no new version");
}

#[tokio::test]
async fn a_topic_with_another_number_of_partitions_refuses() {
    let service = Service::start().await;
    service.broker.create_topic(&TopicSpec::new("courier.commands", 3, 1)).unwrap();
    let answered = register(&service, &with_schemas(PARCEL)).await;
    insta::assert_snapshot!(answered.problem(), @"422 refused: the commands of a participant cannot be sent: topic courier.commands has 3 partitions, expected 4");
    assert_eq!(service.get("/api/definitions/parcel/1").await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_such() {
    let service = Service::start().await;
    let mut lines = Vec::new();
    let post = |kind: &'static str, body: Vec<u8>| {
        service.send(service.request("POST", "/api/definitions").header("content-type", kind).body(body))
    };
    for (kind, body) in [
        ("application/toml", b"name = \"a\0\"".to_vec()),
        ("text/plain; charset=utf-8", b"name = \"\xff\"".to_vec()),
        ("application/octet-stream", b" ".to_vec()),
        ("application/x-www-form-urlencoded", b"name".to_vec()),
        ("application/json", b"[1]".to_vec()),
        ("application/json", b"{\"definition\": \"a\\u0000\"}".to_vec()),
        ("application/json", b"{\"definition\": 1, \"schemas\": {}, \"more\": 1}".to_vec()),
        ("application/json", format!("{{\"definition\": {}1{}}}", "[".repeat(100), "]".repeat(100)).into()),
        ("application/json", json!({"definition": "x", "schemas": vec!["{}"; 257]}).to_string().into()),
        ("application/toml", vec![b'#'; 1024 * 1024 + 1]),
        ("application/toml", vec![b'#'; 256 * 1024 + 1]),
    ] {
        lines.push(format!("{kind}: {}", post(kind, body).await.problem()));
    }
    insta::assert_snapshot!(lines.join("\n"), @r"
    application/toml: 400 malformed: the body contains NUL at byte 9
    text/plain; charset=utf-8: 400 malformed: the body is not UTF-8 from byte 8 on
    application/octet-stream: 400 malformed: the body is empty; a definition is expected
    application/x-www-form-urlencoded: 415 media-type: the content type must be application/toml for a definition, or application/json for one with its schemas; found `application/x-www-form-urlencoded`
    application/json: 422 validation: the body must be a JSON object []
    application/json: 400 malformed: the body is not the JSON that is expected: a text contains NUL (\u0000) at line 1 column 24
    application/json: 422 validation: definition: must be a text; found 1; schemas: must be an array; found an object; more: is not a field of this request [definition, schemas, more]
    application/json: 400 malformed: the body is not the JSON that is expected: deeper than 64 levels at line 1 column 79
    application/json: 422 validation: schemas: must have at most 256 entries; it has 257 [schemas]
    application/toml: 413 too-large: the body is longer than 1048576 bytes
    application/toml: 422 definition: line 1, column 1: the text has 262145 bytes; shorten it to at most 262144 [definition]
    ");
}

#[tokio::test]
async fn of_many_who_publish_one_version_one_wins_and_all_know_which() {
    let service = Service::start().await;
    let texts: Vec<String> = (1..=6).map(|hours| PARCEL.replace("1h", &format!("{hours}h"))).collect();
    let bodies: Vec<Value> = texts.iter().map(|text| with_schemas(text)).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| register(&service, body))).await;
    let won: Vec<&Answered> = answers.iter().filter(|answered| answered.status == 201).collect();
    assert_eq!(
        won.len(),
        1,
        "{:?}",
        answers.iter().map(|answered| answered.text.as_str()).collect::<Vec<_>>()
    );
    for answered in answers.iter().filter(|answered| answered.status != 201) {
        assert!(answered.problem().starts_with("422 definition-published"), "{}", answered.text);
    }
    assert_eq!(service.get("/api/definitions/parcel/1").await.json(), won[0].json());
}

#[tokio::test]
async fn a_start_takes_what_is_published_as_it_is() {
    let url = SecretString::from(TestServer::shared().fresh_database());
    let store = Store::connect(&url).await.unwrap();
    apply::apply::<Migrator>(store.connection()).await.unwrap();
    // What ships is published without asking the broker for anything.
    let start = async || {
        let kafka = KafkaSettings::plain("127.0.0.1:9");
        let definitions = Definitions::open(&store).await.unwrap();
        Registrar::new(store.clone(), definitions, kafka, 1, 1).publish_folders(&Folders::default()).await
    };
    start().await.unwrap();
    // A schema that an earlier release took, though booking cannot fill it.
    let broken = shipped_and("booking.ReserveBooking.v1", "amountMinor", "string", &json!(""));
    let sql = format!(
        "INSERT INTO schema (name, version, origin, source) VALUES ('booking.ReserveBooking', 2, 'x', '{broken}')"
    );
    store.connection().execute_unprepared(&sql).await.unwrap();
    start().await.unwrap();
}

#[tokio::test]
async fn a_check_says_what_publishing_would_and_publishes_nothing() {
    let service = Service::start().await;
    let check = async |body: &Value| service.post("/api/definitions/check", body).await;
    let fine = check(&with_schemas(PARCEL)).await;
    assert_eq!(fine.status, 200, "{}", fine.text);
    let said = fine.json();
    assert_eq!((&said["name"], &said["published"]), (&json!("parcel"), &json!(false)));
    assert_eq!(said["modelCheck"]["complete"], true, "{said}");
    assert_eq!(service.get("/api/definitions/parcel/1").await.status, 404, "nothing is published");
    let wrong = json!({"definition": PARCEL.replace("street", "road")});
    assert_eq!(check(&wrong).await.problem(), register(&service, &wrong).await.problem());
    register(&service, &with_schemas(PARCEL)).await;
    let again = check(&with_schemas(PARCEL)).await.json();
    assert_eq!((&again["published"], &again["modelCheck"]), (&json!(true), &Value::Null));
    let other = with_schemas(&PARCEL.replace("version = 1", "version = 1\ndeadline = \"9m\""));
    assert_eq!(check(&other).await.status, 422);
}
