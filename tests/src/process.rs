//! Services as processes of their own, which can be killed, paused and asked for their log.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use messaging::embedded::starting;

use crate::wait::eventually;

/// The environment variable that tells a service whose child it is.
pub const PARENT: &str = "SERVICES_PARENT";
/// This program, also when the file has been replaced since, which a build does.
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// How much of a log's end is shown when a scenario fails, in lines.
const SHOWN_LINES: usize = 60;

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// The saga orchestrator.
    Orchestrator,
    /// The participant that owns bookings.
    BookingWorker,
    /// The participant that owns payments.
    PaymentWorker,
}

impl Program {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::BookingWorker => "booking-worker",
            Self::PaymentWorker => "payment-worker",
        }
    }
}

/// What can be done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end in good order.
    Terminate,
    /// SIGKILL: gone, now.
    Kill,
    /// SIGSTOP: stand still.
    Stop,
    /// SIGCONT: go on.
    Continue,
}

/// The settings of a process: environment variables.
pub type Environment = BTreeMap<String, String>;

/// One process. Killed when it is dropped, and when the process of the tests ends, however it ends.
#[derive(Debug)]
pub struct Service {
    name: String,
    pid: i32,
    child: Mutex<Child>,
    log: PathBuf,
}

impl Service {
    /// Starts a program; what it prints goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        program: Program,
        arguments: &[&str],
        environment: &Environment,
        log: &Path,
    ) -> Result<Self> {
        Self::start_role(&services_program()?, program.name(), arguments, environment, log)
    }

    /// Starts a program that is `role` when its first argument says so; what it prints goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_role(
        program: &Path,
        role: &str,
        arguments: &[impl AsRef<OsStr>],
        environment: &Environment,
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("the log {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .arg0(role)
            .arg(role)
            .args(arguments)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| {
                matches!(name.as_str(), "PATH" | "RUST_BACKTRACE" | "RUST_LOG" | "TMPDIR")
            }))
            .envs(environment)
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = spawn(command).with_context(|| format!("start {role}"))?;
        let pid = i32::try_from(child.id()).context("a process id")?;
        let name = log.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Self { name, pid, child: Mutex::new(child), log: log.to_owned() })
    }

    /// What it is called in logs, e.g. `orchestrator-2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Sends a signal; none to a process that has ended.
    ///
    /// # Errors
    /// The system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        };
        // SAFETY: a system call with plain numbers; the child is not reaped yet, so the id is still its own.
        if unsafe { libc::kill(self.pid, number) } == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error()).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.child().wait().map(drop).with_context(|| format!("wait for {}", self.name))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It has not, within `limit`.
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
        eventually(&format!("{} ends", self.name), limit, async || Ok(self.child().try_wait()?)).await
    }

    /// Whether it runs (or stands still).
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Everything it has printed.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn output(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("the log {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The end of its log, for people who look why a scenario failed.
    pub fn last_words(&self) -> String {
        let state = match self.child().try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => match status.signal() {
                Some(signal) => format!("ended by signal {signal}"),
                None => format!("ended with {status}"),
            },
            Err(error) => error.to_string(),
        };
        let output = self.output().unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
        format!("---- {} ({state}), {}\n{}\n", self.name, self.log.display(), shown.join("\n"))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The program with all services in it.
///
/// # Errors
/// It is not there: it comes into being with the tests.
pub fn services_program() -> Result<PathBuf> {
    // target/debug/deps/scenarios-0123 -> target/debug/services
    let test = std::env::current_exe()?;
    let program = test.parent().and_then(Path::parent).map(|folder| folder.join("services"));
    program
        .filter(|program| program.is_file())
        .ok_or_else(|| anyhow!("no `services` beside {}; cargo test -p tests makes it", test.display()))
}

/// A folder for the logs of one stack, below the build's folder. Those of processes that are gone are removed.
///
/// # Errors
/// It cannot be made.
pub fn log_folder() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let program = services_program()?;
    let all = program.parent().context("the build's folder")?.join("scenario-logs");
    for old in fs::read_dir(&all).into_iter().flatten().flatten() {
        let owner = old.file_name().to_string_lossy().parse::<u32>().ok();
        if owner.is_some_and(|pid| pid != std::process::id() && !Path::new(&format!("/proc/{pid}")).exists())
        {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    let folder =
        all.join(std::process::id().to_string()).join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

type Request = (Command, Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this process: the kernel's signal for the death of the parent
/// goes out when the *thread* that started a child ends, and tests run on threads that end.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, received) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                let _ = answer.send(starting(|| command.spawn()));
            }
        });
        Mutex::new(requests)
    });
    let gone = || io::Error::other("the thread that starts processes has ended");
    let (answer, answered) = channel();
    let requests = spawner.lock().unwrap_or_else(PoisonError::into_inner).clone();
    requests.send((command, answer)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}
