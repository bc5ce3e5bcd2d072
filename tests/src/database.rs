//! A service's own database, looked into and disturbed from outside.

use std::time::Duration;

use anyhow::{Context, Result};
use local_postgres::TestServer;
use messaging::embedded::starting;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as Connect, DatabaseConnection, DbBackend, QueryResult,
    Statement, Value,
};

/// Under this name the scenarios connect, so that a disturbance spares them.
const APPLICATION: &str = "scenario";
const CONNECTIONS: u32 = 3;

/// A database of the test server.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
    name: String,
    connection: DatabaseConnection,
}

impl Database {
    /// A fresh, empty one.
    ///
    /// # Errors
    /// It cannot be connected to.
    pub async fn fresh() -> Result<Self> {
        Self::at(tokio::task::spawn_blocking(|| starting(TestServer::shared).fresh_database()).await?).await
    }

    /// One that is there.
    ///
    /// # Errors
    /// It cannot be connected to.
    pub async fn at(url: String) -> Result<Self> {
        let connection = connect(&url).await?;
        let row = connection.query_one_raw(sql("SELECT current_database()::text AS name", vec![])).await?;
        let name = row.context("a database has a name")?.try_get("", "name")?;
        Ok(Self { url, name, connection })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For code under test that wants a connection.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    /// Runs a query.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn rows(&self, query: &str, values: Vec<Value>) -> Result<Vec<QueryResult>> {
        self.connection.query_all_raw(sql(query, values)).await.with_context(|| query.to_owned())
    }

    /// Runs a query of one text column named `text`.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn texts(&self, query: &str, values: Vec<Value>) -> Result<Vec<String>> {
        let rows = self.rows(query, values).await?;
        rows.iter().map(|row| Ok(row.try_get("", "text")?)).collect()
    }

    /// Runs a query of one bigint column named `n` and one row.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn number(&self, query: &str, values: Vec<Value>) -> Result<i64> {
        let rows = self.rows(query, values).await?;
        Ok(rows.first().with_context(|| format!("no row: {query}"))?.try_get("", "n")?)
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        self.connection.execute_unprepared(statement).await.with_context(|| statement.to_owned())?;
        Ok(())
    }

    /// Breaks every connection but those of scenarios, and says how many there were.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn break_connections(&self) -> Result<i64> {
        let query = "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name <> $1 AND pid <> pg_backend_pid()";
        self.number(query, vec![APPLICATION.into()]).await
    }

    /// Takes the database away from everybody who does not have a connection yet, and breaks those that exist: for a
    /// service, the database is gone. [`Database::come_back`] undoes it.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn go_away(&self) -> Result<()> {
        self.allow_connections(false).await?;
        self.break_connections().await.map(drop)
    }

    /// As before [`Database::go_away`].
    ///
    /// # Errors
    /// The database refuses.
    pub async fn come_back(&self) -> Result<()> {
        self.allow_connections(true).await
    }

    /// Drops it, whoever is connected: hundreds of databases are a lot to clear away at the end of a test run.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn drop(self) -> Result<()> {
        self.connection.close().await?;
        let maintenance = connect(&TestServer::shared().maintenance_url()).await?;
        maintenance.execute_unprepared(&format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name)).await?;
        Ok(maintenance.close().await?)
    }

    async fn allow_connections(&self, allowed: bool) -> Result<()> {
        let maintenance = connect(&TestServer::shared().maintenance_url()).await?;
        let alter = format!("ALTER DATABASE \"{}\" ALLOW_CONNECTIONS {allowed}", self.name);
        maintenance.execute_unprepared(&alter).await?;
        Ok(maintenance.close().await?)
    }
}

async fn connect(url: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(20))
        .sqlx_logging(false)
        .map_sqlx_postgres_opts(|options| options.application_name(APPLICATION));
    Connect::connect(options).await.with_context(|| format!("connect to {url}"))
}

fn sql(query: &str, values: Vec<Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, query, values)
}
