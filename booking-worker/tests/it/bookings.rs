//! Reserve, confirm, cancel.

use booking_worker::{CANCELLED, CONFIRMED, CREATED};
use participant::testing::new_saga;
use uuid::Uuid;

use crate::bench::{BookingBench, cancel, confirm, reserve};

#[tokio::test]
async fn a_booking_is_reserved_and_confirmed_once() {
    let bench = BookingBench::start().await;
    let serving = bench.serve();
    let (saga, resource) = (new_saga(), Uuid::now_v7());
    let (reserve, confirm) = (reserve(saga, resource), confirm(saga));
    bench.send_commands([&reserve, &reserve, &confirm, &confirm]).await;

    let reserved = bench.replies_to(&reserve, 2).await;
    assert_eq!(&*reserved[0].headers.message_type, "booking.BookingReserved");
    assert_eq!(reserved[0].fields["bookingId"], saga.to_string());
    assert!(reserved[0].fields["reservedAt"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(reserved[0].record.value, reserved[1].record.value);
    let confirmed = bench.replies_to(&confirm, 2).await;
    assert!(confirmed.iter().all(|reply| reply.summary() == "succeeded"));
    assert!(bench.status(saga, "confirmed").await);
    assert_eq!(bench.count("SELECT taken FROM resources").await, 1);

    let key = saga.to_string();
    assert_eq!(bench.events(CREATED, "resourceId", 2).await[0], (key.clone(), resource.to_string()));
    assert_eq!(bench.events(CONFIRMED, "bookingId", 2).await[0], (key.clone(), key));
    serving.stop().await;
}

#[tokio::test]
async fn a_cancelled_booking_gives_its_unit_back_once() {
    let bench = BookingBench::start().await;
    let serving = bench.serve();
    let resource = Uuid::now_v7();
    let (kept, cancelled) = (new_saga(), new_saga());
    let cancel = cancel(cancelled, resource);
    bench.send_commands([&reserve(kept, resource), &reserve(cancelled, resource), &cancel, &cancel]).await;

    let replies = bench.replies_to(&cancel, 2).await;
    assert_eq!(&*replies[0].headers.message_type, "booking.BookingReservationCancelled");
    assert_eq!(replies[0].record.value, replies[1].record.value);
    assert!(bench.status(cancelled, "cancelled").await && bench.status(kept, "reserved").await);
    assert_eq!(bench.count("SELECT taken FROM resources").await, 1);
    let event = (cancelled.to_string(), "compensated".to_owned());
    assert_eq!(bench.events(CANCELLED, "reason", 2).await, vec![event; 2]);
    serving.stop().await;
}

#[tokio::test]
async fn a_booking_that_was_never_made_is_cancelled_and_then_refused() {
    let bench = BookingBench::start().await;
    let serving = bench.serve();
    let (saga, resource) = (new_saga(), Uuid::now_v7());
    let (reserve, cancel, confirm) = (reserve(saga, resource), cancel(saga, resource), confirm(saga));
    bench.send_commands([&cancel, &reserve, &confirm]).await;

    assert_eq!(bench.reply_to(&cancel).await, "succeeded");
    assert_eq!(bench.reply_to(&reserve).await, "rejected: tombstoned");
    assert_eq!(bench.reply_to(&confirm).await, "rejected: not_reserved");
    assert_eq!(bench.count("SELECT count(*) FROM bookings").await, 0);
    assert!(bench.records(CANCELLED, 0).await.is_empty(), "nothing was cancelled");
    serving.stop().await;
}

#[tokio::test]
async fn a_booking_id_that_is_taken_fails_alone() {
    let bench = BookingBench::start().await;
    let resource = Uuid::now_v7();
    let first = reserve(new_saga(), resource);
    let same = reserve(new_saga(), resource).with("bookingId", first.saga.to_string());
    let other = reserve(new_saga(), resource);
    bench.send_commands([&first, &same, &other]).await;
    let serving = bench.serve();

    assert_eq!(bench.reply_to(&same).await, "failed: database_refused");
    assert_eq!(bench.reply_to(&first).await, "succeeded");
    assert_eq!(bench.reply_to(&other).await, "succeeded");
    assert_eq!(bench.count("SELECT taken FROM resources").await, 2);
    serving.stop().await;
}
