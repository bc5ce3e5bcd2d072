//! Where things go when nobody says.

use std::{env, path::PathBuf};

use crate::account::effective_uid;

/// Folder of this product below the system's folders for data and caches.
const PRODUCT: &str = "saga-orchestrator";

/// Where a data directory of that name goes: below `/var/lib` for root (the user that Postgres runs as could not enter root's home),
/// else below `$XDG_DATA_HOME` or `~/.local/share`.
pub fn default_data_dir(name: &str) -> PathBuf {
    base("/var/lib", "XDG_DATA_HOME", ".local/share").join(name)
}

/// Where fetched servers are kept: below `/var/cache` for root, else below `$XDG_CACHE_HOME` or `~/.cache`.
pub fn default_cache_dir() -> PathBuf {
    base("/var/cache", "XDG_CACHE_HOME", ".cache").join("postgres")
}

fn base(for_root: &str, variable: &str, below_home: &str) -> PathBuf {
    if effective_uid() == 0 {
        return PathBuf::from(for_root).join(PRODUCT);
    }
    let absolute = |path: std::ffi::OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let named = env::var_os(variable).and_then(absolute);
    match named.or_else(|| env::var_os("HOME").and_then(absolute).map(|home| home.join(below_home))) {
        Some(folder) => folder.join(PRODUCT),
        // a user without a home, as services have: one folder per user, since others may use the same place
        None => env::temp_dir().join(format!("{PRODUCT}-{}", effective_uid())),
    }
}
