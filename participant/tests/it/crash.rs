//! Ends at bad moments, and what is away for a while.

use sea_orm::ConnectionTrait;

use participant::testing::new_saga;

use crate::stack::{Stack, put};
use crate::worker::{DONE, Shop};

#[tokio::test]
async fn a_crash_between_commit_and_publication_is_made_good_by_a_replay() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let put = put(new_saga(), "gate");
    stack.send_commands([&put]).await;
    shop.somebody_at_the_gate().await;
    stack.broker.down().unwrap();
    shop.open_gate();
    stack.wait_for_count("SELECT count(*) FROM inbox", 1).await;
    running.crash().await;
    stack.broker.up().unwrap();
    assert!(stack.replies(0).await.is_empty(), "nothing was published before the crash");

    let running = shop.run(&stack);
    assert_eq!(stack.replies_to(&put, 1).await[0].summary(), "succeeded");
    assert_eq!(stack.records(DONE, 1).await.len(), 1);
    assert_eq!(stack.effects(put.saga).await, (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_crash_inside_the_transaction_leaves_nothing_and_the_command_runs_again() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let put = put(new_saga(), "gate");
    stack.send_commands([&put]).await;
    shop.somebody_at_the_gate().await;
    running.crash().await;
    assert_eq!(stack.effects(put.saga).await, (0, 0));

    let running = shop.run(&stack);
    shop.somebody_at_the_gate().await;
    shop.open_gate();
    stack.replies_to(&put, 1).await;
    assert_eq!(stack.effects(put.saga).await, (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_stop_finishes_the_batch_in_work_and_commits_its_offsets() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let put = put(new_saga(), "gate");
    stack.send_commands([&put]).await;
    shop.somebody_at_the_gate().await;
    let stopping = tokio::spawn(running.stop());
    shop.open_gate();
    stopping.await.unwrap();
    assert_eq!(stack.replies(1).await.len(), 1);

    // The next one begins after it.
    let running = shop.run(&stack);
    let next = crate::stack::put(new_saga(), "next");
    stack.send_commands([&next]).await;
    stack.replies_to(&next, 1).await;
    assert_eq!(stack.replies(2).await.len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_database_that_drops_its_connections_is_waited_for() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let put = put(new_saga(), "gate");
    stack.send_commands([&put]).await;
    for _ in 0..2 {
        shop.somebody_at_the_gate().await;
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shop' \
                    AND datname = current_database()";
        stack.database.execute_unprepared(kill).await.unwrap();
        shop.open_gate();
    }
    shop.somebody_at_the_gate().await;
    shop.open_gate();
    let replies = stack.replies_to(&put, 1).await;
    assert_eq!(replies.iter().map(|reply| reply.summary()).collect::<Vec<_>>(), ["succeeded"]);
    assert_eq!(stack.effects(put.saga).await, (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let put = put(new_saga(), "gate");
    stack.send_commands([&put]).await;
    shop.somebody_at_the_gate().await;
    stack.broker.down().unwrap();
    shop.open_gate();
    stack.wait_for_count("SELECT count(*) FROM inbox", 1).await;
    stack.broker.up().unwrap();
    assert_eq!(stack.replies_to(&put, 1).await[0].summary(), "succeeded");
    running.stop().await;
}

/// `after`: how many new commands each has met before; from the first on it expects them to be new.
async fn check_two_on_one_command(after: usize) {
    let stack = Stack::start().await;
    // Two brokers, one database: as when the group has moved a partition and the old owner does not know yet.
    let (one, other) = (Shop::new(), Shop::new());
    let other_stack = Stack::start().await.on_database_of(&stack);
    let (running, other_running) = (one.run(&stack), other.run(&other_stack));
    for _ in 0..after {
        for stack in [&stack, &other_stack] {
            let before = put(new_saga(), "before");
            stack.send_commands([&before]).await;
            stack.replies_to(&before, 1).await;
        }
    }
    let put = put(new_saga(), "gate");
    stack.send_commands([&put]).await;
    other_stack.send_commands([&put]).await;
    one.somebody_at_the_gate().await;
    other.somebody_at_the_gate().await;
    one.open_gate();
    stack.replies_to(&put, 1).await;
    other.open_gate();
    let replayed = other_stack.replies_to(&put, 1).await;
    assert_eq!(replayed[0].summary(), "succeeded");
    assert_eq!(stack.effects(put.saga).await, (1, 0));
    running.stop().await;
    other_running.stop().await;
}

#[tokio::test]
async fn two_that_work_on_the_same_command_make_one_effect() {
    check_two_on_one_command(0).await;
}

#[tokio::test]
async fn two_that_take_the_same_command_for_a_new_one_make_one_effect() {
    check_two_on_one_command(1).await;
}
