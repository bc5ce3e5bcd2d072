//! What lives as long as the campaign: a Postgres and a broker, both of which may be disturbed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use local_postgres::{Installation, Server, ServerOptions, default_cache_dir, find_or_fetch};
use messaging::KafkaSettings;
use saga_defs::definition::Definition;
use sea_orm::sqlx::postgres::PgConnectOptions;

use super::faults::{Fault, Needs};
use super::options::{BrokerChoice, Options};
use crate::apache_kafka::ApacheKafka;
use crate::folder::Folder;
use crate::kafka::Kafka;
use crate::process::OWN_PROGRAM;
use crate::proxy::{Proxy, Upstream};

/// See the module.
pub(crate) struct Base {
    pub(crate) postgres: Postgres,
    broker: Broker,
    // Last: it goes when what is in it has stopped.
    pub(crate) folder: Folder,
}

enum Broker {
    Embedded,
    Own { broker: ApacheKafka, proxy: Proxy },
    Given(KafkaSettings),
}

impl Base {
    /// Starts both.
    pub(crate) async fn start(options: &Options, seed: u64) -> Result<Self> {
        let folder = Folder::open(options.data_dir.as_deref(), "saga-campaign-")?;
        let postgres = Postgres::start(folder.path.join("postgres")).await?;
        let broker = match (&options.kafka, options.broker) {
            (Some(servers), _) => Broker::Given(KafkaSettings::plain(servers)),
            (None, BrokerChoice::Embedded) => Broker::Embedded,
            (None, BrokerChoice::Apache) => {
                let proxy = Proxy::listen(seed)?;
                let told = Some(proxy.address().to_string());
                let own = folder.path.join("kafka");
                let broker = ApacheKafka::start(Path::new(OWN_PROGRAM), &own, told).await?;
                let behind = broker.behind_proxy().context("a listener for the proxy")?.parse()?;
                proxy.lead_to(Upstream::Tcp(behind));
                Broker::Own { broker, proxy }
            }
        };
        Ok(Self { postgres, broker, folder })
    }

    /// For the report.
    pub(crate) fn broker_name(&self) -> &'static str {
        match &self.broker {
            Broker::Embedded => "embedded",
            Broker::Own { .. } => "Apache Kafka, a process of its own",
            Broker::Given(_) => "Apache Kafka of somebody else's",
        }
    }

    /// Whether what a fault needs is there.
    pub(crate) fn allows(&self, fault: Fault) -> bool {
        match fault.needs() {
            Needs::Nothing => true,
            Needs::OwnKafka => matches!(self.broker, Broker::Own { .. }),
            Needs::Embedded => matches!(self.broker, Broker::Embedded),
        }
    }

    /// Empty topics for a run.
    pub(crate) async fn kafka(&self, definitions: &[Definition]) -> Result<Kafka> {
        match &self.broker {
            Broker::Embedded => Kafka::in_process(definitions),
            Broker::Own { broker, proxy } => {
                let services = KafkaSettings::plain(proxy.address().to_string());
                Kafka::own(broker.settings(), services, definitions).await
            }
            Broker::Given(settings) => Kafka::own(settings.clone(), settings.clone(), definitions).await,
        }
    }

    /// The broker that may be disturbed, and the network in front of it.
    pub(crate) fn own_kafka(&self) -> Result<(&ApacheKafka, &Proxy)> {
        match &self.broker {
            Broker::Own { broker, proxy } => Ok((broker, proxy)),
            Broker::Embedded | Broker::Given(_) => anyhow::bail!("the broker is not ours to disturb"),
        }
    }
}

/// A Postgres that may be stopped without warning.
pub(crate) struct Postgres {
    installation: Installation,
    folder: PathBuf,
    server: Mutex<Option<Server>>,
}

impl Postgres {
    async fn start(folder: PathBuf) -> Result<Self> {
        let made = tokio::task::spawn_blocking(move || {
            let installation = find_or_fetch(&default_cache_dir(), &mut |line| eprintln!("{line}"))?;
            let server = Mutex::new(Some(Server::start(&installation, &folder, &settings())?));
            anyhow::Ok(Self { installation, folder, server })
        });
        made.await?
    }

    /// Stops it at once, without a checkpoint and without a word to clients, and starts it again `away` later: a crash.
    /// Blocks.
    pub(crate) fn crash(&self, away: Duration) -> Result<()> {
        let mut server = self.lock();
        // A server for data that is thrown away is stopped by an immediate shutdown.
        drop(server.take());
        std::thread::sleep(away);
        *server = Some(Server::start(&self.installation, &self.folder, &settings())?);
        Ok(())
    }

    /// Makes a database and says where it is. Blocks.
    pub(crate) fn create(&self, name: &str) -> Result<String> {
        let server = self.lock();
        let server = server.as_ref().context("Postgres runs")?;
        server.create_database(name)?;
        Ok(server.url(name))
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> Result<PathBuf> {
        let url = self.lock().as_ref().context("Postgres runs")?.url("postgres");
        let options: PgConnectOptions = url.parse()?;
        let folder = options.get_socket().context("Postgres has a socket")?;
        Ok(folder.join(format!(".s.PGSQL.{}", options.get_port())))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settings() -> ServerOptions {
    // Replication slots and the like are not needed; a crash must not wait for a checkpoint of a slow machine.
    ServerOptions::throwaway().with("max_connections", 300).with("jit", "off")
}
