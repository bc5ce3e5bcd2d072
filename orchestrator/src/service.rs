//! The service as a whole: what is started in which order, and how it stops.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use messaging::meters::LOOK_FOR_PUSHES;
use messaging::topics::{self, TopicError};
use migrations::apply;
use migrations::orchestrator::Migrator;
use participant::registry;
use participant::service::{ServiceManager, open, wait_until_migrated};
use saga_defs::ids::ShardCount;
use schemas::registry::ObtainError;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::bulk::Actions;
use crate::api::hands::OwnHands;
use crate::api::starting::{self, Starting};
use crate::api::{self, Api, HttpLimits};
use crate::bulk::driver::Driver;
use crate::config::{self, Config};
use crate::dead_letters::{ingest, tally};
use crate::definitions::Definitions;
use crate::engine::clock;
use crate::engine::environment::System;
use crate::engine::{Engine, EngineParts, EngineSettings};
use crate::metrics::Metrics;
use crate::participants::Desk;
use crate::registration::Registrar;
use crate::registration::folders::Plan;
use crate::retention::Retainer;
use crate::store::backlog::Backlog;
use crate::store::bulk::Bulk;
use crate::store::queries::Reads;
use crate::store::{Store, StoreError};

/// How long a request waits for the engine before it is told to come again.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait before asking a broker again that did not answer.
const BROKER_PAUSE: Duration = Duration::from_millis(500);
/// How often the service looks after its lane and its journal partitions.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How often future partitions of the journal are made.
const HOUSEKEEPING: Duration = Duration::from_secs(3_600);
/// How often the database is asked for the time: clocks drift by milliseconds meanwhile.
const ASK_TIME: Duration = Duration::from_secs(10);
/// How long the last measurements may take to leave, where they are exported.
const LAST_EXPORT: Duration = Duration::from_secs(5);
/// How often what waits for an operator is counted.
const COUNT_BACKLOG: Duration = Duration::from_secs(10);

/// Brings the orchestrator's database up to date; waits until it is there.
///
/// # Errors
/// A migration failed, or the process was told to stop first.
pub async fn migrate(url: &SecretString, stop: &CancellationToken) -> anyhow::Result<()> {
    let database = open(url, "orchestrator-migrate", |_| {}, stop).await?;
    apply::apply::<Migrator>(&database).await.context("the orchestrator's migrations were not applied")
}

/// Serves until told to stop: then answers `/readyz` with 503, takes nothing new, finishes what is in flight, publishes
/// what is committed, leaves the group.
///
/// # Errors
/// What keeps the service from starting or made it end: a wrong definition, a topic or shard count that differs.
pub async fn serve(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new()?;
    let served = serve_measured(config, stop, metrics.clone()).await;
    // What was measured last is of most use where it did not end well.
    metrics.shutdown(LAST_EXPORT).await;
    served
}

async fn serve_measured(
    config: Config,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.http_addr)
        .await
        .with_context(|| format!("HTTP_ADDR: cannot listen on {}", config.http_addr))?;
    let address = listener.local_addr().context("the address listened on")?;
    let (listener, starting) = (Arc::new(listener), Arc::new(Starting::default()));
    let answering = starting::serve(listener.clone(), starting.clone(), metrics.clone());
    tracing::info!("starting; /livez and /readyz are at http://{address}");
    let Some(surroundings) = surroundings(&config, &starting, &stop).await? else { return Ok(()) };
    let Surroundings { store, registrar, definitions, incarnation } = surroundings;
    let advertised: Arc<str> = advertised(&config, address).into();
    let reads =
        Reads::connect(&config.base.database_url).await.context("the API's connections to the database")?;
    let desk = Desk::open(store.clone(), reads.clone(), advertised.clone(), config.holds).await?;
    let settings = engine_settings(&config, advertised, &incarnation);
    let parts = EngineParts {
        store: Arc::new(store.clone()),
        definitions: definitions.clone(),
        metrics: metrics.clone(),
        shard_count: config.shards,
        environment: Arc::new(System),
        board: desk.board().clone(),
        settings,
    };
    let engine = Engine::start(parts, &config.base.kafka).await?;
    let letters_stop = CancellationToken::new();
    let letters = ingest::run(
        config.base.kafka.clone(),
        store.clone(),
        incarnation.into(),
        metrics.clone(),
        letters_stop.clone(),
    );
    let letters = tokio::spawn(letters);
    let (actions, driven) = actions(&config, &engine, &reads, &definitions, metrics.clone(), &stop).await?;
    let api = Api {
        engine: Arc::new(engine.handle.clone()),
        reads: reads.clone(),
        definitions: definitions.clone(),
        registrar,
        actions,
        participants: desk.clone(),
        kafka: config.base.kafka.clone(),
        command_partitions: config.command_partitions,
        metrics: metrics.clone(),
        allow_forced_outcomes: config.allow_forced_outcomes,
        actor_header: config.actor_header.clone(),
    };
    let _beside = (tell_manager(&engine, &reads, &stop), look_for_pushes(&engine, &metrics));
    let kept = desk.keep(stop.clone());
    let looked_after = look_after(&config, &definitions, &store, reads, metrics.clone(), kept, &stop).await?;
    drop(answering);
    announce(address);
    let watch = watch(&engine, || letters.is_finished(), &store, &stop);
    let served = api::serve(api, listener, stop.clone(), HttpLimits::default());
    let (died, served) = tokio::join!(watch, served);
    served.context("the HTTP server")?;
    driven.await.context("the driver of actions panicked")?;
    looked_after.await.context("the look-out for new definitions, or the retention, panicked")?;
    letters_stop.cancel();
    engine.stop().await.context("the engine's lane panicked")?;
    letters.await.context("the dead-letter consumer panicked")??;
    died
}

/// What has to be there before the engine.
struct Surroundings {
    store: Store,
    registrar: Registrar,
    definitions: Definitions,
    incarnation: String,
}

/// Waits for the database, the broker and the schema registry, and says for which; `None`: told to stop meanwhile.
async fn surroundings(
    config: &Config,
    starting: &Starting,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Surroundings>> {
    let Some(store) = ready_store(config, starting, stop).await? else { return Ok(None) };
    starting.waits_for("database", "definitions are read");
    hear_clock(&store).await?;
    let (registrar, plan) = registrar(config, &store).await?;
    let definitions = registrar.definitions().clone();
    ready_tables(&store, config.shards).await?;
    starting.waits_for("broker", "topics are looked at");
    let Some(incarnation) = ready_broker(config, &definitions, &plan, starting, stop).await? else {
        return Ok(None);
    };
    // Not before its topics are there: what is published stays, and the topics it needs with it.
    let published = registrar.publish_plan(plan).await;
    published.map_err(|error| config::wrong_folder(&config.folders, error))?;
    starting.waits_for("registry", "the ids of schemas are asked for");
    let waiting = |error: &ObtainError| {
        tracing::warn!("waiting: {error}");
        starting.waits_for("registry", error.to_string());
    };
    if registry::ready(&definitions.catalog(), stop, waiting).await.is_err() {
        return Ok(None);
    }
    starting.waits_for("shards", "the engine starts");
    Ok(Some(Surroundings { store, registrar, definitions, incarnation }))
}

/// Tells the service manager, if one started the process, when starts are taken, that the service lives, and that it stops.
fn tell_manager(engine: &Engine, reads: &Reads, stop: &CancellationToken) -> Option<AbortOnDropHandle<()>> {
    let manager = ServiceManager::of_process()?;
    let (engine, alive, reads) = (engine.handle.clone(), engine.handle.clone(), reads.clone());
    let ready = async move || api::is_ready(&engine.health(), &reads).await;
    let alive = move || api::is_alive(&alive.health());
    Some(AbortOnDropHandle::new(tokio::spawn(manager.tell(ready, alive, stop.clone()))))
}

/// How the engine is, for measurements that are pushed. Not looked at by the loop that it is about: one that hangs could not
/// say so.
fn look_for_pushes(engine: &Engine, metrics: &Arc<Metrics>) -> Option<AbortOnDropHandle<()>> {
    let pushed = metrics.are_pushed();
    let (engine, metrics) = (engine.handle.clone(), metrics.clone());
    let look = async move {
        let mut every = tokio::time::interval(LOOK_FOR_PUSHES);
        loop {
            every.tick().await;
            metrics.health(&engine.health());
        }
    };
    pushed.then(|| AbortOnDropHandle::new(tokio::spawn(look)))
}

fn engine_settings(config: &Config, advertise_url: Arc<str>, incarnation: &str) -> EngineSettings {
    EngineSettings {
        advertise_url,
        incarnation: incarnation.into(),
        command_partitions: config.command_partitions,
        event_partitions: config.topic_partitions,
        answer_limit: ANSWER_LIMIT,
    }
}

/// Where other orchestrators reach this one.
fn advertised(config: &Config, address: std::net::SocketAddr) -> String {
    if address.ip().is_unspecified() && config.advertise_url.is_none() {
        tracing::warn!(%address, "ADVERTISE_URL is not set: other orchestrators cannot reach this one at that address");
    }
    config.advertise_url.clone().unwrap_or_else(|| format!("http://{address}"))
}

/// Actions over many letters or sagas, and what drives them until the service stops.
async fn actions(
    config: &Config,
    engine: &Engine,
    reads: &Reads,
    definitions: &Definitions,
    metrics: Arc<Metrics>,
    stop: &CancellationToken,
) -> anyhow::Result<(Actions, JoinHandle<()>)> {
    let store = Bulk::connect(&config.base.database_url).await.context("the connections for actions")?;
    let wake = Arc::new(Notify::new());
    let (limit, actor) = (HttpLimits::default().forward, config.actor_header.clone());
    let hands = OwnHands::new(Arc::new(engine.handle.clone()), reads.clone(), limit, actor)?;
    let driver = Driver::new(store.clone(), Arc::new(hands), definitions.clone(), wake.clone(), metrics);
    let driven = tokio::spawn(driver.run(stop.clone()));
    Ok((Actions { store, wake }, driven))
}

/// What goes on beside the engine until the service stops: new definitions are noticed, old rows leave, what waits for an
/// operator is counted, participants' orders are kept.
async fn look_after(
    config: &Config,
    definitions: &Definitions,
    store: &Store,
    reads: Reads,
    metrics: Arc<Metrics>,
    kept: impl Future<Output = ()> + Send + 'static,
    stop: &CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let retainer = match config.retention_days {
        Some(days) => Some(Retainer::connect(&config.base.database_url, days, metrics.clone()).await?),
        None => None,
    };
    let fresh = definitions.clone().keep_fresh(store.clone(), stop.clone());
    let counted = count_backlog(reads, metrics, stop.clone());
    let registered = keep_registered(definitions.clone(), stop.clone());
    let folded = tally::keep_folded(store.clone(), stop.clone());
    let followed = follow_clock(store.clone(), stop.clone());
    let stop = stop.clone();
    let retained = async move {
        if let Some(retainer) = retainer {
            retainer.run(stop).await;
        }
    };
    Ok(tokio::spawn(async move {
        tokio::join!(fresh, registered, folded, followed, retained, counted, kept);
    }))
}

/// Looks after the schema registry, where there is one: what others publish has its ids within seconds.
async fn keep_registered(definitions: Definitions, stop: CancellationToken) {
    let Some(registry) = definitions.catalog().registry().cloned() else { return };
    tokio::select! {
        () = stop.cancelled() => {}
        () = registry.keep(|| definitions.catalog()) => {}
    }
}

/// Counts what waits for an operator, now and then. While the database is away the last count stays.
async fn count_backlog(reads: Reads, metrics: Arc<Metrics>, stop: CancellationToken) {
    loop {
        match reads.backlog().await {
            Ok(Backlog { open_letters, stuck_sagas, oldest_letter_s }) => {
                metrics.backlog(open_letters, stuck_sagas, oldest_letter_s);
            }
            Err(error) => tracing::debug!(%error, "what waits for an operator is not counted"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_BACKLOG) => {}
        }
    }
}

/// Goes by the database's clock.
async fn hear_clock(store: &Store) -> Result<(), StoreError> {
    let asked = Instant::now();
    clock::hear(asked, store.time().await?);
    Ok(())
}

/// Asks the database for the time, now and then. One that does not answer is not needed for that.
async fn follow_clock(store: Store, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ASK_TIME) => {}
        }
        if let Err(error) = hear_clock(&store).await {
            tracing::debug!(%error, "the database was not asked for the time");
        }
    }
}

/// One line on standard output, for scripts and for the local stack. A closed pipe is no reason to stop.
fn announce(address: std::net::SocketAddr) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on http://{address}");
    let _ = out.flush();
}

/// Ends everything if the lane or the dead-letter consumer has died, so that whoever runs the process starts it anew; keeps journal partitions
/// ahead of time.
async fn watch(
    engine: &Engine,
    letters_ended: impl Fn() -> bool,
    store: &Store,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut kept = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_AFTER) => {}
        }
        if engine.has_died() {
            stop.cancel();
            anyhow::bail!("the engine's lane ended by itself; the log above says why");
        }
        if letters_ended() {
            stop.cancel();
            anyhow::bail!("the dead-letter consumer ended by itself; the log above says why");
        }
        if kept.elapsed() >= HOUSEKEEPING {
            kept = tokio::time::Instant::now();
            if let Err(error) = store.make_journal_partitions().await {
                tracing::error!(%error, "no partitions of the journal were made; rows go to the default one");
            }
        }
    }
}

/// Knows what is published, and what is to be published of what ships and what stands in the folders.
async fn registrar(config: &Config, store: &Store) -> anyhow::Result<(Registrar, Plan)> {
    let registry = config.base.catalog.registry().cloned();
    let definitions = Definitions::open_with(store, registry).await?;
    let (kafka, partitions) = (config.base.kafka.clone(), config.command_partitions);
    let registrar = Registrar::new(store.clone(), definitions, kafka, partitions, config.replication);
    match registrar.plan_folders(&config.folders).await {
        Ok(plan) => Ok((registrar, plan)),
        Err(error) => Err(config::wrong_folder(&config.folders, error)),
    }
}

async fn ready_store(
    config: &Config,
    starting: &Starting,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Store>> {
    let told = |waiting: &str| starting.waits_for("database", waiting);
    let Ok(database) = open(&config.base.database_url, "orchestrator-start", told, stop).await else {
        return Ok(None);
    };
    let pending = async || apply::pending::<Migrator>(&database).await;
    if wait_until_migrated("orchestrator migrate", pending, told, stop).await.is_err() {
        return Ok(None);
    }
    let store = Store::connect(&config.base.database_url)
        .await
        .context("the engine's connections to the database")?;
    Ok(Some(store))
}

/// Has the database remember the number of shards, and makes the journal's next partitions.
async fn ready_tables(store: &Store, shards: ShardCount) -> anyhow::Result<()> {
    store.remember_shards(shards).await?;
    match store.make_journal_partitions().await {
        // Somebody reads the journal; the days ahead were made before, or are made by and by.
        Err(error @ StoreError::TryAgain { .. }) => {
            tracing::warn!(%error, "no partitions of the journal were made");
            Ok(())
        }
        made => Ok(made?),
    }
}

/// Waits for the broker, makes missing topics, and learns which broker it is.
async fn ready_broker(
    config: &Config,
    definitions: &Definitions,
    plan: &Plan,
    starting: &Starting,
    stop: &CancellationToken,
) -> anyhow::Result<Option<String>> {
    let published = definitions.all();
    let specs = config::topics(
        published.iter().chain(plan.definitions()).map(|definition| &**definition),
        config.shards,
        config.command_partitions,
        config.topic_partitions,
        config.replication,
    );
    loop {
        match topics::ensure(&config.base.kafka, &specs).await {
            Ok(()) => break,
            Err(error @ TopicError::Partitions { .. }) => return Err(error.into()),
            Err(error) => {
                let waiting = config::waiting_for_topics(error, &specs, &published, plan.definitions());
                tracing::warn!("{waiting}");
                starting.waits_for("broker", waiting);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(BROKER_PAUSE) => {}
        }
    }
    let kafka = config.base.kafka.clone();
    let incarnation = tokio::task::spawn_blocking(move || kafka.incarnation()).await??;
    Ok(Some(incarnation))
}
