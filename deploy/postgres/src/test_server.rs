//! One server for all tests of a test binary.

use std::{
    env,
    ffi::CString,
    fs::{self, File},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        OnceLock, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    account,
    error::{PostgresError, io_error},
    installation::find_or_fetch,
    lock::LOCK_FILE,
    paths::default_cache_dir,
    server::{Server, ServerOptions},
};

/// How the folders of test servers are called; mkdtemp fills in the rest.
const FOLDER: &str = "saga-test-postgres-";
/// In such a folder: held while the process that made it lives.
const OWNER_FILE: &str = "owner";
/// In such a folder: the data directory.
const DATA_DIR: &str = "server";
/// Enough for many tests at once, each with a pool of its own.
const MAX_CONNECTIONS: u32 = 400;

/// A server that the first test starts, all tests of the process share, and that goes with it: stopped and its folder removed when the
/// process ends; stopped when the process is killed, and then the next test server removes the folder.
///
/// ```no_run
/// let url = local_postgres::TestServer::shared().fresh_database();
/// ```
///
/// `cargo test` runs one test binary after the other, so there is one server at a time, started in under a second.
#[derive(Debug)]
pub struct TestServer {
    /// Taken out at the end of the process.
    server: RwLock<Option<Server>>,
    folder: PathBuf,
    databases: AtomicU32,
    _owner: File,
}

static SHARED: OnceLock<TestServer> = OnceLock::new();

impl TestServer {
    /// The server of this process.
    ///
    /// # Panics
    /// When no server can be had; the message names the ways out. A test cannot go on without one.
    pub fn shared() -> &'static TestServer {
        SHARED.get_or_init(|| match TestServer::start() {
            Ok(server) => {
                // SAFETY: registers a plain function that does not unwind.
                unsafe { libc::atexit(at_exit) };
                server
            }
            Err(error) => panic!("no Postgres for the tests: {error}"),
        })
    }

    /// Makes a new, empty database and returns where to find it. Every test gets its own.
    ///
    /// # Panics
    /// When the server refuses, with what it said.
    pub fn fresh_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        self.with_server(|server| match server.create_database(&name) {
            Ok(()) => server.url(&name),
            Err(error) => panic!(
                "{error}: {}",
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
            ),
        })
    }

    /// Where to find a database of that name, whether it is there or not.
    pub fn url(&self, database: &str) -> String {
        self.with_server(|server| server.url(database))
    }

    /// The database that is always there, for `CREATE DATABASE` and the like.
    pub fn maintenance_url(&self) -> String {
        self.url("postgres")
    }

    fn with_server<T>(&self, ask: impl FnOnce(&Server) -> T) -> T {
        match self.server.read().as_deref() {
            Ok(Some(server)) => ask(server),
            _ => panic!("the test server is stopped: the process is ending"),
        }
    }

    fn start() -> Result<TestServer, PostgresError> {
        let base = base_folder()?;
        sweep(&base);
        let folder = make_folder(&base).map_err(io_error("make a folder in", &base))?;
        let owner = take_ownership(&folder).map_err(io_error("lock", &folder))?;
        let installation = find_or_fetch(&default_cache_dir(), &mut |line| eprintln!("{line}"))?;
        let options = ServerOptions::throwaway().with("max_connections", MAX_CONNECTIONS);
        let server = Server::start(&installation, &folder.join(DATA_DIR), &options)?;
        Ok(TestServer {
            server: RwLock::new(Some(server)),
            folder,
            databases: AtomicU32::new(0),
            _owner: owner,
        })
    }
}

/// Statics are not dropped at the end of a process. Should another thread still be in the middle of a call, the kernel stops Postgres
/// and the next test server removes the folder.
extern "C" fn at_exit() {
    if let Some(shared) = SHARED.get()
        && let Ok(mut server) = shared.server.try_write()
    {
        drop(server.take());
        let _ = fs::remove_dir_all(&shared.folder);
    }
}

/// The system's folder for temporary files, unless the user that Postgres runs as cannot get there.
fn base_folder() -> Result<PathBuf, PostgresError> {
    let account = account::other_than_root()?;
    let usable =
        |folder: &PathBuf| folder.is_dir() && account.as_ref().is_none_or(|a| a.check_reach(folder).is_ok());
    let folders = [env::temp_dir(), PathBuf::from("/var/tmp")];
    let [_, fallback] = &folders;
    Ok(folders.iter().find(|folder| usable(folder)).unwrap_or(fallback).clone())
}

/// A folder of our own that the user Postgres runs as can pass through.
fn make_folder(base: &Path) -> io::Result<PathBuf> {
    let template = base.join(format!("{FOLDER}XXXXXX"));
    let template = CString::new(template.as_os_str().as_bytes())?.into_raw();
    // SAFETY: a writable text ending with NUL, which is taken back below whatever happens.
    let (made, template) = unsafe { (libc::mkdtemp(template), CString::from_raw(template)) };
    if made.is_null() {
        return Err(io::Error::last_os_error());
    }
    let folder = PathBuf::from(std::ffi::OsString::from_vec(template.into_bytes()));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
    Ok(folder)
}

/// The file gets its name when it is locked: whoever finds it under that name and unlocked knows that its maker is gone.
fn take_ownership(folder: &Path) -> io::Result<File> {
    let unnamed = folder.join("owner.new");
    let owner = File::create(&unnamed)?;
    owner.lock()?;
    fs::rename(&unnamed, folder.join(OWNER_FILE))?;
    Ok(owner)
}

/// Removes what killed processes of the same user left behind.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == account::effective_uid());
        let folder = entry.path();
        if ours && entry.file_name().to_string_lossy().starts_with(FOLDER) && is_abandoned(&folder) {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Whether both the process that made it and its Postgres are gone. A folder without the owner's file is just being made.
fn is_abandoned(folder: &Path) -> bool {
    let free = |path: PathBuf| File::open(path).map(|file| file.try_lock().is_ok());
    let owner_gone = free(folder.join(OWNER_FILE)).unwrap_or(false);
    owner_gone && free(folder.join(DATA_DIR).join(LOCK_FILE)).unwrap_or(true)
}
