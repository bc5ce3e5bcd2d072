//! What becomes of sagas whose participant is held.

use std::time::Duration;

use saga_defs::definition::Definition;
use saga_defs::saga::State;

use super::super::super::participants::board::State as Standing;
use super::super::super::participants::health::{Cause, Health, Hold, Limits, Seen};
use super::super::super::shards::Wake;
use super::*;

impl World {
    fn pause(&mut self, participant: &str) {
        self.participants.observe(&participant.into(), self.now, Seen::Paused);
    }

    fn after(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    fn charge_failed(&mut self, n: u8) -> Input {
        let refusal = json!({"code": "unavailable", "message": ""}).as_object().unwrap().clone();
        self.reply(n, "charge-payment", "saga.Refusal", OutcomeKind::Failed, refusal)
    }

    /// A saga's first command is out, and its participant is paused since a minute.
    fn asks_who_is_paused(&mut self) {
        let start = self.start(1);
        let batch = self.decide(&[start]);
        self.confirm(&batch);
        self.pause("booking");
        self.after(60);
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
            let wake = wake.map_or_else(String::new, |wake| match wake.at.since(self.now) {
                long if long > Duration::from_secs(1 << 32) => ", does not wake".to_owned(),
                wait => format!(", wakes in {wait:?}"),
            });
            writeln!(lines, "{state}{wake}").unwrap();
        }
        for participant in self.parked.participants() {
            writeln!(lines, "{participant}: {} wait", self.parked.waiting(&participant)).unwrap();
        }
        lines
    }
}

fn released(n: u8, participant: &str) -> Input {
    Input::Released(Shard(0), id(n), participant.into())
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
    let released = released(1, "payment");
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
    world.asks_who_is_paused();
    let due = world.due();
    insta::assert_snapshot!(told(&world.decide(&due)), @"");
    insta::assert_snapshot!(world.shown(), @"
    awaits attempt 1 of step 0, wakes in 840s
    booking: 1 wait
    ");
    world.participants.observe(&"booking".into(), world.now, Seen::Resumed);
    let released = released(1, "booking");
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
    let verbs = [act(id(1), Verb::Cancel), act(id(2), Verb::RetryNow)];
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
    awaits attempt 1 of step 0, does not wake
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

/// A probe asks as ever: what is answered to it counts.
#[test]
fn a_probe_that_fails_is_an_attempt_of_its_saga() {
    let mut world = World::new();
    let hold = Hold::new(world.now, Cause::Silence, None, &Limits::default());
    world.participants = Participants::new(Limits::default(), [("payment".into(), Health::Held(hold))]);
    let inputs = [world.start(1), world.reserved(1)];
    world.decide(&inputs);
    world.decide(&[released(1, "payment")]);
    world.after(1);
    let failed = world.charge_failed(1);
    world.decide(&[failed]);
    world.after(1);
    let due = world.due();
    assert!(world.decide(&due).writes.journal.is_empty());
    insta::assert_snapshot!(world.shown(), @"
    makes attempt 2 of step 1 next, wakes in 898s
    payment: 1 wait
    ");
}

/// The saga does not need it any more, but it is a sign of life. A letter that an operator sends again is none, nor is a failure.
#[test]
fn a_late_answer_brings_the_next_probe() {
    let mut world = World::new();
    let inputs = [world.start(1), world.reserved(1)];
    world.decide(&inputs);
    let hold = Hold::new(world.now, Cause::Silence, None, &Limits::default());
    world.participants = Participants::new(Limits::default(), [("booking".into(), Health::Held(hold))]);
    let probe_in = |world: &World| {
        let hold = world.participants.get("booking").and_then(Health::hold).expect("held");
        hold.next_probe.since(world.now)
    };
    let refusal = json!({"code": "unavailable", "message": ""}).as_object().unwrap().clone();
    let failed = world.reply(1, "reserve-booking", "saga.Refusal", OutcomeKind::Failed, refusal);
    let Input::Record(shard, mut copy) = world.reserved(1) else { unreachable!() };
    copy.headers = redriven_copy(&copy.headers, DeadLetterId::of_command(CommandId::from_uuid(Uuid::nil())));
    world.decide(&[failed, Input::Record(shard, copy)]);
    assert_eq!(probe_in(&world), Duration::from_secs(1));
    let again = world.reserved(1);
    insta::assert_snapshot!(told(&world.decide(&[again])), @"
    shard 0: next 3, offset 4
    ignored: late
    ");
    assert_eq!(probe_in(&world), Duration::ZERO);
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
    let released: Vec<Input> = (1..=5).map(|n| released(n, "booking")).collect();
    let batch = world.decide(&released);
    world.confirm(&batch);
    assert_eq!(batch.outgoing.len(), 5);
    world.after(5);
    let due = world.due();
    let batch = world.decide(&due);
    assert_eq!((due.len(), batch.writes.journal.len(), batch.parked.len()), (5, 0, 5));
    let booking = world.participants.get("booking").unwrap();
    assert_eq!((Standing::of(booking), booking.hold().unwrap().cause), (Standing::Held, Cause::Silence));
}

/// It waited for one participant, was answered, and waits for another by now: the first one's word does not let it go.
#[test]
fn a_saga_that_has_moved_on_meanwhile_is_not_let_go() {
    let mut world = World::new();
    world.pause("payment");
    let start = world.start(1);
    world.decide(&[start]);
    let reserved = world.reserved(1);
    let released = released(1, "booking");
    let batch = world.decide(&[reserved, released]);
    assert!(batch.outgoing.iter().all(|outgoing| &*outgoing.record.topic != "payment.commands"));
    insta::assert_snapshot!(told(&batch), @"
    journal 2 replied: running
    journal 3 withheld: running
    update saga at charge-payment revision 3
    shard 0: next 4, offset 1
    ");
}

/// Bookings whose deadline of 900 s stands still while a participant is held.
fn standing() -> World {
    let booking = Shipped::named("booking").unwrap().definition();
    let source = booking.source.replace("input =", "deadline_stands_while_held = true\ninput =");
    World { definitions: Definitions::of([Definition::parse(&source).unwrap()]), ..World::new() }
}

#[test]
fn the_deadline_of_what_is_withheld_stands_still_if_its_definition_says_so() {
    let mut world = standing();
    world.pause("payment");
    let inputs = [world.start(1), world.reserved(1)];
    world.decide(&inputs);
    let due = world.due();
    insta::assert_snapshot!(told(&world.decide(&due)), @"");
    world.after(1_200);
    insta::assert_snapshot!(told(&world.decide(&[Input::Due(Shard(0), id(1))])), @"");
    insta::assert_snapshot!(world.shown(), @"
    makes attempt 1 of step 1 next, does not wake
    payment: 1 wait
    ");
    let batch = world.decide(&[released(1, "payment")]);
    world.confirm(&batch);
    insta::assert_snapshot!(told(&batch), @"
    journal 4 retry_due: running
    update saga at charge-payment revision 4
    publish 4 to payment.commands: payment.ChargePayment
    shard 0: next 5, offset 1
    ");
    world.after(3);
    let failed = world.charge_failed(1);
    world.decide(&[failed]);
    world.after(1);
    let due = world.due();
    insta::assert_snapshot!(told(&world.decide(&due)), @"
    journal 6 deadline_stopped: running
    update saga at charge-payment revision 6
    shard 0: next 7, offset 2
    ");
    insta::assert_snapshot!(world.shown(), @"
    makes attempt 2 of step 1 next, does not wake
    payment: 1 wait
    ");
    world.after(1_200);
    assert!(world.due().is_empty());
    world.decide(&[released(1, "payment")]);
    insta::assert_snapshot!(world.shown(), @"awaits attempt 2 of step 1, wakes in 896s");
    world.after(896);
    let due = world.due();
    insta::assert_snapshot!(told(&world.decide(&due)), @"
    journal 8 deadline_passed: compensating
    journal 9 withheld: compensating
    update saga at charge-payment revision 9
    shard 0: next 10, offset 2
    ");
}

#[test]
fn the_deadline_of_what_is_out_stands_still_if_its_definition_says_so() {
    let mut world = standing();
    world.asks_who_is_paused();
    let due = world.due();
    insta::assert_snapshot!(told(&world.decide(&due)), @"
    journal 2 deadline_stopped: running
    update saga at reserve-booking revision 2
    shard 0: next 3, offset 0
    ");
    insta::assert_snapshot!(world.shown(), @"
    awaits attempt 1 of step 0, does not wake
    booking: 1 wait
    ");
    world.after(1_200);
    let released = released(1, "booking");
    world.participants.observe(&"booking".into(), world.now, Seen::Resumed);
    insta::assert_snapshot!(told(&world.decide(&[released])), @"
    journal 3 deadline_resumed: running
    update saga at reserve-booking revision 3
    shard 0: next 4, offset 0
    ");
    insta::assert_snapshot!(world.shown(), @"awaits attempt 1 of step 0, wakes in 5s");
}

/// What was parked and answered in one batch waits for nobody.
#[test]
fn an_answer_in_the_same_batch_ends_the_wait() {
    let mut world = standing();
    world.asks_who_is_paused();
    let inputs = [Input::Due(Shard(0), id(1)), world.reserved(1)];
    insta::assert_snapshot!(told(&world.decide(&inputs)), @"
    journal 2 deadline_stopped: running
    journal 3 replied: running
    update saga at charge-payment revision 3
    publish 3 to payment.commands: payment.ChargePayment
    shard 0: next 4, offset 1
    ");
    insta::assert_snapshot!(world.shown(), @"awaits attempt 1 of step 1, wakes in 840s");
}

/// A process that takes the saga over knows of the hold from the saga alone.
#[test]
fn a_deadline_that_stands_still_is_taken_over() {
    let mut world = standing();
    world.pause("payment");
    let inputs = [world.start(1), world.reserved(1)];
    world.decide(&inputs);
    let due = world.due();
    world.decide(&due);
    world.after(1_200);
    (world.parked, world.participants) = (Parked::default(), Participants::default());
    world.shards.set_wake(Shard(0), id(1), Some(Wake { at: world.now, timeout_at: None, awaits_seq: None }));
    let due = world.due();
    insta::assert_snapshot!(told(&world.decide(&due)), @"
    journal 4 retry_due: running
    update saga at charge-payment revision 4
    publish 4 to payment.commands: payment.ChargePayment
    shard 0: next 5, offset 1
    ");
    insta::assert_snapshot!(world.shown(), @"awaits attempt 1 of step 1, wakes in 900s");
}
