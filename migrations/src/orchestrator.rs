//! The orchestrator's tables. See ARCHITECTURE.md for who writes what and when.

mod audit_chain;
mod bulk;
mod claimant;
mod inbox_topic;
mod letter_groups;
mod participants;
mod shard_rows;

use sea_orm_migration::prelude::*;

use self::audit_chain::AuditChain;

/// All migrations of the orchestrator's database, in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Tables),
            Box::new(Schemas),
            Box::new(Republish),
            Box::new(Text),
            Box::new(shard_rows::ShardRows),
            Box::new(letter_groups::LetterGroups),
            Box::new(bulk::Bulk),
            Box::new(AuditChain),
            Box::new(participants::Participants),
            Box::new(claimant::Claimant),
            Box::new(inbox_topic::InboxTopic),
        ]
    }

    fn migration_table_name() -> DynIden {
        "orchestrator_migrations".into_iden()
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "o0001_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(TABLES).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = "DROP TABLE audit, dead_letter, request_key, definition, saga, journal, shard, cluster";
        manager.get_connection().execute_unprepared(drop).await?;
        Ok(())
    }
}

/// The journal is append-only and partitioned by time, so that old history leaves by dropping a partition. It carries
/// the commands' bytes: it is history, outbox and recovery log in one. No column of the saga table that changes is
/// indexed, so its updates stay heap-only; a take-over finds open sagas by id from `shard.open_from` on.
const TABLES: &str = r"
CREATE TABLE cluster (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    shard_count integer NOT NULL CHECK (shard_count > 0)
);
COMMENT ON TABLE cluster IS 'What must not change: the number of shards.';

CREATE TABLE shard (
    id            integer PRIMARY KEY,
    epoch         bigint NOT NULL DEFAULT 0,
    owner         text NOT NULL DEFAULT '',
    next_seq      bigint NOT NULL DEFAULT 1,
    published_seq bigint NOT NULL DEFAULT 0,
    inbox_offset  bigint NOT NULL DEFAULT 0,
    incarnation   text NOT NULL DEFAULT '',
    open_from     uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    claimed_at    timestamptz
) WITH (fillfactor = 20);
COMMENT ON COLUMN shard.epoch IS 'Raised by every claim; a commit of an older epoch is refused.';
COMMENT ON COLUMN shard.published_seq IS 'Every journal row up to here has been acknowledged by the broker.';
COMMENT ON COLUMN shard.incarnation IS 'The broker that inbox_offset belongs to.';
COMMENT ON COLUMN shard.open_from IS 'No saga of the shard below this id waits for a reply or a timer.';

CREATE TABLE journal (
    shard    integer NOT NULL,
    seq      bigint NOT NULL,
    saga_id  uuid NOT NULL,
    revision integer NOT NULL,
    at       timestamptz NOT NULL,
    status   text NOT NULL,
    event    json NOT NULL,
    effects  json NOT NULL,
    body     bytea,
    PRIMARY KEY (shard, seq, at)
) PARTITION BY RANGE (at);
CREATE INDEX journal_saga ON journal (saga_id, revision);
CREATE TABLE journal_default PARTITION OF journal DEFAULT;
COMMENT ON COLUMN journal.body IS 'The Avro value of the command that the effects ask to send.';

CREATE TABLE saga (
    id           uuid PRIMARY KEY,
    shard        integer NOT NULL,
    definition   text NOT NULL,
    version      integer NOT NULL,
    business_key text,
    revision     integer NOT NULL,
    status       text NOT NULL,
    step         text,
    wake_at      timestamptz,
    started_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    body         json NOT NULL
) WITH (fillfactor = 60);
CREATE INDEX saga_business_key ON saga (business_key, id) WHERE business_key IS NOT NULL;
COMMENT ON COLUMN saga.wake_at IS 'The next timeout, retry or deadline; deliberately without an index.';

CREATE TABLE definition (
    name          text NOT NULL,
    version       integer NOT NULL,
    source        text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
);
COMMENT ON TABLE definition IS 'Published versions: never changed, since running sagas stay on theirs.';

CREATE TABLE request_key (
    key_hash     bytea PRIMARY KEY,
    request_hash bytea NOT NULL,
    saga_id      uuid NOT NULL,
    answer       json,
    created_at   timestamptz NOT NULL
);
COMMENT ON TABLE request_key IS 'Idempotency keys: written in the commit that acts.';

CREATE TABLE dead_letter (
    id               uuid PRIMARY KEY,
    status           text NOT NULL CHECK (status IN ('open', 'redriven', 'resolved', 'discarded')),
    reason           text NOT NULL,
    message          text NOT NULL,
    source           text NOT NULL,
    topic            text NOT NULL,
    partition        integer,
    record_offset    bigint,
    record_key       bytea,
    record_value     bytea,
    record_headers   json NOT NULL,
    record_timestamp timestamptz,
    message_type     text,
    saga_id          uuid,
    step             text,
    direction        text,
    attempts         integer NOT NULL,
    redrive_of       uuid,
    first_failed_at  timestamptz NOT NULL,
    last_failed_at   timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    lineage          json NOT NULL
);
CREATE INDEX dead_letter_saga ON dead_letter (saga_id) WHERE saga_id IS NOT NULL;
CREATE INDEX dead_letter_open ON dead_letter (id) WHERE status = 'open';
COMMENT ON COLUMN dead_letter.record_headers IS 'An array of [name, base64 or null], in the order of the record.';
COMMENT ON COLUMN dead_letter.lineage IS 'What became of it: an array of {at, what, reason}, oldest first.';

CREATE TABLE audit (
    id             uuid PRIMARY KEY,
    at             timestamptz NOT NULL,
    actor          text NOT NULL,
    verb           text NOT NULL,
    saga_id        uuid,
    dead_letter_id uuid,
    reason         text NOT NULL
);
COMMENT ON TABLE audit IS 'What operators did, written in the commit that acts.';
";

struct Schemas;

impl MigrationName for Schemas {
    fn name(&self) -> &'static str {
        "o0002_schemas"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Schemas {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SCHEMAS).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = "ALTER TABLE definition DROP COLUMN model_check; DROP TABLE schema";
        manager.get_connection().execute_unprepared(drop).await?;
        Ok(())
    }
}

/// The schemas that published definitions need, so that every process and every later start can run them. Written by
/// whoever publishes, in the transaction of the definition; read by all orchestrators, at their start and when there are
/// more rows than they know.
const SCHEMAS: &str = r"
CREATE TABLE schema (
    name          text NOT NULL,
    version       integer NOT NULL CHECK (version > 0),
    origin        text NOT NULL,
    source        text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
);
COMMENT ON TABLE schema IS 'Published versions of Avro records: never changed.';
COMMENT ON COLUMN schema.origin IS 'Where the text came from, for people.';

ALTER TABLE definition ADD COLUMN model_check json;
COMMENT ON COLUMN definition.model_check IS 'What the model check said when the version was published; null: there was none.';
";

struct Republish;

impl MigrationName for Republish {
    fn name(&self) -> &'static str {
        "o0003_republish"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Republish {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(REPUBLISH).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("ALTER TABLE shard DROP COLUMN republish").await?;
        Ok(())
    }
}

/// A claim for a new broker makes the row one of that broker at once. This remembers what is still to be done for it.
const REPUBLISH: &str = r"
ALTER TABLE shard ADD COLUMN republish boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN shard.republish IS 'The broker of incarnation may lack commands that sagas wait for: whoever claims the shard publishes them again.';
";

struct Text;

impl MigrationName for Text {
    fn name(&self) -> &'static str {
        "o0004_text"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Text {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(TEXT).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let json = "ALTER TABLE journal ALTER event TYPE json USING event::json,
                                        ALTER effects TYPE json USING effects::json;
                    ALTER TABLE saga ALTER body TYPE json USING body::json;
                    ALTER TABLE saga SET (fillfactor = 60)";
        manager.get_connection().execute_unprepared(json).await?;
        Ok(())
    }
}

/// A fifth of what a commit cost Postgres was checking that the orchestrator's own JSON is JSON. And a page of sagas that
/// start together is updated together: with room for one more version of each, all updates stay heap-only.
const TEXT: &str = r"
ALTER TABLE journal ALTER event TYPE text, ALTER effects TYPE text;
ALTER TABLE saga ALTER body TYPE text;
ALTER TABLE saga SET (fillfactor = 45);
COMMENT ON COLUMN journal.event IS 'JSON.';
COMMENT ON COLUMN journal.effects IS 'JSON.';
COMMENT ON COLUMN saga.body IS 'JSON: the state, its steps, its data.';
";
