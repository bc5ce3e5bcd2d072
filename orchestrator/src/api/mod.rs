//! The HTTP API: the only place that knows warp.
//!
//! [`serve`] runs it. `routes` has every route; `mount` finds the route of a request; handlers are grouped by noun and
//! return an answer or a `problem`. Reads come from [`Reads`], everything that acts goes through the [`Engine`].

mod actor;
mod app;
mod audit;
mod bodies;
mod body;
mod bookings;
pub mod bulk;
mod bulk_events;
mod bulk_view;
mod candidate;
mod causes;
mod dead_letters;
mod definitions;
mod document;
pub mod engine;
mod events;
mod examples;
mod feed;
mod fields;
mod forward;
pub mod hands;
mod hex;
mod idempotency;
mod letter_groups;
mod letter_view;
mod line;
mod mount;
mod ops;
mod participants;
mod plan;
mod preferences;
mod problem;
mod query;
mod redrives;
mod routes;
mod saga_actions;
mod sagas;
mod server;
mod stall;
mod start;
pub mod starting;
mod strict_json;
mod trace;
mod verbs;
mod whereabouts;
mod why;
mod wire;
mod words;

use std::sync::{Arc, OnceLock};

use messaging::KafkaSettings;
use participant::service::health::{Check, Verdict, judge};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::actor::ActorHeader;
use self::app::App;
use self::bulk::Actions;
pub use self::engine::Engine;
use self::feed::Feed;
use self::forward::Forwarder;
pub use self::server::HttpLimits;
use crate::definitions::Definitions;
use crate::engine::handle::EngineHealth;
use crate::metrics::Metrics;
use crate::participants::Desk;
use crate::registration::Registrar;
use crate::store::queries::Reads;

/// What the API is made of.
pub struct Api {
    /// Whoever acts.
    pub engine: Arc<dyn Engine>,
    /// The read side, over a pool of its own.
    pub reads: Reads,
    /// What sagas can be started by, and the schemas of its messages.
    pub definitions: Definitions,
    /// Publishes more of them.
    pub registrar: Registrar,
    /// Actions over many letters or sagas.
    pub actions: Actions,
    /// Participants that are held, and their operators' orders.
    pub participants: Desk,
    /// The broker, for those who ask where a command lies.
    pub kafka: KafkaSettings,
    /// Partitions of each command topic.
    pub command_partitions: u16,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Whether a client may force the outcome of a payment, for demos and tests.
    pub allow_forced_outcomes: bool,
    /// What says who acts; `None`: nobody is believed.
    pub actor_header: Option<ActorHeader>,
}

/// Whether starts are taken by a service that is so, as `/readyz` says it.
pub async fn is_ready(health: &EngineHealth, reads: &Reads) -> bool {
    matches!(judge("ready", &ops::look(health, reads, None, false).await), Verdict::Is(_))
}

/// Whether a service that is so works at all, as `/livez` says it.
pub fn is_alive(health: &EngineHealth) -> bool {
    matches!(judge("ok", &[Check::consumer(health.consumer_poll_age)]), Verdict::Is(_))
}

/// Serves until `stop`; returns when what was under way is answered, at most [`HttpLimits::drain`] later.
///
/// # Errors
/// When the client for requests to other processes cannot be built.
pub async fn serve(
    api: Api,
    listener: Arc<TcpListener>,
    stop: CancellationToken,
    limits: HttpLimits,
) -> std::io::Result<()> {
    let (metrics, api_reads) = (api.metrics.clone(), api.reads.clone());
    let forwarder = Forwarder::new(limits.forward, api.actor_header.clone());
    let app = Arc::new(App {
        api,
        forwarder: forwarder.map_err(std::io::Error::other)?,
        feed: Feed::new(api_reads, limits.event_readers),
        broker_looks: Arc::new(Semaphore::new(whereabouts::BROKER_LOOKS)),
        heartbeat: limits.event_heartbeat,
        stop: stop.clone(),
        document: OnceLock::new(),
    });
    let table = routes::routes(&app, &limits);
    app.document.get_or_init(|| document::document(table.document()));
    let router = table.finish(metrics);
    let served = server::run(move |request| router.clone().handle(request), listener, stop.clone(), &limits);
    tokio::join!(served, app.feed.run(stop));
    Ok(())
}
