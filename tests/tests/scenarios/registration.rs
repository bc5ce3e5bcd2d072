//! Definitions that are registered while the service runs: known to every process, kept over restarts, pinned by sagas.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use saga_defs::definition::Definition;
use saga_defs::ids::SagaId;
use serde_json::{Value, json};
use tests::api::Api;
use tests::process::{Program, Service};
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::stand_in::{Manner, Role, StandIn};

/// How long a saga may take that waits for a take-over.
const RESTART: Duration = Duration::from_secs(40);
const TWO: Options =
    Options { orchestrators: 2, workers: false, forced_outcomes: false, gateway_latency_ms: 0 };

const PARCEL: &str = r#"name = "parcel"
version = 1
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

/// The second version only delivers.
const DIRECT: &str = r#"name = "parcel"
version = 2
input = "parcel.StartParcel"

[[step]]
name = "deliver"
participant = "courier"
kind = "retriable"
command = "courier.DeliverNow"
reply = "courier.Delivered"
"#;

fn record(full_name: &str, fields: &[&str]) -> Value {
    let fields: Vec<Value> =
        fields.iter().map(|name| json!({"name": name, "type": "string", "doc": "A text."})).collect();
    json!({"type": "record", "name": full_name, "doc": "A message.", "fields": fields})
}

fn schemas() -> Vec<Value> {
    vec![
        record("parcel.StartParcel", &["street"]),
        record("courier.Collect", &["sagaId", "street"]),
        record("courier.Collected", &["courier"]),
        record("courier.BringBack", &["sagaId"]),
        record("courier.Deliver", &["sagaId", "street", "courier"]),
        record("courier.DeliverNow", &["sagaId", "street"]),
        record("courier.Delivered", &["signature"]),
    ]
}

/// The courier, who has the schemas from elsewhere.
async fn courier(stack: &Stack) -> Result<StandIn> {
    let sources = schemas().into_iter().enumerate().map(|(at, schema)| (format!("{at}"), schema.to_string()));
    let catalog = stack.catalog().with_sources(sources).ok().context("the schemas are right")?;
    let definitions = [Definition::parse(PARCEL)?, Definition::parse(DIRECT)?];
    let role = Role { name: "courier", definitions: &definitions, without: None };
    StandIn::start(stack.kafka_settings(), Arc::new(catalog), role, None).await
}

async fn register(api: &Api, definition: &str) -> Result<Value> {
    let body = json!({"definition": definition, "schemas": schemas()});
    api.post("/api/definitions", &body).await?.expect(201)
}

async fn start(api: &Api, street: &str) -> Result<SagaId> {
    api.start_saga("parcel", json!({ "street": street })).await
}

#[test]
fn what_one_process_registers_every_process_runs() {
    on_own_stack(TWO, async |stack| {
        let apis = stack.apis();
        let [first, second] = apis.as_slice() else { bail!("two are needed") };
        register(first, PARCEL).await?;
        let courier = courier(stack).await?;
        // Nothing is waited for: a name that the other process does not know makes it look.
        for api in [second, first] {
            for street in ["Elm Street", "Oak Street", "Ash Street", "Fir Street"] {
                let saga = start(api, street).await?;
                api.saga_is(saga, "completed").await?;
                ensure!(courier.ledger(saga).await?.contains("Deliver"), "{saga} is delivered");
            }
        }
        courier.stop().await.map(drop)
    });
}

#[test]
fn a_saga_stays_on_its_version_and_everything_survives_a_restart_without_folders() {
    on_own_stack(TWO, async |stack| {
        let api = stack.api()?;
        register(&api, PARCEL).await?;
        let courier = courier(stack).await?;
        courier.handle("Elm Street", "Collect", &[Manner::Fail, Manner::Fail, Manner::Fail, Manner::Do]);
        let old = start(&api, "Elm Street").await?;
        register(&api, DIRECT).await?;
        let new = start(&api, "Oak Street").await?;
        api.saga_is(new, "completed").await?;

        stack.kill_services()?;
        let mut settings = stack.environment(Program::Orchestrator);
        settings.retain(|name, _| name != "DEFINITIONS_DIR" && name != "SCHEMAS_DIR");
        let log = stack.log(Program::Orchestrator);
        let service = Service::start(Program::Orchestrator, &["serve"], &settings, &log)?;
        let again = stack.adopt(service).await?;
        again.api.saga_is_within(old, "completed", RESTART).await?;
        let later = start(&again.api, "Ash Street").await?;
        again.api.saga_is_within(later, "completed", RESTART).await?;
        let mut versions = Vec::new();
        for saga in [old, new, later] {
            versions.push(again.api.saga(saga).await?["version"].clone());
        }
        ensure!(versions == [1, 2, 2], "{versions:?}");
        courier.stop().await.map(drop)
    });
}
