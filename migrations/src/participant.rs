//! The tables that every participant has in its own database. A worker's migrator lists [`Inbox`] before its own.

use sea_orm_migration::prelude::*;

/// The table `inbox`: what is recorded under each command id, written in the transaction that makes the effect.
///
/// `recorded` is `claimed`, `succeeded`, `rejected`, `failed` (of `attempt`) or `tombstoned`; `revision` counts the writes of the row, so that
/// two processes that work on one command at once notice each other; `reply` is the encoded reply, sent again as it is
/// when the command comes again; `events` are the encoded domain events of the command.
#[derive(Debug, Default)]
pub struct Inbox;

impl MigrationName for Inbox {
    fn name(&self) -> &str {
        "p0001_inbox"
    }
}

// Claimed rows are settled by an update soon after: the free space keeps that update on its page (HOT).
const UP: &str = "
CREATE TABLE inbox (
    command_id  uuid PRIMARY KEY,
    saga_id     uuid NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    redrive     bigint NOT NULL DEFAULT 0 CHECK (redrive >= 0),
    attempt     bigint NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    revision    integer NOT NULL CHECK (revision > 0),
    reply_lost  boolean NOT NULL DEFAULT false,
    recorded    text NOT NULL CHECK (recorded IN ('claimed', 'succeeded', 'rejected', 'failed', 'tombstoned')),
    reply_type  text NOT NULL DEFAULT '',
    reply       bytea NOT NULL DEFAULT '',
    events      bytea NOT NULL DEFAULT '',
    CHECK (recorded IN ('claimed', 'tombstoned') OR reply_type <> '')
) WITH (fillfactor = 80)";

#[async_trait::async_trait]
impl MigrationTrait for Inbox {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE inbox").await.map(drop)
    }
}
