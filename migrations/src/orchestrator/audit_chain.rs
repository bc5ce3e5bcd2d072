//! The audit as a chain: each row carries the hash of the row before it, and none is changed or removed any more.

use sea_orm_migration::prelude::*;

/// See the module.
pub(super) struct AuditChain;

impl MigrationName for AuditChain {
    fn name(&self) -> &'static str {
        "o0008_audit_chain"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AuditChain {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(CHAIN).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop = "
            DROP TRIGGER audit_appends ON audit;
            DROP TRIGGER audit_keeps ON audit;
            DROP TRIGGER audit_keeps_all ON audit;
            ALTER TABLE audit DROP COLUMN chain, DROP COLUMN chain_seq, DROP COLUMN previous_hash, DROP COLUMN hash,
                DROP COLUMN state_before, DROP COLUMN state_after;
            DROP INDEX audit_saga, audit_letter, audit_actor, audit_verb;
            DROP FUNCTION audit_append(), audit_refuse(), audit_field(text);
            DROP TABLE audit_chain";
        manager.get_connection().execute_unprepared(drop).await?;
        Ok(())
    }
}

/// The row is chained by a trigger, so an orchestrator of the version before, which knows no chain, writes rows that are
/// chained all the same. Rows of one chain wait for each other; so each shard has its own, whose rows are written by its
/// owner alone, in commits that hold the shard's row anyway. -1 is the chain of what concerns no shard.
const CHAIN: &str = r"
SET LOCAL lock_timeout = '10s';

CREATE TABLE audit_chain (
    id        integer PRIMARY KEY,
    last_seq  bigint NOT NULL,
    last_hash bytea NOT NULL
);
COMMENT ON TABLE audit_chain IS 'The end of each chain of the audit.';

ALTER TABLE audit
    ADD COLUMN chain integer NOT NULL DEFAULT -1,
    ADD COLUMN chain_seq bigint,
    ADD COLUMN previous_hash bytea,
    ADD COLUMN hash bytea,
    ADD COLUMN state_before text,
    ADD COLUMN state_after text;
COMMENT ON COLUMN audit.chain IS 'A shard; -1: none.';
COMMENT ON COLUMN audit.chain_seq IS 'Gapless within the chain, from 1.';
COMMENT ON COLUMN audit.hash IS 'SHA-256 of the row and of the hash before it.';
COMMENT ON COLUMN audit.state_before IS 'JSON: what was acted on, before.';
COMMENT ON COLUMN audit.state_after IS 'JSON: the same, afterwards.';

CREATE FUNCTION audit_field(value text) RETURNS text IMMUTABLE LANGUAGE sql AS
    $$ SELECT coalesce(octet_length(value)::text || ':' || value, '-') || ',' $$;

CREATE FUNCTION audit_append() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    chain_end audit_chain%ROWTYPE;
BEGIN
    INSERT INTO audit_chain (id, last_seq, last_hash) VALUES (NEW.chain, 0, '') ON CONFLICT (id) DO NOTHING;
    SELECT * INTO chain_end FROM audit_chain WHERE id = NEW.chain FOR UPDATE;
    NEW.chain_seq := chain_end.last_seq + 1;
    NEW.previous_hash := chain_end.last_hash;
    NEW.hash := sha256(NEW.previous_hash || convert_to(
        audit_field(NEW.chain::text) || audit_field(NEW.chain_seq::text) || audit_field(NEW.id::text)
        || audit_field((extract(epoch FROM NEW.at) * 1000000)::bigint::text)
        || audit_field(NEW.actor) || audit_field(NEW.verb) || audit_field(NEW.saga_id::text)
        || audit_field(NEW.dead_letter_id::text) || audit_field(NEW.reason)
        || audit_field(NEW.state_before) || audit_field(NEW.state_after), 'UTF8'));
    UPDATE audit_chain SET last_seq = NEW.chain_seq, last_hash = NEW.hash WHERE id = NEW.chain;
    RETURN NEW;
END $$;

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is only ever appended to' USING ERRCODE = 'restrict_violation';
END $$;

-- What is there already is chained in its order, by the same function.
CREATE TEMPORARY TABLE audited ON COMMIT DROP AS TABLE audit;
DELETE FROM audit;
CREATE TRIGGER audit_appends BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_append();
INSERT INTO audit (id, at, actor, verb, saga_id, dead_letter_id, reason)
    SELECT id, at, actor, verb, saga_id, dead_letter_id, reason FROM audited ORDER BY at, id;

ALTER TABLE audit
    ALTER chain_seq SET NOT NULL,
    ALTER previous_hash SET NOT NULL,
    ALTER hash SET NOT NULL,
    ADD CONSTRAINT audit_chain_seq UNIQUE (chain, chain_seq);
CREATE TRIGGER audit_keeps BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_keeps_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE INDEX audit_saga ON audit (saga_id, id) WHERE saga_id IS NOT NULL;
CREATE INDEX audit_letter ON audit (dead_letter_id, id) WHERE dead_letter_id IS NOT NULL;
CREATE INDEX audit_actor ON audit (actor, id);
CREATE INDEX audit_verb ON audit (verb, id);
";
