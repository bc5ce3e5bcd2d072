//! The user that Postgres runs as. Postgres refuses root, and `initdb` refuses a user id without a passwd entry.

use std::{
    ffi::CStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::error::PostgresError;

/// A user other than root, known to the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user id this program acts as.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// Whom to become before running Postgres on a cluster: nobody else for an ordinary user; for root the owner of the cluster when it is
/// there, else as for a new one.
pub(crate) fn for_cluster(cluster: &Path) -> Result<Option<Account>, PostgresError> {
    let owner = || fs::metadata(cluster).ok().and_then(|metadata| by_uid(metadata.uid()));
    match other_than_root()? {
        None => Ok(None),
        Some(account) => Ok(Some(owner().unwrap_or(account))),
    }
}

/// Whom to become before running anything of Postgres: nobody else for an ordinary user; for root the user who called `sudo`, else
/// `nobody`.
pub(crate) fn other_than_root() -> Result<Option<Account>, PostgresError> {
    if effective_uid() != 0 {
        return Ok(None);
    }
    let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok()).and_then(by_uid);
    caller.or_else(|| by_name(c"nobody")).map(Some).ok_or(PostgresError::NoAccount)
}

fn by_uid(uid: u32) -> Option<Account> {
    // SAFETY: the closure only forwards valid pointers to getpwuid_r.
    lookup(|entry, buffer, length, found| unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) })
}

fn by_name(name: &CStr) -> Option<Account> {
    // SAFETY: as above; `name` outlives the call.
    lookup(|entry, buffer, length, found| unsafe {
        libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found)
    })
}

/// Longest passwd entry that is read. The fields used here are short.
const PASSWD_ENTRY_BYTES: usize = 16 * 1024;

fn lookup(
    ask: impl Fn(*mut libc::passwd, *mut libc::c_char, libc::size_t, *mut *mut libc::passwd) -> libc::c_int,
) -> Option<Account> {
    let mut buffer = vec![0 as libc::c_char; PASSWD_ENTRY_BYTES];
    let mut found = std::ptr::null_mut();
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
    if ask(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) != 0 || found.is_null() {
        return None;
    }
    // SAFETY: a non-null `found` says that the entry was filled; its strings live in `buffer`, which is still here.
    let (name, uid, gid) = unsafe {
        let entry = entry.assume_init();
        (CStr::from_ptr(entry.pw_name).to_string_lossy().into_owned(), entry.pw_uid, entry.pw_gid)
    };
    (uid != 0).then_some(Account { name, uid, gid })
}

impl Account {
    /// That this user can enter `path` and every folder above it. Looks at the permission bits only, not at access lists.
    pub(crate) fn check_reach(&self, path: &Path) -> Result<(), PostgresError> {
        match self.first_closed(path) {
            None => Ok(()),
            Some(blocked) => {
                Err(PostgresError::Unreachable { account: self.name.clone(), blocked, path: path.to_owned() })
            }
        }
    }

    /// The topmost folder on the way that keeps this user out. What does not exist yet is not in the way.
    fn first_closed(&self, path: &Path) -> Option<PathBuf> {
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        folders
            .into_iter()
            .find(|folder| fs::metadata(folder).is_ok_and(|m| !self.may_enter(&m)))
            .map(Path::to_owned)
    }

    fn may_enter(&self, folder: &fs::Metadata) -> bool {
        let bit = match (folder.uid() == self.uid, folder.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        folder.mode() & bit != 0
    }

    /// Makes this user the owner of one file or folder.
    pub(crate) fn own(&self, path: &Path) -> Result<(), PostgresError> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(crate::error::io_error("give to another user", path))
    }
}
