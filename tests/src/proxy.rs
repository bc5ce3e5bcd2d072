//! A network that can be had: a proxy between a service and what it talks to, which delays, cuts, swallows, and for
//! Postgres loses the answer to a commit that has happened.

pub mod postgres;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::random::Random;
use postgres::{Answers, Requests};

/// What is read at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// Between two looks whether a stalled network goes on.
const STALLED: Duration = Duration::from_millis(20);

/// Where a proxy leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A socket in the file system.
    Unix(PathBuf),
    /// An address.
    Tcp(SocketAddr),
}

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weather {
    /// As if it were not there.
    #[default]
    Clear,
    /// Everything takes so much longer, in each direction, give or take the second.
    Slow(Duration, Duration),
    /// Connections are accepted, what comes is swallowed, and nothing comes back: a half-open network.
    Swallowing,
    /// What is asked arrives, and the answers are swallowed: a network that is broken in one direction.
    Mute,
    /// Nothing gets through, and all of it does when that is over: lost packets, which TCP sends again.
    Stalled,
    /// Connections are closed as soon as they come.
    Closed,
}

/// What is lost of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It happened for certain, and the answer is lost.
    Answer,
    /// The connection breaks as soon as it was sent; it may have happened.
    Fate,
}

/// Where something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

#[derive(Debug)]
struct Control {
    upstream: OnceLock<Upstream>,
    weather: Mutex<Weather>,
    /// Cancelled, and made anew, to cut all connections.
    connections: Mutex<CancellationToken>,
    /// The next commits are lost so.
    losses: Mutex<Vec<Loss>>,
    lost: AtomicU64,
    random: Mutex<Random>,
}

/// A proxy on a port of its own. It goes when it is dropped, and every connection through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens; inside a runtime only. Connections are refused until [`Proxy::lead_to`] says where they go.
    ///
    /// # Errors
    /// No port is to be had.
    pub fn listen(seed: u64) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a port for a proxy")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control {
            upstream: OnceLock::new(),
            weather: Mutex::default(),
            connections: Mutex::default(),
            losses: Mutex::default(),
            lost: AtomicU64::new(0),
            random: Mutex::new(Random::seeded(seed)),
        });
        let accepting = tokio::spawn(accept(listener, control.clone()));
        Ok(Self { address, control, accepting })
    }

    /// From now on connections go there; only the first call counts.
    pub fn lead_to(&self, upstream: Upstream) {
        let _ = self.control.upstream.set(upstream);
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the network. What was swallowed is gone, so its connections break when that ends.
    pub fn set(&self, weather: Weather) {
        let before = std::mem::replace(&mut *lock(&self.control.weather), weather);
        if matches!(before, Weather::Swallowing | Weather::Mute) || weather == Weather::Closed {
            self.cut();
        }
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        std::mem::take(&mut *lock(&self.control.connections)).cancel();
    }

    /// Of the next commits that come by, each is lost in one of these ways, and its connection with it.
    pub fn lose(&self, losses: impl IntoIterator<Item = Loss>) {
        lock(&self.control.losses).extend(losses);
    }

    /// No further commit is lost.
    pub fn lose_nothing(&self) {
        lock(&self.control.losses).clear();
    }

    /// How many commits were lost so far.
    pub fn lost(&self) -> u64 {
        self.control.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Control {
    fn weather(&self) -> Weather {
        *lock(&self.weather)
    }

    /// Waits as the weather has it; false if what goes in this direction is lost.
    async fn passes(&self, way: Way) -> bool {
        loop {
            match self.weather() {
                Weather::Clear => return true,
                Weather::Slow(delay, spread) => {
                    let wait = lock(&self.random).between(delay.saturating_sub(spread), delay + spread);
                    tokio::time::sleep(wait).await;
                    return true;
                }
                Weather::Mute => return way == Way::ToServer,
                Weather::Swallowing | Weather::Closed => return false,
                Weather::Stalled => tokio::time::sleep(STALLED).await,
            }
        }
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        if control.weather() == Weather::Closed {
            continue;
        }
        let cut = lock(&control.connections).clone();
        let control = control.clone();
        tokio::spawn(async move {
            // Whoever was connected learns of it by the end of the connection.
            let _ = cut.run_until_cancelled(connect(client, &control)).await;
        });
    }
}

async fn connect(client: TcpStream, control: &Control) -> io::Result<()> {
    client.set_nodelay(true)?;
    match control.upstream.get() {
        Some(Upstream::Unix(path)) => {
            let (from, to) = UnixStream::connect(path).await?.into_split();
            carry(client, from, to, control).await
        }
        Some(Upstream::Tcp(address)) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (from, to) = stream.into_split();
            carry(client, from, to, control).await
        }
        None => Ok(()),
    }
}

/// Carries what comes in both directions until one side has ended, or a commit was to be lost.
async fn carry(
    client: TcpStream,
    from_server: impl AsyncRead + Unpin,
    to_server: impl AsyncWrite + Unpin,
    control: &Control,
) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let doomed = Mutex::new(None);
    tokio::select! {
        ended = requests(from_client, to_server, control, &doomed) => ended,
        ended = answers(from_server, to_client, control, &doomed) => ended,
    }
}

type Doomed = Mutex<Option<Loss>>;

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    control: &Control,
    doomed: &Doomed,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut requests = Requests::default();
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        if !control.passes(Way::ToServer).await {
            continue;
        }
        let commits = requests.commits(&chunk[..read]);
        if commits && let Some(loss) = lock(&control.losses).pop() {
            // Before it is sent: its answer must not slip through.
            *lock(doomed) = Some(loss);
            control.lost.fetch_add(1, Ordering::Relaxed);
        }
        to.write_all(&chunk[..read]).await?;
        if *lock(doomed) == Some(Loss::Fate) {
            return Ok(());
        }
    }
}

async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    control: &Control,
    doomed: &Doomed,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut answers = Answers::default();
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        let is_done = answers.completes(&chunk[..read]);
        if lock(doomed).is_some() {
            if is_done {
                return Ok(());
            }
            continue;
        }
        if control.passes(Way::ToClient).await {
            to.write_all(&chunk[..read]).await?;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
