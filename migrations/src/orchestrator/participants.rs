//! Participants that are paused by hand, or held because they do not answer.

use sea_orm_migration::prelude::*;

pub(super) struct Participants;

impl MigrationName for Participants {
    fn name(&self) -> &'static str {
        "o0010_participants"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Participants {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE participant_hold, participant_order").await?;
        Ok(())
    }
}

/// Both are read by every process each second, and have a row or two. What is held is written by the process that holds it,
/// so that its successor goes on holding, and so that everybody can be asked about all of them.
const UP: &str = r"
SET LOCAL lock_timeout = '5s';

CREATE TABLE participant_order (
    participant text PRIMARY KEY,
    paused      boolean NOT NULL,
    revision    bigint NOT NULL,
    actor       text NOT NULL,
    reason      text NOT NULL,
    at          timestamptz NOT NULL
);
COMMENT ON TABLE participant_order IS 'The last word of an operator on a participant: ask it nothing, or ask it again.';

CREATE TABLE participant_hold (
    participant text NOT NULL,
    process     text NOT NULL,
    state       text NOT NULL,
    cause       text NOT NULL,
    since       timestamptz NOT NULL,
    waiting     bigint NOT NULL,
    oldest      uuid,
    last_answer timestamptz,
    next_probe  timestamptz,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (participant, process)
);
COMMENT ON TABLE participant_hold IS 'What a process holds back from a participant, as of seen_at.';
";
