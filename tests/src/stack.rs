//! Everything that a scenario runs against: broker, databases, and the services as processes of their own.

mod settings;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use messaging::{KafkaSettings, Received, Record};
use saga_defs::definition::Definition;
use saga_defs::ids::DefinitionRef;
use schemas::Catalog;
use uuid::Uuid;

use crate::api::Api;
use crate::database::Database;
use crate::ground::{Ground, Reach};
use crate::kafka::{self, Kafka};
use crate::process::{Program, Service, Signal, log_folder};
use crate::recipes;
use crate::stand_in::{Role, StandIn};
use crate::wait::{SOON, eventually};

/// How long a service may take to stop in good order.
pub const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Topics whose records outlive their broker in the memory of a stack.
pub(crate) const REMEMBERED: [&str; 7] = [
    "saga.events",
    "booking.commands",
    "payment.commands",
    booking_worker::CREATED,
    booking_worker::CONFIRMED,
    booking_worker::CANCELLED,
    payment_worker::COMPLETED,
];

/// What a stack is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many orchestrators are started.
    pub orchestrators: usize,
    /// Whether the booking and the payment worker are started.
    pub workers: bool,
    /// Whether bookings may force what becomes of their payment.
    pub forced_outcomes: bool,
    /// How long the simulated gateway takes.
    pub gateway_latency_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { orchestrators: 1, workers: true, forced_outcomes: true, gateway_latency_ms: 0 }
    }
}

/// An orchestrator that accepts connections.
#[derive(Debug)]
pub struct Orchestrator {
    /// Its process.
    pub service: Service,
    /// Its API.
    pub api: Api,
}

/// A running stack. Everything in it ends when it is dropped.
pub struct Stack {
    options: Options,
    folder: PathBuf,
    definitions: Vec<Definition>,
    catalog: Arc<Catalog>,
    /// The orchestrator's database.
    pub sagas: Database,
    /// The booking worker's database.
    pub bookings: Database,
    /// The payment worker's database.
    pub payments: Database,
    orchestrators: Mutex<Vec<Arc<Orchestrator>>>,
    workers: Mutex<Vec<(Program, Arc<Service>)>>,
    started: AtomicU32,
    stand_ins: tokio::sync::Mutex<HashMap<String, Arc<StandIn>>>,
    /// Records of brokers that were replaced.
    past: Mutex<Vec<Received>>,
    told: Mutex<Vec<(&'static str, String)>>,
    reach: Reach,
    program: PathBuf,
    // Last: it outlives the processes that talk to it.
    kafka: Mutex<Arc<Kafka>>,
}

impl Stack {
    /// Starts a stack and waits until it is ready for work.
    ///
    /// # Errors
    /// A part of it does not start; the text says which.
    pub async fn start(options: Options) -> Result<Self> {
        let definitions = recipes::definitions(&recipes::catalog()?)?;
        Self::on(Ground::of_tests(&definitions).await?, options, log_folder()?).await
    }

    /// Starts a stack on that ground, with its logs in that folder, and waits until it is ready for work.
    ///
    /// # Errors
    /// A part of it does not start; the text says which.
    pub async fn on(ground: Ground, options: Options, folder: PathBuf) -> Result<Self> {
        let catalog = Arc::new(recipes::catalog()?);
        let definitions = recipes::definitions(&catalog)?;
        let Ground { sagas, bookings, payments, kafka, reach, program } = ground;
        let stack = Self {
            options,
            folder,
            reach,
            program,
            definitions,
            catalog,
            sagas,
            bookings,
            payments,
            orchestrators: Mutex::default(),
            workers: Mutex::default(),
            started: AtomicU32::new(0),
            stand_ins: tokio::sync::Mutex::default(),
            past: Mutex::default(),
            told: Mutex::default(),
            kafka: Mutex::new(Arc::new(kafka)),
        };
        if let Err(error) = stack.start_services().await {
            return Err(error.context(stack.last_words()));
        }
        Ok(stack)
    }

    async fn start_services(&self) -> Result<()> {
        use Program::{BookingWorker, Orchestrator, PaymentWorker};
        tokio::try_join!(
            self.migrate(Orchestrator),
            self.migrate(BookingWorker),
            self.migrate(PaymentWorker)
        )?;
        if self.options.workers {
            self.start_worker(BookingWorker)?;
            self.start_worker(PaymentWorker)?;
        }
        for _ in 0..self.options.orchestrators {
            self.start_orchestrator().await?;
        }
        Ok(())
    }

    async fn migrate(&self, program: Program) -> Result<()> {
        let status = self.run(program, &["migrate"])?.ended(SOON).await?;
        ensure!(status.success(), "{} migrate: {status}", program.name());
        Ok(())
    }

    /// Runs a program of the stack with its settings, e.g. `booking-worker resource set`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, program: Program, arguments: &[&str]) -> Result<Service> {
        let log = self.log(program);
        let name = log.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut environment = self.environment(program);
        environment.insert("DATABASE_URL".to_owned(), (self.reach)(program, &name));
        Service::start_role(&self.program, program.name(), arguments, &environment, &log)
    }

    /// Gives programs that are started from now on one more setting.
    pub fn tell(&self, name: &'static str, value: impl Into<String>) {
        lock(&self.told).push((name, value.into()));
    }

    /// Starts another orchestrator and waits until it is ready.
    ///
    /// # Errors
    /// It is not.
    pub async fn start_orchestrator(&self) -> Result<Arc<Orchestrator>> {
        self.adopt(self.run(Program::Orchestrator, &["serve"])?).await
    }

    /// Takes an orchestrator that was started by [`Stack::run`] for one of the stack's, when it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn adopt(&self, service: Service) -> Result<Arc<Orchestrator>> {
        let url = match listening(&service).await {
            Ok(url) => url,
            Err(error) => return Err(error.context(service.last_words())),
        };
        let orchestrator = Arc::new(Orchestrator { service, api: Api::new(url) });
        lock(&self.orchestrators).push(orchestrator.clone());
        ready(&orchestrator).await?;
        Ok(orchestrator)
    }

    /// Starts a worker; it is ready when it is.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_worker(&self, program: Program) -> Result<Arc<Service>> {
        let service = Arc::new(self.run(program, &["serve"])?);
        lock(&self.workers).push((program, service.clone()));
        Ok(service)
    }

    /// The worker of that kind that was started last.
    ///
    /// # Errors
    /// None was.
    pub fn worker(&self, program: Program) -> Result<Arc<Service>> {
        let workers = lock(&self.workers);
        let last = workers.iter().rev().find(|(kind, _)| *kind == program);
        last.map(|(_, service)| service.clone()).with_context(|| format!("no {} was started", program.name()))
    }

    /// Where the worker of that kind that was started last says how it is.
    ///
    /// # Errors
    /// None was, or it does not.
    pub async fn probes(&self, program: Program) -> Result<Api> {
        Ok(Api::new(listening(&*self.worker(program)?).await?))
    }

    /// The orchestrator that was started last and still runs.
    ///
    /// # Errors
    /// There is none.
    pub fn orchestrator(&self) -> Result<Arc<Orchestrator>> {
        let orchestrators = lock(&self.orchestrators);
        let last = orchestrators.iter().rev().find(|orchestrator| orchestrator.service.is_running());
        last.cloned().context("no orchestrator runs")
    }

    /// The API of that orchestrator.
    ///
    /// # Errors
    /// There is none.
    pub fn api(&self) -> Result<Api> {
        Ok(self.orchestrator()?.api.clone())
    }

    /// The orchestrators that run (or stand still).
    pub fn orchestrators(&self) -> Vec<Arc<Orchestrator>> {
        let orchestrators = lock(&self.orchestrators);
        orchestrators.iter().filter(|orchestrator| orchestrator.service.is_running()).cloned().collect()
    }

    /// The workers of that kind that run (or stand still).
    pub fn workers(&self, program: Program) -> Vec<Arc<Service>> {
        let workers = lock(&self.workers);
        let running = workers.iter().filter(|(kind, worker)| *kind == program && worker.is_running());
        running.map(|(_, worker)| worker.clone()).collect()
    }

    /// The APIs of all orchestrators that run.
    pub fn apis(&self) -> Vec<Api> {
        self.orchestrators().iter().map(|orchestrator| orchestrator.api.clone()).collect()
    }

    /// Kills everything but broker and databases, as a power cut would.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill_services(&self) -> Result<()> {
        for orchestrator in lock(&self.orchestrators).iter() {
            orchestrator.service.kill()?;
        }
        lock(&self.workers).iter().try_for_each(|(_, worker)| worker.kill())
    }

    /// Starts both workers and an orchestrator.
    ///
    /// # Errors
    /// One does not start.
    pub async fn start_services_again(&self) -> Result<Arc<Orchestrator>> {
        self.start_worker(Program::BookingWorker)?;
        self.start_worker(Program::PaymentWorker)?;
        self.start_orchestrator().await
    }

    /// Puts a new, empty embedded broker in the place of the old one. Services that are started from now on use it.
    ///
    /// # Errors
    /// The broker is a real one, or the new one does not start.
    pub async fn replace_broker(&self) -> Result<()> {
        self.kafka().embedded()?;
        for topic in REMEMBERED {
            let records = self.topic(topic).await?;
            lock(&self.past).extend(records);
        }
        *lock(&self.kafka) = Arc::new(Kafka::start(&self.definitions).await?);
        Ok(())
    }

    /// Whether an earlier broker was replaced.
    pub fn has_past(&self) -> bool {
        !lock(&self.past).is_empty()
    }

    /// The broker.
    pub fn kafka(&self) -> Arc<Kafka> {
        lock(&self.kafka).clone()
    }

    /// For clients of the broker.
    pub fn kafka_settings(&self) -> KafkaSettings {
        self.kafka().settings()
    }

    /// All records of a topic.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn topic(&self, topic: &str) -> Result<Vec<Received>> {
        kafka::read_all(self.kafka_settings(), topic).await.with_context(|| format!("read {topic}"))
    }

    /// All records of a topic, those of brokers that were replaced first.
    ///
    /// # Errors
    /// The broker does not answer, or the topic is not remembered.
    pub async fn topic_ever(&self, topic: &str) -> Result<Vec<Received>> {
        ensure!(REMEMBERED.contains(&topic), "nobody remembers {topic}");
        let mut records: Vec<Received> =
            lock(&self.past).iter().filter(|record| &*record.topic == topic).cloned().collect();
        records.extend(self.topic(topic).await?);
        Ok(records)
    }

    /// Publishes records as a stranger would.
    ///
    /// # Errors
    /// They are not acknowledged.
    pub async fn publish(&self, records: Vec<Record>) -> Result<()> {
        kafka::publish(&self.kafka_settings(), records).await.map(drop)
    }

    /// The stand-in for a participant, which starts when it is first asked for.
    ///
    /// # Errors
    /// It does not start.
    pub async fn stand_in(&self, name: &str) -> Result<Arc<StandIn>> {
        let mut stand_ins = self.stand_ins.lock().await;
        if let Some(known) = stand_ins.get(name) {
            return Ok(known.clone());
        }
        let started = Arc::new(self.start_stand_in(name, None, None).await?);
        stand_ins.insert(name.to_owned(), started.clone());
        Ok(started)
    }

    /// Starts a stand-in for a participant, perhaps one that does not understand a command, perhaps with the database of
    /// one that has stopped; one at a time, since two would share one stream of commands.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_stand_in(
        &self,
        name: &str,
        without: Option<&str>,
        database: Option<Database>,
    ) -> Result<StandIn> {
        let role = Role { name, definitions: &self.definitions, without };
        StandIn::start(self.kafka_settings(), self.catalog.clone(), role, database).await
    }

    /// All schemas: the shipped ones and those of the scenarios.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// All definitions: the shipped ones and those of the scenarios.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// A definition that the stack knows.
    ///
    /// # Errors
    /// There is none of that name and version.
    pub fn definition(&self, name: &str, version: u32) -> Result<&Definition> {
        let id = DefinitionRef { name: name.into(), version };
        self.definitions
            .iter()
            .find(|definition| definition.id == id)
            .with_context(|| format!("no definition {id}"))
    }

    /// Sets how many units a resource has, by the booking worker's own command.
    ///
    /// # Errors
    /// It refuses.
    pub async fn set_capacity(&self, resource: Uuid, units: u32) -> Result<()> {
        let (resource, units) = (resource.to_string(), units.to_string());
        let set = self.run(Program::BookingWorker, &["resource", "set", &resource, "--capacity", &units])?;
        let status = set.ended(SOON).await?;
        ensure!(status.success(), "{status}: {}", set.output()?);
        Ok(())
    }

    /// The ends of all logs, for people who look why a scenario failed.
    pub fn last_words(&self) -> String {
        let mut words = String::from("what the services said last:\n");
        for orchestrator in lock(&self.orchestrators).iter() {
            words.push_str(&orchestrator.service.last_words());
        }
        for (_, worker) in lock(&self.workers).iter() {
            words.push_str(&worker.last_words());
        }
        words
    }

    /// Stops everything and drops the databases.
    ///
    /// # Errors
    /// A database cannot be dropped.
    pub async fn end(self) -> Result<()> {
        self.stop();
        for database in [&self.sagas, &self.bookings, &self.payments] {
            database.clone().drop().await?;
        }
        Ok(())
    }

    /// Stops everything in good order: on a real broker, members that are killed would block their groups for a while.
    fn stop(&self) {
        let orchestrators = lock(&self.orchestrators);
        let workers = lock(&self.workers);
        let services: Vec<&Service> = orchestrators
            .iter()
            .map(|o| &o.service)
            .chain(workers.iter().map(|(_, worker)| &**worker))
            .collect();
        if kafka::is_real() {
            for service in &services {
                let _ = service.signal(Signal::Continue);
                let _ = service.signal(Signal::Terminate);
            }
            wait_blocking(|| services.iter().all(|service| !service.is_running()));
        }
        for service in services {
            let _ = service.kill();
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Waits in a `drop`, where nothing can be awaited, for at most [`STOP_LIMIT`].
pub(crate) fn wait_blocking(done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + STOP_LIMIT;
    while !done() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the line in which a service says where it listens.
///
/// # Errors
/// It does not.
pub async fn listening(service: &Service) -> Result<String> {
    eventually(&format!("{} listens", service.name()), SOON, async || {
        let output = service.output()?;
        let line = output.lines().find_map(|line| line.strip_prefix("listening on "));
        ensure!(line.is_some() || service.is_running(), "{} ended", service.name());
        Ok(line.map(str::to_owned))
    })
    .await
}

async fn ready(orchestrator: &Orchestrator) -> Result<()> {
    let name = orchestrator.service.name();
    eventually(&format!("{name} is ready"), SOON, async || {
        let answer = orchestrator.api.get("/readyz").await;
        ensure!(orchestrator.service.is_running(), "{name} ended");
        Ok(answer.ok().filter(|answer| answer.status == 200).map(drop))
    })
    .await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
