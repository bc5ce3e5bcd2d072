//! Which Postgres to run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{account, error::PostgresError, fetch};

/// Oldest major version that is taken.
const OLDEST: u32 = 14;
/// How an error begins when there is none.
pub(crate) const NONE_INSTALLED: &str = "none of version 14 or later is installed";
/// Folders in which systems keep one folder per version, each with a `bin`.
const VERSIONED: &[(&str, &str)] = &[("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The programs of one Postgres server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The folder with `postgres` and `initdb`.
    pub bin: PathBuf,
    /// The major version.
    pub version: u32,
}

impl Installation {
    /// The server in that folder, if there is one which starts and is new enough.
    pub(crate) fn at(bin: &Path) -> Option<Installation> {
        // PATH may hold links; `postgres` finds its other files next to the real program
        let postgres = bin.join("postgres").canonicalize().ok()?;
        let bin = postgres.parent()?.to_owned();
        if !bin.join("initdb").is_file() {
            return None;
        }
        let output =
            Command::new(&postgres).arg("--version").env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
        let version = major_version(&String::from_utf8_lossy(&output.stdout))?;
        (output.status.success() && version >= OLDEST).then_some(Installation { bin, version })
    }
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` and `postgres (PostgreSQL) 18beta1` have theirs in the third word.
fn major_version(text: &str) -> Option<u32> {
    let word = text.split_whitespace().nth(2)?;
    let digits = word.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(word.len());
    word[..digits].parse().ok()
}

/// Where a server may come from, as `LOCAL_POSTGRES` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Any,
    Installed,
    Fetched,
}

impl Source {
    fn from_environment() -> Result<Source, PostgresError> {
        match env::var_os("LOCAL_POSTGRES") {
            None => Ok(Source::Any),
            Some(value) if value.is_empty() => Ok(Source::Any),
            Some(value) if value == "installed" => Ok(Source::Installed),
            Some(value) if value == "fetch" => Ok(Source::Fetched),
            Some(value) => Err(PostgresError::UnknownSource { found: value.to_string_lossy().into_owned() }),
        }
    }
}

/// The installed server: the first on `PATH`, else the newest in the systems' usual folders. None under `LOCAL_POSTGRES=fetch`.
pub fn find() -> Option<Installation> {
    match Source::from_environment() {
        Ok(Source::Any | Source::Installed) => installed().next(),
        Ok(Source::Fetched) | Err(_) => None,
    }
}

/// An installed server, else one fetched earlier into `cache`, else one fetched now, which `progress` hears about.
///
/// # Errors
/// [`PostgresError::NoServer`] says what was tried and names the ways out.
pub fn find_or_fetch(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<Installation, PostgresError> {
    choose(None, cache, progress)
}

/// The same, but a data directory that has data in it gets a server of the major version that made it, when one can be had:
/// its data is found again after a newer Postgres was installed.
///
/// # Errors
/// As [`find_or_fetch`].
pub fn find_or_fetch_for(
    data_dir: &Path,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Installation, PostgresError> {
    let made_by =
        fs::read_to_string(data_dir.join("data/PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
    match made_by.map(|version| choose(Some(version), cache, progress)) {
        Some(Ok(installation)) => Ok(installation),
        // no such version: take what there is, and the start says what does not fit
        None | Some(Err(_)) => choose(None, cache, progress),
    }
}

fn choose(
    version: Option<u32>,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Installation, PostgresError> {
    let source = Source::from_environment()?;
    let fits = |found: &Installation| version.is_none_or(|version| version == found.version);
    if source != Source::Fetched
        && let Some(found) = installed().find(fits)
    {
        return Ok(found);
    }
    if source == Source::Installed {
        return Err(PostgresError::NoServer {
            tried: format!("{NONE_INSTALLED}, and LOCAL_POSTGRES=installed forbids to fetch one"),
        });
    }
    fetch::cached_or_fetched(version, cache, progress)
}

/// Installed servers, best first. Looked at one by one, because each look runs a program.
fn installed() -> impl Iterator<Item = Installation> {
    let on_path =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut versioned: Vec<(u32, PathBuf)> =
        VERSIONED.iter().flat_map(|(folder, prefix)| versions_in(folder, prefix)).collect();
    versioned.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let folders = on_path.into_iter().chain(versioned.into_iter().map(|(_, bin)| bin));
    // one below root's home is of no use when root starts it as somebody else
    let account = account::other_than_root().ok().flatten();
    let reachable =
        move |found: &Installation| account.as_ref().is_none_or(|a| a.check_reach(&found.bin).is_ok());
    folders.filter_map(|folder| Installation::at(&folder)).filter(reachable)
}

fn versions_in(folder: &str, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let versions = entries.filter_map(|entry| {
        let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    versions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_major_version() {
        let check = |text: &str, expected: Option<u32>| assert_eq!(major_version(text), expected, "{text}");
        check("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some(15));
        check("postgres (PostgreSQL) 18beta1\n", Some(18));
        check("postgres (PostgreSQL) 17\n", Some(17));
        check("postgres\n", None);
        check("", None);
    }
}
