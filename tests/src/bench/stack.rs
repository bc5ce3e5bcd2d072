//! What is measured: databases that write safely, a broker, and the services, each a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::{Context, Result, ensure};
use local::broker_process::{self as broker, TOPIC_PARTITIONS};
use local::{Databases, Urls};
use local_postgres::{Server, ServerOptions, default_cache_dir, find_or_fetch};
use messaging::KafkaSettings;
use messaging::topics::{self, TopicSpec};
use saga_defs::Shipped;

use super::options::Options;
use crate::api::Api;
use crate::folder::Folder;
use crate::otlp::Collector;
use crate::process::{Environment, OWN_PROGRAM, Program, Service, Signal};
use crate::wait::{SOON, eventually};

/// Settings of Postgres beside its own; none that makes writing less safe. The machine is the databases' alone, as a
/// small server of theirs would be, and a checkpoint in the middle of a short window would be chance.
const POSTGRES: [(&str, &str); 6] = [
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_compression", "on"),
    ("jit", "off"),
    ("max_connections", "200"),
];

/// A running orchestrator.
#[derive(Debug)]
pub(crate) struct Orchestrator {
    pub(crate) service: Service,
    pub(crate) api: Api,
    pub(crate) address: SocketAddr,
}

/// Everything that runs. Dropping it stops it: the services first, Postgres last.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) orchestrators: Mutex<Vec<std::sync::Arc<Orchestrator>>>,
    /// By name.
    pub(crate) workers: Vec<Service>,
    pub(crate) broker: Option<Service>,
    pub(crate) kafka: KafkaSettings,
    pub(crate) topics: Vec<TopicSpec>,
    pub(crate) databases: Databases,
    pub(crate) urls: Urls,
    pub(crate) servers: Vec<Server>,
    pub(crate) postgres_version: u32,
    options: Options,
    /// Where spans go.
    pub(crate) collector: Option<Collector>,
    pub(crate) folder: Folder,
}

impl Stack {
    /// Starts everything, and returns when it is ready.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let folder = Folder::open(options.data_dir.as_deref(), "saga-bench-")?;
        let (servers, urls, postgres_version) = servers(options, &folder.path).await?;
        let databases = Databases::open(&urls).await?;
        let definition = Shipped::named("booking").context("the booking saga ships")?.definition();
        let topics = broker::topics([&definition], options.kafka.is_none())?;
        let (broker, kafka) = start_broker(options, &folder.path, &topics).await?;
        let collector = match options.traces {
            Some(_) => Some(Collector::counting().await?),
            None => None,
        };
        let mut stack = Self {
            orchestrators: Mutex::default(),
            workers: Vec::new(),
            broker,
            kafka,
            topics,
            databases,
            urls,
            servers,
            postgres_version,
            options: options.clone(),
            collector,
            folder,
        };
        let workers = [Program::BookingWorker, Program::PaymentWorker];
        for program in workers.into_iter().filter(|_| options.open_sagas.is_none()) {
            stack.workers.push(stack.service(program, &["serve"], program.name())?);
        }
        for _ in 0..options.orchestrators {
            stack.start_orchestrator().await?;
        }
        stack.all_have_shards().await?;
        for (name, pid) in stack.processes() {
            eprintln!("{name} is process {pid}");
        }
        Ok(stack)
    }

    /// Starts another orchestrator and waits until it is ready.
    pub(crate) async fn start_orchestrator(&self) -> Result<std::sync::Arc<Orchestrator>> {
        let number = self.running().len() + 1;
        let service = self.service(Program::Orchestrator, &["serve"], &format!("orchestrator-{number}"))?;
        let url = eventually("the orchestrator listens", SOON, async || {
            ensure!(service.is_running(), "it has ended\n{}", service.last_words());
            let output = service.output()?;
            Ok(output.lines().find_map(|line| line.strip_prefix("listening on ")).map(str::to_owned))
        });
        let url = url.await?;
        let address = url.trim_start_matches("http://").parse().with_context(|| url.clone())?;
        let orchestrator = std::sync::Arc::new(Orchestrator { service, api: Api::new(url), address });
        eventually("the orchestrator is ready", SOON, async || {
            let answer = orchestrator.api.get("/readyz").await;
            ensure!(orchestrator.service.is_running(), "it has ended\n{}", orchestrator.service.last_words());
            Ok(answer.ok().filter(|answer| answer.status == 200).map(drop))
        })
        .await?;
        self.orchestrators.lock().unwrap_or_else(PoisonError::into_inner).push(orchestrator.clone());
        Ok(orchestrator)
    }

    /// The orchestrators that run.
    pub(crate) fn running(&self) -> Vec<std::sync::Arc<Orchestrator>> {
        let all = self.orchestrators.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|orchestrator| orchestrator.service.is_running()).cloned().collect()
    }

    /// Every process but Postgres and this one, by name.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        let orchestrators = self.running();
        let many = orchestrators.len() > 1;
        let named = orchestrators.iter().map(|orchestrator| {
            let name = if many { orchestrator.service.name() } else { "orchestrator" };
            (name.to_owned(), orchestrator.service.pid())
        });
        let workers = self.workers.iter().map(|worker| (worker.name().to_owned(), worker.pid()));
        let broker = self.broker.iter().map(|broker| ("broker".to_owned(), broker.pid()));
        named.chain(workers).chain(broker).collect()
    }

    /// Runs a program of the stack.
    pub(crate) fn service(&self, program: Program, arguments: &[&str], name: &str) -> Result<Service> {
        let log = self.folder.path.join(format!("{name}.log"));
        let environment = self.environment(program);
        Service::start_role(Path::new(OWN_PROGRAM), program.name(), arguments, &environment, &log)
    }

    /// A new orchestrator gets its shards when the group has been divided anew.
    pub(crate) async fn all_have_shards(&self) -> Result<()> {
        eventually("every orchestrator has shards", SOON, async || {
            let mut all = true;
            for orchestrator in self.running() {
                let text = orchestrator.api.get("/metrics").await?.text;
                let owned = text.lines().find_map(|line| line.strip_prefix(r#"saga_shards{state="owned"} "#));
                all &= owned.is_some_and(|owned| owned.trim() != "0");
            }
            Ok(all.then_some(()))
        })
        .await
    }

    fn environment(&self, program: Program) -> Environment {
        let url = match program {
            Program::Orchestrator => &self.urls.orchestrator,
            Program::BookingWorker => &self.urls.booking,
            Program::PaymentWorker => &self.urls.payment,
        };
        let commands = broker::command_partitions(self.kafka.is_embedded());
        let mut settings = vec![
            ("DATABASE_URL", url.clone()),
            ("KAFKA_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers.clone()),
            ("LOG_FORMAT", "text".to_owned()),
            ("NO_COLOR", "1".to_owned()),
            ("TOPIC_PARTITIONS", TOPIC_PARTITIONS.to_string()),
            ("ALLOW_FORCED_OUTCOMES", "true".to_owned()),
        ];
        settings
            .extend(self.kafka.incarnation.clone().map(|incarnation| ("BROKER_INCARNATION", incarnation)));
        match program {
            Program::Orchestrator => settings.extend([
                ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
                ("SHARDS", broker::SHARDS.to_string()),
                ("COMMAND_PARTITIONS", commands.to_string()),
                ("SHIPPED_DEFINITIONS", "booking".to_owned()),
            ]),
            Program::BookingWorker => {}
            Program::PaymentWorker => settings.push(("PAYMENT_GATEWAY", "simulated".to_owned())),
        }
        if let (Some(collector), Some(share)) = (&self.collector, self.options.traces) {
            settings.extend([
                ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint().to_owned()),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
                ("OTEL_TRACES_SAMPLER_ARG", share.to_string()),
            ]);
        }
        let own = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.environment.iter().cloned()).collect()
    }

    /// Stops the services in good order: on a real broker, members that are killed would block their groups for a while.
    pub(crate) async fn stop(self) -> Result<()> {
        let orchestrators = self.running();
        let services: Vec<&Service> =
            orchestrators.iter().map(|orchestrator| &orchestrator.service).chain(&self.workers).collect();
        for service in &services {
            service.signal(Signal::Terminate)?;
        }
        for service in services {
            service.ended(SOON).await.with_context(|| service.last_words())?;
        }
        if let Some(collector) = &self.collector {
            eprintln!("{} spans were exported", collector.count());
        }
        let Self { servers, databases, .. } = self;
        drop(databases);
        // It may take seconds.
        Ok(tokio::task::spawn_blocking(move || drop(servers)).await?)
    }
}

/// One server for all databases, or one for each.
async fn servers(options: &Options, folder: &Path) -> Result<(Vec<Server>, Urls, u32)> {
    let (folder, own) = (folder.to_owned(), options.own_clusters);
    let mut settings = ServerOptions::default();
    for (name, value) in POSTGRES {
        settings = settings.with(name, value);
    }
    for (name, value) in &options.postgres {
        settings = settings.with(name, value);
    }
    let start = move || {
        let installation = find_or_fetch(&default_cache_dir(), &mut |line| eprintln!("{line}"))?;
        let names: &[&str] = if own { &["orchestrator", "booking", "payment"] } else { &["all"] };
        let mut servers = Vec::new();
        for name in names {
            servers.push(Server::start(&installation, &folder.join(format!("postgres-{name}")), &settings)?);
        }
        let mut urls =
            ["orchestrator", "booking", "payment"].into_iter().enumerate().map(|(at, database)| {
                let server = servers.get(at).or(servers.first()).context("a server was started")?;
                server.create_database(database)?;
                anyhow::Ok(server.url(database))
            });
        let mut url = || urls.next().context("three databases")?;
        let urls = Urls { orchestrator: url()?, booking: url()?, payment: url()? };
        anyhow::Ok((servers, urls, installation.version))
    };
    tokio::task::spawn_blocking(start).await?
}

async fn start_broker(
    options: &Options,
    folder: &Path,
    specs: &[TopicSpec],
) -> Result<(Option<Service>, KafkaSettings)> {
    if let Some(servers) = &options.kafka {
        let settings = KafkaSettings::plain(servers);
        let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
        topics::remove(&settings, &names).await.context("remove the topics of earlier runs")?;
        topics::ensure(&settings, specs).await.context("make the topics")?;
        return Ok((None, settings));
    }
    let arguments = broker::arguments(specs);
    let (program, log) = (Path::new(OWN_PROGRAM), folder.join("broker.log"));
    let service = Service::start_role(program, "broker", &arguments[1..], &Environment::default(), &log)?;
    let line = eventually("the broker says where it is", SOON, async || {
        ensure!(service.is_running(), "it has ended\n{}", service.last_words());
        let output = service.output()?;
        Ok(output.split_once('\n').map(|(line, _)| line.to_owned()))
    })
    .await?;
    Ok((Some(service), broker::settings(&line)?))
}
