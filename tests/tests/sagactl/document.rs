//! The client's types held against the service's OpenAPI document, so that they cannot drift apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use saga_client::{
    Act, AuditEntry, Booking, BookingStatus, BulkAction, BulkItem, Causes, CheckedDefinition, Client, Course,
    DeadLetter, DeadLetterFilter, DeadLetterGroup, DeadLetterItem, Definition, DefinitionList, HistoryItem,
    NewDefinition, Page, Participant, ParticipantState, Plan, Problem, Saga, SagaEvent, SagaFilter,
    SagaStatus, SagaVerb, StartBooking, StartRedrive, StartSaga, StartSagaAction, StepStatus, UpcomingKind,
    WaitsFor, Why,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tests::scenario::on_shared_stack;
use uuid::Uuid;

/// Enough for every value of every list of words to come by.
const VARIETY: usize = 12;
const DEEPEST: usize = 12;

/// The schemas of the document, and what a value of each looks like.
struct Document(Value);

impl Document {
    fn schema(&self, name: &str) -> &Value {
        &self.0["components"]["schemas"][name]
    }

    /// A value of that schema: everything in it, or only what is required. `which` picks from lists of words.
    fn sample(&self, schema: &Value, full: bool, which: usize, depth: usize) -> Value {
        assert!(depth < DEEPEST, "a schema within itself: {schema}");
        let below = |schema: &Value| self.sample(schema, full, which, depth + 1);
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
            return below(self.schema(name));
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let merged = parts.iter().flat_map(|part| below(part).as_object().cloned().unwrap_or_default());
            return Value::Object(merged.collect());
        }
        if let Some(either) = schema["oneOf"].as_array() {
            let nothing = either.iter().find(|one| one["type"] == "null").filter(|_| !full);
            let something = either.iter().find(|one| one["type"] != "null");
            return nothing.map_or_else(|| something.map_or(Value::Null, below), |_| Value::Null);
        }
        if let Some(words) = schema["enum"].as_array() {
            return words[which % words.len()].clone();
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        if kinds.contains(&"null") && !full {
            return Value::Null;
        }
        match kinds.iter().find(|kind| **kind != "null") {
            Some(&"string") => text(schema["format"].as_str()),
            Some(&"integer") => json!(7),
            Some(&"number") => json!(1.5),
            Some(&"boolean") => json!(which.is_multiple_of(2)),
            Some(&"array") if full => json!([below(&schema["items"])]),
            Some(&"array") => json!([]),
            _ => self.object(schema, full, which, depth),
        }
    }

    fn object(&self, schema: &Value, full: bool, which: usize, depth: usize) -> Value {
        let Some(properties) = schema["properties"].as_object() else {
            let of = &schema["additionalProperties"];
            let thing = if of.is_object() { self.sample(of, full, which, depth + 1) } else { json!("thing") };
            return json!({"some": thing});
        };
        let required = names(&schema["required"]);
        let wanted = properties.iter().filter(|(name, _)| full || required.contains(name.as_str()));
        let sampled = wanted.map(|(name, schema)| {
            let value = match name.as_str() {
                // The document says no more than that these are objects.
                "lineage" if full => {
                    json!([{"at": text(Some("date-time")), "what": "failed", "reason": "closed"}])
                }
                _ => self.sample(schema, full, which, depth + 1),
            };
            (name.clone(), value)
        });
        Value::Object(sampled.collect())
    }

    /// Whatever the service may say of that schema, the type takes, and loses nothing of it.
    fn holds<T: DeserializeOwned + Serialize>(&self, name: &str) -> Result<()> {
        ensure!(self.schema(name).is_object(), "the document has no {name}");
        for (full, which) in
            [true, false].into_iter().flat_map(|full| (0..VARIETY).map(move |which| (full, which)))
        {
            let said = self.sample(self.schema(name), full, which, 0);
            let taken: T =
                serde_json::from_value(said.clone()).with_context(|| format!("{name}: {said:#}"))?;
            let (kept, said) = (without_nulls(serde_json::to_value(&taken)?), without_nulls(said));
            ensure!(kept == said, "{name}: the service says {said:#}, of which the client keeps {kept:#}");
        }
        Ok(())
    }

    /// A request with everything in it has each property of that schema, and no other.
    fn asks(&self, name: &str, request: &impl Serialize) -> Result<()> {
        let request = serde_json::to_value(request)?;
        let given: BTreeSet<&str> =
            request.as_object().context("an object")?.keys().map(String::as_str).collect();
        let properties = self.schema(name)["properties"].as_object();
        let known: BTreeSet<&str> =
            properties.with_context(|| format!("no {name}"))?.keys().map(String::as_str).collect();
        ensure!(given == known, "{name}: the client gives {given:?}, the service knows {known:?}");
        Ok(())
    }

    fn words(&self, name: &str, known: &[&str]) -> Result<()> {
        let words = names(&self.schema(name)["enum"]);
        ensure!(words == known.iter().copied().collect(), "{name}: {words:?}, the client knows {known:?}");
        Ok(())
    }
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text(format: Option<&str>) -> Value {
    match format {
        Some("uuid") => json!("0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"),
        Some("date-time") => json!("2026-11-22T19:58:53.891Z"),
        _ => json!("some text"),
    }
}

/// Absent and null are one to the client.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

async fn document(stack: &tests::stack::Stack) -> Result<Document> {
    Ok(Document(Client::new(stack.api()?.base())?.openapi().await?))
}

#[test]
fn the_client_takes_everything_that_the_service_may_say() {
    on_shared_stack(async |stack| {
        let document = document(stack).await?;
        document.holds::<Problem>("Problem")?;
        document.holds::<Booking>("Booking")?;
        document.holds::<Saga>("Saga")?;
        document.holds::<Page<Saga>>("SagaPage")?;
        document.holds::<Page<HistoryItem>>("HistoryPage")?;
        document.holds::<Page<DeadLetterItem>>("DeadLetterPage")?;
        document.holds::<DeadLetter>("DeadLetter")?;
        document.holds::<Page<DeadLetterGroup>>("DeadLetterGroupPage")?;
        document.holds::<Page<BulkAction>>("BulkActionPage")?;
        document.holds::<Page<BulkItem>>("BulkItemPage")?;
        document.holds::<DefinitionList>("DefinitionList")?;
        document.holds::<Definition>("Definition")?;
        document.holds::<CheckedDefinition>("CheckedDefinition")?;
        document.holds::<Plan>("Plan")?;
        document.holds::<SagaEvent>("SagaEvent")?;
        document.holds::<Why>("Why")?;
        document.holds::<Participant>("Participant")?;
        document.holds::<Causes>("Causes")?;
        document.holds::<Page<AuditEntry>>("AuditPage")?;
        document.words("SagaStatus", SagaStatus::KNOWN)?;
        document.words("StepStatus", StepStatus::KNOWN)?;
        document.words("WaitsFor", WaitsFor::KNOWN)?;
        document.words("UpcomingKind", UpcomingKind::KNOWN)?;
        document.words("ParticipantState", ParticipantState::KNOWN)?;
        document.words("BookingStatus", BookingStatus::KNOWN)
    });
}

#[test]
fn the_client_can_ask_for_everything() {
    on_shared_stack(async |stack| {
        let document = document(stack).await?;
        let start = StartSaga::of("booking").version(1).business_key("k").idempotency_key("k");
        document.asks("StartSaga", &start)?;
        let booking = StartBooking::of(Uuid::nil(), Uuid::nil()).amount_minor(1).currency("EUR");
        document.asks("StartBooking", &booking)?;
        document.asks("Verb", &Act::because("x"))?;
        document.asks("Redrive", &Act::because("x").input(json!({})))?;
        document.asks("RedriveDeadLetter", &Act::because("x").value(Map::new()))?;
        let course = Course::because("x").rate_per_second(1).ramp([1]);
        let redrive = StartRedrive::of(&DeadLetterFilter::default(), course.clone()).patch(Map::new());
        document.asks("StartRedrive", &redrive.as_dry_run())?;
        let action = StartSagaAction::of(SagaVerb::Skip, &SagaFilter::default(), course)?;
        document.asks("StartSagaAction", &action.as_dry_run())?;
        document.asks("RegisterDefinition", &NewDefinition::of("x"))
    });
}

/// The client's own text has each of its routes and query parameters as literals.
#[test]
fn every_route_that_the_client_asks_is_in_the_document() {
    on_shared_stack(async |stack| {
        let document = document(stack).await?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/src");
        let mut asked = BTreeSet::new();
        for entry in fs::read_dir(folder)? {
            let source = fs::read_to_string(entry?.path())?;
            let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            for statement in code.split(';').flat_map(|part| part.split("fn ")) {
                let Some(route) = quoted(statement, "\"/").next() else { continue };
                let (route, method) =
                    (format!("/{route}"), if statement.contains("Call::get") { "get" } else { "post" });
                let operation = &document.0["paths"][&route][method];
                ensure!(operation.is_object(), "the client asks {method} {route}");
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let known: BTreeSet<&str> = parameters.filter_map(|one| one["name"].as_str()).collect();
                for name in quoted(statement, ".query(\"") {
                    ensure!(known.contains(name), "{method} {route} does not know {name}");
                }
                asked.insert(format!("{method} {route}"));
            }
        }
        let paths = document.0["paths"].as_object().context("paths")?;
        let routes = paths.iter().flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().map(move |(method, _)| format!("{method} {path}"))
        });
        let never: Vec<String> = routes.filter(|route| !asked.contains(route)).collect();
        // The shop's paths are others for the same, and what operations ask is not for clients.
        insta::assert_snapshot!(never.join("\n"), @r"
        get /asyncapi.json
        post /bookings
        get /bookings/{bookingId}
        get /livez
        get /metrics
        get /readyz
        ");
        Ok(())
    });
}

/// What stands between this beginning and the next quotation mark.
fn quoted<'a>(text: &'a str, begin: &str) -> impl Iterator<Item = &'a str> {
    text.split(begin).skip(1).filter_map(|rest| rest.split('"').next())
}
