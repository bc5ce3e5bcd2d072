//! The OpenAPI document and the routes are one thing.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{NOBODY, Service};

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference);
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_openapi_and_complete_in_itself() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let named: BTreeSet<String> = schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
    let examples = document["components"]["examples"].as_object().unwrap();
    let named: BTreeSet<String> = named
        .into_iter()
        .chain(examples.keys().map(|name| format!("#/components/examples/{name}")))
        .collect();
    let missing: Vec<_> = found.iter().filter(|name| !named.contains(**name)).collect();
    assert!(missing.is_empty(), "not defined: {missing:?}");
    for name in ["Saga", "Step", "Booking", "Problem", "DeadLetter", "StartSaga", "StartBooking"] {
        assert!(schemas.contains_key(name), "{name} is not among {:?}", schemas.keys());
    }
    let required: BTreeSet<&str> =
        schemas["Saga"]["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let all: BTreeSet<&str> =
        schemas["Saga"]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(required, all, "a saga has every key always");
}

#[tokio::test]
async fn every_route_is_in_the_document_and_answers() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.json();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut allowed = Vec::new();
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase();
            let operation_id = operation["operationId"].as_str().unwrap();
            assert!(
                operation["responses"]["503"]["content"]["application/problem+json"].is_object(),
                "{path}"
            );
            let concrete = path
                .split('/')
                .map(|part| if part.starts_with('{') { NOBODY } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let streams = operation["responses"]["200"]["content"]["text/event-stream"].is_object();
            let answered = if streams {
                service.head_of(service.request(&method, &concrete)).await
            } else {
                service.send(service.request(&method, &concrete)).await
            };
            let status = answered.status.as_u16();
            assert!(
                operation["responses"][status.to_string()].is_object(),
                "{method} {path} answered {status}, which its entry does not have"
            );
            assert_ne!(status, 405, "{method} {path}");
            assert!(!answered.text.contains("nothing is at"), "{method} {path}: {}", answered.text);
            allowed.push(method.clone());
            if method == "GET" {
                allowed.push("HEAD".to_owned());
            }
            routes.push(format!("{method} {path} {operation_id}"));
        }
        allowed.sort();
        let other = service.send(service.request("PATCH", path)).await;
        assert_eq!(other.status, 405, "{path}");
        assert_eq!(other.header("allow"), allowed.join(", "), "{path}");
    }
    insta::assert_snapshot!(routes.join("\n"), @r#"
    GET /api/audit listAudit
    POST /api/bookings startBooking
    GET /api/bookings/{bookingId} getBooking
    GET /api/dead-letters listDeadLetters
    GET /api/dead-letters/groups listDeadLetterGroups
    GET /api/dead-letters/{id} getDeadLetter
    POST /api/dead-letters/{id}/discard discardDeadLetter
    POST /api/dead-letters/{id}/redrive redriveDeadLetter
    GET /api/definitions listDefinitions
    POST /api/definitions registerDefinition
    POST /api/definitions/check checkDefinition
    GET /api/definitions/{name}/{version} getDefinition
    GET /api/definitions/{name}/{version}/plan planDefinition
    GET /api/participants listParticipants
    POST /api/participants/{name}/pause pauseParticipant
    POST /api/participants/{name}/resume resumeParticipant
    GET /api/redrives listRedrives
    POST /api/redrives startRedrive
    GET /api/redrives/{id} getRedrive
    POST /api/redrives/{id}/cancel cancelRedrive
    GET /api/redrives/{id}/events watchRedrive
    GET /api/redrives/{id}/letters listRedrivenLetters
    GET /api/saga-actions listSagaActions
    POST /api/saga-actions startSagaAction
    GET /api/saga-actions/{id} getSagaAction
    POST /api/saga-actions/{id}/cancel cancelSagaAction
    GET /api/saga-actions/{id}/events watchSagaAction
    GET /api/saga-actions/{id}/sagas listSagasOfAction
    GET /api/sagas listSagas
    POST /api/sagas startSaga
    GET /api/sagas/events watchSagas
    GET /api/sagas/{sagaId} getSaga
    POST /api/sagas/{sagaId}/cancel cancelSaga
    GET /api/sagas/{sagaId}/diagram getSagaDiagram
    GET /api/sagas/{sagaId}/events watchSaga
    GET /api/sagas/{sagaId}/history getSagaHistory
    POST /api/sagas/{sagaId}/redrive redriveSaga
    POST /api/sagas/{sagaId}/retry-now retryNow
    POST /api/sagas/{sagaId}/skip skipStep
    GET /api/sagas/{sagaId}/why whySaga
    GET /api/why whyAll
    GET /asyncapi.json asyncapi
    POST /bookings startBookingAtShop
    GET /bookings/{bookingId} getBookingAtShop
    GET /livez livez
    GET /metrics metrics
    GET /openapi.json openapi
    GET /readyz readyz
    "#);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let service = Service::start().await;
    for path in ["/livez", "/openapi.json", "/asyncapi.json", "/api/sagas", &format!("/api/sagas/{NOBODY}")] {
        let (get, head) = (service.get(path).await, service.send(service.request("HEAD", path)).await);
        assert_eq!(get.status, head.status, "{path}");
        assert_eq!(head.text, "", "{path}");
        assert_eq!(head.header("content-length"), get.text.len().to_string(), "{path}");
    }
}
