//! Starting the program, reading what it says, and looking at what it leaves running.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Everything in a test has happened by then, also with many tests at once on a small machine.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A folder that goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        // Root's Postgres runs as another user, who has to get here.
        let path = PathBuf::from(format!("/var/tmp/local-stack-test-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program with these arguments, and an environment that is the same everywhere.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    for name in ["DATABASE_URL", "KAFKA_PROPERTIES", "LOG_FORMAT", "RUST_LOG", "HTTP_ADDR", "COLUMNS"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The program on a data directory and any free port.
pub(crate) fn on(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = program(&["--http", "127.0.0.1:0", "--data-dir"]);
    command.arg(folder.path().join("data")).args(arguments);
    command
}

/// How a run ended: exit code, standard output, standard error.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) complained: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), said: text(&output.stdout), complained: text(&output.stderr) }
    }

    /// Fails unless the program succeeded and said all this, and nothing on standard error.
    #[track_caller]
    pub(crate) fn check(&self, parts: &[&str]) {
        let missing: Vec<_> = parts.iter().filter(|part| !self.said.contains(**part)).collect();
        let fine = self.code == Some(0) && self.complained.is_empty() && missing.is_empty();
        assert!(fine, "{:?}, missing {missing:?}\n{}\n{}", self.code, self.said, self.complained);
    }
}

/// Runs the program to its end.
pub(crate) fn run(mut command: Command) -> Ended {
    Ended::of(&command.output().unwrap())
}

/// A program that runs. Killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (output, heard) = (child.stdout.take().unwrap(), said.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        Self { child, said, reader: Some(reader) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said this, and returns the line.
    pub(crate) fn line_with(&mut self, part: &str) -> String {
        let line = |text: &str| text.lines().find(|line| line.contains(part)).map(str::to_owned);
        eventually(&format!("a line with {part:?}"), || match line(&self.said()) {
            Some(line) => Some(line),
            None if self.child.try_wait().unwrap().is_some() => {
                let mut complained = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut complained).unwrap();
                panic!("it ended without a line with {part:?}:\n{}\n{complained}", self.said())
            }
            None => None,
        })
    }

    /// Where its API is.
    pub(crate) fn api(&mut self) -> String {
        let line = self.line_with("payment-worker ready");
        line.rsplit_once("http://").unwrap().1.trim().to_owned()
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: a plain system call, on a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(i32::try_from(self.pid()).unwrap(), signal) }, 0);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let status = eventually("its end", || self.child.try_wait().unwrap());
        self.reader.take().unwrap().join().unwrap();
        let mut complained = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complained).unwrap();
        Ended { code: status.code(), said: self.said(), complained }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The processes below that one, with their own.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let parent = fields.and_then(|fields| fields.get(1)?.parse().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![of];
    let mut at = 0;
    while let Some(above) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// Waits until none of these processes is there.
#[track_caller]
pub(crate) fn all_gone(pids: &[u32]) {
    let lives = |pid: &u32| match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // A zombie has ended; that nobody has asked for its exit code is not its fault.
        Ok(stat) => stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')),
        Err(_) => false,
    };
    eventually("the end of everything that was started", || (!pids.iter().any(lives)).then_some(()));
}

/// The body of an answer.
pub(crate) fn get(api: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(api).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
