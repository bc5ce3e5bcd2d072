//! The journal's partitions: one a day, made ahead of time, so that old history can leave by dropping one.

use sea_orm::{ConnectionTrait, TransactionTrait};
use time::Duration;

use super::{Store, StoreError};
use crate::engine::clock;

/// So many days ahead there is always a partition.
const DAYS_AHEAD: i64 = 7;
/// How long making a partition waits for its lock. It needs the journal to itself for a moment, and while it waits for
/// somebody who reads the journal at length (a backup, `verify`) every commit waits behind it.
const LOCK_LIMIT: &str = "500ms";
/// Serialises processes that make partitions at once.
const PARTITION_LOCK: i64 = 0x5a6a_0002;

impl Store {
    /// Makes the partitions of today and the days to come that are missing. Several processes may do it at once.
    ///
    /// # Errors
    /// The first of what went wrong: the database does not answer, somebody reads the journal at length
    /// ([`StoreError::TryAgain`]), or a day's rows already stand in the default
    /// partition. The other days' partitions are made all the same.
    pub async fn make_journal_partitions(&self) -> Result<(), StoreError> {
        let today = clock::now().to_utc().date();
        let mut first_error = None;
        for ahead in 0..=DAYS_AHEAD {
            let day = today + Duration::days(ahead);
            let next = day + Duration::days(1);
            let name = format!("journal_{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day());
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {name} PARTITION OF journal \
                 FOR VALUES FROM ('{day} 00:00:00+00') TO ('{next} 00:00:00+00')"
            );
            if let Err(error) = self.make_partition(&sql).await {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn make_partition(&self, sql: &str) -> Result<(), StoreError> {
        let transaction = self.db.begin().await?;
        transaction.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({PARTITION_LOCK})")).await?;
        transaction.execute_unprepared(&format!("SET LOCAL lock_timeout = '{LOCK_LIMIT}'")).await?;
        transaction.execute_unprepared(sql).await?;
        transaction.commit().await?;
        Ok(())
    }
}
