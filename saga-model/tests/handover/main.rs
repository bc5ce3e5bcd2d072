//! The model of a shard that changes hands: two processes, one row in Postgres, one broker, and statements whose answer
//! is lost and that may happen later all the same.
//!
//! It follows the engine by hand: `Store::{claim, commit, renew}` (orchestrator/src/store), `Lane::{take_over,
//! carry_out, resolve_unknown, reclaim, save_watermarks}` (orchestrator/src/engine/lane) and `Owned::{published_seq,
//! republish}`. Whoever changes those changes this.
//!
//! A pause needs no step of its own: a process may do nothing for as long as the others like. The group is no part of it
//! either: any process may be given the shard, or lose it, between two batches.
//!
//! Simplifications: one shard; a batch is one input; a saga is what its inputs were, so that a reply which is read twice
//! is applied twice; what is in memory of sagas and timers is left out; deliveries
//! of one process are in any order; claims, crashes and lost answers are few ([`Few`]).
#![cfg(test)]

mod laws;
mod rules;
mod steps;
mod world;

use std::fmt::Write as _;

use insta::assert_snapshot;
use stateright::{Checker, HasDiscoveries, Model};

use rules::{Republish, Rules, Watermark};
use steps::Shard;
use world::Few;

/// Looks at all runs and says how many worlds there are, or shows the shortest run that breaks a law.
fn search(rules: Rules, few: Few) -> String {
    let checker =
        Shard::new(rules, few).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(_, path)| path.clone().into_actions().len());
    let model = checker.model();
    let failures: Vec<&str> = model
        .properties()
        .iter()
        .filter(|property| property.expectation.discovery_is_failure())
        .map(|property| property.name)
        .collect();
    match found.into_iter().find(|(name, _)| failures.contains(name)) {
        Some((name, path)) => {
            let mut text = format!("not kept: {name}\n");
            for step in path.into_actions() {
                writeln!(text, "{}", steps::words(&step)).expect("a string takes everything");
            }
            text
        }
        None => {
            checker.assert_properties();
            format!("{} worlds", checker.unique_state_count())
        }
    }
}

#[test]
fn the_protocol() {
    assert_snapshot!(search(Rules::REAL, Few::SOME), @"162753 worlds");
}

#[test]
fn the_protocol_when_answers_are_lost_twice() {
    assert_snapshot!(search(Rules::REAL, Few::LOSSES), @"75354 worlds");
}

#[test]
fn the_protocol_with_writes_that_move_no_number() {
    assert_snapshot!(search(Rules::REAL, Few::NOTES), @"26035 worlds");
}

#[test]
fn the_protocol_with_a_new_broker() {
    assert_snapshot!(search(Rules::REAL, Few::BROKER), @"141214 worlds");
}

#[test]
fn the_protocol_with_two_new_brokers() {
    let few = Few { losses: 0, crashes: 0, brokers: 2, ..Few::BROKER };
    assert_snapshot!(search(Rules::REAL, few), @"10239 worlds");
}

#[test]
#[ignore = "millions of worlds, a minute: for whoever changes the protocol"]
fn the_protocol_at_length() {
    for few in [Few { claims: 3, ..Few::SOME }, Few { losses: 2, ..Few::SOME }, Few { notes: 1, ..Few::SOME }]
    {
        let found = search(Rules::REAL, few);
        assert!(found.ends_with(" worlds"), "{few:?}\n{found}");
    }
}

#[test]
fn without_the_epoch_a_paused_owner_writes_on() {
    assert_snapshot!(search(Rules { compare_epoch: false, ..Rules::REAL }, Few::SOME), @r"
        not kept: no epoch commits after a newer one has begun
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
        B claims the shard
          the database deals with what A has sent
    ");
}

#[test]
fn without_the_sequence_a_late_save_of_the_watermark_turns_the_journal_back() {
    assert_snapshot!(search(Rules { compare_next_seq: false, ..Rules::REAL }, Few::SOME), @r"
        not kept: the journal has no gap and no repetition
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the database deals with what A has sent
        A gets the answer
          the broker takes record 1 of A
        A hears that record 1 is delivered
        A sends its watermark
          the answer to A is lost
        A sends a commit of reply 0
          the database deals with what A has sent
          the database deals with the watermark 1
    ");
}

#[test]
fn a_watermark_before_delivery_loses_a_command() {
    assert_snapshot!(search(Rules { watermark: Watermark::HandedOver, ..Rules::REAL }, Few::SOME), @r"
        not kept: everything up to the watermark is published
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the database deals with what A has sent
        A gets the answer
        A sends a commit of reply 0
          the database deals with what A has sent
    ");
}

#[test]
fn a_watermark_over_a_gap_loses_a_command() {
    assert_snapshot!(search(Rules { watermark: Watermark::LastDelivered, ..Rules::REAL }, Few::SOME), @r"
        not kept: everything up to the watermark is published
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the database deals with what A has sent
        A gets the answer
        A sends a commit of reply 0
          the database deals with what A has sent
        A gets the answer
          the broker takes record 2 of A
        A hears that record 2 is delivered
        A sends its watermark
          the database deals with what A has sent
    ");
}

#[test]
fn an_offset_outside_of_the_commit_applies_a_reply_twice() {
    assert_snapshot!(search(Rules { offset_in_commit: false, ..Rules::REAL }, Few::SOME), @r"
        not kept: each input is applied at most once
        A claims the shard
        A reads what is above the watermark
        A sends a commit of reply 0
          the database deals with what A has sent
        B claims the shard
        B reads what is above the watermark
        B sends a commit of reply 0
          the database deals with what B has sent
    ");
}

#[test]
fn publishing_before_the_commit_shows_what_never_happened() {
    assert_snapshot!(search(Rules { publish_before_commit: true, ..Rules::REAL }, Few::SOME), @r"
        not kept: nothing is published that is not committed
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the broker takes record 1 of A
    ");
}

#[test]
fn a_new_owner_that_does_not_publish_again_forgets_a_command() {
    assert_snapshot!(search(Rules { publish_again: false, ..Rules::REAL }, Few::SOME), @r"
        not kept: the owner publishes everything that is committed
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the database deals with what A has sent
        B claims the shard
        B reads what is above the watermark
    ");
}

#[test]
fn an_unknown_commit_that_is_only_read_about_may_still_happen() {
    assert_snapshot!(search(Rules { unknown: rules::Unknown::Read, ..Rules::REAL }, Few::SOME), @r"
        not kept: the owner publishes everything that is committed
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the answer to A is lost
        A finds out what became of it
          the database deals with the commit of start 0 in epoch 1
    ");
}

#[test]
fn an_unknown_commit_taken_for_done_shows_what_never_happened() {
    assert_snapshot!(search(Rules { unknown: rules::Unknown::Done, ..Rules::REAL }, Few::SOME), @r"
        not kept: what is said to have happened has happened
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the answer to A is lost
        A finds out what became of it
    ");
}

#[test]
fn an_unknown_commit_taken_for_not_done_is_forgotten() {
    assert_snapshot!(search(Rules { unknown: rules::Unknown::NotDone, ..Rules::REAL }, Few::SOME), @r"
        not kept: the owner publishes everything that is committed
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the database deals with what A has sent
          the answer to A is lost
        A finds out what became of it
    ");
}

#[test]
fn a_row_that_a_commit_does_not_move_says_nothing_about_it() {
    let rules = Rules { row_that_did_not_move_tells_nothing: false, ..Rules::REAL };
    assert_snapshot!(search(rules, Few::NOTES), @r"
        not kept: what is said to have happened has happened
        A claims the shard
        A reads what is above the watermark
        A sends a commit of note 0
          the answer to A is lost
        A finds out what became of it
    ");
}

#[test]
fn a_claim_that_makes_the_row_one_of_the_new_broker_leaves_a_command_to_its_timeout() {
    assert_snapshot!(search(Rules { republish: Republish::Once, ..Rules::REAL }, Few::BROKER), @r"
        not kept: the owner asks for what is waited for on this broker
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the database deals with what A has sent
        A gets the answer
          the broker takes record 1 of A
        A hears that record 1 is delivered
        A sends its watermark
          the broker is replaced, everybody starts anew
          the database deals with the watermark 1
        A claims the shard
        B claims the shard
        B reads what is above the watermark
    ");
}

#[test]
fn a_republication_saved_before_its_delivery_leaves_a_command_to_its_timeout() {
    let rules = Rules { republish: Republish::UntilHandedOver, ..Rules::REAL };
    assert_snapshot!(search(rules, Few::BROKER), @r"
        not kept: the owner asks for what is waited for on this broker
        A claims the shard
        A reads what is above the watermark
        A sends a commit of start 0
          the database deals with what A has sent
        A gets the answer
          the broker takes record 1 of A
        A hears that record 1 is delivered
        A sends its watermark
          the broker is replaced, everybody starts anew
          the database deals with the watermark 1
        A claims the shard
        A reads what is above the watermark
        A sends its watermark
          the database deals with what A has sent
        B claims the shard
        B reads what is above the watermark
    ");
}
