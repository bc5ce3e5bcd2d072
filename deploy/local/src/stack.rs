//! Everything that runs, and the order in which it starts and stops.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use local_postgres::Server;
use messaging::KafkaSettings;
use messaging::topics::{self, TopicSpec};
use orchestrator::check::{self, Checked};
use orchestrator::registration::folders::{self, FoldersError};
use saga_defs::definition::Definition;
use tokio::sync::mpsc;

use crate::broker::{self, SHARDS, TOPIC_PARTITIONS};
use crate::children::{Child, Launch, watch_end};
use crate::client::Client;
use crate::data_dir::DataDir;
use crate::databases::{self, Databases, SagaCounts, Urls};
use crate::options::Options;
use crate::terminal::{Style, Terminal, counted, grouped};

/// How long the services may take from their start to their readiness.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The notice of a child's end takes no longer than this.
const DEATH_NOTICE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The port may still be held by a stack that was killed a moment ago.
const PORT_PATIENCE: Duration = Duration::from_millis(500);

/// What runs. Dropping it stops everything: the services first, Postgres last.
#[derive(Debug)]
pub(crate) struct Stack {
    // In the order in which they stop.
    services: Vec<Child>,
    broker: Option<Child>,
    postgres: Option<Server>,
    deaths: mpsc::UnboundedSender<&'static str>,
}

/// How to reach what runs.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    /// Where the API answers.
    pub(crate) api: SocketAddr,
    pub(crate) databases: Databases,
    /// The orchestrator's database, if the Postgres is ours; anybody else's address may hold a password.
    pub(crate) postgres: Option<String>,
    pub(crate) kafka: KafkaSettings,
    /// The definition that bookings run by.
    pub(crate) booking: Definition,
    /// What was in the database before the services started.
    pub(crate) found: SagaCounts,
    /// Processes whose use of the processor is measured; Postgres comes with all its own.
    pub(crate) processes: Vec<(&'static str, u32)>,
}

/// What has to be right before anything starts.
#[derive(Debug)]
pub(crate) struct Plan {
    database_url: Option<String>,
    definitions: Vec<Definition>,
    port: Option<TcpListener>,
}

impl Plan {
    /// Looks at everything that was said on the command line and in the environment.
    pub(crate) fn of(options: &Options) -> Result<Self> {
        let database_url = databases::given()?;
        let definitions = definitions(options)?;
        Ok(Self { database_url, definitions, port: hold(options.http)? })
    }
}

/// What ships and what stands in the folders; what is wrong with any of it is printed.
fn definitions(options: &Options) -> Result<Vec<Definition>> {
    let (definitions, schemas) = (options.definitions.as_deref(), options.schemas.as_deref());
    let checked = folders::check(definitions, schemas).map_err(|error| match error {
        FoldersError::Schemas(_) => anyhow::Error::from(error).context("--schemas"),
        error => anyhow::Error::from(error).context("--definitions"),
    })?;
    check::complain(&checked);
    let wrong = checked.iter().filter(|checked| !checked.is_right()).count();
    ensure!(wrong == 0, "--definitions: {wrong} of {} definitions wrong, see above", checked.len());
    Ok(checked.into_iter().filter_map(Checked::into_definition).collect())
}

/// Holds the port until the orchestrator takes it: a taken one is found before anything has started.
fn hold(address: SocketAddr) -> Result<Option<TcpListener>> {
    if address.port() == 0 {
        return Ok(None);
    }
    let asked = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                return Err(error).with_context(|| format!("--http: cannot listen on {address}"));
            }
            Err(_) if asked.elapsed() > PORT_PATIENCE => bail!(
                "--http: {address} is taken by another program; choose another port, or 0 for any free one"
            ),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

impl Stack {
    /// Nothing runs yet; `deaths` will hear of everything that ends.
    pub(crate) fn new(deaths: mpsc::UnboundedSender<&'static str>) -> Self {
        Self { services: Vec::new(), broker: None, postgres: None, deaths }
    }

    /// Starts everything, and returns when it is ready.
    pub(crate) async fn start(
        &mut self,
        plan: Plan,
        options: &Options,
        dir: &DataDir,
        terminal: Terminal,
    ) -> Result<Reached> {
        let urls = self.start_postgres(&plan, dir, terminal).await?;
        let begun = Instant::now();
        let databases = Databases::open(&urls).await?;
        let found = databases.sagas().await?;
        terminal.ready("databases up to date", begun, "");
        let mut published = plan.definitions;
        for source in databases.definitions().await? {
            published.extend(Definition::parse(&source));
        }
        let bookings = published.iter().filter(|definition| &*definition.id.name == "booking");
        let newest = bookings.max_by_key(|definition| definition.id.version).cloned();
        let booking = newest.context("there is no definition `booking`")?;
        let topics = broker::topics(&published, options.kafka.is_none())?;
        let kafka = self.start_broker(options, dir, &topics, terminal).await?;
        let begun = Instant::now();
        drop(plan.port);
        let api = self.start_services(options, dir, &urls, &kafka).await?;
        wait_until_ready(api).await?;
        terminal.ready(
            "orchestrator, booking-worker and payment-worker ready",
            begun,
            &format!("http://{api}"),
        );
        tell(found, terminal);
        let processes = self.processes();
        let postgres = self.postgres.as_ref().map(|_| urls.orchestrator);
        Ok(Reached { api, databases, postgres, kafka, booking, found, processes })
    }

    async fn start_postgres(&mut self, plan: &Plan, dir: &DataDir, terminal: Terminal) -> Result<Urls> {
        let begun = Instant::now();
        if let Some(url) = &plan.database_url {
            let urls = databases::make_schemas(url).await?;
            terminal.ready("Postgres of DATABASE_URL answers", begun, "");
            return Ok(urls);
        }
        let folder = dir.postgres();
        let started = tokio::task::spawn_blocking(move || databases::start_own(&folder, terminal)).await;
        let (server, urls, version) = started.context("the start of Postgres panicked")??;
        watch_end("postgres", server.pid(), self.deaths.clone())?;
        self.postgres = Some(server);
        terminal.ready(&format!("Postgres {version} ready"), begun, "");
        Ok(urls)
    }

    async fn start_broker(
        &mut self,
        options: &Options,
        dir: &DataDir,
        topics: &[TopicSpec],
        terminal: Terminal,
    ) -> Result<KafkaSettings> {
        let begun = Instant::now();
        if let Some(servers) = &options.kafka {
            let mut settings = KafkaSettings::plain(servers);
            if let Some(path) = std::env::var_os("KAFKA_PROPERTIES") {
                settings.properties = KafkaSettings::properties_from(path)?;
            }
            topics::ensure(&settings, topics).await.with_context(|| format!("--kafka {servers}"))?;
            terminal.ready(&format!("Kafka at {servers} has all topics"), begun, "");
            return Ok(settings);
        }
        let name = "broker";
        let arguments = broker::arguments(topics);
        let launch = Launch { name, arguments, environment: Vec::new(), log: dir.new_log(name)? };
        let (child, line) = launch.start(&self.deaths)?;
        self.broker = Some(child);
        let settings = broker::settings(&first(line, name).await?)?;
        terminal.ready("embedded broker ready", begun, "");
        Ok(settings)
    }

    /// Starts the three services and returns where the API listens.
    async fn start_services(
        &mut self,
        options: &Options,
        dir: &DataDir,
        urls: &Urls,
        kafka: &KafkaSettings,
    ) -> Result<SocketAddr> {
        let mut api = None;
        let services = [
            ("orchestrator", &urls.orchestrator),
            ("booking-worker", &urls.booking),
            ("payment-worker", &urls.payment),
        ];
        for (name, url) in services {
            let environment = environment(options, url, kafka);
            let arguments = [name, "serve"].map(OsString::from).into();
            let launch = Launch { name, arguments, environment, log: dir.new_log(name)? };
            let (child, line) = launch.start(&self.deaths)?;
            self.services.push(child);
            api = api.or(Some(line));
        }
        let line = first(api.context("no service was started")?, "orchestrator").await?;
        let address = line.rsplit_once("http://").and_then(|(_, address)| address.trim().parse().ok());
        Ok(reachable(address.with_context(|| format!("the orchestrator says {line:?}"))?))
    }

    fn processes(&self) -> Vec<(&'static str, u32)> {
        let names = ["orchestrator", "booking-worker", "payment-worker"];
        let mut all: Vec<_> = names.into_iter().zip(self.services.iter().map(Child::pid)).collect();
        all.extend(self.postgres.iter().map(|server| ("postgres", server.pid())));
        all.extend(self.broker.iter().map(|broker| ("broker", broker.pid())));
        all.push(("launcher", std::process::id()));
        all
    }

    /// Stops the services and lets them finish what is in flight, then the broker, then Postgres.
    pub(crate) async fn stop(&mut self, terminal: Terminal) {
        let stops = std::mem::take(&mut self.services).into_iter().map(Child::stop);
        let mut complaints: Vec<String> =
            futures::future::join_all(stops).await.iter().filter_map(|stopped| stopped.complaint()).collect();
        if let Some(broker) = self.broker.take() {
            complaints.extend(broker.stop().await.complaint());
        }
        if let Some(server) = self.postgres.take() {
            // It may take seconds, in which a second Ctrl-C has to be heard.
            let stopped = tokio::task::spawn_blocking(move || server.stop()).await;
            if let Ok(Err(error)) = stopped {
                complaints.push(error.to_string());
            }
        }
        for complaint in complaints {
            terminal.say(&terminal.paint(Style::Yellow, &complaint));
        }
    }
}

/// What a service is told. Everything that we rely on is said, whatever our own environment says.
fn environment(options: &Options, url: &str, kafka: &KafkaSettings) -> Vec<(&'static str, Option<OsString>)> {
    let commands = broker::command_partitions(kafka.is_embedded());
    let mut all: Vec<(&'static str, Option<OsString>)> = vec![
        ("DATABASE_URL", Some(url.into())),
        ("DATABASE_URL_FILE", None),
        ("KAFKA_BOOTSTRAP_SERVERS", Some(kafka.bootstrap_servers.clone().into())),
        ("BROKER_INCARNATION", kafka.incarnation.clone().map(OsString::from)),
        ("HTTP_ADDR", Some(options.http.to_string().into())),
        ("ADVERTISE_URL", None),
        ("METRICS_ADDR", Some("127.0.0.1:0".into())),
        ("SHARDS", Some(SHARDS.to_string().into())),
        ("COMMAND_PARTITIONS", Some(commands.to_string().into())),
        ("TOPIC_PARTITIONS", Some(TOPIC_PARTITIONS.to_string().into())),
        ("SHIPPED_DEFINITIONS", Some("all".into())),
        ("DEFINITIONS_DIR", options.definitions.clone().map(OsString::from)),
        ("SCHEMAS_DIR", options.schemas.clone().map(OsString::from)),
        ("ALLOW_FORCED_OUTCOMES", Some("true".into())),
        ("ACTOR_HEADER", None),
        ("PAYMENT_GATEWAY", Some("simulated".into())),
        ("PAYMENT_GATEWAY_URL", None),
        ("PAYMENT_GATEWAY_URL_FILE", None),
        // Logs are files here: without colours, and lines for people unless machines are to read them.
        ("NO_COLOR", Some("1".into())),
    ];
    if std::env::var_os("LOG_FORMAT").is_none() {
        all.push(("LOG_FORMAT", Some("text".into())));
    }
    if kafka.is_embedded() {
        all.push(("KAFKA_PROPERTIES", None));
    }
    all
}

async fn first(line: tokio::sync::oneshot::Receiver<String>, name: &str) -> Result<String> {
    let line = tokio::time::timeout(READY_WITHIN, line).await;
    let line = line.with_context(|| format!("{name} was not ready within {} s", READY_WITHIN.as_secs()))?;
    if line.is_err() {
        // It has ended. Whoever waits for ends knows more to say, and comes first.
        tokio::time::sleep(DEATH_NOTICE).await;
    }
    line.with_context(|| format!("{name} ended before it was ready"))
}

/// Where clients on this machine reach a service that listens everywhere.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn wait_until_ready(api: SocketAddr) -> Result<()> {
    let (mut client, asked) = (Client::new(api), Instant::now());
    loop {
        let answer = client.get("/readyz").await;
        if answer.as_ref().is_ok_and(|answer| answer.status.is_success()) {
            return Ok(());
        }
        if asked.elapsed() > READY_WITHIN {
            let said = answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
            let limit = READY_WITHIN.as_secs();
            bail!(
                "the orchestrator was not ready within {limit} s: {}",
                said.unwrap_or_else(|error| format!("{error:#}"))
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tell(found: SagaCounts, terminal: Terminal) {
    if found.total == 0 {
        return;
    }
    let mut text = format!("found {} of earlier runs", counted(found.total, "saga"));
    match found.open {
        0 => text.push_str("; none was in flight"),
        1 => text.push_str("; the one in flight goes on"),
        open => text.push_str(&format!("; the {} in flight go on", grouped(open))),
    }
    if found.stuck > 0 {
        text.push_str(&format!("; stuck until an operator acts: {}", grouped(found.stuck)));
    }
    terminal.say(&format!("  {} {text}", terminal.paint(Style::Green, "ok")));
}
