//! The database's clock.

use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{Store, StoreError};

impl Store {
    /// What the database's clock says.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn time(&self) -> Result<Timestamp, StoreError> {
        let query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms";
        let row = self.db.query_one_raw(Statement::from_string(DbBackend::Postgres, query)).await?;
        let row = row.ok_or_else(|| StoreError::unanswered("the time"))?;
        Ok(Timestamp::from_unix_millis(row.try_get("", "ms")?))
    }
}
