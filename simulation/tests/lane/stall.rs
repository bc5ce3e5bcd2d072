//! A lane that stood still because its database was away.

use std::sync::Arc;
use std::time::Duration;

use messaging::headers::{OutcomeKind, ReplyHeaders};
use messaging::{ConsumerEvent, Polled, Received};
use orchestrator::engine::INBOX;
use saga_defs::ids::{CommandId, Direction, SagaId};
use saga_defs::saga::Status;
use schemas::Catalog;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::harness::{Process, all_is_quiet, becomes, eventually, saga, world, written};

/// More than the consumer and the lane have room for between them.
const SAGAS: usize = 8;
/// How many wait for their timers at once.
const CROWD: usize = 100_000;
/// Commands that may go to a participant that does not answer, in the 100 s after: one every ten seconds, sooner with
/// jitter, and the first.
const MOST_PROBES: usize = 15;
/// How many of them are asked for at once.
const TOGETHER: usize = 500;

fn reserved(saga: SagaId, offset: i64) -> ConsumerEvent {
    let message_type: Arc<str> = "booking.BookingReserved".into();
    let headers = ReplyHeaders {
        saga_id: saga,
        command_id: CommandId::derive(saga, "reserve-booking", Direction::Forward),
        outcome: OutcomeKind::Succeeded,
        echo: None,
        message_type: message_type.clone(),
        traceparent: None,
    };
    let fields = json!({ "bookingId": saga.to_string() });
    let fields = fields.as_object().cloned().unwrap_or_default();
    let record = Received {
        topic: INBOX.into(),
        partition: 0,
        offset,
        timestamp_ms: None,
        key: Some(saga.to_string().into_bytes()),
        value: Some(Catalog::shipped().encode(&message_type, &fields).unwrap()),
        headers: headers.write(),
    };
    let at = Instant::now().into_std();
    ConsumerEvent::Records(Polled { generation: 1, at, records: vec![record] })
}

#[tokio::test(start_paused = true)]
async fn replies_that_came_while_the_database_was_away_are_read_before_timers_fire() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    let mut sagas = Vec::new();
    for count in 1..=SAGAS {
        sagas.push(process.start_saga("booking").await);
        process.commands.are(count).await;
        process.commands.report(count - 1, written(count as i64 - 1));
    }
    all_is_quiet().await;
    world.take_database_away(Duration::from_secs(120));
    // All are answered in time, a second later; where there is no room the broker keeps them.
    let (records, replies) = (process.records.clone(), sagas.clone());
    tokio::spawn(async move {
        for (offset, saga) in replies.into_iter().enumerate() {
            records.send(reserved(saga, offset as i64)).await.unwrap();
        }
    });
    sleep(Duration::from_secs(121)).await;
    all_is_quiet().await;
    let sent = process.commands.all();
    let again: Vec<_> =
        sent.iter().filter(|command| command.starts_with("booking.ReserveBooking 2")).collect();
    assert!(again.is_empty(), "{} of {SAGAS} were tried again: {sent:?}", again.len());
    for id in sagas {
        becomes(&world, id, Status::Running).await;
        assert_eq!(saga(&world, id).revision.0, 2, "its reply was read");
    }
}

/// A process that stood still finds them all due, and nobody has answered: the participant is held before they are tried
/// again, and is asked by one command every ten seconds.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_timers_that_are_due_at_once_are_no_storm() {
    let world = world();
    let process = Process::start(&world, "http://only");
    process.is_assigned(1).await;
    for first in (0..CROWD).step_by(TOGETHER) {
        let starts = (0..TOGETHER).map(|_| process.start_saga("booking"));
        futures::future::join_all(starts).await;
        for sent in [&process.commands, &process.announcements] {
            eventually(async || (sent.count() == first + TOGETHER).then_some(())).await;
            for place in first..first + TOGETHER {
                sent.report(place, written(place as i64));
            }
        }
    }
    world.take_database_away(Duration::from_secs(120));
    sleep(Duration::from_secs(120)).await;
    assert_eq!(process.commands.count(), CROWD, "nothing is decided while it stands still");
    sleep(Duration::from_secs(100)).await;
    let again = process.commands.count() - CROWD;
    assert!((1..=MOST_PROBES).contains(&again), "{again} of {CROWD} were sent again");
}
