//! Dead letters in groups.

use sea_orm_migration::prelude::*;

pub(super) struct LetterGroups;

impl MigrationName for LetterGroups {
    fn name(&self) -> &'static str {
        "o0006_letter_groups"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for LetterGroups {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(GROUPS).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = "DROP TRIGGER dead_letter_kept ON dead_letter;
                    DROP TRIGGER dead_letter_changed ON dead_letter;
                    DROP TRIGGER dead_letter_removed ON dead_letter;
                    DROP FUNCTION dead_letter_count();
                    DROP INDEX dead_letter_by_group;
                    DROP TABLE dead_letter_tally;
                    DROP FUNCTION dead_letter_group(text, text, text)";
        manager.get_connection().execute_unprepared(drop).await?;
        Ok(())
    }
}

/// Groups are counted as letters come and go, by triggers, so that no writer can forget it, whichever release it is of.
/// What is counted is added to the tally as further rows and never updated in place: two commits that keep letters of one
/// group do not wait for each other. Every now and then the orchestrator folds the rows of a group into one.
///
/// A letter's group is a function of three columns, with an index: a column for it would rewrite the table under a lock.
const GROUPS: &str = r"
SET LOCAL lock_timeout = '10s';

CREATE FUNCTION dead_letter_group(reason text, message_type text, step text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(reason || chr(31) || coalesce(message_type, chr(30)) || chr(31) || coalesce(step, chr(30)))::uuid
$$;

LOCK TABLE dead_letter IN SHARE ROW EXCLUSIVE MODE;
CREATE INDEX dead_letter_by_group ON dead_letter (dead_letter_group(reason, message_type, step), status, id);

CREATE TABLE dead_letter_tally (
    group_id     uuid NOT NULL,
    reason       text NOT NULL,
    message_type text,
    step         text,
    status       text NOT NULL,
    letters      bigint NOT NULL,
    first_seen   timestamptz,
    last_seen    timestamptz
);
COMMENT ON TABLE dead_letter_tally IS 'How many letters of a group are in a status: the sum over its rows. Written by triggers.';

CREATE FUNCTION dead_letter_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO dead_letter_tally
        SELECT dead_letter_group(reason, message_type, step), reason, message_type, step, status,
               count(*), min(first_failed_at), max(last_failed_at)
        FROM new_letters GROUP BY reason, message_type, step, status;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO dead_letter_tally
        SELECT dead_letter_group(reason, message_type, step), reason, message_type, step, status, -count(*), NULL, NULL
        FROM old_letters GROUP BY reason, message_type, step, status;
    ELSE
        INSERT INTO dead_letter_tally
        SELECT dead_letter_group(reason, message_type, step), reason, message_type, step, status,
               sum(n), min(seen_first), max(seen_last)
        FROM (
            SELECT reason, message_type, step, status, 1 AS n,
                   first_failed_at AS seen_first, last_failed_at AS seen_last, NULL::timestamptz AS seen_before
            FROM new_letters
            UNION ALL
            SELECT reason, message_type, step, status, -1, NULL, NULL, last_failed_at FROM old_letters
        ) AS both_sides
        GROUP BY reason, message_type, step, status
        HAVING sum(n) <> 0 OR max(seen_last) > max(seen_before);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER dead_letter_kept AFTER INSERT ON dead_letter
    REFERENCING NEW TABLE AS new_letters FOR EACH STATEMENT EXECUTE FUNCTION dead_letter_count();
CREATE TRIGGER dead_letter_changed AFTER UPDATE ON dead_letter
    REFERENCING OLD TABLE AS old_letters NEW TABLE AS new_letters
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letter_count();
CREATE TRIGGER dead_letter_removed AFTER DELETE ON dead_letter
    REFERENCING OLD TABLE AS old_letters FOR EACH STATEMENT EXECUTE FUNCTION dead_letter_count();

INSERT INTO dead_letter_tally
SELECT dead_letter_group(reason, message_type, step), reason, message_type, step, status,
       count(*), min(first_failed_at), max(last_failed_at)
FROM dead_letter GROUP BY reason, message_type, step, status;
";
