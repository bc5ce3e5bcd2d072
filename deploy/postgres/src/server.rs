//! A server on one data directory, from start to stop.

use std::{
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    account::{self, Account},
    error::{PostgresError, io_error},
    installation::Installation,
    lock::{LOCK_FILE, lock_data_dir},
    spawn::{Environment, LOOK_EVERY, Launch, Running, last_lines, open_log, send_signal},
    wire,
};

/// The superuser of every cluster made here. It needs no password: only the socket's owner can reach it.
const USER: &str = "saga";
/// Part of the socket's name. Nothing listens on the port of that number.
const PORT: u16 = 5432;
/// Longest path that the system takes for a socket, without its closing NUL.
const SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// How long a start may take. A crash recovery reads back what was written since the last checkpoint.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long an orphan gets to stop.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(30);
/// Fast shutdown: sessions are ended and everything is written. Then at once, without writing; the next start recovers.
const STOP_DURABLE: &[(libc::c_int, Duration)] =
    &[(libc::SIGINT, Duration::from_secs(10)), (libc::SIGQUIT, Duration::from_secs(5))];
/// Data that is thrown away need not be written.
const STOP_THROWAWAY: &[(libc::c_int, Duration)] = &[(libc::SIGQUIT, Duration::from_secs(5))];
/// `initdb` ends by itself; when it has to be stopped its half-made folder is of no use.
const STOP_INITDB: libc::c_int = libc::SIGKILL;

/// How a server is to run. The default writes safely and keeps Postgres' own settings.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Settings of Postgres by name, as for its `-c`. Those that decide where it listens cannot be changed.
    pub settings: Vec<(String, String)>,
    throwaway: bool,
}

impl ServerOptions {
    /// For data that will be deleted: nothing is forced to the disk, and the server stops without writing anything.
    /// A crash of Postgres still loses nothing that was committed; a crash of the machine does.
    pub fn throwaway() -> Self {
        let settings = [("fsync", "off"), ("full_page_writes", "off")];
        ServerOptions {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            throwaway: true,
        }
    }

    /// The same with one setting more; of two with the same name the later one counts.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    fn stop_signals(&self) -> &'static [(libc::c_int, Duration)] {
        if self.throwaway { STOP_THROWAWAY } else { STOP_DURABLE }
    }
}

/// A running server. Dropping it stops it, and so does the end of this program, however it ends.
///
/// Stopping can take 15 seconds in the worst case: not on a thread that must not block.
#[derive(Debug)]
pub struct Server {
    // in this order: the process is gone before its socket folder and before the lock is free for the next one
    process: Running,
    socket: SocketDir,
    _lock: fs::File,
    log: PathBuf,
}

impl Server {
    /// Starts a server on the data directory, which is made when it is missing, and returns when it accepts connections.
    ///
    /// # Errors
    /// The data directory cannot be used ([`PostgresError::Unreachable`], [`PostgresError::NotADataDir`]), is in use
    /// ([`PostgresError::InUse`]) or was made by another version ([`PostgresError::OtherVersion`]), or Postgres ended or did not
    /// become ready, with the end of its log.
    pub fn start(
        installation: &Installation,
        data_dir: &Path,
        options: &ServerOptions,
    ) -> Result<Server, PostgresError> {
        let data_dir = std::path::absolute(data_dir).map_err(io_error("find", data_dir))?;
        let account = account::for_cluster(&data_dir.join("data"))?;
        let account = account.as_ref();
        if let Some(account) = account {
            account.check_reach(&installation.bin)?;
        }
        let home = prepare(&data_dir, account)?;
        let lock = lock_data_dir(&home)?;
        let start = Start { installation, home: &home, account, lock: &lock, options };
        stop_orphan(&start.cluster())?;
        start.make_cluster()?;
        start.check_version()?;
        let socket = SocketDir::make(&home, account)?;
        socket.forget_killed_server()?;
        let log = home.join("postgres.log");
        let process = start.postgres(&socket, &log)?;
        Ok(Server { process, socket, _lock: lock, log })
    }

    /// Where clients find a database of this server, for sqlx and everything that takes `host` as a parameter.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encoded(&self.socket.path.to_string_lossy(), &['/']);
        format!("postgres://{USER}@localhost/{}?host={host}&port={PORT}", percent_encoded(database, &[]))
    }

    /// Makes a database; one that is there is left as it is.
    ///
    /// # Errors
    /// [`PostgresError::CreateDatabase`] with what the server said.
    pub fn create_database(&self, name: &str) -> Result<(), PostgresError> {
        wire::create_database(&self.socket.socket(), USER, name)
            .map_err(|source| PostgresError::CreateDatabase { database: name.to_owned(), source })
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// That the server is still running.
    ///
    /// # Errors
    /// [`PostgresError::Ended`] with the end of its log.
    pub fn check_running(&mut self) -> Result<(), PostgresError> {
        match self.process.ended().map_err(io_error("wait for", &self.log))? {
            None => Ok(()),
            Some(status) => Err(ended("postgres", status, &self.log)),
        }
    }

    /// Stops the server and waits for its end.
    ///
    /// # Errors
    /// [`PostgresError::Ended`] when it ended badly, with the end of its log. It is gone all the same.
    pub fn stop(mut self) -> Result<(), PostgresError> {
        let status = self.process.stop().map_err(io_error("stop", &self.log))?;
        if status.success() { Ok(()) } else { Err(ended("postgres", status, &self.log)) }
    }
}

fn ended(program: &'static str, status: std::process::ExitStatus, log: &Path) -> PostgresError {
    PostgresError::Ended { program, status, log: log.to_owned(), lines: last_lines(log) }
}

/// What the steps of a start have in common.
struct Start<'a> {
    installation: &'a Installation,
    home: &'a Path,
    account: Option<&'a Account>,
    lock: &'a fs::File,
    options: &'a ServerOptions,
}

impl Start<'_> {
    fn cluster(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Runs `initdb` unless it was done. A folder that an interrupted one left half made is thrown away.
    fn make_cluster(&self) -> Result<(), PostgresError> {
        let cluster = self.cluster();
        if cluster.exists() {
            return Ok(());
        }
        let half_made = self.home.join("data.new");
        if half_made.exists() {
            fs::remove_dir_all(&half_made).map_err(io_error("remove", &half_made))?;
        }
        let mut arguments: Vec<OsString> =
            vec!["-D".into(), half_made.clone().into(), "-U".into(), USER.into()];
        arguments.extend(
            ["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-instructions"].map(OsString::from),
        );
        if self.options.throwaway {
            arguments.push("--no-sync".into());
        }
        let log = self.home.join("initdb.log");
        let program = self.installation.bin.join("initdb");
        let launch = self.launch(&program, arguments, STOP_INITDB, &open_log(&log)?).run();
        let status = launch.map_err(io_error("run", &program))?;
        if !status.success() {
            return Err(ended("initdb", status, &log));
        }
        fs::rename(&half_made, &cluster).map_err(io_error("rename", &half_made))
    }

    fn check_version(&self) -> Result<(), PostgresError> {
        let path = self.cluster().join("PG_VERSION");
        let made_by = fs::read_to_string(&path).map_err(io_error("read", &path))?.trim().to_owned();
        if made_by == self.installation.version.to_string() {
            return Ok(());
        }
        let bin = self.installation.bin.clone();
        Err(PostgresError::OtherVersion {
            path: self.home.to_owned(),
            made_by,
            bin,
            server: self.installation.version,
        })
    }

    fn postgres(&self, socket: &SocketDir, log: &Path) -> Result<Running, PostgresError> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.cluster().into()];
        for (name, value) in &self.options.settings {
            arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        arguments
            .extend(["-c", "listen_addresses=", "-c", "logging_collector=off", "-p"].map(OsString::from));
        arguments.extend([PORT.to_string().into(), "-k".into(), socket.path.clone().into()]);
        let program = self.installation.bin.join("postgres");
        let stop = self.options.stop_signals();
        let on_parent_death = stop.first().map_or(libc::SIGINT, |(signal, _)| *signal);
        let spawned = self.launch(&program, arguments, on_parent_death, &open_log(log)?).spawn();
        let mut process = Running::new(spawned.map_err(io_error("run", &program))?, stop);

        let deadline = Instant::now() + READY_WITHIN;
        while !is_ready(&self.cluster(), process.pid(), &socket.socket()) {
            if let Some(status) = process.ended().map_err(io_error("wait for", &program))? {
                return Err(ended("postgres", status, log));
            }
            if Instant::now() > deadline {
                let limit_s = READY_WITHIN.as_secs();
                return Err(PostgresError::NotReady { limit_s, log: log.to_owned(), lines: last_lines(log) });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(process)
    }

    fn launch<'a>(
        &'a self,
        program: &'a Path,
        arguments: Vec<OsString>,
        on_parent_death: libc::c_int,
        output: &'a fs::File,
    ) -> Launch<'a> {
        let (account, lock) = (self.account, self.lock);
        Launch { program, arguments, account, on_parent_death, lock, output, environment: Environment::Bare }
    }
}

/// Makes the data directory, or sees that the one there is ours to use, and returns its path without symbolic links.
fn prepare(data_dir: &Path, account: Option<&Account>) -> Result<PathBuf, PostgresError> {
    if let (Some(account), Some(parent)) = (account, data_dir.parent()) {
        account.check_reach(parent)?;
    }
    make_reachable_dirs(data_dir)?;
    let home = data_dir.canonicalize().map_err(io_error("find", data_dir))?;
    let mut entries = fs::read_dir(&home).map_err(io_error("read", &home))?.peekable();
    if entries.peek().is_some() && !home.join(LOCK_FILE).exists() {
        return Err(PostgresError::NotADataDir { path: home });
    }
    if let Some(account) = account {
        // once more without symbolic links: what they lead to may be closed
        home.parent().map_or(Ok(()), |parent| account.check_reach(parent))?;
        account.own(&home)?;
    }
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700))
        .map_err(io_error("change the permissions of", &home))?;
    Ok(home)
}

/// Like `create_dir_all`, but whatever the umask says others can pass through the folders it makes.
pub(crate) fn make_reachable_dirs(path: &Path) -> Result<(), PostgresError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_reachable_dirs(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(io_error("create", path)(error)),
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .map_err(io_error("change the permissions of", path)),
    }
}

/// Called with the lock held, so a pid file that is there is of an orphan of ours, or rubbish. Rubbish has to go: Postgres would
/// take any process of the same user that now has the number for a server.
fn stop_orphan(cluster: &Path) -> Result<(), PostgresError> {
    let pid_file = cluster.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else { return Ok(()) };
    let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 0);
    let Some(pid) = pid.filter(|pid| works_in(*pid, cluster)) else {
        return fs::remove_file(&pid_file).map_err(io_error("remove", &pid_file));
    };
    send_signal(pid.unsigned_abs(), libc::SIGINT);
    let deadline = Instant::now() + ORPHAN_PATIENCE;
    while works_in(pid, cluster) {
        if Instant::now() > deadline {
            return Err(PostgresError::DoesNotStop { pid, path: cluster.to_owned() });
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Whether the process is a Postgres on that cluster: Postgres works in its cluster's folder.
#[cfg(target_os = "linux")]
fn works_in(pid: i32, cluster: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster)
}

/// The same where the working directory of others cannot be read: its first argument names the folder.
#[cfg(not(target_os = "linux"))]
fn works_in(pid: i32, cluster: &Path) -> bool {
    let listed = std::process::Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    listed.is_ok_and(|listed| {
        String::from_utf8_lossy(&listed.stdout).contains(&format!("-D {}", cluster.display()))
    })
}

/// Whether that very process says that it is ready, and its socket accepts.
fn is_ready(cluster: &Path, pid: u32, socket: &Path) -> bool {
    let Ok(text) = fs::read_to_string(cluster.join("postmaster.pid")) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str())
        && lines.get(7) == Some(&"ready")
        && UnixStream::connect(socket).is_ok()
}

/// The folder of the socket: the data directory, or a short one of our own which goes when the server goes.
#[derive(Debug)]
struct SocketDir {
    path: PathBuf,
    short: bool,
}

impl SocketDir {
    fn make(home: &Path, account: Option<&Account>) -> Result<SocketDir, PostgresError> {
        let inside = SocketDir { path: home.to_owned(), short: false };
        if inside.socket().as_os_str().len() <= SOCKET_PATH_BYTES {
            return Ok(inside);
        }
        let mut hasher = DefaultHasher::new();
        home.hash(&mut hasher);
        let short = SocketDir {
            path: PathBuf::from(format!("/tmp/saga-postgres-{:016x}", hasher.finish())),
            short: true,
        };
        let made = match fs::create_dir(&short.path) {
            // left behind by a killed program; anybody could have made it, so it must be ours
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && short.is_ours(account) => {
                Ok(())
            }
            made => made,
        };
        made.map_err(io_error("create", &short.path))?;
        account.map_or(Ok(()), |account| account.own(&short.path))?;
        fs::set_permissions(&short.path, fs::Permissions::from_mode(0o700))
            .map_err(io_error("change the permissions of", &short.path))?;
        Ok(short)
    }

    fn is_ours(&self, account: Option<&Account>) -> bool {
        let us = [Some(account::effective_uid()), account.map(|account| account.uid)];
        fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| metadata.is_dir() && us.contains(&Some(metadata.uid())))
    }

    /// Removes the lock file of a socket whose server was killed: its number may belong to another process by now, which
    /// Postgres would take for a running server. Ours is the lock of the data directory, and nobody else holds it.
    fn forget_killed_server(&self) -> Result<(), PostgresError> {
        let lock = self.path.join(format!(".s.PGSQL.{PORT}.lock"));
        match fs::remove_file(&lock) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("remove", &lock)(error))
            }
            _ => Ok(()),
        }
    }

    fn socket(&self) -> PathBuf {
        self.path.join(format!(".s.PGSQL.{PORT}"))
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if self.short {
            // Postgres has removed its socket; if not, the folder stays and the next start uses it
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Everything but letters, digits, `-._~` and what is kept, as `%XX`.
fn percent_encoded(text: &str, keep: &[char]) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&char::from(byte))
    };
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
