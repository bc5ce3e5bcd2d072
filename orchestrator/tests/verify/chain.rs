//! The audit is appended to and never changed; whoever changes it all the same leaves a break in its chain.

use insta::assert_snapshot;
use orchestrator::engine::handle::Verb;
use orchestrator::store::audit::{AuditRow, NO_SHARD};
use orchestrator::store::definitions::Publication;
use saga_defs::ids::SagaId;

use crate::world::{START, Says, World};

/// Four verbs on one saga, so four rows in one chain; and what was registered, in the chain of no shard.
async fn world() -> (World, SagaId) {
    let mut world = World::new().await;
    let saga = world.start(7).await;
    for _ in 0..4 {
        world.reply(saga, Says::Failed).await;
        world.act(saga, Verb::RetryNow).await;
    }
    (world, saga)
}

/// What is said of the audit's chains after somebody who may do anything did this.
async fn broken(world: &World, sql: &str) -> String {
    world.sql("ALTER TABLE audit DISABLE TRIGGER USER; CREATE TABLE saved AS TABLE audit").await;
    world.sql("CREATE TABLE saved_chain AS TABLE audit_chain").await;
    assert!(world.sql(sql).await > 0, "nothing was changed: {sql}");
    let all = world.differences().await;
    world.sql("TRUNCATE audit; INSERT INTO audit TABLE saved; DROP TABLE saved").await;
    world
        .sql("TRUNCATE audit_chain; INSERT INTO audit_chain TABLE saved_chain; DROP TABLE saved_chain")
        .await;
    world.sql("ALTER TABLE audit ENABLE TRIGGER USER").await;
    // `audit chain 2, seq 3 (saga …): audit_gap: expected …`: which chain and which saga is always the same.
    let told = |line: &str| {
        let place = line.strip_prefix("audit chain ")?.split(": expected").next()?;
        let place =
            place.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches([',', ':', ' ']);
        let (seq, kind) = place
            .split_once(" (saga ")
            .map_or((place, ""), |(seq, rest)| (seq, rest.split_once(')').map_or("", |(_, kind)| kind)));
        Some(format!("{seq}{kind}"))
    };
    all.lines().filter_map(told).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn a_whole_chain_has_no_break() {
    let (world, _) = world().await;
    let report = world.verify().await;
    assert_eq!(report.kept, []);
    assert_eq!(report.audit_rows, 8);
    let [registered, end] = &report.audit_ends[..] else { panic!("{:?}", report.audit_ends) };
    assert_eq!((registered.chain, registered.seq), (NO_SHARD, 4));
    assert_eq!((end.seq, end.hash.len()), (4, 32));
    assert!(report.json().contains(r#""auditRows":8,"auditEnds":[{"chain":-1,"seq":4,"hash":"#));
}

#[tokio::test]
async fn a_row_that_was_altered_removed_inserted_or_swapped_is_named() {
    let (world, _) = world().await;
    let mut said = Vec::new();
    for (what, sql) in [
        ("altered reason", "UPDATE audit SET reason = 'other' WHERE chain >= 0 AND chain_seq = 2"),
        ("altered actor", "UPDATE audit SET actor = 'bob' WHERE chain >= 0 AND chain_seq = 1"),
        ("altered time", "UPDATE audit SET at = at + interval '1 microsecond' WHERE chain >= 0 AND chain_seq = 3"),
        ("altered state", "UPDATE audit SET state_after = NULL WHERE chain >= 0 AND chain_seq = 4"),
        ("altered hash", "UPDATE audit SET hash = sha256('x') WHERE chain >= 0 AND chain_seq = 2"),
        ("removed first", "DELETE FROM audit WHERE chain >= 0 AND chain_seq = 1"),
        ("removed in the middle", "DELETE FROM audit WHERE chain >= 0 AND chain_seq = 2"),
        ("removed last", "DELETE FROM audit WHERE chain >= 0 AND chain_seq = 4"),
        ("removed all", "DELETE FROM audit WHERE chain >= 0"),
        (
            "inserted at the end",
            "INSERT INTO audit SELECT gen_random_uuid(), at, actor, verb, saga_id, dead_letter_id, reason, chain, 5,
                 hash, hash, state_before, state_after FROM audit WHERE chain >= 0 AND chain_seq = 4",
        ),
        (
            "inserted in the middle",
            "UPDATE audit SET chain_seq = 5 WHERE chain >= 0 AND chain_seq = 4;
             INSERT INTO audit SELECT gen_random_uuid(), at, actor, verb, saga_id, dead_letter_id, reason, chain, 4,
                 hash, hash, state_before, state_after FROM audit WHERE chain >= 0 AND chain_seq = 3",
        ),
        (
            "swapped",
            "UPDATE audit SET chain_seq = -2 WHERE chain >= 0 AND chain_seq = 2; UPDATE audit SET chain_seq = 2 WHERE chain >= 0 AND chain_seq = 3;
             UPDATE audit SET chain_seq = 3 WHERE chain >= 0 AND chain_seq = -2",
        ),
        ("another chain", "UPDATE audit SET chain = 99 WHERE chain >= 0 AND chain_seq = 4"),
        ("end forgotten", "DELETE FROM audit_chain WHERE id >= 0"),
    ] {
        let found = broken(&world, sql).await;
        assert!(!found.is_empty(), "{what} was not found");
        said.push(format!("{what}: {found}"));
    }
    assert_snapshot!(said.join("\n"), @"
    altered reason: seq 2: audit_altered
    altered actor: seq 1: audit_altered
    altered time: seq 3: audit_altered
    altered state: seq 4: audit_altered
    altered hash: seq 2: audit_altered; seq 3: audit_link
    removed first: seq 2: audit_gap
    removed in the middle: seq 3: audit_gap
    removed last: audit_end
    removed all: audit_end
    inserted at the end: seq 5: audit_altered; audit_end
    inserted in the middle: seq 4: audit_altered; seq 5: audit_altered; audit_end
    swapped: seq 2: audit_link; seq 2: audit_altered; seq 3: audit_link; seq 3: audit_altered; seq 4: audit_link
    another chain: seq 4: audit_gap; seq 4: audit_altered; audit_end; audit_end
    end forgotten: audit_end
    ");
    assert_eq!(world.verify().await.kept, [], "everything is as it was");
}

#[tokio::test]
async fn the_database_refuses_to_change_the_audit() {
    let (world, _) = world().await;
    for sql in ["UPDATE audit SET reason = 'x'", "DELETE FROM audit", "TRUNCATE audit"] {
        use sea_orm::ConnectionTrait;
        let refused = world.db().execute_unprepared(sql).await.unwrap_err().to_string();
        assert!(refused.contains("the audit is only ever appended to"), "{sql}: {refused}");
    }
}

/// What an orchestrator writes that knows nothing of chains, and what several processes write at once.
#[tokio::test]
async fn whoever_writes_is_chained() {
    let (world, _) = world().await;
    world
        .sql("INSERT INTO audit (id, at, actor, verb, reason) VALUES (gen_random_uuid(), now(), 'x', 'register', 'ä: ,-')")
        .await;
    let publish = |n: u32| {
        let audit = AuditRow::new(START, "ann", "register", &format!("trip version {n}"));
        let publication = Publication { audit: vec![audit], ..Publication::default() };
        let store = world.store.clone();
        async move {
            let counts = store.published_counts().await.unwrap();
            assert!(store.publish(&publication, counts).await.unwrap());
        }
    };
    futures::future::join_all((0..8).map(publish)).await;
    let report = world.verify().await;
    assert_eq!(report.kept, []);
    assert_eq!(report.audit_rows, 8 + 1 + 8);
    assert_eq!(report.audit_ends.iter().map(|end| end.seq).collect::<Vec<_>>(), [13, 4]);
}
