//! Commands that the broker refuses for good.

use saga_defs::saga::Status;

use crate::harness::{Process, all_is_quiet, becomes, refused, unknown, world, written};

#[tokio::test(start_paused = true)]
async fn a_refused_command_is_not_published_again_by_the_next_owner() {
    let world = world();
    let first = Process::start(&world, "http://first");
    first.is_assigned(1).await;
    let saga = first.start_saga("booking").await;
    assert_eq!(first.commands.are(1).await, ["booking.ReserveBooking 1"]);
    // The announcement of the start is not acknowledged, so the watermark stays below all of it.
    first.commands.report(0, refused());
    becomes(&world, saga, Status::Compensated).await;
    first.kill();

    let second = Process::start(&world, "http://second");
    second.is_assigned(1).await;
    second.announcements.are(1).await;
    second.announcements.report(0, written(0));
    assert_eq!(second.announcements.are(2).await, ["saga.SagaStarted", "saga.SagaEnded"]);
    all_is_quiet().await;
    assert_eq!(second.commands.all(), [""; 0], "the saga has gone on without it");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_may_have_been_written_before_it_is_refused_is_undone_too() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    let saga = process.start_saga("booking").await;
    process.commands.are(1).await;
    process.commands.report(0, unknown());
    process.commands.are(2).await;
    process.commands.report(1, refused());
    // Its timeout runs all the same, and the next attempt is refused at once.
    process.commands.are(3).await;
    process.commands.report(2, refused());
    let sent = [
        "booking.ReserveBooking 1",
        "booking.ReserveBooking 1",
        "booking.ReserveBooking 2",
        "booking.CancelBooking 1",
    ];
    assert_eq!(process.commands.are(4).await, sent);
    assert_ne!(crate::harness::saga(&world, saga).status(), Status::Compensated, "not before it is undone");
    process.commands.report(3, written(0));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_owner_before_may_have_written_is_undone_too() {
    let world = world();
    let first = Process::start(&world, "http://first");
    first.is_assigned(1).await;
    first.start_saga("booking").await;
    first.commands.are(1).await;
    first.kill();

    let second = Process::start(&world, "http://second");
    second.is_assigned(1).await;
    second.commands.are(1).await;
    second.commands.report(0, refused());
    second.commands.are(2).await;
    second.commands.report(1, refused());
    let sent = ["booking.ReserveBooking 1", "booking.ReserveBooking 2", "booking.CancelBooking 1"];
    assert_eq!(second.commands.are(3).await, sent);
}
