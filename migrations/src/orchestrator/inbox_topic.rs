//! Which topic an offset of `saga.inbox` belongs to: one that was made again has the same name.

use sea_orm_migration::prelude::*;

pub(super) struct InboxTopic;

impl MigrationName for InboxTopic {
    fn name(&self) -> &'static str {
        "o0012_inbox_topic"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for InboxTopic {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("ALTER TABLE shard DROP COLUMN inbox_topic").await?;
        Ok(())
    }
}

/// Nullable and without a default: versions before this one do not write it, and leave it as it is.
const UP: &str = r"
SET LOCAL lock_timeout = '5s';
ALTER TABLE shard ADD COLUMN inbox_topic text;
COMMENT ON COLUMN shard.inbox_topic IS 'The id of the topic that inbox_offset belongs to, where the broker gives one; null after an operator moved the offset.';
";
