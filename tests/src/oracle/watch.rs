//! A witness of every update of a shard's row: who made it, under which epoch. The rows themselves say only how it is
//! now, and an owner that commits after it was fenced would leave no other trace.

use anyhow::Result;

use crate::database::Database;

/// The setting by which a connection says whose it is, for `DATABASE_URL`.
pub const PROCESS: &str = "watch.process";

/// The row lock is held when the trigger runs, so the numbers of a shard are in the order of its commits.
const WATCH: &str = "
CREATE SCHEMA watch;
CREATE TABLE watch.updates (
    number    bigserial PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    shard     integer NOT NULL,
    epoch     bigint NOT NULL,
    process   text NOT NULL,
    from_seq  bigint NOT NULL,
    to_seq    bigint NOT NULL,
    published bigint NOT NULL
);
CREATE FUNCTION watch.take_down() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO watch.updates (shard, epoch, process, from_seq, to_seq, published)
    VALUES (NEW.id, NEW.epoch, coalesce(current_setting('watch.process', true), '?'),
            OLD.next_seq, NEW.next_seq, NEW.published_seq);
    RETURN NULL;
END $$;
CREATE TRIGGER watched AFTER UPDATE ON shard FOR EACH ROW EXECUTE FUNCTION watch.take_down();";

/// Sets the witness up; the tables must be there.
///
/// # Errors
/// The database refuses.
pub async fn watch(database: &Database) -> Result<()> {
    database.execute(WATCH).await
}
