//! The rows that each commit updates: found without looking for them, and one a shard.

use std::time::{Duration, Instant};

use orchestrator::store::Store;
use orchestrator::store::audit::AuditRow;
use orchestrator::store::commit::Committed;
use orchestrator::store::shards::{Claimant, Claimed};
use saga_defs::ids::Shard;
use saga_defs::time::Timestamp;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{batch, claim, count, store};

/// While somebody's transaction is open, every version of a shard's row stays. A commit must not look at them all.
#[tokio::test]
async fn a_commit_goes_straight_to_its_shards_rows() {
    let store = store().await;
    let mut held = claim(&store, &[0, 1], "first").await;
    for _ in 0..50 {
        assert_eq!(store.commit(&batch(&held, 1)).await.unwrap(), Committed::Yes);
        held.iter_mut().for_each(|claim| claim.next_seq += 1);
    }
    let unique =
        "SELECT count(*) FROM pg_index WHERE indrelid = 'shard'::regclass AND (indisunique OR indisprimary)";
    assert_eq!(count(&store, unique).await, 0, "an update would look at all versions of its key");
    let scans = lookups(&store, 100).await;
    assert!(scans < 50, "50 commits looked their rows up {scans} times");
}

/// Once its dead versions fill more pages than the server samples, there is no row in the statistics. The way over the
/// index looks cheap then, and walks over all versions.
#[tokio::test]
async fn a_commit_goes_straight_to_its_rows_whatever_the_statistics_say() {
    let store = store().await;
    let mut held = claim(&store, &[0, 1, 2, 3], "first").await;
    let nothing = "UPDATE pg_class SET reltuples = 0, relpages = 40000 WHERE oid = 'shard'::regclass";
    store.connection().execute_unprepared(nothing).await.unwrap();
    for _ in 0..50 {
        assert_eq!(store.commit(&batch(&held, 1)).await.unwrap(), Committed::Yes);
        held.iter_mut().for_each(|claim| claim.next_seq += 1);
    }
    let scans = lookups(&store, 200).await;
    assert!(scans < 50, "50 commits looked their rows up {scans} times");
}

/// Whoever takes shards over has seen where their rows lie.
#[tokio::test]
async fn after_a_claim_nothing_is_looked_up() {
    let (claimed, committed) = (store().await, store().await);
    for (store, commits) in [(&claimed, false), (&committed, true)] {
        let commit = async |held: &[Claimed]| {
            if commits {
                assert_eq!(store.commit(&batch(held, 1)).await.unwrap(), Committed::Yes);
            }
        };
        for _ in 0..30 {
            let held = claim(store, &[0, 1, 2, 3], "first").await;
            commit(&held).await;
            let epochs: Vec<_> = held.iter().map(|claim| (claim.shard, claim.epoch)).collect();
            commit(&store.renew(&epochs).await.unwrap()).await;
        }
    }
    let (before, after) = (lookups(&claimed, 240).await, lookups(&committed, 480).await);
    assert!(after <= before, "{before} look-ups without a commit after each claim, {after} with one");
}

/// How often the rows were looked up by their key, as soon as the server's statistics show so many updates; they come a
/// moment later.
async fn lookups(store: &Store, updates: i64) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    let seen = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'shard'";
    while count(store, seen).await < updates {
        assert!(Instant::now() < deadline, "the statistics do not show the updates");
    }
    let scans = "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes WHERE relname = 'shard'";
    count(store, scans).await
}

#[tokio::test]
async fn a_commit_finds_rows_that_were_moved() {
    let store = store().await;
    let mut held = claim(&store, &[0, 2], "first").await;
    assert_eq!(store.commit(&batch(&held, 1)).await.unwrap(), Committed::Yes);
    store.connection().execute_unprepared("VACUUM FULL shard").await.unwrap();
    held.iter_mut().for_each(|claim| claim.next_seq += 1);
    assert_eq!(store.commit(&batch(&held, 1)).await.unwrap(), Committed::Yes);
    assert_eq!(count(&store, "SELECT next_seq FROM shard WHERE id = 2").await, 3);
}

/// As the version before it does at its start.
#[tokio::test]
async fn a_shard_has_one_row() {
    let store = store().await;
    let insert = "INSERT INTO shard (id) SELECT generate_series(0, 3) ON CONFLICT DO NOTHING";
    store.connection().execute_unprepared(insert).await.unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM shard").await, 4);
}

/// A save of the watermark alone has no other rows that could ask whether the fence holds.
#[tokio::test]
async fn a_batch_without_rows_is_fenced_too() {
    let store = store().await;
    let first = claim(&store, &[1], "first").await;
    assert_eq!(store.commit(&batch(&first, 0)).await.unwrap(), Committed::Yes);
    claim(&store, &[1], "second").await;
    assert_eq!(store.commit(&batch(&first, 0)).await.unwrap(), Committed::Fenced);
}

/// An operator who has said from where to go on means the topic that there is, and the owner must notice.
#[tokio::test]
async fn a_moved_offset_is_nobodys_and_of_no_topic_yet() {
    let store = store().await;
    let owner = Claimant::new("only", Uuid::nil());
    let claim =
        async |inbox| store.claim(&[Shard(1)], &owner, "broker-1", Some(inbox)).await.unwrap().remove(0);
    claim("a").await;
    assert!(claim("b").await.other_topic);
    let audit = AuditRow::new(Timestamp::from_unix_millis(0), "operator", "resume-shard", "made again");
    assert!(store.resume_shard(Shard(1), 7, &audit).await.unwrap());
    assert!(store.epochs_of_owner(&[Shard(1)], &owner).await.unwrap().is_empty(), "no renewal of its own");
    let claimed = claim("b").await;
    assert_eq!((claimed.inbox_offset, claimed.other_topic), (7, false));
    assert!(claim("a").await.other_topic);
}
