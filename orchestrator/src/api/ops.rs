//! For those who run the service: is it alive, is it ready, what does it measure, what can be asked of it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::document::Problems;
use super::mount::Asked;
use super::problem::{Answer, FieldError, Kind, Problem, json, with_body};
use crate::engine::handle::EngineHealth;

/// A consumer that has not polled for this long hangs: only a new process helps.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// The database has this long to answer when readiness is asked.
const PING_LIMIT: Duration = Duration::from_secs(1);
/// What somebody is told to wait who asks for readiness too early.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// `database`, `broker`, `backlog`, `shards`, `consumer` or `stopping`.
    name: &'static str,
    ok: bool,
    /// Whether no starts are taken while it is not ok.
    #[serde(skip)]
    needed: bool,
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
    verdict("ok", vec![consumer(&app.api.engine.health())], verbose)
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
    let stopping = health.stopping || app.stop.is_cancelled();
    let stopping_detail = if stopping { "the service is stopping" } else { "no" };
    let checks = vec![
        database(&app, &health).await,
        broker(&health),
        backlog(&health),
        shards(&health),
        consumer(&health),
        Check { name: "stopping", ok: !stopping, needed: true, detail: stopping_detail.to_owned() },
    ];
    verdict("ready", checks, verbose)
}

async fn database(app: &App, health: &EngineHealth) -> Check {
    let trouble = match &health.database {
        Some(trouble) => Some(trouble.clone()),
        None => match tokio::time::timeout(PING_LIMIT, app.api.reads.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("did not answer within {} s", PING_LIMIT.as_secs())),
        },
    };
    let ok = trouble.is_none();
    Check { name: "database", ok, needed: true, detail: trouble.unwrap_or_else(|| "answers".to_owned()) }
}

fn broker(health: &EngineHealth) -> Check {
    let detail = health.broker.clone().unwrap_or_else(|| "answers".to_owned());
    Check { name: "broker", ok: health.broker.is_none(), needed: false, detail }
}

fn backlog(health: &EngineHealth) -> Check {
    let detail = format!("{} records wait for the broker", health.unpublished);
    Check { name: "backlog", ok: !health.full, needed: true, detail }
}

fn shards(health: &EngineHealth) -> Check {
    let stopped: Vec<String> =
        health.stopped_shards.iter().map(|(shard, why)| format!("shard {shard} is stopped: {why}")).collect();
    let mut detail = format!("{} of {} are owned here", health.shards_owned, health.shard_count);
    for line in &stopped {
        detail.push_str("; ");
        detail.push_str(line);
    }
    let read = health.shards_owned.saturating_sub(stopped.len());
    Check { name: "shards", ok: read > 0 && stopped.is_empty(), needed: read == 0, detail }
}

fn consumer(health: &EngineHealth) -> Check {
    let age = health.consumer_poll_age;
    let detail = format!("polled {:.1} s ago", age.as_secs_f64());
    Check { name: "consumer", ok: age < DEAD_AFTER, needed: true, detail }
}

fn verdict(status: &'static str, checks: Vec<Check>, verbose: bool) -> Answer {
    let wrong: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    if wrong.iter().any(|check| check.needed) {
        let told = wrong.iter().map(|check| FieldError::new(check.name, &*check.detail)).collect();
        return Err(Problem::fields(Kind::NotReady, told).retry_after(RETRY_AFTER));
    }
    let status = if wrong.is_empty() { status } else { "degraded" };
    Ok(json(StatusCode::OK, &Health { status, checks: if verbose { checks } else { Vec::new() } }))
}

/// What is measured, as Prometheus text.
#[utoipa::path(
    get, path = "/metrics", tag = "Operations", operation_id = "metrics",
    responses((status = 200, description = "Prometheus text.", body = String, content_type = "text/plain"), Problems),
)]
pub(crate) async fn metrics(app: Arc<App>, _asked: Asked) -> Answer {
    // Looked at here and not by the loop that it is about: one that hangs could not say so.
    app.api.metrics.health(&app.api.engine.health());
    let text = app.api.metrics.render();
    Ok(with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into()))
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operations", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object), Problems),
)]
pub(crate) async fn openapi(app: Arc<App>, _asked: Asked) -> Answer {
    Ok(with_body(StatusCode::OK, "application/json", app.document.get().cloned().unwrap_or_default()))
}
