//! Published definitions and schemas, as rows. Nothing of them ever changes or goes.

use saga_defs::ids::DefinitionRef;
use sea_orm::{ConnectionTrait, QueryResult, TransactionTrait};
use time::OffsetDateTime;

use super::audit::AuditRow;
use super::{Store, StoreError, statement};

/// The advisory lock under which is published: one at a time, in all processes.
const PUBLISHING: i64 = 0x7361_6761_2d70_7562;

/// How much is published. Since nothing ever changes or goes, the same numbers mean the same content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Versions of definitions.
    pub definitions: usize,
    /// Versions of schemas.
    pub schemas: usize,
}

/// A published version of a definition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DefinitionRow {
    /// Name and version.
    pub id: DefinitionRef,
    /// Its text.
    pub source: String,
    /// When it was published.
    pub registered_at: OffsetDateTime,
    /// What the model check said then, as JSON; `None` if it was published before there was one.
    pub model_check: Option<serde_json::Value>,
}

/// A published version of a schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaRow {
    /// The record's full name.
    pub name: String,
    /// From 1.
    pub version: u32,
    /// Where its text came from, for people.
    pub origin: String,
    /// Its text.
    pub source: String,
}

impl SchemaRow {
    /// A file name for it, from which the catalog reads the version.
    pub fn file_name(&self) -> String {
        format!("{}.v{}.avsc", self.name, self.version)
    }
}

/// Everything that is published.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rows {
    /// The definitions.
    pub definitions: Vec<DefinitionRow>,
    /// The schemas; at least those that the definitions need.
    pub schemas: Vec<SchemaRow>,
}

impl Rows {
    /// How much it is.
    pub const fn counts(&self) -> Counts {
        Counts { definitions: self.definitions.len(), schemas: self.schemas.len() }
    }
}

/// What is to be published together.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// New versions of definitions: id, text, what the model check said.
    pub definitions: Vec<(DefinitionRef, String, Option<serde_json::Value>)>,
    /// New versions of schemas.
    pub schemas: Vec<SchemaRow>,
    /// Who did it.
    pub audit: Vec<AuditRow>,
}

impl Store {
    /// How much is published.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn published_counts(&self) -> Result<Counts, StoreError> {
        counts(&self.db).await
    }

    /// Everything that is published. Definitions are read first: what a definition needs is published with it or before
    /// it, so the schemas that are read afterwards are enough.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn published(&self) -> Result<Rows, StoreError> {
        let sql =
            "SELECT name, version, source, registered_at, model_check FROM definition ORDER BY name, version";
        let definitions = self.db.query_all_raw(statement(sql, vec![])).await?;
        let sql = "SELECT name, version, origin, source FROM schema ORDER BY name, version";
        let schemas = self.db.query_all_raw(statement(sql, vec![])).await?;
        Ok(Rows {
            definitions: definitions.iter().map(definition).collect::<Result<_, _>>()?,
            schemas: schemas.iter().map(schema).collect::<Result<_, _>>()?,
        })
    }

    /// Publishes all of it or nothing, one at a time. `false`: nothing, since meanwhile more is published than it was checked against.
    ///
    /// # Errors
    /// When the database does not answer; whether it is published is not known then, and asking again does no harm.
    pub async fn publish(&self, new: &Publication, checked_against: Counts) -> Result<bool, StoreError> {
        let _one = self.publishing.lock().await;
        let transaction = self.db.begin().await?;
        let lock = statement("SELECT pg_advisory_xact_lock($1)", vec![PUBLISHING.into()]);
        transaction.execute_raw(lock).await?;
        if counts(&transaction).await? != checked_against {
            transaction.rollback().await?;
            return Ok(false);
        }
        for row in &new.schemas {
            let sql = "INSERT INTO schema (name, version, origin, source) VALUES ($1, $2, $3, $4)";
            let (name, origin, source) = (row.name.as_str(), row.origin.as_str(), row.source.as_str());
            let values = vec![name.into(), column(row.version).into(), origin.into(), source.into()];
            transaction.execute_raw(statement(sql, values)).await?;
        }
        for (id, source, model_check) in &new.definitions {
            let sql = "INSERT INTO definition (name, version, source, model_check) VALUES ($1, $2, $3, $4)";
            let (name, version) = ((*id.name).into(), column(id.version).into());
            let values = vec![name, version, source.as_str().into(), model_check.clone().into()];
            transaction.execute_raw(statement(sql, values)).await?;
        }
        for row in &new.audit {
            transaction.execute_raw(row.statement()).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

async fn counts(db: &impl ConnectionTrait) -> Result<Counts, StoreError> {
    let sql =
        "SELECT (SELECT count(*) FROM definition) AS definitions, (SELECT count(*) FROM schema) AS schemas";
    let Some(row) = db.query_one_raw(statement(sql, vec![])).await? else { return Ok(Counts::default()) };
    let number = |name| -> Result<usize, StoreError> {
        let number: i64 = row.try_get("", name)?;
        Ok(usize::try_from(number).unwrap_or_default())
    };
    Ok(Counts { definitions: number("definitions")?, schemas: number("schemas")? })
}

fn definition(row: &QueryResult) -> Result<DefinitionRow, StoreError> {
    let name: String = row.try_get("", "name")?;
    Ok(DefinitionRow {
        id: DefinitionRef { name: name.into(), version: version(row)? },
        source: row.try_get("", "source")?,
        registered_at: row.try_get("", "registered_at")?,
        model_check: row.try_get("", "model_check")?,
    })
}

fn schema(row: &QueryResult) -> Result<SchemaRow, StoreError> {
    Ok(SchemaRow {
        name: row.try_get("", "name")?,
        version: version(row)?,
        origin: row.try_get("", "origin")?,
        source: row.try_get("", "source")?,
    })
}

fn version(row: &QueryResult) -> Result<u32, StoreError> {
    let version: i32 = row.try_get("", "version")?;
    Ok(u32::try_from(version).unwrap_or_default())
}

/// Versions above what the column holds are refused before anything is published, see [`crate::registration`].
fn column(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}
