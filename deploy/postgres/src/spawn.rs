//! Processes that do not outlive this program.
//!
//! On Linux every process spawned here asks the kernel for a signal when its parent ends. The kernel means the *thread* that spawned
//! it, so all of them are spawned from one thread that is never joined and ends with the program.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use crate::{
    account::Account,
    error::{PostgresError, io_error},
};

/// How often a state that sends no notice is looked at: a child's exit, a pid file, a lock.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One program to run for this one.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    /// Whom to become; nobody else when `None`.
    pub(crate) account: Option<&'a Account>,
    /// Signal that the kernel sends when this program ends.
    pub(crate) on_parent_death: libc::c_int,
    /// Stays open in the child, and with it the lock on the file.
    pub(crate) lock: &'a File,
    /// Where both outputs go.
    pub(crate) output: &'a File,
    pub(crate) environment: Environment,
}

/// What the child sees of our environment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Environment {
    /// Next to nothing: Postgres is started the same way whoever starts it, in `/`.
    Bare,
    /// All of it, for programs that need the user's settings.
    Ours,
}

impl Launch<'_> {
    /// Starts the program. Paths in the arguments must be absolute.
    pub(crate) fn spawn(self) -> io::Result<Child> {
        let mut command = Command::new(self.program);
        command
            .args(self.arguments)
            .stdin(Stdio::null())
            .stdout(self.output.try_clone()?)
            .stderr(self.output.try_clone()?)
            // a group of its own: Ctrl-C in the terminal is for the program that started us, which decides what stops when
            .process_group(0);
        if let Environment::Bare = self.environment {
            command
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("LC_ALL", "C")
                .env("TZ", "UTC")
                .current_dir("/");
        }
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        let lock = self.lock.as_raw_fd();
        let parent = std::process::id();
        let signal = self.on_parent_death;
        // SAFETY: runs in the child after the change of user (which would clear the request), calls only async-signal-safe functions.
        unsafe { command.pre_exec(move || tie_to_parent(parent, signal, lock)) };
        on_lasting_thread(move || command.spawn())
    }

    /// Starts the program and waits for its end.
    pub(crate) fn run(self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }
}

fn tie_to_parent(parent: u32, signal: libc::c_int, lock: libc::c_int) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: plain system calls.
        let (asked, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, signal), libc::getppid()) };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        if u32::try_from(now) != Ok(parent) {
            // SAFETY: the parent died in between, so no signal will come: end here.
            unsafe { libc::_exit(1) };
        }
        // SAFETY: the descriptor is open in the child as it is in the parent.
        if unsafe { libc::fcntl(lock, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (parent, signal, lock); // an orphan there is found at the next start, so it must not hold the lock
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
        // A thread that cannot be made drops the receiver: every errand then reports it below.
        let _detached = std::thread::Builder::new()
            .name("postgres-spawner".to_owned())
            .spawn(move || receiver.into_iter().for_each(|errand| errand()));
        sender
    });
    let (answer, result) = mpsc::sync_channel(1);
    let sent = errands.send(Box::new(move || {
        let _ = answer.send(errand());
    }));
    let gone = || io::Error::other("no thread to start processes from");
    sent.map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// A child that is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Signals to stop it by, each with the time it gets before the next one is sent.
    stop: &'static [(libc::c_int, Duration)],
}

impl Running {
    pub(crate) fn new(child: Child, stop: &'static [(libc::c_int, Duration)]) -> Self {
        Running { child, stop }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Stops it and says how it ended.
    pub(crate) fn stop(&mut self) -> io::Result<ExitStatus> {
        for (signal, patience) in self.stop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            send_signal(self.child.id(), *signal);
            let deadline = Instant::now() + *patience;
            while Instant::now() < deadline {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody is there to hear of a failure; the kernel's signal at the end of this program is the second net.
        let _ = self.stop();
    }
}

/// Sends a signal; a process that is gone is not an error.
pub(crate) fn send_signal(pid: u32, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: a plain system call.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Opens a new log file, with the one before it kept under another name.
pub(crate) fn open_log(path: &Path) -> Result<File, PostgresError> {
    let mut before: PathBuf = path.to_owned();
    before.set_extension("log.old");
    if path.exists() {
        std::fs::rename(path, &before).map_err(io_error("rename", path))?;
    }
    File::options().create(true).append(true).open(path).map_err(io_error("create", path))
}

/// How many lines of a log an error shows.
const LINES_SHOWN: usize = 15;

/// The last lines of a log, for an error.
pub(crate) fn last_lines(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
        [] => "(it is empty)".to_owned(),
        last => last.join("\n"),
    }
}
