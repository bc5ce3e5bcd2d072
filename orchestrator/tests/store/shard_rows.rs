//! The rows that each commit updates: found without looking for them, and one a shard.

use std::time::{Duration, Instant};

use orchestrator::store::audit::AuditRow;
use orchestrator::store::commit::Committed;
use orchestrator::store::shards::Claimant;
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
    // The server's statistics come a moment later.
    let deadline = Instant::now() + Duration::from_secs(30);
    let updates = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'shard'";
    while count(&store, updates).await < 100 {
        assert!(Instant::now() < deadline, "the statistics do not show the commits");
    }
    let fetched =
        "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes WHERE relname = 'shard'";
    let scans = count(&store, fetched).await;
    assert!(scans < 50, "50 commits looked their rows up {scans} times");
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
