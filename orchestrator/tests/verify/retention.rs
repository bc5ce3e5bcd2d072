//! What has come to its age leaves, what is needed stays, and `verify` is content with what is left.

use std::time::{Duration, Instant};

use orchestrator::engine::handle::Verb;
use orchestrator::metrics::Metrics;
use orchestrator::retention::{Removed, Retainer};
use orchestrator::store::retention::{DayDropped, Retention, Step};
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use uuid::Uuid;

use crate::cut::{DAY, make_day};
use crate::world::{START, Says, World};

const KEPT_DAYS: u32 = 10;

/// Three days; on the first a saga ends and another begins that goes on to the second, where a third one ends. All of it is
/// published.
async fn three_days() -> World {
    let mut world = World::new().await;
    for n in 0..3 {
        make_day(&world, days_later(n)).await;
    }
    let (ended, over_midnight) = (world.start(1).await, world.start(2).await);
    world.reply(ended, Says::Rejected).await;
    world.now = days_later(1);
    world.reply(over_midnight, Says::Rejected).await;
    let second_day = world.start(3).await;
    world.reply(second_day, Says::Rejected).await;
    world.sql("UPDATE shard SET published_seq = next_seq - 1").await;
    world
}

fn days_later(days: u32) -> Timestamp {
    START.after(DAY * days)
}

async fn pass(world: &World, now: Timestamp) -> Removed {
    let mut retainer = Retainer::connect(&world.url, KEPT_DAYS, Metrics::new().unwrap()).await.unwrap();
    retainer.pass(now).await.unwrap()
}

async fn count(world: &World, table: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, format!("SELECT count(*) FROM {table}"));
    world.db().query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

const NOTHING: Removed = Removed { days: 0, sagas: 0, keys: 0, letters: 0, actions: 0 };

#[tokio::test]
async fn days_and_what_lived_in_them_leave_at_their_age() {
    let world = three_days().await;
    assert_eq!(pass(&world, days_later(KEPT_DAYS)).await, NOTHING, "the first day has not come to its age");
    // The second saga moved on the second day: it stays, and with it the first day.
    assert_eq!(pass(&world, days_later(KEPT_DAYS + 1)).await, NOTHING);
    assert_eq!(
        pass(&world, days_later(KEPT_DAYS + 2)).await,
        Removed { days: 2, sagas: 3, keys: 3, letters: 0, actions: 0 }
    );
    assert_eq!(world.differences().await, "");
    for table in ["journal", "saga", "request_key"] {
        assert_eq!(count(&world, table).await, 0, "{table}");
    }
    assert_eq!(pass(&world, days_later(KEPT_DAYS + 2)).await, NOTHING);
}

#[tokio::test]
async fn an_open_saga_keeps_its_day_and_all_that_follow() {
    let mut world = three_days().await;
    let open = world.start(4).await;
    world.sql("UPDATE shard SET published_seq = next_seq - 1").await;
    let removed = pass(&world, days_later(KEPT_DAYS + 30)).await;
    assert_eq!(
        removed,
        Removed { days: 1, sagas: 1, keys: 1, letters: 0, actions: 0 },
        "the saga over midnight has rows there"
    );
    let report = world.verify().await;
    assert_eq!((report.kept, report.replayed, report.not_replayable), (vec![], 2, 1));

    world.reply(open, Says::Rejected).await;
    world.sql("UPDATE shard SET published_seq = next_seq - 1").await;
    let removed = pass(&world, days_later(KEPT_DAYS + 30)).await;
    assert_eq!(
        removed,
        Removed { days: 1, sagas: 3, keys: 3, letters: 0, actions: 0 },
        "the newest day never leaves"
    );
    assert_eq!(world.differences().await, "");
}

#[tokio::test]
async fn a_stuck_saga_and_its_letter_stay_until_somebody_has_decided() {
    let mut world = three_days().await;
    let stuck = world.start(4).await;
    world.reply(stuck, Says::Done).await;
    world.act(stuck, Verb::Cancel).await;
    world.refuse(stuck).await;
    world.sql("UPDATE shard SET published_seq = next_seq - 1").await;
    let removed = pass(&world, days_later(KEPT_DAYS + 30)).await;
    assert_eq!(removed, Removed { days: 1, sagas: 1, keys: 1, letters: 0, actions: 0 });
    assert_eq!(count(&world, "dead_letter").await, 1);
    assert_eq!(world.differences().await, "");

    world.act(stuck, Verb::Redrive { input: None }).await;
    world.reply(stuck, Says::Done).await;
    world.reply(stuck, Says::Done).await;
    world.sql("UPDATE shard SET published_seq = next_seq - 1").await;
    let removed = pass(&world, days_later(KEPT_DAYS + 30)).await;
    assert_eq!(removed, Removed { days: 1, sagas: 3, keys: 3, letters: 1, actions: 0 });
    assert_eq!(world.differences().await, "");
}

#[tokio::test]
async fn a_letter_that_is_opened_again_after_its_day_has_left_keeps_its_saga() {
    let mut world = three_days().await;
    let saga = world.start(4).await;
    world.reply(saga, Says::Done).await;
    world.act(saga, Verb::Cancel).await;
    world.refuse(saga).await;
    world.act(saga, Verb::Redrive { input: None }).await;
    world.reply(saga, Says::Done).await;
    world.reply(saga, Says::Done).await;
    world.sql("UPDATE shard SET published_seq = next_seq - 1").await;
    let retention = Retention::connect(&world.url).await.unwrap();
    for day in retention.days().await.unwrap() {
        assert_eq!(retention.drop_day(&day).await.unwrap(), DayDropped::Yes);
    }
    world.sql("UPDATE dead_letter SET status = 'open'").await;
    let before = days_later(KEPT_DAYS).to_utc();
    let walked = retention.remove_sagas(before, Uuid::nil()).await.unwrap();
    assert!(matches!(walked, Step::More(3, _)), "{walked:?}");
    assert_eq!(count(&world, "saga").await, 1, "the one that somebody has to decide about");
    world.sql("UPDATE dead_letter SET status = 'discarded'").await;
    let walked = retention.remove_sagas(before, Uuid::nil()).await.unwrap();
    assert!(matches!(walked, Step::More(1, _)), "{walked:?}");
}

#[tokio::test]
async fn actions_that_are_finished_leave_with_what_they_chose() {
    let world = three_days().await;
    for (id, finished) in [(1, "'2020-01-01'"), (2, "NULL")] {
        let id = Uuid::from_u128(id);
        world
            .sql(&format!(
                "INSERT INTO bulk_action (id, subject, verb, status, dry_run, actor, reason, filter, rate, ramp, selected,
                     progress, created_at, updated_at, finished_at)
                 VALUES ('{id}', 'letter', 'redrive', 'completed', false, 'a', 'r', '{{}}', 1, '[]', 1500, '{{}}',
                     '2020-01-01', '2020-01-01', {finished})"
            ))
            .await;
        let items = "SELECT '{id}', n, gen_random_uuid(), 'succeeded' FROM generate_series(1, 1500) AS n";
        let items = items.replace("{id}", &id.to_string());
        world.sql(&format!("INSERT INTO bulk_item (action_id, place, subject_id, state) {items}")).await;
    }
    // The key of the first one's request, which is as old as it.
    world
        .sql(&format!(
            "INSERT INTO request_key (key_hash, request_hash, saga_id, created_at)
             VALUES ('key', 'request', '{}', '2020-01-01')",
            Uuid::from_u128(1)
        ))
        .await;
    let removed = pass(&world, days_later(KEPT_DAYS + 30)).await;
    assert_eq!((removed.keys, removed.actions), (4, 1_501));
    assert_eq!((count(&world, "bulk_action").await, count(&world, "bulk_item").await), (1, 1_500));
    assert_eq!(world.differences().await, "");
}

#[tokio::test]
async fn a_day_with_records_that_are_not_acknowledged_stays() {
    let world = three_days().await;
    world.sql("UPDATE shard SET published_seq = 0").await;
    assert_eq!(pass(&world, days_later(KEPT_DAYS + 30)).await, NOTHING);
    assert_eq!(count(&world, "saga").await, 3);
}

#[tokio::test]
async fn a_long_reader_keeps_a_day_and_holds_up_no_commit() {
    let mut world = three_days().await;
    let retention = Retention::connect(&world.url).await.unwrap();
    let day = retention.days().await.unwrap().into_iter().next().unwrap();
    let reader = world.db().begin().await.unwrap();
    reader.execute_unprepared("SELECT count(*) FROM journal").await.unwrap();
    let dropping = async {
        for _ in 0..5 {
            assert_eq!(retention.drop_day(&day).await.unwrap(), DayDropped::Busy);
        }
    };
    let committing = async {
        let mut longest = Duration::ZERO;
        for n in 10..40 {
            let begun = Instant::now();
            world.start(n).await;
            longest = longest.max(begun.elapsed());
        }
        longest
    };
    let ((), longest) = tokio::join!(dropping, committing);
    // 0.1 s by design; a busy machine may take longer than that for anything.
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    reader.commit().await.unwrap();
    assert_eq!(retention.drop_day(&day).await.unwrap(), DayDropped::Yes);
}
