//! Commands whose effect lies outside.

use participant::testing::{TestCommand, new_saga};

use crate::stack::{Stack, ring, unring};
use crate::worker::Shop;

const RECORDED: &str = "SELECT count(*) FROM inbox WHERE recorded = ";

#[tokio::test]
async fn a_call_is_made_settled_and_replayed() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let ring = ring(new_saga(), "ding");
    stack.send_commands([&ring, &ring]).await;
    let replies = stack.replies_to(&ring, 2).await;
    assert!(replies.iter().all(|reply| reply.summary() == "succeeded"));
    assert_eq!(replies[0].record.value, replies[1].record.value);
    assert_eq!(stack.effects(ring.saga).await, (1, 0));
    assert_eq!(shop.rings(ring.id()), (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_call_that_was_certainly_not_made_fails_and_may_be_tried_again() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let ring = ring(new_saga(), "not made");
    stack.send_commands([&ring]).await;
    assert_eq!(stack.replies_to(&ring, 1).await[0].summary(), "failed: bell_unavailable");
    assert_eq!(stack.count(&format!("{RECORDED}'failed'")).await, 1);
    // A copy of the attempt that failed calls nothing; the next attempt does.
    stack.send_commands([&ring.with("note", "ding")]).await;
    assert_eq!(stack.replies_to(&ring, 2).await[1].summary(), "failed: bell_unavailable");
    assert_eq!(shop.rings(ring.id()), (0, 0));
    stack.send_commands([&ring.attempt(2).with("note", "ding")]).await;
    assert_eq!(stack.replies_to(&ring, 3).await[2].summary(), "succeeded");

    // A step that only ever failed has nothing to undo.
    let never = crate::stack::ring(new_saga(), "not made");
    let unring = unring(never.saga);
    stack.send_commands([&never, &unring]).await;
    assert_eq!(stack.replies_to(&unring, 1).await[0].summary(), "succeeded");
    assert_eq!(shop.rings(never.id()), (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn what_another_process_has_settled_is_not_settled_again() {
    let stack = Stack::start().await;
    let (one, other) = (Shop::new(), Shop::new());
    let other_stack = Stack::start().await.on_database_of(&stack);
    let (running, other_running) = (one.run(&stack), other.run(&other_stack));
    let ring = ring(new_saga(), "gate");
    stack.send_commands([&ring]).await;
    one.somebody_at_the_gate().await;
    other_stack.send_commands([&ring]).await;
    other.somebody_at_the_gate().await;
    // The row is not as the first has left it, and in the end not as the second has.
    one.open_gate();
    let first = stack.replies_to(&ring, 1).await;
    other.open_gate();
    let second = other_stack.replies_to(&ring, 1).await;
    assert_eq!(first[0].record.value, second[0].record.value);
    assert_eq!(stack.effects(ring.saga).await, (1, 0));
    running.stop().await;
    other_running.stop().await;
}

/// A ring of which nobody knows whether it happened: no answer, still none when the next try is certainly not made; then
/// the compensation undoes it and the command never runs again.
async fn check_in_doubt(note: &str) {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let ring = ring(new_saga(), note);
    let unring = unring(ring.saga);
    stack.send_commands([&ring, &ring.attempt(2).with("note", "not made")]).await;
    stack.wait_for_count(&format!("{RECORDED}'claimed'"), 1).await;
    stack.send_commands([&unring, &ring.attempt(3).with("note", "ding")]).await;

    assert_eq!(stack.replies_to(&unring, 1).await[0].summary(), "succeeded");
    let answers: Vec<_> = stack.replies_to(&ring, 1).await.iter().map(|reply| reply.summary()).collect();
    assert_eq!(answers, ["rejected: tombstoned"]);
    assert_eq!(shop.rings(ring.id()), (1, 1));
    assert_eq!(stack.count(&format!("{RECORDED}'tombstoned'")).await, 1);
    running.stop().await;
}

/// The model check found this one: the refusal came between the two tries of the compensation, and an operator's redrive
/// was still on its way.
#[tokio::test]
async fn what_was_undone_never_runs_again_even_if_it_was_refused_meanwhile() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let ring = ring(new_saga(), "lost");
    let unring = unring(ring.saga);
    stack.send_commands([&ring, &unring.with("note", "lost")]).await;
    assert_eq!(stack.replies_to(&unring, 1).await[0].summary(), "failed: bell_unavailable");
    stack.send_commands([&ring.with("note", "reject"), &unring.attempt(2)]).await;
    assert_eq!(stack.replies_to(&unring, 2).await[1].summary(), "succeeded");
    stack.send_commands([&ring.redrive(1).with("note", "ding")]).await;

    let answers: Vec<_> = stack.replies_to(&ring, 2).await.iter().map(|reply| reply.summary()).collect();
    assert_eq!(answers, ["rejected: no", "rejected: tombstoned"]);
    assert_eq!(shop.rings(ring.id()), (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_call_without_an_answer_is_in_doubt() {
    check_in_doubt("unknown").await;
}

#[tokio::test]
async fn a_call_that_panics_is_in_doubt() {
    check_in_doubt("panic").await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_down_is_in_doubt() {
    check_in_doubt("constraint").await;
}

#[tokio::test]
async fn neighbours_of_a_call_that_panics_are_settled() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let rings: Vec<TestCommand> =
        (0..10).map(|n| ring(new_saga(), if n == 4 { "panic" } else { "ding" })).collect();
    stack.send_commands(&rings).await;
    let running = shop.run(&stack);
    assert!(stack.replies(9).await.iter().all(|reply| reply.summary() == "succeeded"));
    assert_eq!(stack.count(&format!("{RECORDED}'succeeded'")).await, 9);
    running.stop().await;
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_call_is_followed_by_the_same_call() {
    let stack = Stack::start().await;
    let shop = Shop::new();
    let running = shop.run(&stack);
    let ring = ring(new_saga(), "gate");
    stack.send_commands([&ring]).await;
    shop.somebody_at_the_gate().await;
    running.crash().await;
    assert_eq!(stack.count(&format!("{RECORDED}'claimed'")).await, 1);

    let running = shop.run(&stack);
    shop.somebody_at_the_gate().await;
    shop.open_gate();
    assert_eq!(stack.replies_to(&ring, 1).await[0].summary(), "succeeded");
    assert_eq!((stack.effects(ring.saga).await, shop.rings(ring.id())), ((1, 0), (1, 0)));
    running.stop().await;
}
