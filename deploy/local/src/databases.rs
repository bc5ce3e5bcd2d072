//! The three databases: in a Postgres of our own, or as three schemas of the one that `DATABASE_URL` names.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use local_postgres::{Server, ServerOptions, default_cache_dir, find_or_fetch_for};
use migrations::apply::apply;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, QueryResult, Statement, Value,
};

use crate::terminal::Terminal;

const DATABASE_URL: &str = "DATABASE_URL";
/// Connections of ours to each database: we look, and do little else.
const CONNECTIONS: u32 = 4;
/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where each service keeps its tables.
#[derive(Debug, Clone)]
pub struct Urls {
    /// The orchestrator's database.
    pub orchestrator: String,
    /// The booking worker's.
    pub booking: String,
    /// The payment worker's.
    pub payment: String,
}

impl Urls {
    fn of(url: impl Fn(&str) -> String) -> Self {
        Self { orchestrator: url("orchestrator"), booking: url("booking"), payment: url("payment") }
    }

    fn all(&self) -> [(&'static str, &str); 3] {
        [("orchestrator", &self.orchestrator), ("booking", &self.booking), ("payment", &self.payment)]
    }
}

/// The Postgres that the environment names.
pub(crate) fn given() -> Result<Option<String>> {
    let Some(url) = std::env::var_os(DATABASE_URL).filter(|url| !url.is_empty()) else { return Ok(None) };
    let url = url.into_string().ok().filter(|url| {
        let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
        is_postgres && url.parse::<PgConnectOptions>().is_ok()
    });
    // The text may hold a password, so it is not repeated.
    url.map(Some)
        .with_context(|| format!("{DATABASE_URL}: allowed is postgres://USER:PASSWORD@HOST/DATABASE"))
}

/// Starts a Postgres on that folder; blocks. The second part says which version it is.
pub(crate) fn start_own(folder: &Path, terminal: Terminal) -> Result<(Server, Urls, u32)> {
    let mut progress = |line: &str| terminal.say(&format!("     {line}"));
    let installation = find_or_fetch_for(folder, &default_cache_dir(), &mut progress)?;
    // A burst writes much in a short time: no checkpoint in the middle of it.
    let options = ServerOptions::default()
        .with("max_wal_size", "4GB")
        .with("checkpoint_timeout", "15min")
        .with("shared_buffers", "256MB")
        .with("jit", "off");
    let server = Server::start(&installation, folder, &options)?;
    let urls = Urls::of(|name| server.url(name));
    for (name, _) in urls.all() {
        server.create_database(name)?;
    }
    Ok((server, urls, installation.version))
}

/// Makes the three schemas in the database given.
pub(crate) async fn make_schemas(url: &str) -> Result<Urls> {
    let database = connect(url).await.with_context(|| format!("{DATABASE_URL}: there is no answer"))?;
    let separator = if url.contains('?') { '&' } else { '?' };
    let urls = Urls::of(|name| format!("{url}{separator}options[search_path]={name}"));
    for (name, _) in urls.all() {
        let made = database.execute_unprepared(&format!("CREATE SCHEMA IF NOT EXISTS {name}")).await;
        made.with_context(|| format!("{DATABASE_URL}: the schema {name} cannot be made"))?;
    }
    Ok(urls)
}

/// Open connections to the three databases.
#[derive(Debug, Clone)]
pub struct Databases {
    /// The orchestrator's.
    pub orchestrator: DatabaseConnection,
    /// The booking worker's.
    pub booking: DatabaseConnection,
    /// The payment worker's.
    pub payment: DatabaseConnection,
}

impl Databases {
    /// Connects, and brings all tables up to date.
    ///
    /// # Errors
    /// A database does not answer, or a migration fails.
    pub async fn open(urls: &Urls) -> Result<Self> {
        let connect = async |name: &str, url: &str| {
            connect(url).await.with_context(|| format!("the database of {name} does not answer"))
        };
        let databases = Self {
            orchestrator: connect("the orchestrator", &urls.orchestrator).await?,
            booking: connect("the booking worker", &urls.booking).await?,
            payment: connect("the payment worker", &urls.payment).await?,
        };
        let context = |name: &str| format!("the tables of the {name} cannot be made");
        apply::<migrations::orchestrator::Migrator>(&databases.orchestrator)
            .await
            .with_context(|| context("orchestrator"))?;
        apply::<migrations::booking::Migrator>(&databases.booking)
            .await
            .with_context(|| context("booking worker"))?;
        apply::<migrations::payment::Migrator>(&databases.payment)
            .await
            .with_context(|| context("payment worker"))?;
        Ok(databases)
    }

    /// The sources of all definitions that were ever published here.
    pub(crate) async fn definitions(&self) -> Result<Vec<String>> {
        let found =
            rows(&self.orchestrator, "SELECT source FROM definition ORDER BY name, version", []).await?;
        found.iter().map(|row| Ok(row.try_get("", "source")?)).collect()
    }

    /// How many sagas there are.
    pub(crate) async fn sagas(&self) -> Result<SagaCounts> {
        let sql = "SELECT count(*) AS total, count(*) FILTER (WHERE open) AS open, \
                       count(*) FILTER (WHERE open AND definition = 'booking') AS open_bookings, \
                       count(*) FILTER (WHERE status = 'stuck') AS stuck \
                   FROM (SELECT definition, status, status IN ('running', 'compensating') AS open FROM saga) s";
        let Some(row) = rows(&self.orchestrator, sql, []).await?.into_iter().next() else {
            bail!("the table saga cannot be counted");
        };
        let count = |name| row.try_get::<i64>("", name).map(|number| u64::try_from(number).unwrap_or(0));
        Ok(SagaCounts {
            total: count("total")?,
            open: count("open")?,
            open_bookings: count("open_bookings")?,
            stuck: count("stuck")?,
        })
    }
}

/// How many sagas the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SagaCounts {
    pub(crate) total: u64,
    /// Neither ended nor stuck.
    pub(crate) open: u64,
    /// Those of the booking definition.
    pub(crate) open_bookings: u64,
    /// Waiting for an operator.
    pub(crate) stuck: u64,
}

async fn connect(url: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(CONNECTIONS)
        .connect_timeout(CONNECT_LIMIT)
        .acquire_timeout(CONNECT_LIMIT)
        .sqlx_logging(false)
        .map_sqlx_postgres_opts(|options| options.application_name("local-stack"));
    Ok(Database::connect(options).await?)
}

/// The rows of a query.
pub(crate) async fn rows<const N: usize>(
    database: &DatabaseConnection,
    sql: &str,
    values: [Value; N],
) -> Result<Vec<QueryResult>> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    Ok(database.query_all_raw(statement).await?)
}
