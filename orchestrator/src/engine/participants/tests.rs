//! What is known of participants as a whole.

use std::time::Duration;

use saga_defs::ids::{DefinitionRef, Direction, SagaId, StepIndex};

use super::board::{Board, Order};
use super::health::{Cause, SEARCH, Seen};
use super::parked::{Kind, PARKED_SAGAS, Rank, Waiting};
use super::*;

const BEGIN: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

fn at(second: u64) -> Timestamp {
    BEGIN.after(Duration::from_secs(second))
}

fn saga(n: u32) -> SagaId {
    let [a, b, c, d] = n.to_be_bytes();
    SagaId::new(BEGIN, [0, 0, 0, 0, 0, 0, a, b, c, d])
}

fn waiting(participant: &str, n: u32, rank: Rank) -> Waiting {
    let definition = DefinitionRef { name: "booking".into(), version: 1 };
    let kind = Kind { definition, step: StepIndex(1), direction: Direction::Forward };
    Waiting { participant: participant.into(), saga: saga(n), rank, kind }
}

fn known(participant: &str, state: State, cause: Cause, second: u64) -> Known {
    Known { participant: participant.into(), state, cause, since: at(second) }
}

fn state(participants: &Participants, name: &str) -> &'static str {
    participants.get(name).map_or("unknown", |health| State::of(health).as_str())
}

/// Its replies were the last that anybody waited for: nobody is left to be let go, and that ends the ramp.
#[test]
fn a_ramp_ends_where_everybody_has_been_answered() {
    let mut participants = Participants::new(Limits::default(), []);
    let mut parked = Parked::default();
    participants.observe(&"payment".into(), at(0), Seen::Paused);
    assert!(parked.park(waiting("payment", 1, Rank::Outstanding)));
    assert_eq!(participants.to_grant(&parked), ["payment".into()]);
    participants.observe(&"payment".into(), at(1), Seen::Resumed);
    parked.unpark(saga(1));
    assert_eq!(
        (state(&participants, "payment"), participants.to_grant(&parked)),
        ("ramping", vec!["payment".into()])
    );
    assert_eq!(participants.grant("payment", at(1), 0, 500), Grant::Go(0));
    assert_eq!((state(&participants, "payment"), participants.to_grant(&parked)), ("answering", vec![]));
}

/// A process that takes over goes on holding what the one before it held, unless it knows better. Then, too, there may be a crowd.
#[test]
fn a_take_over_learns_of_holds() {
    let mut participants = Participants::new(Limits::default(), []);
    participants.observe(&"answered".into(), at(5), Seen::Answered);
    participants.observe(&"answered-before".into(), at(3), Seen::Answered);
    participants.observe(&"resumed".into(), at(3), Seen::Paused);
    participants.observe(&"resumed".into(), at(3), Seen::Resumed);
    let names = ["answered", "answered-before", "resumed", "new"];
    let holds: Vec<Known> = names.map(|name| known(name, State::Held, Cause::Silence, 4)).into();
    participants.learn(&holds, at(60));
    let states = names.map(|name| state(&participants, name));
    assert_eq!(states, ["ramping", "held", "ramping", "held"]);
    let hold = participants.get("new").and_then(Health::hold);
    assert_eq!(hold.map(|hold| (hold.since, hold.next_probe)), Some((at(4), at(60))));
    // Those who wait are found by and by.
    assert_eq!(participants.grant("new", at(61), 0, 500), Grant::Go(0));
    assert_eq!(
        (state(&participants, "new"), participants.grant("new", at(62), 1, 500)),
        ("held", Grant::Probe)
    );
}

/// What operators say is read from what they said; those who waited for one that is paused no more come back by and by.
#[test]
fn a_process_that_starts_goes_on_with_ramps_and_pauses() {
    let names = ["held", "ramping", "resumed", "paused"];
    let states = [State::Held, State::Ramping, State::Paused, State::Paused];
    let causes = [Cause::Silence, Cause::Failures, Cause::Operator, Cause::Operator];
    let known = |place: usize| known(names[place], states[place], causes[place], 4);
    let order = |participant: &str, paused| {
        let (actor, reason) = ("ann".to_owned(), "because".to_owned());
        Order { participant: participant.into(), paused, revision: 1, at: at(5), actor, reason }
    };
    let orders = vec![order("resumed", false), order("paused", true)];
    let board = Board::new(Limits::default(), orders, (0..4).map(known).collect());
    let (participants, _) = board.begin(at(9));
    assert_eq!(names.map(|name| state(&participants, name)), ["held", "ramping", "ramping", "paused"]);
}

/// The crowd that waits is found by and by: that nobody is known to wait does not end what is taken over.
#[test]
fn a_ramp_that_is_taken_over_goes_on() {
    let mut participants = Participants::new(Limits::default(), []);
    participants.observe(&"payment".into(), at(5), Seen::Answered);
    participants.learn(&[known("payment", State::Ramping, Cause::Silence, 4)], at(9));
    let mut go = |second, waiting| match participants.grant("payment", at(second), waiting, 500) {
        Grant::Go(count) => (count, state(&participants, "payment")),
        Grant::Probe => panic!("it is not held"),
    };
    assert_eq!(go(9, 0), (0, "ramping"));
    assert_eq!(go(9, 300), (1, "ramping"));
    assert_eq!(go(10, 299), (1, "ramping"));
    let found = 9 + SEARCH.as_secs();
    assert_eq!(go(found, 0), (0, "answering"));
}

/// It came back here, and another process has some who wait for it, too.
#[test]
fn a_ramp_goes_on_where_shards_are_taken_over() {
    let mut participants = Participants::new(Limits::default(), []);
    participants.observe(&"payment".into(), at(0), Seen::Paused);
    participants.observe(&"payment".into(), at(1), Seen::Resumed);
    participants.learn(&[], at(2));
    assert_eq!(participants.grant("payment", at(2), 1, 500), Grant::Go(1));
    assert_eq!(state(&participants, "payment"), "ramping");
}

/// Whoever is there already keeps its place.
#[test]
fn there_is_room_for_so_many_that_wait() {
    let mut parked = Parked::default();
    let many = u32::try_from(PARKED_SAGAS).unwrap();
    assert!((0..many).all(|n| parked.park(waiting("payment", n, Rank::Unsent))));
    assert!(!parked.park(waiting("booking", many, Rank::Unsent)));
    assert!(parked.park(waiting("payment", 7, Rank::Last)));
    parked.unpark(saga(7));
    assert!(parked.park(waiting("booking", many, Rank::Unsent)));
    assert_eq!((parked.waiting("payment"), parked.waiting("booking")), (PARKED_SAGAS - 1, 1));
}
