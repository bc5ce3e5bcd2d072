//! Commands that come again, too late, or in the wrong order.

use messaging::headers::OutcomeKind;

use participant::testing::{TestCommand, new_saga};

use crate::stack::{Stack, put, take};
use crate::worker::{DONE, Shop};

#[tokio::test]
async fn a_command_is_run_answered_and_told() {
    let stack = Stack::start().await;
    let running = Shop::new().run(&stack);
    let put = put(new_saga(), "hello");
    stack.send_commands([&put]).await;

    let reply = &stack.replies_to(&put, 1).await[0];
    assert_eq!(reply.headers.outcome, OutcomeKind::Succeeded);
    assert_eq!(&*reply.headers.message_type, "shop.Done");
    assert_eq!(reply.headers.saga_id, put.saga);
    assert_eq!(
        (reply.record.partition, reply.record.key.as_deref()),
        (2, Some(put.saga.to_string().as_bytes()))
    );
    // Nothing is written down here, so what comes next hangs below what was sent.
    assert_eq!(reply.headers.traceparent.unwrap(), put.headers().traceparent.unwrap());

    let event = &stack.records(DONE, 1).await[0];
    assert_eq!(event.headers.text("event-id"), Some(format!("{}-0", put.id()).as_str()));
    assert_eq!(event.headers.text("message-type"), Some("shop.Done"));
    assert_eq!(event.key.as_deref(), Some(b"key".as_slice()));
    assert_eq!(stack.effects(put.saga).await, (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_command_that_comes_again_has_one_effect_and_the_same_reply() {
    let stack = Stack::start().await;
    let running = Shop::new().run(&stack);
    let put = put(new_saga(), "once");
    // Twice in one batch, and once more later with another attempt and body.
    stack.send_commands([&put, &put]).await;
    stack.replies_to(&put, 2).await;
    stack.send_commands([&put.attempt(2).with("note", "other")]).await;

    let replies = stack.replies_to(&put, 3).await;
    let values: Vec<_> = replies.iter().map(|reply| reply.record.value.clone()).collect();
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    assert_eq!(stack.effects(put.saga).await, (1, 0));
    // A replay tells everyone again, under the same event id.
    let ids: Vec<_> = stack
        .records(DONE, 3)
        .await
        .iter()
        .map(|event| event.headers.text("event-id").map(str::to_owned))
        .collect();
    assert_eq!(ids, vec![Some(format!("{}-0", put.id())); 3]);
    running.stop().await;
}

#[tokio::test]
async fn repeats_among_new_commands_keep_their_replies() {
    let stack = Stack::start().await;
    let running = Shop::new().run(&stack);
    let [one, two, three, four] = ["one", "two", "three", "four"].map(|note| put(new_saga(), note));
    stack.send_commands([&one]).await;
    stack.replies_to(&one, 1).await;
    // From here on commands are expected to be new.
    for round in 2..5 {
        stack.send_commands([&two, &one.with("note", "other"), &three]).await;
        let replies = stack.replies_to(&one, round).await;
        assert_eq!(replies[round - 1].record.value, replies[0].record.value);
    }
    stack.send_commands([&four]).await;
    for put in [&one, &two, &three, &four] {
        assert_eq!(stack.replies_to(put, 1).await[0].summary(), "succeeded");
        assert_eq!(stack.effects(put.saga).await, (1, 0));
    }
    running.stop().await;
}

#[tokio::test]
async fn a_compensation_before_its_command_leaves_a_tombstone() {
    let stack = Stack::start().await;
    let running = Shop::new().run(&stack);
    let saga = new_saga();
    let (put, take) = (put(saga, "late"), take(saga));
    stack.send_commands([&take]).await;
    assert_eq!(stack.replies_to(&take, 1).await[0].summary(), "succeeded");
    stack.send_commands([&put, &take, &put]).await;

    let refused: Vec<_> = stack.replies_to(&put, 2).await.iter().map(|reply| reply.summary()).collect();
    assert_eq!(refused, ["rejected: tombstoned", "rejected: tombstoned"]);
    assert_eq!(stack.replies_to(&take, 2).await.len(), 2);
    assert_eq!(stack.effects(saga).await, (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_command_and_its_compensation_in_one_batch_happen_in_order() {
    let stack = Stack::start().await;
    let sagas: Vec<_> = (0..20).map(|_| new_saga()).collect();
    let commands: Vec<TestCommand> = sagas.iter().flat_map(|saga| [put(*saga, "x"), take(*saga)]).collect();
    // Sent before anybody reads: a batch, or a few where the first answer to a fetch is short.
    stack.send_commands(&commands).await;
    let shop = Shop::new();
    let running = shop.run(&stack);

    let replies = stack.replies(40).await;
    assert_eq!(replies.len(), 40);
    assert!(replies.iter().all(|reply| reply.summary() == "succeeded"));
    for saga in &sagas {
        assert_eq!(stack.effects(*saga).await, (1, 1));
        let of_saga: Vec<_> = replies
            .iter()
            .filter(|reply| reply.headers.saga_id == *saga)
            .map(|reply| reply.headers.command_id)
            .collect();
        assert_eq!(of_saga, [put(*saga, "").id(), take(*saga).id()]);
    }
    let calls = shop.batches.lock().unwrap().clone();
    assert_eq!(calls.iter().sum::<usize>(), sagas.len());
    assert!(calls.len() <= 4, "each round of a batch is one call: {calls:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_rejection_is_replayed_until_an_operator_redrives_it() {
    let stack = Stack::start().await;
    let running = Shop::new().run(&stack);
    let put = put(new_saga(), "reject");
    stack.send_commands([&put, &put.attempt(2).with("note", "fine")]).await;
    let replies = stack.replies_to(&put, 2).await;
    assert_eq!(replies[1].summary(), "rejected: no");
    assert_eq!(replies[0].record.value, replies[1].record.value);

    stack.send_commands([&put.redrive(1).with("note", "fine")]).await;
    assert_eq!(stack.replies_to(&put, 3).await[2].summary(), "succeeded");
    assert_eq!(stack.effects(put.saga).await, (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_lost_reply_stays_lost_and_its_event_does_not() {
    let stack = Stack::start().await;
    let running = Shop::new().run(&stack);
    let saga = new_saga();
    let (put, take) = (put(saga, "lose"), take(saga));
    stack.send_commands([&put, &put, &take]).await;
    stack.replies_to(&take, 1).await;
    assert_eq!(stack.replies(1).await.len(), 1);
    assert_eq!(stack.records(DONE, 2).await.len(), 2);
    assert_eq!(stack.effects(saga).await, (1, 1));
    running.stop().await;
}
