//! The service manager that started the process: told when it is ready, that it lives and that it stops, as systemd wants it of
//! units with `Type=notify` and `WatchdogSec=`: datagrams to the socket in `NOTIFY_SOCKET`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// How soon it is looked again whether the service is ready by now; each time a quarter later,
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// up to this: one that stands by, without a shard of its own, may not be ready for days.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How often, and after which pause, the last word is said again where a manager's queue is full.
const LAST_WORDS: usize = 20;
const LAST_WORD_PAUSE: Duration = Duration::from_millis(20);
/// Without a watchdog there is nothing to do until the stop.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// Who started this process and wants to know how it is.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names; `None`: nobody wants to know. One that cannot be reached is as none.
    pub fn of_process() -> Option<Self> {
        let socket = std::env::var_os(SOCKET)?;
        let number = |name: &str| std::env::var(name).ok()?.parse().ok();
        let pid = number(WATCHDOG_PID);
        let watchdog = watchdog(number(WATCHDOG_USEC), pid, u64::from(std::process::id()));
        match Self::at(&socket, watchdog) {
            Ok(manager) => Some(manager),
            Err(error) => {
                let socket = socket.display();
                tracing::warn!(%error, "{SOCKET}: nobody can be told at {socket} how the service is");
                None
            }
        }
    }

    /// At that socket: a path, or an abstract name after an `@`.
    fn at(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes().split_first() {
            Some((b'@', name)) => abstract_name(name)?,
            _ => SocketAddr::from_pathname(OsString::from(socket))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold anything up.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, watchdog })
    }

    /// Says `READY=1` as soon as `ready`, a sign of life twice in each time of the watchdog while `alive`, and `STOPPING=1` when
    /// `stop` is cancelled; signs of life go on until it is dropped.
    pub async fn tell(
        self,
        ready: impl AsyncFn() -> bool,
        alive: impl Fn() -> bool,
        stop: CancellationToken,
    ) {
        let (mut said_ready, mut look) = (false, FIRST_LOOK);
        loop {
            if !said_ready && ready().await {
                said_ready = self.send("READY=1");
            }
            if self.watchdog.is_some() && alive() {
                self.send("WATCHDOG=1");
            }
            let often = self.watchdog.map(|limit| limit / 2).unwrap_or(FOR_EVER);
            let pause = if said_ready { often } else { often.min(look) };
            look = (look + look / 4).min(LONGEST_LOOK);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        for _ in 0..LAST_WORDS {
            if self.send("STOPPING=1") {
                break;
            }
            tokio::time::sleep(LAST_WORD_PAUSE).await;
        }
        while let Some(limit) = self.watchdog {
            if alive() {
                self.send("WATCHDOG=1");
            }
            tokio::time::sleep(limit / 2).await;
        }
    }

    /// Whether it was told. A manager that does not listen is not worth more than a line.
    fn send(&self, what: &str) -> bool {
        let sent = self.socket.send_to_addr(what.as_bytes(), &self.address);
        if let Err(error) = &sent {
            tracing::debug!(%error, what, "the service manager was not told");
        }
        sent.is_ok()
    }
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How often signs of life are wanted of this process: `WATCHDOG_PID` may say that another one is meant.
fn watchdog(micros: Option<u64>, pid: Option<u64>, own: u64) -> Option<Duration> {
    let micros = micros.filter(|micros| *micros > 0 && pid.is_none_or(|pid| pid == own))?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn only_the_process_that_is_meant_gives_signs_of_life() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(None, None, 7), None);
        assert_eq!(watchdog(Some(0), None, 7), None);
        assert_eq!(watchdog(Some(1_000_000), None, 7), second);
        assert_eq!(watchdog(Some(1_000_000), Some(7), 7), second);
        assert_eq!(watchdog(Some(1_000_000), Some(8), 7), None);
    }

    /// What is said next that is no sign of life.
    async fn next(socket: &tokio::net::UnixDatagram) -> String {
        let mut bytes = [0; 64];
        loop {
            let length = socket.recv(&mut bytes).await.unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text != "WATCHDOG=1" {
                return text;
            }
        }
    }

    async fn told_at(socket: &OsStr, listener: tokio::net::UnixDatagram) {
        let manager = ServiceManager::at(socket, Some(Duration::from_millis(20))).unwrap();
        let (is_ready, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let ready = {
            let is_ready = is_ready.clone();
            async move || is_ready.load(Ordering::SeqCst)
        };
        let telling = tokio::spawn({
            let stop = stop.clone();
            async move { manager.tell(ready, || true, stop).await }
        });
        let mut bytes = [0; 64];
        let length = listener.recv(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..length], b"WATCHDOG=1", "a sign of life, and no word of being ready");
        is_ready.store(true, Ordering::SeqCst);
        assert_eq!(next(&listener).await, "READY=1");
        let length = listener.recv(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..length], b"WATCHDOG=1");
        stop.cancel();
        assert_eq!(next(&listener).await, "STOPPING=1");
        telling.abort();
    }

    #[tokio::test]
    async fn a_manager_is_told_what_happens() {
        let path = std::env::temp_dir().join(format!("notify-{}", uuid::Uuid::new_v4()));
        let listener = tokio::net::UnixDatagram::bind(&path).unwrap();
        told_at(path.as_os_str(), listener).await;
        std::fs::remove_file(&path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_may_have_an_abstract_name() {
        let name = format!("notify-{}", uuid::Uuid::new_v4());
        let address = abstract_name(name.as_bytes()).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixDatagram::from_std(listener).unwrap();
        told_at(OsStr::new(&format!("@{name}")), listener).await;
    }

    #[tokio::test]
    async fn one_that_does_not_live_says_nothing() {
        let path = std::env::temp_dir().join(format!("notify-{}", uuid::Uuid::new_v4()));
        let listener = tokio::net::UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.as_os_str(), Some(Duration::from_millis(2))).unwrap();
        let stop = CancellationToken::new();
        let told = stop.clone();
        let telling = tokio::spawn(async move { manager.tell(async || true, || false, told).await });
        let mut bytes = [0; 64];
        let mut said = Vec::new();
        for _ in 0..2 {
            let length = listener.recv(&mut bytes).await.unwrap();
            said.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            stop.cancel();
        }
        assert_eq!(said, ["READY=1", "STOPPING=1"]);
        telling.abort();
        std::fs::remove_file(&path).unwrap();
    }
}
