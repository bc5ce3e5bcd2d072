//! One bad command or record among good ones.

use messaging::headers::DeadLetterHeaders;
use messaging::{Headers, Received, Record};
use participant::DEAD_LETTERS;

use participant::testing::{TestCommand, new_saga};

use crate::stack::{Stack, command_record, put};
use crate::worker::{COMMANDS, Shop};

/// Fifty commands of which one has this note; it alone is answered like this, and without effect.
async fn check(note: &str, expected: &str) {
    let stack = Stack::start().await;
    let commands: Vec<TestCommand> =
        (0..50).map(|n| put(new_saga(), if n == 31 { note } else { "good" })).collect();
    stack.send_commands(&commands).await;
    let running = Shop::new().run(&stack);
    let replies = stack.replies(50).await;
    assert_eq!(replies.len(), 50);
    for reply in &replies {
        let is_bad = reply.headers.command_id == commands[31].id();
        assert_eq!(reply.summary(), if is_bad { expected } else { "succeeded" });
    }
    assert_eq!(stack.count("SELECT count(*) FROM effects").await, 49);
    assert_eq!(stack.count("SELECT count(*) FROM inbox WHERE recorded = 'succeeded'").await, 49);
    // `failed` promised that nothing happens: a copy of that attempt is answered alike, though it could succeed now.
    stack.send_commands([&commands[31].with("note", "good")]).await;
    assert_eq!(stack.replies_to(&commands[31], 2).await[1].summary(), expected);
    assert_eq!(stack.count("SELECT count(*) FROM effects").await, 49);
    // The next attempt runs.
    stack.send_commands([&commands[31].attempt(2).with("note", "good")]).await;
    assert_eq!(stack.replies_to(&commands[31], 3).await[2].summary(), "succeeded");
    running.stop().await;
}

#[tokio::test]
async fn a_handler_that_fails_for_one_command() {
    check("error", "failed: handler_failed").await;
}

#[tokio::test]
async fn a_handler_that_panics_for_one_command() {
    check("panic", "failed: handler_panicked").await;
}

#[tokio::test]
async fn a_handler_that_forgets_an_answer() {
    check("miscount", "failed: handler_failed").await;
}

#[tokio::test]
async fn a_constraint_that_one_command_violates() {
    check("constraint", "failed: database_refused").await;
}

#[tokio::test]
async fn a_handler_that_says_not_now_to_one_command() {
    check("not now", "failed: busy").await;
}

fn poison(stack: &Stack) -> Vec<(Record, &'static str, &'static str)> {
    let good = |note| stack.record(&put(new_saga(), note));
    let garbage = Record { value: Some(vec![0, 255, 7]), timestamp_ms: Some(1_700_000_000_123), ..good("x") };
    let foreign_bytes = vec![7, 255, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    let strange = Record { value: Some(foreign_bytes), ..good("x") };
    let empty = Record { value: None, ..good("x") };
    let mut headless = good("x");
    headless.headers = [("only", Some("this")), ("and", None)].into_iter().collect::<Headers>();
    headless.key = None;
    let mut unheard = put(new_saga(), "x").headers();
    unheard.message_type = "shop.Unheard".into();
    let unheard = command_record(unheard.saga_id, vec![1], unheard.write());
    let mut foreign = put(new_saga(), "x").headers();
    foreign.command_id = put(new_saga(), "x").id();
    let foreign = Record { headers: foreign.write(), ..good("x") };
    vec![
        (garbage, "undecodable", "3 bytes are too few"),
        (strange, "undecodable", "starts with 07 ff"),
        (empty, "undecodable", "no value"),
        (headless, "undecodable", "header saga-id is missing"),
        (unheard, "unhandled", "shop.Unheard"),
        (foreign, "undecodable", "header command-id"),
    ]
}

#[tokio::test]
async fn what_is_no_command_becomes_a_dead_letter_byte_for_byte() {
    let stack = Stack::start().await;
    let poison = poison(&stack);
    let neighbours: Vec<TestCommand> = (0..6).map(|_| put(new_saga(), "good")).collect();
    let mut records = Vec::new();
    for (n, neighbour) in neighbours.iter().enumerate() {
        records.push(stack.record(neighbour));
        records.extend(poison.get(n).map(|(record, ..)| record.clone()));
    }
    stack.send(records).await;
    let running = Shop::new().run(&stack);

    let letters = stack.records(DEAD_LETTERS, poison.len()).await;
    assert_eq!(letters.len(), poison.len());
    for (letter, (record, reason, text)) in letters.iter().zip(&poison) {
        check_letter(letter, record, reason, text);
    }
    assert_eq!(stack.replies(6).await.len(), 6);
    assert_eq!(stack.count("SELECT count(*) FROM effects").await, 6);
    running.stop().await;
}

fn check_letter(letter: &Received, record: &Record, reason: &str, text: &str) {
    assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
    assert_eq!(DeadLetterHeaders::original(&letter.headers), record.headers);
    let headers = DeadLetterHeaders::read(&letter.headers).unwrap();
    assert_eq!((&*headers.reason, &*headers.source, &*headers.topic), (reason, "shop", COMMANDS));
    assert!(headers.message.contains(text), "{}", headers.message);
    if let Some(timestamp) = record.timestamp_ms {
        assert_eq!(letter.timestamp_ms, Some(timestamp));
    }
}

#[tokio::test]
async fn a_reply_that_nobody_can_take_becomes_a_dead_letter_and_the_others_go_on() {
    let stack = Stack::start().await;
    let (lost, good) = (put(new_saga(), "x"), put(new_saga(), "y"));
    let mut headers = lost.headers();
    headers.reply_partition = 99;
    let record = Record { headers: headers.write(), ..stack.record(&lost) };
    stack.send(vec![record.clone(), stack.record(&good)]).await;
    let running = Shop::new().run(&stack);

    assert_eq!(stack.replies_to(&good, 1).await[0].summary(), "succeeded");
    let letter = &stack.records(DEAD_LETTERS, 1).await[0];
    check_letter(letter, &record, "unpublishable", "saga.inbox");
    assert_eq!(stack.effects(lost.saga).await, (1, 0));
    running.stop().await;
}
