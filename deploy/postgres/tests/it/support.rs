//! What the tests of this crate share: folders that go away, waiting for something to become true, and running a test as a process
//! of its own, so that it can be killed or be given another environment.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use local_postgres::{Installation, Server, ServerOptions, default_cache_dir, find_or_fetch};
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};

/// A folder of this test, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("local-postgres-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        // whatever the umask: as root another user has to get in
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Folder(path)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.0.join("data-dir")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(crate) fn installation() -> Installation {
    find_or_fetch(&default_cache_dir(), &mut |line| println!("{line}")).unwrap()
}

pub(crate) fn start(data_dir: &Path) -> Server {
    Server::start(&installation(), data_dir, &ServerOptions::throwaway()).unwrap()
}

/// Why a start is refused.
pub(crate) fn refusal(data_dir: &Path) -> String {
    Server::start(&installation(), data_dir, &ServerOptions::throwaway()).unwrap_err().to_string()
}

/// Runs a statement through the client that the services use and returns its one value.
pub(crate) fn query(url: &str, sql: &str) -> Option<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database::connect(url).await.unwrap();
        let row = database.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
        database.close().await.unwrap();
        row.map(|row| row.try_get_by_index(0).unwrap())
    })
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Whether the process runs. One that has ended and waits for its parent does not.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Says something to the test that runs this one as a process.
pub(crate) fn tell(what: impl std::fmt::Display) {
    println!("\n>> {what}");
}

/// An ignored test of the same file, running as a process of its own.
pub(crate) struct Process {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    pub(crate) fn run(test: &str, environment: &[(&str, &Path)]) -> Process {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]).envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Process { child, said }
    }

    /// The next thing it tells.
    pub(crate) fn told(&mut self) -> String {
        let mut lines = self.said.by_ref().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix(">> ").map(str::to_owned)).expect("it ended without a word")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its own end, which must be a good one, and returns everything it told until then.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let told = self
            .said
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix(">> ").map(str::to_owned));
        let told = told.collect();
        assert!(self.child.wait().unwrap().success(), "{told:?}");
        told
    }
}
