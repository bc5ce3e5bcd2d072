//! The folder that makes one stack: its Postgres, its logs, and a lock, so that two never share it.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const LOCK: &str = "lock";
/// A stack that was killed a moment ago still holds the lock until the system has cleared it away.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How many lines of a log are shown when its program has ended.
const SHOWN_LINES: usize = 15;
/// Where the last lines of a log are looked for, in bytes from its end.
const TAIL_BYTES: u64 = 16 * 1024;

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is missing, and locks it.
    pub(crate) fn open(chosen: Option<&Path>) -> Result<Self> {
        let path = match chosen {
            Some(path) => std::path::absolute(path)?,
            None => local_postgres::default_data_dir("local"),
        };
        make(&path)?;
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        if !path.join(LOCK).exists() && fs::read_dir(&path)?.next().is_some() {
            bail!("{} holds other things; choose an empty or a new folder with --data-dir", path.display());
        }
        let lock = lock(&path)?;
        let dir = Self { path, _lock: lock };
        make(&dir.path.join("logs"))?;
        Ok(dir)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the own Postgres keeps its data.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// What is known of a burst that has not ended.
    pub(crate) fn burst(&self) -> PathBuf {
        self.path.join("burst.json")
    }

    /// The log of one program.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        if name == "postgres" {
            return self.postgres().join("postgres.log");
        }
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// A new log for one program; of the older ones only the last is kept.
    pub(crate) fn new_log(&self, name: &str) -> Result<File> {
        let path = self.log(name);
        if path.exists() {
            fs::rename(&path, path.with_extension("log.old"))
                .with_context(|| format!("cannot rename {}", path.display()))?;
        }
        let opened = File::options().create(true).append(true).open(&path);
        opened.with_context(|| format!("cannot create {}", path.display()))
    }

    /// The end of one program's log.
    pub(crate) fn end_of_log(&self, name: &str) -> String {
        let text = tail(&self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        match &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            [] => "    (it is empty)".to_owned(),
            last => last.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"),
        }
    }
}

/// Makes a folder and those above it. Whatever the umask says, the user that Postgres runs as has to pass through.
fn make(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make(above)?;
    }
    let made =
        fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    made.with_context(|| format!("cannot create {}", path.display()))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let context = || format!("cannot lock {}", path.display());
    let opened = File::options().create(true).read(true).write(true).truncate(false).open(&path);
    let mut file = opened.with_context(context)?;
    let asked = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
            Err(TryLockError::WouldBlock) if asked.elapsed() > LOCK_PATIENCE => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).with_context(context)?;
                let (dir, pid) = (dir.display(), pid.trim());
                bail!(
                    "{dir} is in use by process {pid}; stop that one first, or choose another folder with --data-dir"
                );
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_EVERY),
        }
    }
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()))
        .with_context(context)?;
    Ok(file)
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
