//! One server per data directory. The lock is a flock on a file in it, which Postgres inherits: it is free only when the program that
//! started the server *and* the server are gone.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    error::{PostgresError, io_error},
    spawn::LOOK_EVERY,
};

/// Name of the lock file in a data directory.
pub(crate) const LOCK_FILE: &str = "lock";
/// How long a start waits while the program that holds the lock is alive: it may be about to end.
const HOLDER_ALIVE: Duration = Duration::from_secs(2);
/// How long a start waits when that program is gone: its Postgres has been told to stop and may have much to write.
const HOLDER_GONE: Duration = Duration::from_secs(30);

/// Takes the lock of a data directory. It is held until the file is closed here and in every child that inherited it.
pub(crate) fn lock_data_dir(dir: &Path) -> Result<File, PostgresError> {
    let path = dir.join(LOCK_FILE);
    let open = File::options().create(true).read(true).write(true).truncate(false).open(&path);
    let mut file = open.map_err(io_error("open", &path))?;
    let asked = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = holder(&mut file);
        let patience = if holder.is_some_and(is_alive) { HOLDER_ALIVE } else { HOLDER_GONE };
        if asked.elapsed() > patience {
            let pid = holder.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            return Err(PostgresError::InUse { path: dir.to_owned(), pid });
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()));
    written.map_err(io_error("write", &path))?;
    Ok(file)
}

/// Who wrote the file last. While the lock is held that is its holder, but for the moment in which a new one writes.
fn holder(file: &mut File) -> Option<libc::pid_t> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

fn is_alive(pid: libc::pid_t) -> bool {
    // SAFETY: signal 0 is sent to nobody; it only asks.
    let sent = unsafe { libc::kill(pid, 0) };
    sent == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
