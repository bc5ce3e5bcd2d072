//! Actions over many letters or sagas.

use sea_orm_migration::prelude::*;

pub(super) struct Bulk;

impl MigrationName for Bulk {
    fn name(&self) -> &'static str {
        "o0007_bulk"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Bulk {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(BULK).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE bulk_item, bulk_action").await?;
        Ok(())
    }
}

/// What is chosen is frozen as rows. Whoever drives an action holds a lease: every write of it names the token, so a driver
/// that was paused writes nothing when it wakes.
const BULK: &str = r"
SET LOCAL lock_timeout = '10s';

CREATE TABLE bulk_action (
    id          uuid PRIMARY KEY,
    subject     text NOT NULL CHECK (subject IN ('letter', 'saga')),
    verb        text NOT NULL,
    status      text NOT NULL CHECK (status IN ('running', 'completed', 'stopped', 'cancelled')),
    dry_run     boolean NOT NULL,
    actor       text NOT NULL,
    reason      text NOT NULL,
    filter      json NOT NULL,
    patch       json,
    rate        integer NOT NULL CHECK (rate > 0),
    ramp        json NOT NULL,
    selected    integer NOT NULL,
    progress    json NOT NULL,
    stop_reason text,
    lease_token uuid,
    lease_until timestamptz,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    finished_at timestamptz
) WITH (fillfactor = 50);
CREATE INDEX bulk_action_subject ON bulk_action (subject, id);
CREATE INDEX bulk_action_unfinished ON bulk_action (id) WHERE finished_at IS NULL;
COMMENT ON COLUMN bulk_action.progress IS 'What has come of it, as JSON; written by its driver.';
COMMENT ON COLUMN bulk_action.finished_at IS 'When nothing was left to send, and everything sent had its outcome.';

CREATE TABLE bulk_item (
    action_id  uuid NOT NULL,
    place      integer NOT NULL,
    subject_id uuid NOT NULL,
    state      text NOT NULL
        CHECK (state IN ('chosen', 'sent', 'succeeded', 'failed_again', 'passed_over', 'examined')),
    code       text,
    note       text,
    revision   integer,
    step       text,
    updated_at timestamptz,
    PRIMARY KEY (action_id, place)
);
CREATE INDEX bulk_item_state ON bulk_item (action_id, state, place);
COMMENT ON COLUMN bulk_item.place IS 'Its place in the selection, from 1.';
COMMENT ON COLUMN bulk_item.revision IS 'Of a saga: its revision when it was chosen.';
";
