//! Bodies that nobody thought of, at every route that takes one: each is answered, and never with a fault of ours.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::dead_letters::{letter, reserve};
use crate::harness::{RESOURCE, Service, USER};
use crate::verbs::stuck;

/// Bodies for each route.
const CASES: usize = 150;

/// Names that mean something somewhere, so that a body is not refused for its names alone.
const NAMES: [&str; 23] = [
    "userId",
    "resourceId",
    "amountMinor",
    "currency",
    "forcedPaymentOutcome",
    "bookingId",
    "definition",
    "version",
    "businessKey",
    "input",
    "schemas",
    "reason",
    "value",
    "sagaId",
    "type",
    "filter",
    "ratePerSecond",
    "ramp",
    "dryRun",
    "patch",
    "action",
    "ids",
    "",
];

/// A body that is right for the route, most often; else for another one.
fn sound(path: &str) -> impl Strategy<Value = Value> + use<> {
    let booking = json!({"userId": USER, "resourceId": RESOURCE, "amountMinor": 4200, "currency": "EUR"});
    let recipe = saga_defs::Shipped::named("erasure").unwrap().text.replace("erasure", "oblivion");
    let saga = json!({"definition": "booking", "version": 1, "businessKey": "order-1", "input": booking});
    let verb = json!({"reason": "as asked", "input": {"bookingId": USER}});
    let letter =
        json!({"reason": "as asked", "value": {"bookingId": USER, "userId": USER, "resourceId": RESOURCE}});
    let plain = json!({"reason": "as asked"});
    let definition =
        json!({"definition": recipe, "schemas": [{"type": "record", "name": "R", "fields": []}]});
    let redrive = json!({"filter": {"reason": "unhandled"}, "ramp": [1], "dryRun": true, "patch": {"userId": USER}, "reason": "as asked"});
    let action = json!({"filter": {"definition": "delivery"}, "action": "retry-now", "ratePerSecond": 5, "reason": "as asked"});
    let right = match path.rsplit('/').next() {
        Some("redrives") => &redrive,
        Some("saga-actions") => &action,
        Some("bookings") => &booking,
        Some("sagas") => &saga,
        Some("definitions") => &definition,
        Some("redrive") if path.contains("dead-letters") => &letter,
        _ => &plain,
    };
    let right = Just(right.clone());
    prop_oneof![4 => right, 1 => select(vec![booking, saga, verb, letter, plain, definition])]
}

fn anything() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        2 => any::<String>(),
        1 => select(vec!["", "booking", "EUR", "\0", "\u{feff}", USER, "9999-99-99", "declined", "%00"])
            .prop_map(str::to_owned),
        1 => (1_usize..5_000).prop_map(|length| "x".repeat(length)),
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![0_i64, -1, 1, i64::MIN, i64::MAX]).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => number,
        4 => text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6)
                .prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(NAMES.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

/// A change of a body that leaves it JSON.
#[derive(Debug, Clone)]
enum Change {
    Put(Vec<Index>, Value),
    Add(String, Value),
    Remove(Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let path = prop::collection::vec(any::<Index>(), 1..4);
    let change = prop_oneof![
        3 => (path, anything()).prop_map(|(path, value)| Change::Put(path, value)),
        1 => (name(), anything()).prop_map(|(name, value)| Change::Add(name, value)),
        1 => any::<Index>().prop_map(Change::Remove),
    ];
    prop::collection::vec(change, 0..3)
}

fn change(body: &mut Value, change: Change) {
    match (change, &mut *body) {
        (Change::Put(path, value), _) => *inside(body, &path) = value,
        (Change::Add(name, value), Value::Object(fields)) => drop(fields.insert(name, value)),
        (Change::Remove(which), Value::Object(fields)) if !fields.is_empty() => {
            let name = fields.keys().nth(which.index(fields.len())).cloned();
            fields.remove(&name.unwrap_or_default());
        }
        (Change::Add(..) | Change::Remove(_), _) => {}
    }
}

/// The value at the end of a path, or where there is no further way.
fn inside<'a>(value: &'a mut Value, path: &[Index]) -> &'a mut Value {
    let Some((step, rest)) = path.split_first() else { return value };
    let inner = match value {
        Value::Object(fields) if !fields.is_empty() => step.index(fields.len()),
        Value::Array(items) if !items.is_empty() => step.index(items.len()),
        _ => return value,
    };
    match value {
        Value::Object(fields) => inside(fields.values_mut().nth(inner).unwrap(), rest),
        Value::Array(items) => inside(&mut items[inner], rest),
        _ => unreachable!("it has inner values"),
    }
}

/// Bytes, most often JSON.
fn bodies(path: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let changed = (sound(path), changes()).prop_map(|(mut body, changes)| {
        changes.into_iter().for_each(|one| change(&mut body, one));
        body.to_string().into_bytes()
    });
    let broken = (sound(path), prop::collection::vec((any::<Index>(), any::<u8>()), 1..4)).prop_map(
        |(body, wrong)| {
            let mut bytes = body.to_string().into_bytes();
            for (at, byte) in wrong {
                *at.get_mut(&mut bytes) = byte;
            }
            bytes
        },
    );
    let cut = (sound(path), any::<Index>()).prop_map(|(body, at)| {
        let mut bytes = body.to_string().into_bytes();
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    prop_oneof![
        6 => changed,
        3 => anything().prop_map(|value| value.to_string().into_bytes()),
        2 => broken,
        1 => cut,
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// Every route that takes a body, with the media types that it names, at a saga and a letter that are there.
async fn routes(service: &Service) -> Vec<(String, String)> {
    let document = service.get("/openapi.json").await.json();
    let saga = stuck(service).await.id.to_string();
    let dead = letter(service, "unhandled", Some("booking.ReserveBooking"), Some(reserve())).await;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(content) = item["post"]["requestBody"]["content"].as_object() else {
            assert!(item["post"].is_null(), "POST {path} takes no body, and this test knows no such route");
            continue;
        };
        let id = if path.starts_with("/api/dead-letters") { &dead } else { &saga };
        let concrete: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { id } else { part }).collect();
        routes.extend(content.keys().map(|media| (concrete.join("/"), media.clone())));
    }
    routes
}

#[tokio::test]
async fn every_body_is_answered_and_none_with_a_fault_of_ours() {
    let service = Service::start().await;
    let routes = routes(&service).await;
    assert!(routes.len() >= 9, "{routes:?}");
    let mut runner = TestRunner::default();
    let (mut taken, mut refused) = (0, 0);
    for (path, media) in routes {
        for _ in 0..CASES {
            let body = bodies(&path).new_tree(&mut runner).unwrap().current();
            let shown = String::from_utf8_lossy(&body).into_owned();
            let request = service.request("POST", &path).header("content-type", &media).body(body);
            let answered = service.send(request).await;
            let status = answered.status.as_u16();
            let fine = matches!(status, 200..=202 | 400 | 404 | 409 | 413 | 415 | 422);
            assert!(fine, "POST {path} ({media}) answered {status} {}\nto {shown}", answered.text);
            if status < 300 {
                answered.json();
                taken += 1;
            } else {
                answered.problem();
                refused += 1;
            }
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}
