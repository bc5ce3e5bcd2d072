//! Units of resources: never more taken than there are, never fewer than stand.

use booking_worker::DEFAULT_CAPACITY;
use participant::testing::{TestCommand, new_saga};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bench::{BookingBench, cancel, reserve};

#[tokio::test]
async fn at_the_edge_of_capacity_the_first_come_are_served() {
    let bench = BookingBench::start().await;
    let (small, large) = (Uuid::now_v7(), Uuid::now_v7());
    bench.set_capacity(small, 7).await;
    let commands: Vec<TestCommand> =
        (0..40).map(|n| reserve(new_saga(), if n % 2 == 0 { small } else { large })).collect();
    // Sent before the worker starts: one batch.
    bench.send_commands(&commands).await;
    let serving = bench.serve();
    let replies = bench.replies(40).await;
    for (n, command) in commands.iter().enumerate() {
        let reply = replies.iter().find(|reply| reply.headers.command_id == command.id()).unwrap();
        let sold_out = n % 2 == 0 && n / 2 >= 7;
        assert_eq!(reply.summary(), if sold_out { "rejected: sold_out" } else { "succeeded" }, "{n}");
    }
    assert_eq!(bench.count(&format!("SELECT taken FROM resources WHERE resource_id = '{small}'")).await, 7);
    assert_eq!(bench.discrepancy().await, 0);

    // A unit that comes back can be had again.
    let undo = cancel(commands[0].saga, small);
    bench.send_commands([&undo]).await;
    // In one batch the order of different sagas is nobody's promise.
    assert_eq!(bench.reply_to(&undo).await, "succeeded");
    let late = reserve(new_saga(), small);
    bench.send_commands([&late]).await;
    assert_eq!(bench.reply_to(&late).await, "succeeded");
    assert_eq!(bench.discrepancy().await, 0);
    serving.stop().await;
}

#[tokio::test]
async fn an_operator_sets_a_capacity_but_not_below_what_is_taken() {
    let bench = BookingBench::start().await;
    let serving = bench.serve();
    let resource = Uuid::now_v7();
    let (one, two) = (reserve(new_saga(), resource), reserve(new_saga(), resource));
    bench.send_commands([&one, &two]).await;
    bench.replies(2).await;
    assert_eq!(bench.count("SELECT capacity FROM resources").await, DEFAULT_CAPACITY);

    bench.set_capacity(resource, 2).await;
    let (url, stop) = (bench.database_url.clone().into(), CancellationToken::new());
    assert!(booking_worker::set_capacity(&url, resource, 1, &stop).await.is_err());
    assert!(booking_worker::set_capacity(&url, resource, -1, &stop).await.is_err());
    assert_eq!(bench.count("SELECT capacity FROM resources").await, 2);
    serving.stop().await;
}

#[tokio::test]
async fn two_workers_that_share_hot_resources_lose_nothing() {
    let bench = BookingBench::start().await;
    let resources: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    for resource in &resources {
        bench.set_capacity(*resource, 30).await;
    }
    // Each has all commands: the second is a worker that does not know yet that it lost its partitions.
    let other = participant::testing::Bench::start(
        "booking",
        &[booking_worker::CREATED, booking_worker::CONFIRMED, booking_worker::CANCELLED],
        bench.catalog.clone(),
    )
    .await
    .on_database_of(&bench);
    let commands: Vec<TestCommand> = (0..200).map(|n| reserve(new_saga(), resources[n * 7 % 5])).collect();
    bench.send_commands(&commands).await;
    other.send_commands(&commands).await;
    let serving = bench.serve();
    let settings = participant::service::WorkerSettings::new(other.database_url.clone(), other.kafka.clone());
    let stop = CancellationToken::new();
    let other_serving = tokio::spawn(booking_worker::serve(settings, stop.clone()));

    let (replies, other_replies) = (bench.replies(200).await, other.replies(200).await);
    for reply in &replies {
        let same = other_replies.iter().find(|other| other.headers.command_id == reply.headers.command_id);
        assert_eq!(same.unwrap().record.value, reply.record.value);
    }
    assert_eq!(bench.count("SELECT sum(taken)::bigint FROM resources").await, 150);
    assert_eq!(bench.discrepancy().await, 0);
    stop.cancel();
    other_serving.await.unwrap().unwrap();
    serving.stop().await;
}
