//! Commits that cost the same however long a transaction of somebody else stays open.

use sea_orm_migration::prelude::*;

pub(super) struct ShardRows;

impl MigrationName for ShardRows {
    fn name(&self) -> &'static str {
        "o0005_shard_rows"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for ShardRows {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await?;
        Ok(())
    }
}

/// Each commit makes a new version of its shards' rows, and while old ones must be kept (a backup, a session that somebody
/// has forgotten, a replica's feedback) a unique index looks at all of them whenever a version goes to another page. So
/// uniqueness is held where rows come into being, which they do once. `REPLICA IDENTITY FULL` because without a primary
/// key a publication of all tables would make every commit fail.
const UP: &str = r"
SET LOCAL lock_timeout = '5s';
ALTER TABLE shard DROP CONSTRAINT shard_pkey, ALTER id SET NOT NULL, REPLICA IDENTITY FULL;
CREATE INDEX shard_id ON shard (id);
CREATE FUNCTION shard_is_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE cluster IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM shard WHERE id = NEW.id) THEN RETURN NULL; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER shard_is_new BEFORE INSERT ON shard FOR EACH ROW EXECUTE FUNCTION shard_is_new();
COMMENT ON TABLE shard IS 'One row a shard. Its key is held by the trigger shard_is_new: a unique index gets slower with every version that must be kept.';
";

const DOWN: &str = r"
DROP TRIGGER shard_is_new ON shard;
DROP FUNCTION shard_is_new();
DROP INDEX shard_id;
ALTER TABLE shard ADD PRIMARY KEY (id), REPLICA IDENTITY DEFAULT;
";
