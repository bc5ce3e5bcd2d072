//! What Postgres knows of itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use local::Databases;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};

use super::stack::Stack;

/// Settings that decide what a commit costs, and how safe it is.
const SETTINGS: [&str; 14] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "wal_level",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "commit_delay",
    "autovacuum",
    "jit",
    "data_checksums",
];

/// What a cluster has done since it was made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wal {
    pub(crate) bytes: f64,
    pub(crate) records: f64,
    pub(crate) full_pages: f64,
    pub(crate) syncs: f64,
}

/// By cluster, and by database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    pub(crate) wal: BTreeMap<String, Wal>,
    pub(crate) commits: BTreeMap<String, f64>,
}

/// One connection to each cluster, with a name for it.
fn clusters(stack: &Stack) -> Vec<(&'static str, &DatabaseConnection)> {
    let Databases { orchestrator, booking, payment } = &stack.databases;
    match stack.servers.len() {
        1 => vec![("all databases", orchestrator)],
        _ => vec![("orchestrator", orchestrator), ("booking", booking), ("payment", payment)],
    }
}

pub(crate) async fn done(stack: &Stack) -> Result<Done> {
    // Since Postgres 18 the writes of the WAL are counted where all others are.
    let wal = if stack.postgres_version >= 18 {
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS bytes, \
           wal_records::float8 AS records, wal_fpi::float8 AS fpi, \
           (SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal')::float8 AS syncs FROM pg_stat_wal"
    } else {
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS bytes, \
           wal_records::float8 AS records, wal_fpi::float8 AS fpi, wal_sync::float8 AS syncs FROM pg_stat_wal"
    };
    let commits = "SELECT datname::text AS name, xact_commit::float8 AS n FROM pg_stat_database \
                   WHERE datname IN ('orchestrator', 'booking', 'payment')";
    let mut done = Done::default();
    for (name, database) in clusters(stack) {
        let row = rows(database, wal).await?.into_iter().next().context("pg_stat_wal has a row")?;
        let number = |column| row.try_get::<f64>("", column);
        let wal = Wal {
            bytes: number("bytes")?,
            records: number("records")?,
            full_pages: number("fpi")?,
            syncs: number("syncs")?,
        };
        done.wal.insert(name.to_owned(), wal);
        for row in rows(database, commits).await? {
            *done.commits.entry(row.try_get("", "name")?).or_default() += row.try_get::<f64>("", "n")?;
        }
    }
    Ok(done)
}

/// Whom Postgres' processes work for, by process id: a database, `background`, or `looking` for our own connections.
pub(crate) async fn backends(stack: &Stack) -> Result<BTreeMap<u32, String>> {
    let query = "SELECT pid, CASE WHEN application_name = 'local-stack' THEN 'looking' \
                   WHEN backend_type = 'client backend' THEN datname::text ELSE 'background' END AS name \
                 FROM pg_stat_activity";
    let mut all = BTreeMap::new();
    for (_, database) in clusters(stack) {
        for row in rows(database, query).await? {
            let pid: i32 = row.try_get("", "pid")?;
            all.insert(pid.unsigned_abs(), row.try_get("", "name")?);
        }
    }
    Ok(all)
}

/// All databases on disk, in MiB.
pub(crate) async fn size_mib(stack: &Stack) -> Result<f64> {
    let Databases { orchestrator, booking, payment } = &stack.databases;
    let query = "SELECT pg_database_size(current_database()) AS n";
    let mut bytes = 0;
    for database in [orchestrator, booking, payment] {
        bytes += number(database, query).await?;
    }
    Ok(bytes as f64 / 1024.0 / 1024.0)
}

/// The settings that matter, by name.
pub(crate) async fn settings(stack: &Stack) -> Result<BTreeMap<String, String>> {
    let list = SETTINGS.map(|name| format!("'{name}'")).join(", ");
    let query =
        format!("SELECT name, current_setting(name) AS value FROM pg_settings WHERE name IN ({list})");
    let rows = rows(&stack.databases.orchestrator, &query).await?;
    rows.iter().map(|row| Ok((row.try_get("", "name")?, row.try_get("", "value")?))).collect()
}

pub(crate) async fn rows(database: &DatabaseConnection, query: &str) -> Result<Vec<QueryResult>> {
    let statement = Statement::from_string(DbBackend::Postgres, query);
    database.query_all_raw(statement).await.with_context(|| query.to_owned())
}

/// The one number, named `n`, that a query gives.
pub(crate) async fn number(database: &DatabaseConnection, query: &str) -> Result<i64> {
    let rows = rows(database, query).await?;
    Ok(rows.first().with_context(|| format!("no row: {query}"))?.try_get("", "n")?)
}
