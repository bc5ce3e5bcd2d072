//! Which process claimed a shard, whatever URL it goes by.

use sea_orm_migration::prelude::*;

pub(super) struct Claimant;

impl MigrationName for Claimant {
    fn name(&self) -> &'static str {
        "o0011_claimant"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Claimant {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("ALTER TABLE shard DROP COLUMN claimant").await?;
        Ok(())
    }
}

/// Nullable and without a default: versions before this one do not write it.
const UP: &str = r"
SET LOCAL lock_timeout = '5s';
ALTER TABLE shard ADD COLUMN claimant uuid;
COMMENT ON COLUMN shard.claimant IS 'Drawn at its start by the process that claimed the shard last; null after an operator moved the offset.';
";
