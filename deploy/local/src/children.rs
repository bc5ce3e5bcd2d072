//! Processes that do not outlive this program.
//!
//! On Linux each asks the kernel to be killed when its parent ends. The kernel means the *thread* that made it, so all are
//! made by one thread, which lives as long as the program. Killed and not asked to stop: when this program dies without a
//! word, broker and Postgres go with it, and the services have nobody to finish their work with. They are made to lose
//! nothing by that.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{mpsc as notices, oneshot, watch};

/// How long a service gets to finish what is in flight.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(25);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Every process made here that has not been waited for.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// One program to start: this one, under a sub-command.
#[derive(Debug)]
pub(crate) struct Launch {
    /// What it is called in messages.
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<OsString>,
    /// Added to our own environment; `None` takes a variable out.
    pub(crate) environment: Vec<(&'static str, Option<OsString>)>,
    /// Where its standard error goes.
    pub(crate) log: File,
}

/// A process that has been started. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    process: std::process::Child,
    ended: watch::Receiver<bool>,
}

/// A child and the first line that it prints.
pub(crate) type Started = (Child, oneshot::Receiver<String>);

impl Launch {
    /// Starts it; `deaths` hears its name when it ends.
    pub(crate) fn start(self, deaths: &notices::UnboundedSender<&'static str>) -> Result<Started> {
        let name = self.name;
        let mut process = self.spawn().with_context(|| format!("cannot start {name}"))?;
        remember(process.id());
        let output = process.stdout.take().context("a child without standard output")?;
        let ended = watch_end(name, process.id(), deaths.clone())?;
        Ok((Child { name, process, ended }, first_line(output)?))
    }

    fn spawn(self) -> io::Result<std::process::Child> {
        let mut command = Command::new(own_program()?);
        // A group of its own: Ctrl-C in the terminal is for us, who decide what stops when.
        command.arg0("local").args(self.arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.log);
        for (name, value) in self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let parent = std::process::id();
        // SAFETY: runs in the child before it becomes the program; calls only async-signal-safe functions.
        unsafe { command.pre_exec(move || tie_to_parent(parent)) };
        on_lasting_thread(move || command.spawn())
    }
}

/// Also when the file has been replaced since, which a build does.
fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

#[cfg(target_os = "linux")]
fn tie_to_parent(parent: u32) -> io::Result<()> {
    // SAFETY: plain system calls.
    let (asked, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    if u32::try_from(now) != Ok(parent) {
        // SAFETY: the parent died in between, so no signal will come: end here.
        unsafe { libc::_exit(1) };
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn tie_to_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

type Errand = Box<dyn FnOnce() + Send>;

/// Runs the errand on the thread that lives as long as the program.
fn on_lasting_thread<T: Send + 'static>(
    errand: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    static ERRANDS: OnceLock<mpsc::Sender<Errand>> = OnceLock::new();
    let errands = ERRANDS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Errand>();
        // Without the thread every errand reports it below.
        let _detached = std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || receiver.into_iter().for_each(|errand| errand()));
        sender
    });
    let gone = || io::Error::other("there is no thread to start processes from");
    let (answer, result) = mpsc::sync_channel(1);
    let run: Errand = Box::new(move || {
        let _ = answer.send(errand());
    });
    errands.send(run).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// The first line on that output; the rest is read and forgotten, so that the child never waits for us.
fn first_line(output: std::process::ChildStdout) -> Result<oneshot::Receiver<String>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("first-line".to_owned()).spawn(move || {
        let mut lines = BufReader::new(output).lines();
        if let Some(Ok(line)) = lines.next() {
            let _ = sender.send(line);
        }
        for _ in lines {}
    })?;
    Ok(receiver)
}

/// Tells `deaths`, and whoever holds what is returned, when a child of this program ends. Leaves it to be waited for.
pub(crate) fn watch_end(
    name: &'static str,
    pid: u32,
    deaths: notices::UnboundedSender<&'static str>,
) -> Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    std::thread::Builder::new().name(format!("{name}-watch")).spawn(move || {
        wait_for_end(pid);
        let _ = sender.send(true);
        let _ = deaths.send(name);
    })?;
    Ok(receiver)
}

fn wait_for_end(pid: u32) {
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is writable for the length of the call.
        let waited =
            unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
        let interrupted = waited != 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if !interrupted {
            // It has ended, or somebody else has waited for it already.
            return;
        }
    }
}

impl Child {
    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to finish, and kills it if that takes longer than [`STOP_PATIENCE`].
    pub(crate) async fn stop(mut self) -> Stopped {
        signal(self.pid(), libc::SIGTERM);
        let in_time = tokio::time::timeout(STOP_PATIENCE, self.ended.wait_for(|ended| *ended)).await.is_ok();
        if !in_time {
            signal(self.pid(), libc::SIGKILL);
        }
        // Ended or killed: this takes no time worth mentioning.
        Stopped { name: self.name, in_time, status: self.reap() }
    }

    fn reap(&mut self) -> Option<ExitStatus> {
        let status = self.process.wait().ok();
        forget(self.process.id());
        status
    }
}

impl Drop for Child {
    /// Reached when nobody had the time to stop it properly, e.g. in a panic.
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.process.try_wait() {
            return forget(self.process.id());
        }
        signal(self.pid(), libc::SIGTERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.process.try_wait() {
                return forget(self.process.id());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        signal(self.pid(), libc::SIGKILL);
        self.reap();
    }
}

/// How a child that was asked to stop has ended.
#[derive(Debug)]
pub(crate) struct Stopped {
    name: &'static str,
    in_time: bool,
    status: Option<ExitStatus>,
}

impl Stopped {
    /// What should not have been, if anything.
    pub(crate) fn complaint(&self) -> Option<String> {
        if !self.in_time {
            let limit = STOP_PATIENCE.as_secs();
            return Some(format!("{} did not stop within {limit} s and was killed", self.name));
        }
        let status =
            self.status.filter(|status| !status.success() && status.signal() != Some(libc::SIGTERM))?;
        Some(format!("{} stopped with {status}", self.name))
    }
}

/// Kills everything that was started here, for the way out that waits for nothing.
pub(crate) fn kill_all() {
    for pid in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        signal(*pid, libc::SIGKILL);
    }
}

fn remember(pid: u32) {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
}

fn forget(pid: u32) {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != pid);
}

/// Sends a signal to a child that has not been waited for, so the number is still its own.
fn signal(pid: u32, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid, signal) };
    }
}
