//! The order of what is sent about one saga.

use std::sync::mpsc as blocking;

use messaging::{DeliveryFailure, Placed};
use orchestrator::engine::handle::{Act, Verb};
use orchestrator::engine::rebalance::Rebalance;
use saga_defs::ids::{SagaId, Shard};
use simulation::world::World;
use simulation::{evidence, schedule};

use crate::harness::{Process, all_is_quiet, eventually, refused, unknown, world, written};

async fn cancel(process: &Process, saga: SagaId) {
    let (actor, reason) = ("somebody".into(), "changed my mind".into());
    let act = Act { saga, verb: Verb::Cancel, reason, actor, expected: None, key: None };
    process.handle.act(act).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_sent_again_is_not_overtaken_by_a_later_one_of_its_saga() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    let saga = process.start_saga("booking").await;
    process.commands.are(1).await;
    cancel(&process, saga).await;
    all_is_quiet().await;
    assert_eq!(process.commands.all(), ["booking.ReserveBooking 1"], "it may still be lost");
    process.commands.report(0, unknown());
    process.commands.are(2).await;
    all_is_quiet().await;
    assert_eq!(process.commands.all(), ["booking.ReserveBooking 1"; 2]);
    process.commands.report(1, written(0));
    let all = ["booking.ReserveBooking 1", "booking.ReserveBooking 1", "booking.CancelBooking 1"];
    assert_eq!(process.commands.are(3).await, all);
}

#[tokio::test(start_paused = true)]
async fn a_command_goes_when_the_one_before_it_is_refused() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    let saga = process.start_saga("booking").await;
    process.commands.are(1).await;
    cancel(&process, saga).await;
    process.commands.report(0, refused());
    assert_eq!(process.commands.are(2).await, ["booking.ReserveBooking 1", "booking.CancelBooking 1"]);
}

#[tokio::test(start_paused = true)]
async fn sagas_do_not_wait_for_each_other() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    for count in 1..=3 {
        process.start_saga("booking").await;
        process.commands.are(count).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_command_of_a_lost_shard_is_sent_by_its_next_owner_in_order() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    let saga = process.start_saga("booking").await;
    process.commands.are(1).await;
    cancel(&process, saga).await;
    let (done, released) = blocking::sync_channel(1);
    process.rebalances.send(Rebalance::Revoked { shards: vec![Shard(0)], done }).unwrap();
    eventually(async || released.try_recv().ok()).await;
    process.is_assigned(2).await;
    process.commands.are(2).await;
    // The report of the life before comes late, and means nothing any more.
    process.commands.report(0, written(0));
    all_is_quiet().await;
    assert_eq!(process.commands.all(), ["booking.ReserveBooking 1"; 2]);
    process.commands.report(1, written(1));
    assert_eq!(process.commands.are(3).await[2], "booking.CancelBooking 1");
}

/// The first owner's producer holds a reservation. The second owner publishes it too, is told this of it, and goes on with
/// the cancellation, which is written; then the first one's copy is. What is found of their order.
async fn order_of_a_late_copy(told: Result<Placed, DeliveryFailure>) -> Vec<String> {
    let world = world();
    world.broker.create("booking.commands", 1);
    let first = Process::start(&world, "http://first");
    first.is_assigned(1).await;
    let saga = first.start_saga("booking").await;
    first.commands.are(1).await;

    let second = Process::start(&world, "http://second");
    second.is_assigned(1).await;
    second.commands.are(1).await;
    if told.is_err() {
        world.refused(&second.commands.record(0));
    }
    second.commands.report(0, told);
    all_is_quiet().await;
    cancel(&second, saga).await;
    assert_eq!(second.commands.are(2).await, ["booking.ReserveBooking 1", "booking.CancelBooking 1"]);

    write(&world, &second, 1);
    write(&world, &first, 0);
    let mut found = schedule::judge(&world, &evidence::gather(&world, &[], Vec::new()));
    found.retain(|violation| violation.contains("out of order"));
    found
}

fn write(world: &World, process: &Process, place: usize) {
    world.broker.append(&process.commands.record(place), world.now().unix_millis()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_earlier_copy_of_what_the_broker_refused_may_come_behind_what_the_saga_went_on_with() {
    let found = order_of_a_late_copy(refused()).await;
    assert_eq!(found, [""; 0], "nobody can know whether it comes, so nothing waits for it");
    let found = order_of_a_late_copy(written(0)).await;
    assert_eq!(found.len(), 1, "what is acknowledged is there first");
}

#[tokio::test(start_paused = true)]
async fn a_saga_is_not_said_to_have_ended_before_it_is_said_to_have_started() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    process.start_saga("booking").await;
    process.commands.are(1).await;
    process.commands.report(0, refused());
    all_is_quiet().await;
    assert_eq!(process.announcements.all(), ["saga.SagaStarted"]);
    process.announcements.report(0, unknown());
    process.announcements.are(2).await;
    process.announcements.report(1, written(0));
    let all = ["saga.SagaStarted", "saga.SagaStarted", "saga.SagaEnded"];
    assert_eq!(process.announcements.are(3).await, all);
}
