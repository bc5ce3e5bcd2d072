//! A journal whose oldest day was dropped, and a service that goes on meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use insta::assert_snapshot;
use orchestrator::verify::verify;
use saga_defs::time::Timestamp;

use crate::world::{START, Says, World};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The day of a point in time, as in the partitions' names and bounds.
fn day(at: Timestamp) -> String {
    at.to_string()[..10].to_owned()
}

pub(crate) async fn make_day(world: &World, at: Timestamp) -> String {
    let name = format!("journal_{}", day(at).replace('-', ""));
    let (from, to) = (day(at), day(at.after(DAY)));
    world
        .sql(&format!(
            "CREATE TABLE {name} PARTITION OF journal FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
        ))
        .await;
    name
}

/// A saga that ended on the first day, one that went on over midnight, one of the second day.
async fn two_days() -> (World, String) {
    let mut world = World::new().await;
    let first_day = make_day(&world, START).await;
    make_day(&world, START.after(DAY)).await;
    let (ended, over_midnight) = (world.start(1).await, world.start(2).await);
    world.reply(ended, Says::Rejected).await;
    world.reply(over_midnight, Says::Done).await;
    world.now = START.after(DAY);
    world.reply(over_midnight, Says::Done).await;
    let second_day = world.start(3).await;
    world.reply(second_day, Says::Done).await;
    (world, first_day)
}

#[tokio::test]
async fn sagas_whose_beginning_was_dropped_are_counted_and_what_is_left_is_checked() {
    let (world, first_day) = two_days().await;
    let report = world.verify().await;
    assert_eq!((report.kept, report.replayed, report.not_replayable), (vec![], 3, 0));

    world.sql(&format!("DROP TABLE {first_day}")).await;
    let report = world.verify().await;
    assert_eq!((report.kept, report.replayed, report.not_replayable), (vec![], 1, 2));

    world.sql("UPDATE saga SET status = 'stuck' WHERE business_key = 'order-2'").await;
    assert_snapshot!(world.differences().await, @"saga 01a3185c-5001-7a5a-8000-000000000002: row: expected status running, found status stuck and a body that is running; the row was changed by hand, or a commit was torn; the journal is what happened");
}

#[tokio::test]
async fn a_beginning_that_was_deleted_is_no_day_that_was_dropped() {
    let (world, _) = two_days().await;
    world.sql("DELETE FROM journal WHERE saga_id = (SELECT id FROM saga WHERE business_key = 'order-3') AND revision = 1").await;
    assert_snapshot!(world.differences().await, @"saga 01a31d82-ac01-7a5a-8000-000000000003 revision 2 (shard 0, seq 2): revision: expected revision 1, found revision 2; journal rows were lost or changed by hand; restore them from a backup");
}

/// Each run sees one moment of all tables, however many batches are committed while it reads.
#[tokio::test]
async fn what_is_committed_meanwhile_is_seen_whole_or_not_at_all() {
    let mut world = World::new().await;
    let url = world.url.clone();
    let committed = AtomicBool::new(false);
    let commits = async {
        for n in 0..150 {
            let saga = world.start(n).await;
            world.reply(saga, Says::Done).await;
        }
        committed.store(true, Ordering::Relaxed);
    };
    let verifications = async {
        let mut seen = Vec::new();
        while !committed.load(Ordering::Relaxed) {
            let report = verify(&url, 100, &mut |_, _| {}).await.unwrap();
            assert_eq!(report.kept, []);
            seen.push(report.transitions);
        }
        seen
    };
    let ((), seen) = tokio::join!(commits, verifications);
    assert!(
        seen.iter().any(|&transitions| transitions > 0 && transitions < 300),
        "none in between: {seen:?}"
    );
}
