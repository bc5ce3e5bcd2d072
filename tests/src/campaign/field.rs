//! Where a run takes place: a stack on databases of its own, and a network between each of its processes and Postgres.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use saga_defs::time::Timestamp;
use time::OffsetDateTime;

use super::base::Base;
use super::clients::Clients;
use super::options::Options;
use super::run::Plan;
use crate::database::Database;
use crate::ground::Ground;
use crate::oracle::evidence::Planted;
use crate::oracle::watch;
use crate::process::{OWN_PROGRAM, Program, Service, Signal};
use crate::proxy::{Proxy, Upstream, Weather};
use crate::recipes;
use crate::stack::{Options as StackOptions, Orchestrator, Stack};
use crate::wait::eventually;

/// Both kinds.
pub(crate) const WORKERS: [Program; 2] = [Program::BookingWorker, Program::PaymentWorker];
/// How long processes may take to serve again when all is well.
const READY: Duration = Duration::from_secs(60);

/// The network between processes and Postgres, by the process's name.
#[derive(Default)]
pub(crate) struct Links(Mutex<BTreeMap<String, Arc<Proxy>>>);

impl Links {
    /// A link of its own for a process; the one it has if there is one.
    fn of(&self, process: &str, upstream: &Upstream) -> Result<Arc<Proxy>> {
        let mut links = lock(&self.0);
        if let Some(link) = links.get(process) {
            return Ok(link.clone());
        }
        let link = Arc::new(Proxy::listen(links.len() as u64)?);
        link.lead_to(upstream.clone());
        links.insert(process.to_owned(), link.clone());
        Ok(link)
    }

    /// The link of a process.
    pub(crate) fn get(&self, process: &str) -> Result<Arc<Proxy>> {
        lock(&self.0).get(process).cloned().with_context(|| format!("{process} has no link"))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Proxy>> {
        lock(&self.0).values().cloned().collect()
    }
}

/// See the module.
pub(crate) struct Field {
    pub(crate) stack: Stack,
    pub(crate) base: Arc<Base>,
    pub(crate) links: Arc<Links>,
    pub(crate) clients: Clients,
    /// Records that a stranger has published.
    pub(crate) planted: Mutex<Vec<Planted>>,
    orchestrators: usize,
    workers: usize,
}

impl Field {
    /// Starts everything, and returns when it is ready.
    pub(crate) async fn start(base: &Arc<Base>, options: &Options, plan: &Plan<'_>) -> Result<Self> {
        let number = plan.number;
        let definitions = recipes::definitions(&recipes::catalog()?)?;
        let kafka = base.kafka(&definitions).await.context("the broker")?;
        let database = async |kind: &str| {
            let (base, name) = (base.clone(), format!("run{number}_{kind}"));
            let url = tokio::task::spawn_blocking(move || base.postgres.create(&name)).await??;
            Database::at(url).await
        };
        let (sagas, bookings, payments) =
            (database("sagas").await?, database("bookings").await?, database("payments").await?);
        let links = Arc::new(Links::default());
        let upstream = Upstream::Unix(base.postgres.socket()?);
        let reach = {
            let links = links.clone();
            move |program: Program, process: &str| {
                let database = match program {
                    Program::Orchestrator => "sagas",
                    Program::BookingWorker => "bookings",
                    Program::PaymentWorker => "payments",
                };
                // A process without a link finds nobody at port 1, and says so.
                let address = links
                    .of(process, &upstream)
                    .map_or_else(|_| "127.0.0.1:1".to_owned(), |link| link.address().to_string());
                let own = format!("sslmode=disable&options[{}]={process}", watch::PROCESS);
                format!("postgres://saga@{address}/run{number}_{database}?{own}")
            }
        };
        let program = OWN_PROGRAM.into();
        let ground = Ground { sagas, bookings, payments, kafka, reach: Box::new(reach), program };
        let logs = base.folder.path.join(format!("logs-{number}"));
        std::fs::create_dir_all(&logs)?;
        let bare = StackOptions { orchestrators: 0, workers: false, ..StackOptions::default() };
        let stack = Stack::on(ground, bare, logs).await?;
        watch::watch(&stack.sagas).await?;
        let field = Self {
            stack,
            base: base.clone(),
            links,
            clients: Clients::new(options.rate, plan.seed),
            planted: Mutex::default(),
            orchestrators: options.orchestrators.into(),
            workers: options.workers.into(),
        };
        field.stack.set_capacity(field.clients.sold_out, 0).await?;
        field.complete().await?;
        Ok(field)
    }

    /// Starts what is missing of the processes that there should be, and waits until all are ready.
    pub(crate) async fn complete(&self) -> Result<()> {
        for program in WORKERS {
            for _ in self.stack.workers(program).len()..self.workers {
                self.stack.start_worker(program)?;
            }
        }
        for _ in self.stack.orchestrators().len()..self.orchestrators {
            self.stack.start_orchestrator().await?;
        }
        let ready = eventually("every orchestrator is ready", READY, async || {
            for orchestrator in self.stack.orchestrators() {
                match orchestrator.api.get("/readyz").await {
                    Ok(answer) if answer.json().is_ok_and(|health| health["status"] == "ready") => {}
                    _ => return Ok(None),
                }
            }
            Ok(Some(()))
        });
        ready.await
    }

    /// Takes back every harm that is not of this moment: network, signals, processes that are missing.
    pub(crate) async fn heal(&self) -> Result<()> {
        for link in self.links.all() {
            link.lose_nothing();
            link.set(Weather::Clear);
        }
        if let Ok((broker, proxy)) = self.base.own_kafka() {
            proxy.set(Weather::Clear);
            broker.signal(Signal::Continue)?;
        }
        for service in self.services() {
            service.signal(Signal::Continue)?;
        }
        self.complete().await
    }

    /// Every process that runs or stands still.
    fn services(&self) -> Vec<Running> {
        let orchestrators = self.stack.orchestrators().into_iter().map(Running::Orchestrator);
        let workers =
            WORKERS.into_iter().flat_map(|program| self.stack.workers(program)).map(Running::Worker);
        orchestrators.chain(workers).collect()
    }

    /// What each process holds: its name, memory in MiB and open files.
    pub(crate) fn used(&self) -> Vec<(String, u64, u64)> {
        self.services()
            .iter()
            .map(|service| {
                let folder = format!("/proc/{}", service.pid());
                let status = std::fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
                let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
                let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
                let files = std::fs::read_dir(format!("{folder}/fd")).map_or(0, Iterator::count);
                (service.name().to_owned(), kib.unwrap_or(0) / 1024, files as u64)
            })
            .collect()
    }
}

/// A process of either kind.
enum Running {
    Orchestrator(Arc<Orchestrator>),
    Worker(Arc<Service>),
}

impl std::ops::Deref for Running {
    type Target = Service;

    fn deref(&self) -> &Service {
        match self {
            Self::Orchestrator(orchestrator) => &orchestrator.service,
            Self::Worker(worker) => worker,
        }
    }
}

/// The clock that the databases have too: they run on this machine.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_utc(OffsetDateTime::now_utc())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
