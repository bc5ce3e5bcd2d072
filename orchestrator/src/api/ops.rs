//! For those who run the service: is it alive, is it ready, what does it measure, what can be asked of it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use messaging::meters::PROMETHEUS_TEXT;
use participant::service::health::{self, Verdict, judge};
use schemas::registry::Registry;
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use super::app::App;
use super::document::Problems;
use super::mount::Asked;
use super::problem::{Answer, FieldError, Kind, Problem, json, with_body};
use crate::asyncapi::{self, Partitions};
use crate::engine::handle::EngineHealth;
use crate::metrics::Metrics;
use crate::store::queries::Reads;

/// What somebody is told to wait who asks for readiness too early.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How the service is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok` or `ready`; `degraded`: it takes starts, and something is away or stands still that their sagas need.
    status: &'static str,
    /// Each thing that was looked at; only with `?verbose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Serialize, ToSchema)]
pub(crate) struct Check {
    /// `database`, `broker`, `backlog`, `shards`, `consumer`, `stopping` or `registry`.
    name: &'static str,
    ok: bool,
    /// What was found.
    detail: String,
}

/// Whether the process works at all; if not, it should be ended.
#[utoipa::path(
    get, path = "/livez", tag = "Operations", operation_id = "livez",
    responses((status = 200, description = "It does.", body = Health), Problems),
)]
pub(crate) async fn livez(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let verbose = query.flag("verbose");
    query.done()?;
    verdict("ok", vec![health::Check::consumer(app.api.engine.health().consumer_poll_age)], verbose)
}

/// Whether the process takes starts. They are durable before they are answered, so it does while the broker is away: an
/// orchestrator that clients are kept away from helps nobody.
#[utoipa::path(
    get, path = "/readyz", tag = "Operations", operation_id = "readyz",
    params(("verbose" = Option<bool>, Query, description = "Show each thing that is looked at.")),
    responses((status = 200, description = "It can.", body = Health), Problems),
)]
pub(crate) async fn readyz(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let verbose = query.flag("verbose");
    query.done()?;
    let health = app.api.engine.health();
    let catalog = app.api.definitions.catalog();
    let registry = catalog.registry().map(|registry| &**registry);
    let checks = look(&health, &app.api.reads, registry, app.stop.is_cancelled()).await;
    verdict("ready", checks, verbose)
}

/// Everything that readiness is about.
pub(crate) async fn look(
    health: &EngineHealth,
    reads: &Reads,
    registry: Option<&Registry>,
    stopping: bool,
) -> Vec<health::Check> {
    let database = match &health.database {
        Some(trouble) => Some(trouble.clone()),
        None => health::trouble(reads.ping()).await,
    };
    let mut checks = vec![
        health::Check::database(database),
        broker(health),
        backlog(health),
        shards(health),
        health::Check::consumer(health.consumer_poll_age),
        health::Check::stopping(health.stopping || stopping),
    ];
    checks.extend(registry.map(health::Check::registry));
    checks
}

fn broker(health: &EngineHealth) -> health::Check {
    let detail = health.broker.clone().unwrap_or_else(|| "answers".to_owned());
    health::Check::helpful("broker", health.broker.is_none(), detail)
}

fn backlog(health: &EngineHealth) -> health::Check {
    let detail = format!("{} records wait for the broker", health.unpublished);
    health::Check::needed("backlog", !health.full, detail)
}

fn shards(health: &EngineHealth) -> health::Check {
    let stopped: Vec<String> =
        health.stopped_shards.iter().map(|(shard, why)| format!("shard {shard} is stopped: {why}")).collect();
    let mut detail = format!("{} of {} are owned here", health.shards_owned, health.shard_count);
    for line in &stopped {
        detail.push_str("; ");
        detail.push_str(line);
    }
    let read = health.shards_owned.saturating_sub(stopped.len());
    health::Check { name: "shards", ok: read > 0 && stopped.is_empty(), needed: read == 0, detail }
}

pub(super) fn verdict(status: &'static str, checks: Vec<health::Check>, verbose: bool) -> Answer {
    match judge(status, &checks) {
        Verdict::Not(wrong) => {
            let told = wrong.iter().map(|check| FieldError::new(check.name, &*check.detail)).collect();
            Err(Problem::fields(Kind::NotReady, told).retry_after(RETRY_AFTER))
        }
        Verdict::Is(status) => {
            let shown = |health::Check { name, ok, detail, .. }| Check { name, ok, detail };
            let checks = if verbose { checks.into_iter().map(shown).collect() } else { Vec::new() };
            Ok(json(StatusCode::OK, &Health { status, checks }))
        }
    }
}

/// What is measured, as Prometheus text.
#[utoipa::path(
    get, path = "/metrics", tag = "Operations", operation_id = "metrics",
    responses((status = 200, description = "Prometheus text.", body = String, content_type = "text/plain"), Problems),
)]
pub(crate) async fn metrics(app: Arc<App>, _asked: Asked) -> Answer {
    // Looked at here and not by the loop that it is about: one that hangs could not say so.
    app.api.metrics.health(&app.api.engine.health());
    Ok(measured(&app.api.metrics))
}

/// What is measured, as an answer.
pub(super) fn measured(metrics: &Metrics) -> Response {
    with_body(StatusCode::OK, PROMETHEUS_TEXT, metrics.render().into())
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operations", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object), Problems),
)]
pub(crate) async fn openapi(app: Arc<App>, _asked: Asked) -> Answer {
    Ok(with_body(StatusCode::OK, "application/json", app.document.get().cloned().unwrap_or_default()))
}

/// What goes over Kafka, for the definitions that are published at this moment.
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "Operations", operation_id = "asyncapi",
    responses((status = 200, description = "AsyncAPI 3.0.", body = Object), Problems),
)]
pub(crate) async fn asyncapi(app: Arc<App>, _asked: Asked) -> Answer {
    let published = app.api.definitions.now();
    let partitions = Partitions {
        inbox: Some(app.api.engine.health().shard_count),
        commands: Some(app.api.command_partitions),
    };
    let document = asyncapi::document(published.all(), published.catalog(), partitions);
    Ok(json(StatusCode::OK, &document))
}
