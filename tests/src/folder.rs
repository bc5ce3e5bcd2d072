//! A folder of its own for what a program starts.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A folder of data and logs. One that was made for this run goes with it.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// The chosen one, which must be empty, or a new one for temporary files whose name begins with `prefix`.
    ///
    /// # Errors
    /// It cannot be made, or is in use.
    pub fn open(chosen: Option<&Path>, prefix: &str) -> Result<Self> {
        if let Some(path) = chosen {
            fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
            let path = path.canonicalize()?;
            let used = fs::read_dir(&path)?.next().is_some();
            ensure!(!used, "{} is not empty: what an old database holds would be mixed in", path.display());
            return Ok(Self { path, temporary: false });
        }
        let template = std::env::temp_dir().join(format!("{prefix}XXXXXX"));
        let template = CString::new(template.as_os_str().as_bytes())?.into_raw();
        // SAFETY: a writable text ending with NUL, which is taken back below whatever happens.
        let (made, template) = unsafe { (libc::mkdtemp(template), CString::from_raw(template)) };
        ensure!(!made.is_null(), "make a folder: {}", std::io::Error::last_os_error());
        let path = PathBuf::from(std::ffi::OsString::from_vec(template.into_bytes()));
        // Postgres may run as another user, who has to get there.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        Ok(Self { path, temporary: true })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
