//! What becomes of sagas whose participant is held.

use std::time::Duration;

use saga_defs::saga::State;

use super::super::super::participants::health::Seen;
use super::*;

impl World {
    fn pause(&mut self, participant: &str) {
        self.participants.observe(&participant.into(), self.now, Seen::Paused);
    }

    fn after(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// Everything that is due now.
    fn due(&self) -> Vec<Input> {
        let due = self.shards.due(self.now, 500);
        due.into_iter().map(|(shard, id)| Input::Due(shard, id)).collect()
    }

    /// The commands of the batch are confirmed to be published.
    fn confirm(&mut self, batch: &Batch) {
        for sent in batch.outgoing.iter().filter_map(|outgoing| outgoing.attempt) {
            let timeout_at = self.now.after(sent.timeout);
            self.shards.confirmed(sent.row.0, sent.saga, sent.row.1, timeout_at, 0);
        }
    }

    /// How the sagas are, and who waits for whom.
    fn shown(&self) -> String {
        let mut sagas: Vec<&Held> = self.sagas.values().collect();
        sagas.sort_by_key(|held| held.saga.id);
        let mut lines = String::new();
        for held in sagas {
            let state = match &held.saga.state {
                State::Awaiting(at) => format!("awaits attempt {} of step {}", at.attempt, at.step.0),
                State::Backoff { next, .. } => {
                    format!("makes attempt {} of step {} next", next.attempt, next.step.0)
                }
                state => format!("{state:?}"),
            };
            let wake = self.shards.wake(Shard(0), held.saga.id);
            let wake =
                wake.map_or_else(String::new, |wake| format!(", wakes in {:?}", wake.at.since(self.now)));
            writeln!(lines, "{state}{wake}").unwrap();
        }
        for participant in self.parked.participants() {
            writeln!(lines, "{participant}: {} wait", self.parked.waiting(&participant)).unwrap();
        }
        lines
    }
}

#[test]
fn what_a_held_participant_would_be_asked_is_withheld() {
    let mut world = World::new();
    world.pause("payment");
    let start = world.start(1);
    world.decide(&[start]);
    let reserved = world.reserved(1);
    insta::assert_snapshot!(told(&world.decide(&[reserved])), @"
    journal 2 replied: running
    journal 3 withheld: running
    update saga at charge-payment revision 3
    shard 0: next 4, offset 1
    ");
    let due = world.due();
    world.decide(&due);
    insta::assert_snapshot!(world.shown(), @"
    makes attempt 1 of step 1 next, wakes in 900s
    payment: 1 wait
    ");
    world.after(600);
    let due = world.due();
    assert!(due.is_empty(), "{due:?}");
    let released = Input::Released(Shard(0), id(1));
    insta::assert_snapshot!(told(&world.decide(&[released])), @"
    journal 4 retry_due: running
    update saga at charge-payment revision 4
    publish 4 to payment.commands: payment.ChargePayment
    shard 0: next 5, offset 1
    ");
    insta::assert_snapshot!(world.shown(), @"awaits attempt 1 of step 1, wakes in 300s");
}

#[test]
fn a_saga_that_starts_with_a_held_participant_is_accepted() {
    let mut world = World::new();
    world.pause("booking");
    let start = world.start(1);
    insta::assert_snapshot!(told(&world.decide(&[start])), @"
    journal 1 started: running
    journal 2 withheld: running
    insert saga at reserve-booking revision 2
    publish 1 to saga.events: saga.SagaStarted
    answer Ok(2)
    shard 0: next 3, offset 0
    ");
}

#[test]
fn the_timeout_of_what_is_out_stands_still() {
    let mut world = World::new();
    let start = world.start(1);
    let batch = world.decide(&[start]);
    world.confirm(&batch);
    world.pause("booking");
    world.after(60);
    let due = world.due();
    insta::assert_snapshot!(told(&world.decide(&due)), @"");
    insta::assert_snapshot!(world.shown(), @"
    awaits attempt 1 of step 0, wakes in 840s
    booking: 1 wait
    ");
    world.participants.observe(&"booking".into(), world.now, Seen::Resumed);
    let released = Input::Released(Shard(0), id(1));
    insta::assert_snapshot!(told(&world.decide(&[released])), @"");
    insta::assert_snapshot!(world.shown(), @"
    awaits attempt 1 of step 0, wakes in 5s
    booking: 1 wait
    ");
}

#[test]
fn a_saga_that_waits_is_cancelled_tried_by_hand_or_ends_at_its_deadline() {
    let mut world = World::new();
    world.pause("payment");
    for n in 1..=3 {
        let start = world.start(n);
        world.decide(&[start]);
        let reserved = world.reserved(n);
        world.decide(&[reserved]);
    }
    let due = world.due();
    world.decide(&due);
    insta::assert_snapshot!(world.shown(), @"
    makes attempt 1 of step 1 next, wakes in 900s
    makes attempt 1 of step 1 next, wakes in 900s
    makes attempt 1 of step 1 next, wakes in 900s
    payment: 3 wait
    ");
    let act = |n, verb| Act {
        saga: id(n),
        verb,
        reason: "because".into(),
        actor: "somebody".into(),
        expected: None,
        key: None,
    };
    let verbs = [act(1, Verb::Cancel), act(2, Verb::RetryNow)].map(|act| Input::Act(Box::new(act)));
    insta::assert_snapshot!(told(&world.decide(&verbs)), @"
    journal 10 cancel: compensating
    journal 11 retry_now: running
    update saga at reserve-booking revision 4
    update saga at charge-payment revision 4
    publish 10 to booking.commands: booking.CancelBooking
    publish 11 to payment.commands: payment.ChargePayment
    answer Ok(4)
    answer Ok(4)
    shard 0: next 12, offset 3
    ");
    insta::assert_snapshot!(world.shown(), @"
    awaits attempt 1 of step 0, wakes in 9223370236854775.807s
    awaits attempt 1 of step 1, wakes in 900s
    makes attempt 1 of step 1 next, wakes in 900s
    payment: 1 wait
    ");
    world.after(900);
    insta::assert_snapshot!(told(&world.decide(&[Input::Due(Shard(0), id(3))])), @"
    journal 12 deadline_passed: compensating
    update saga at reserve-booking revision 4
    publish 12 to booking.commands: booking.CancelBooking
    shard 0: next 13, offset 3
    ");
}

/// Of a crowd whose time is over at once only so many lose their attempt as it takes to notice.
#[test]
fn a_crowd_that_times_out_at_once_loses_few_attempts() {
    let mut world = World::new();
    for n in 1..=40 {
        let start = world.start(n);
        let batch = world.decide(&[start]);
        world.confirm(&batch);
    }
    world.after(3);
    let reserved = world.reserved(40);
    world.decide(&[reserved]);
    world.after(5);
    let due = world.due();
    let batch = world.decide(&due);
    let timed_out = batch.writes.journal.iter().filter(|row| row.event.contains("timed_out")).count();
    assert_eq!((due.len(), timed_out, batch.parked.len()), (39, 10, 29));
    assert!(world.participants.holds("booking") && !world.participants.holds("payment"));
}

/// Nobody loses an attempt to a participant that comes back and goes again; it is held once more.
#[test]
fn a_ramp_that_nobody_answers_ends() {
    let mut world = World::new();
    world.pause("booking");
    for n in 1..=5 {
        let start = world.start(n);
        world.decide(&[start]);
    }
    world.participants.observe(&"booking".into(), world.now, Seen::Resumed);
    let released: Vec<Input> = (1..=5).map(|n| Input::Released(Shard(0), id(n))).collect();
    let batch = world.decide(&released);
    world.confirm(&batch);
    assert_eq!(batch.outgoing.len(), 5);
    world.after(5);
    let due = world.due();
    let batch = world.decide(&due);
    assert_eq!((due.len(), batch.writes.journal.len(), batch.parked.len()), (5, 0, 5));
    let booking = world.participants.get("booking").unwrap();
    assert_eq!((booking.as_str(), booking.hold().unwrap().cause.as_str()), ("held", "silence"));
}
