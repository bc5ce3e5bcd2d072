//! A timer that is exact to some microseconds. tokio's own rounds up to whole milliseconds, which at a modest rate would
//! be a good part of what is measured.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;

/// One timer of the kernel.
pub(crate) struct Timer {
    fd: AsyncFd<OwnedFd>,
}

impl Timer {
    /// On the runtime of the caller.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a system call with plain numbers.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has made it, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: it is owned here as long as it is registered, and nobody else closes it.
        Ok(Self { fd: unsafe { AsyncFd::register(fd)? } })
    }

    /// Comes back at that moment, or at once if it is past.
    pub(crate) async fn until(&self, moment: Instant) -> io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        self.set(left)?;
        loop {
            let mut ready = self.fd.readable().await?;
            let read = ready.try_io(|fd| {
                let mut expirations = 0_u64;
                // SAFETY: the kernel writes eight bytes, into as many.
                let read = unsafe { libc::read(fd.as_raw_fd(), (&raw mut expirations).cast(), 8) };
                if read == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
            if let Ok(expired) = read {
                return expired;
            }
        }
    }

    fn set(&self, left: Duration) -> io::Result<()> {
        let value = libc::timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let when = libc::itimerspec { it_interval: none, it_value: value };
        // SAFETY: `when` lives as long as the call; a null pointer means that the old value is not asked for.
        let set =
            unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &raw const when, std::ptr::null_mut()) };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
