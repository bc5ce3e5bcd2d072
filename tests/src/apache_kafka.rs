//! An Apache Kafka of one's own: a process that may be killed, frozen and started again on what it has stored.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use messaging::KafkaSettings;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{Environment, Service, Signal};
use crate::wait::eventually;

/// A broker that recovers its log on a busy machine.
const READY: Duration = Duration::from_secs(90);
/// In its log when it serves.
const STARTED: &str = "Kafka Server started";

/// A running broker (or one that was killed).
#[derive(Debug)]
pub struct ApacheKafka {
    folder: PathBuf,
    program: PathBuf,
    /// Where observers find it.
    direct: String,
    /// Where it serves clients of the proxy, if there is one.
    behind_proxy: Option<String>,
    service: Mutex<Service>,
}

/// The script that knows how a broker is set up.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/kafka.sh")
}

impl ApacheKafka {
    /// Starts an empty broker in a folder. With `proxy` it tells clients of its second listener to come there.
    ///
    /// # Errors
    /// It does not start; the text has the end of its log.
    pub async fn start(program: &Path, folder: &Path, proxy: Option<String>) -> Result<Self> {
        let mut prepare = Command::new("bash");
        prepare.arg(script()).arg("prepare").arg(folder).args(&proxy);
        let prepared = prepare.output().await.context("bash .ci/kafka.sh prepare")?;
        let said = String::from_utf8_lossy(&prepared.stdout).into_owned();
        ensure!(prepared.status.success(), "{said}{}", String::from_utf8_lossy(&prepared.stderr));
        let mut addresses = said.split_whitespace().map(str::to_owned);
        let direct = addresses.next().context("the broker's address")?;
        let behind_proxy = addresses.next();
        let service = Mutex::new(run(program, folder)?);
        let broker =
            Self { folder: folder.to_owned(), program: program.to_owned(), direct, behind_proxy, service };
        broker.is_ready().await?;
        Ok(broker)
    }

    /// For observers: past the proxy.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings::plain(&self.direct)
    }

    /// Where the proxy has to lead.
    pub fn behind_proxy(&self) -> Option<&str> {
        self.behind_proxy.as_deref()
    }

    /// Sends its process a signal.
    ///
    /// # Errors
    /// The system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner).signal(signal)
    }

    /// Kills it, now.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&self) -> Result<()> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner).kill()
    }

    /// Starts it again on what it has stored.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&self) -> Result<()> {
        let service = run(&self.program, &self.folder)?;
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = service;
        self.is_ready().await
    }

    async fn is_ready(&self) -> Result<()> {
        eventually("the broker serves", READY, async || {
            let started = {
                let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
                ensure!(service.is_running(), "it has ended\n{}", service.last_words());
                service.output()?.contains(STARTED)
            };
            Ok((started && TcpStream::connect(&self.direct).await.is_ok()).then_some(()))
        })
        .await
    }
}

fn run(program: &Path, folder: &Path) -> Result<Service> {
    let log = folder.join("broker.log");
    Service::start_role(program, "kafka", &[folder], &Environment::default(), &log)
}
