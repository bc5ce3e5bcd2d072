//! One suite of checks over every database that the engine runs on: Postgres, and the tables in memory that the simulation
//! puts in its place. What the simulation finds, or does not find, is worth as much as these two agree.
#![cfg(test)]

use std::collections::HashSet;
use std::sync::Arc;

use local_postgres::TestServer;
use migrations::apply;
use migrations::orchestrator::Migrator;
use orchestrator::engine::storage::Storage;
use orchestrator::store::audit::AuditRow;
use orchestrator::store::commit::{Committed, JournalRow, KeyWrite, SagaWrite, ShardAdvance, Writes};
use orchestrator::store::letters::{LetterChange, LetterRow};
use orchestrator::store::shards::{Claimant, Claimed};
use orchestrator::store::{Store, StoreError};
use saga_defs::ids::{DeadLetterId, Revision, SagaId, Shard, ShardCount};
use saga_defs::saga::Status;
use saga_defs::time::Timestamp;
use secrecy::SecretString;
use simulation::store::remote::Remote;
use simulation::world::World;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);
const BODY: &str = r#"{"state":"completed","steps":[],"data":{}}"#;

async fn postgres() -> Arc<dyn Storage> {
    let url = TestServer::shared().fresh_database();
    let store = Store::connect(&SecretString::from(url)).await.unwrap();
    apply::apply::<Migrator>(store.connection()).await.unwrap();
    store.remember_shards(ShardCount::new(4).unwrap()).await.unwrap();
    store.make_journal_partitions().await.unwrap();
    Arc::new(store)
}

fn memory() -> Arc<dyn Storage> {
    Arc::new(Remote::new(&World::kind(ShardCount::new(4).unwrap()), &"memory".into()))
}

/// Each check on an empty database of each kind.
macro_rules! conform {
    ($($check:ident)*) => {$(
        mod $check {
            #[tokio::test]
            async fn in_postgres() {
                super::checks::$check(&*super::postgres().await).await;
            }

            #[tokio::test]
            async fn in_memory() {
                super::checks::$check(&*super::memory()).await;
            }
        }
    )*};
}

conform! {
    an_older_epoch_commits_nothing_of_any_shard
    a_sequence_neither_skips_nor_repeats
    a_renewal_tells_whether_a_commit_happened_and_keeps_it_from_happening_later
    an_owner_finds_the_epochs_that_it_raised_without_knowing
    an_owner_does_not_find_what_a_process_with_the_same_url_has_claimed
    one_refused_saga_refuses_the_batch
    a_key_is_taken_once
    a_letter_is_redriven_once_and_otherwise_nothing_happens
    a_letter_that_fails_again_is_opened_again
    another_broker_means_reading_from_the_start_and_publishing_again
    an_offset_is_of_the_topic_that_it_was_first_read_from
    what_is_written_is_read
    a_walk_over_what_waits_finds_it_once
    the_last_command_is_the_one_that_may_be_out
    what_the_broker_refused_is_named_with_its_attempt
}

fn shards(ids: &[u16]) -> Vec<Shard> {
    ids.iter().map(|&id| Shard(id)).collect()
}

/// The process of this name; under the URL before its `/`.
fn called(name: &str) -> Claimant {
    let (url, process) = name.split_once('/').unwrap_or((name, "0"));
    Claimant::new(url, Uuid::from_u128(process.parse().unwrap()))
}

async fn claim(store: &dyn Storage, ids: &[u16], owner: &str) -> Vec<Claimed> {
    claim_on(store, ids, owner, "broker-1").await
}

async fn claim_on(store: &dyn Storage, ids: &[u16], owner: &str, broker: &str) -> Vec<Claimed> {
    let mut claimed = store.claim(&shards(ids), &called(owner), broker, None).await.unwrap();
    claimed.sort_by_key(|claim| claim.shard);
    claimed
}

fn saga_id(n: u8) -> SagaId {
    SagaId::new(NOW, [n; 10])
}

fn saga(n: u8, shard: u16, revision: u32, status: Status) -> SagaWrite {
    SagaWrite {
        id: saga_id(n),
        shard: Shard(shard),
        definition: "booking".into(),
        version: 1,
        business_key: None,
        revision: Revision(revision),
        status,
        step: Some("reserve-booking".into()),
        wake_at: Some(NOW),
        started_at: NOW,
        updated_at: NOW,
        finished_at: None,
        body: BODY.to_owned(),
    }
}

/// A batch that appends `rows` lines to each claimed shard's journal.
fn batch(claimed: &[Claimed], rows: i64) -> Writes {
    let mut writes = Writes::default();
    for claim in claimed {
        for seq in claim.next_seq..claim.next_seq + rows {
            writes.journal.push(JournalRow {
                shard: claim.shard,
                seq,
                saga: saga_id(1).as_uuid(),
                revision: Revision(u32::try_from(seq).unwrap()),
                at: NOW,
                status: "running",
                event: r#"{"type":"started"}"#.to_owned(),
                effects: "[]".to_owned(),
                body: Vec::new(),
            });
        }
        writes.shards.push(ShardAdvance {
            shard: claim.shard,
            epoch: claim.epoch,
            first_seq: claim.next_seq,
            next_seq: claim.next_seq + rows,
            published_seq: claim.published_seq,
            inbox_offset: claim.inbox_offset + 1,
            open_from: claim.open_from,
            republish: claim.republish,
        });
    }
    writes
}

fn at(claim: &Claimed, next_seq: i64) -> Vec<Claimed> {
    vec![Claimed { next_seq, ..claim.clone() }]
}

async fn journaled(store: &dyn Storage, shard: u16) -> Vec<i64> {
    store.journal_above(Shard(shard), 0).await.unwrap().iter().map(|row| row.seq).collect()
}

async fn numbers(store: &dyn Storage, shard: u16) -> (i64, i64) {
    store.epochs(&[Shard(shard)]).await.unwrap()[&Shard(shard)]
}

fn letter(id: DeadLetterId) -> LetterRow {
    LetterRow {
        id,
        reason: "undecodable".to_owned(),
        message: "a NUL \0 in a foreign text".to_owned(),
        source: "booking".to_owned(),
        topic: "booking.commands".to_owned(),
        partition: Some(1),
        offset: Some(42),
        key: Some(vec![0, 159, 146, 150]),
        value: None,
        headers: [("a", Some(vec![1_u8, 0])), ("a", None), ("b", Some(vec![]))].into_iter().collect(),
        timestamp: Some(NOW),
        message_type: None,
        saga: None,
        step: None,
        direction: None,
        attempts: 1,
        first_failed_at: NOW,
        last_failed_at: NOW,
    }
}

const LETTER: DeadLetterId = DeadLetterId::from_uuid(Uuid::from_u128(1));

async fn status(store: &dyn Storage) -> (String, i32) {
    let stored = store.letters(&[LETTER]).await.unwrap().remove(0);
    (stored.status, stored.row.attempts)
}

fn redrive() -> LetterChange {
    LetterChange::Redrive { id: LETTER, at: NOW, reason: "again".to_owned(), changes: None, must: true }
}

mod checks {
    use super::*;

    pub(super) async fn an_older_epoch_commits_nothing_of_any_shard(store: &dyn Storage) {
        let first = claim(store, &[0, 1], "first").await;
        assert_eq!(store.commit(&batch(&first, 2)).await.unwrap(), Committed::Yes);
        let moved = |claim: &Claimed| Claimed { next_seq: claim.next_seq + 2, ..claim.clone() };
        let first: Vec<Claimed> = first.iter().map(moved).collect();
        let second = claim(store, &[1], "second").await;
        assert_eq!(second[0].next_seq, 3, "the new owner goes on where the old one was");
        assert_eq!(store.commit(&batch(&first, 1)).await.unwrap(), Committed::Fenced);
        assert_eq!(journaled(store, 0).await, [1, 2], "shard 0's row is not there either");
        assert_eq!(numbers(store, 0).await.1, 3);
        assert_eq!(store.commit(&batch(&first[..1], 1)).await.unwrap(), Committed::Yes, "it is still ours");
        assert_eq!(store.commit(&batch(&second, 1)).await.unwrap(), Committed::Yes);
        assert_eq!(store.owner(Shard(1)).await.unwrap().as_deref(), Some("second"));
        assert_eq!(store.owner(Shard(2)).await.unwrap(), None);
    }

    pub(super) async fn a_sequence_neither_skips_nor_repeats(store: &dyn Storage) {
        let claimed = claim(store, &[2], "only").await;
        let once = batch(&claimed, 1);
        assert_eq!(store.commit(&once).await.unwrap(), Committed::Yes);
        assert_eq!(store.commit(&once).await.unwrap(), Committed::Fenced, "the same batch again");
        assert_eq!(store.commit(&batch(&at(&claimed[0], 5), 1)).await.unwrap(), Committed::Fenced, "a gap");
        assert_eq!(journaled(store, 2).await, [1]);
        assert_eq!(store.journal_above(Shard(2), 1).await.unwrap().len(), 0);
    }

    pub(super) async fn a_renewal_tells_whether_a_commit_happened_and_keeps_it_from_happening_later(
        store: &dyn Storage,
    ) {
        let claimed = claim(store, &[0, 3], "only").await;
        let lost = batch(&claimed, 1);
        let held = |claims: &[Claimed]| claims.iter().map(|c| (c.shard, c.epoch)).collect::<Vec<_>>();
        let mut renewed = store.renew(&held(&claimed)).await.unwrap();
        assert!(renewed.iter().all(|claim| claim.next_seq == 1), "it did not happen");
        assert_eq!(store.commit(&lost).await.unwrap(), Committed::Fenced, "and does not any more");
        renewed.sort_by_key(|claim| claim.shard);
        assert_eq!(store.commit(&batch(&renewed, 1)).await.unwrap(), Committed::Yes);
        claim(store, &[3], "another").await;
        let again = store.renew(&held(&renewed)).await.unwrap();
        assert_eq!(again.len(), 1, "a shard with another owner is left to it");
        let expected = (Shard(0), 2, renewed[0].inbox_offset + 1);
        assert_eq!((again[0].shard, again[0].next_seq, again[0].inbox_offset), expected, "it happened");
    }

    pub(super) async fn an_owner_finds_the_epochs_that_it_raised_without_knowing(store: &dyn Storage) {
        let claimed = claim(store, &[0, 1], "only").await;
        store.renew(&[(Shard(0), claimed[0].epoch), (Shard(1), claimed[1].epoch)]).await.unwrap();
        claim(store, &[1], "another").await;
        let found = store.epochs_of_owner(&shards(&[0, 1]), &called("only")).await.unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(Shard(0), claimed[0].epoch + 1)]);
    }

    pub(super) async fn an_owner_does_not_find_what_a_process_with_the_same_url_has_claimed(
        store: &dyn Storage,
    ) {
        claim(store, &[0, 1], "both/1").await;
        let second = claim(store, &[1], "both/2").await;
        let found = store.epochs_of_owner(&shards(&[0, 1]), &called("both/1")).await.unwrap();
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [Shard(0)]);
        let found = store.epochs_of_owner(&shards(&[0, 1]), &called("both/2")).await.unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(Shard(1), second[0].epoch)]);
        assert_eq!(store.owner(Shard(1)).await.unwrap().as_deref(), Some("both"));
    }

    pub(super) async fn one_refused_saga_refuses_the_batch(store: &dyn Storage) {
        let claimed = claim(store, &[0], "only").await;
        let mut writes = batch(&claimed, 1);
        writes.inserts.push(saga(1, 0, 1, Status::Running));
        assert_eq!(store.commit(&writes).await.unwrap(), Committed::Yes);
        let mut twice = batch(&at(&claimed[0], 2), 1);
        twice.inserts.push(saga(1, 0, 1, Status::Running));
        let error = store.commit(&twice).await.unwrap_err();
        let StoreError::Refused { state, constraint, .. } = error else { panic!("{error:?}") };
        assert_eq!((state.as_str(), constraint.as_deref()), ("23505", Some("saga_pkey")));
        let mut bad_text = batch(&at(&claimed[0], 2), 1);
        bad_text.journal[0].event = "a NUL \0".to_owned();
        let error = store.commit(&bad_text).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { ref state, .. } if state == "22021"), "{error:?}");
        assert_eq!(numbers(store, 0).await, (claimed[0].epoch, 2), "nothing moved");
        let error = store.commit(&batch(&at(&claimed[0], 9), 1)).await.unwrap();
        assert_eq!(error, Committed::Fenced);
    }

    pub(super) async fn a_key_is_taken_once(store: &dyn Storage) {
        let claimed = claim(store, &[0, 1], "only").await;
        let key =
            |n| KeyWrite { key_hash: [7; 32], request_hash: [8; 32], saga: saga_id(n).as_uuid(), at: NOW };
        assert_eq!(store.taken_keys(&[[7; 32]]).await.unwrap(), HashSet::new());
        let mut first = batch(&claimed[..1], 1);
        first.keys.push(key(1));
        assert_eq!(store.commit(&first).await.unwrap(), Committed::Yes);
        assert_eq!(store.taken_keys(&[[7; 32], [9; 32]]).await.unwrap(), HashSet::from([vec![7; 32]]));
        let mut second = batch(&claimed[1..], 1);
        second.keys.push(key(2));
        let error = store.commit(&second).await.unwrap_err();
        let StoreError::Refused { constraint, .. } = error else { panic!("{error:?}") };
        assert_eq!(constraint.as_deref(), Some("request_key_pkey"));
        assert_eq!(numbers(store, 1).await.1, 1);
    }

    pub(super) async fn a_letter_is_redriven_once_and_otherwise_nothing_happens(store: &dyn Storage) {
        let claimed = claim(store, &[0], "only").await;
        let mut writes = batch(&claimed, 1);
        writes.letters = vec![LetterChange::Keep(letter(LETTER)), LetterChange::Keep(letter(LETTER))];
        assert_eq!(store.commit(&writes).await.unwrap(), Committed::Yes);
        let stored = store.letters(&[LETTER]).await.unwrap().remove(0);
        let original = letter(LETTER);
        assert_eq!(
            (stored.row.key, stored.row.value, stored.row.headers),
            (original.key, None, original.headers)
        );
        assert_eq!(stored.row.message, "a NUL \u{fffd} in a foreign text");

        let mut writes = batch(&at(&claimed[0], 2), 1);
        writes.letters.push(redrive());
        assert_eq!(store.commit(&writes).await.unwrap(), Committed::Yes);
        let mut again = batch(&at(&claimed[0], 3), 1);
        again.letters = vec![LetterChange::Resolve { id: LETTER, at: NOW }, redrive()];
        assert_eq!(store.commit(&again).await.unwrap(), Committed::LetterMoved, "it is not open any more");
        assert_eq!(numbers(store, 0).await.1, 3, "and nothing else happened");
        assert_eq!(status(store).await, ("redriven".to_owned(), 1), "it is not resolved either");
        let discard = LetterChange::Discard { id: LETTER, at: NOW, reason: "old".to_owned() };
        let audit = AuditRow::new(NOW, "operator", "discard", "old").of_letter(Some(LETTER));
        assert!(!store.discard(&discard, &audit, None).await.unwrap(), "only an open one is put aside");
    }

    pub(super) async fn a_letter_that_fails_again_is_opened_again(store: &dyn Storage) {
        let claimed = claim(store, &[0], "only").await;
        let reopen = || LetterChange::Reopen { id: LETTER, at: NOW, reason: "failed again".to_owned() };
        let steps = [
            (LetterChange::KeepOrReopen(letter(LETTER)), ("open", 1)),
            (reopen(), ("open", 1)),
            (redrive(), ("redriven", 1)),
            (LetterChange::KeepOrReopen(letter(LETTER)), ("open", 2)),
            (redrive(), ("redriven", 2)),
            (reopen(), ("open", 2)),
            (LetterChange::Keep(letter(LETTER)), ("open", 2)),
            (LetterChange::Resolve { id: LETTER, at: NOW }, ("resolved", 2)),
            (LetterChange::Resolve { id: LETTER, at: NOW }, ("resolved", 2)),
            (reopen(), ("resolved", 2)),
            (LetterChange::KeepOrReopen(letter(LETTER)), ("open", 3)),
        ];
        for (step, (change, (word, attempts))) in (1..).zip(steps) {
            let mut writes = batch(&at(&claimed[0], step), 1);
            writes.letters.push(change.clone());
            assert_eq!(store.commit(&writes).await.unwrap(), Committed::Yes, "{step}");
            assert_eq!(status(store).await, (word.to_owned(), attempts), "{step}: {change:?}");
        }
        let discard = LetterChange::Discard { id: LETTER, at: NOW, reason: "old".to_owned() };
        let audit = AuditRow::new(NOW, "operator", "discard", "old").of_letter(Some(LETTER));
        let key = KeyWrite { key_hash: [1; 32], request_hash: [2; 32], saga: Uuid::nil(), at: NOW };
        assert!(store.discard(&discard, &audit, Some(&key)).await.unwrap());
        assert_eq!(status(store).await.0, "discarded");
        assert_eq!(store.taken_keys(&[[1; 32]]).await.unwrap().len(), 1);
    }

    pub(super) async fn another_broker_means_reading_from_the_start_and_publishing_again(
        store: &dyn Storage,
    ) {
        let claimed = claim(store, &[0], "only").await;
        assert!(claimed[0].republish, "the first broker is a new one");
        let unfinished = claim(store, &[0], "only").await;
        assert!(unfinished[0].republish, "the claim before came to nothing");
        let mut done = batch(&unfinished, 1);
        done.shards[0].republish = false;
        assert_eq!(store.commit(&done).await.unwrap(), Committed::Yes);
        let again = claim(store, &[0], "only").await;
        assert_eq!((again[0].inbox_offset, again[0].republish), (1, false));
        let moved = claim_on(store, &[0], "only", "broker-2").await;
        assert_eq!((moved[0].inbox_offset, moved[0].republish), (0, true));
        let renewed = store.renew(&[(Shard(0), moved[0].epoch)]).await.unwrap();
        assert!(renewed[0].republish, "a renewal changes nothing about it");
    }

    pub(super) async fn an_offset_is_of_the_topic_that_it_was_first_read_from(store: &dyn Storage) {
        let is_other = async |broker: &str, inbox: Option<&str>| {
            let claimed = store.claim(&[Shard(0)], &called("only"), broker, inbox).await.unwrap();
            claimed[0].other_topic
        };
        assert!(!is_other("broker-1", None).await, "nothing is known");
        assert!(!is_other("broker-1", Some("a")).await);
        assert!(!is_other("broker-1", None).await);
        assert!(is_other("broker-1", Some("b")).await);
        assert!(is_other("broker-1", Some("b")).await, "the row keeps what its offset belongs to");
        assert!(!is_other("broker-1", Some("a")).await);
        assert!(!is_other("broker-2", Some("b")).await, "on another broker it is read from the start");
        assert!(is_other("broker-2", Some("a")).await);
    }

    pub(super) async fn what_is_written_is_read(store: &dyn Storage) {
        let claimed = claim(store, &[0], "only").await;
        let mut writes = batch(&claimed, 1);
        writes.inserts.push(saga(1, 0, 1, Status::Running));
        store.commit(&writes).await.unwrap();
        let ids = [saga_id(1), saga_id(2)];
        let found = store.sagas(&ids).await.unwrap();
        assert_eq!((found.len(), found[&saga_id(1)].revision), (1, Revision(1)));
        let mut next = batch(&at(&claimed[0], 2), 1);
        next.updates.push(SagaWrite { finished_at: Some(NOW), ..saga(1, 0, 2, Status::Completed) });
        next.updates.push(saga(2, 0, 7, Status::Running));
        store.commit(&next).await.unwrap();
        let found = store.sagas(&ids).await.unwrap();
        assert_eq!(found.len(), 1, "an update makes no row");
        assert_eq!(found[&saga_id(1)].finished_at, Some(NOW));
        store.ping().await.unwrap();
    }

    pub(super) async fn a_walk_over_what_waits_finds_it_once(store: &dyn Storage) {
        let claimed = claim(store, &[0, 1], "only").await;
        let mut writes = batch(&claimed, 1);
        for n in 1..=40 {
            let status = if n % 5 == 0 { Status::Stuck } else { Status::Running };
            writes.inserts.push(saga(n, u16::from(n % 3), 1, status));
        }
        writes.inserts[6].finished_at = Some(NOW);
        store.commit(&writes).await.unwrap();
        let (mut found, mut next) = (Vec::new(), Some(saga_id(2).as_uuid()));
        while let Some(first) = next {
            let chunk = store.open_sagas(&shards(&[0, 1]), first).await.unwrap();
            found.extend(chunk.waiting.iter().map(|open| (open.id, open.shard, open.wake_at)));
            next = chunk.next;
        }
        let waits = |n: &u8| !n.is_multiple_of(5) && *n != 7 && n % 3 < 2;
        let all = (1..=40).filter(waits).map(|n| (saga_id(n), Shard(u16::from(n % 3)), Some(NOW)));
        let mut expected: Vec<_> = all.filter(|(id, ..)| *id >= saga_id(2)).collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    pub(super) async fn the_last_command_is_the_one_that_may_be_out(store: &dyn Storage) {
        let claimed = claim(store, &[0], "only").await;
        let mut writes = batch(&claimed, 4);
        for (row, body) in writes.journal.iter_mut().zip([&b"one"[..], b"two", b"", b"letter"]) {
            row.body = body.to_vec();
            row.effects = r#"[{"type":"send"}]"#.to_owned();
        }
        writes.journal[3].effects = r#"[{"type":"send_letter"}]"#.to_owned();
        store.commit(&writes).await.unwrap();
        let last = store.last_commands(&[saga_id(1), saga_id(9)]).await.unwrap();
        let shown: Vec<_> = last.iter().map(|row| (row.seq, row.body.as_deref())).collect();
        assert_eq!(shown, [(2, Some(&b"two"[..]))]);
        let all = store.journal_above(Shard(0), 1).await.unwrap();
        let bodies: Vec<_> = all.iter().map(|row| (row.seq, row.body.as_deref().map(<[u8]>::len))).collect();
        assert_eq!(bodies, [(2, Some(3)), (3, None), (4, Some(6))]);
    }

    pub(super) async fn what_the_broker_refused_is_named_with_its_attempt(store: &dyn Storage) {
        let claimed = claim(store, &[0, 1], "only").await;
        let refused = |attempt| {
            let at = format!(r#""step":0,"direction":"forward","attempt":{attempt}"#);
            format!(r#"{{"type":"unsendable",{at},"cause":{{"code":"refused","message":"no"}}}}"#)
        };
        let mut writes = batch(&claimed, 3);
        writes.journal[0].event = refused(1);
        writes.journal[1].event = r#"{"type":"cancel","reason":"unsendable"}"#.to_owned();
        writes.journal[2].event = refused(2);
        writes.journal[3].event = refused(7);
        store.commit(&writes).await.unwrap();
        let attempts = async |shard: u16, after: i64| {
            let found = store.refused_above(Shard(shard), after).await.unwrap();
            let mine = found.into_iter().filter(|(saga, _)| *saga == saga_id(1).as_uuid());
            let mut attempts: Vec<u32> = mine.map(|(_, at)| at.attempt.0).collect();
            attempts.sort_unstable();
            attempts
        };
        assert_eq!(attempts(0, 0).await, [1, 2]);
        assert_eq!(attempts(0, 1).await, [2], "only above the watermark");
        assert_eq!(attempts(1, 0).await, [7], "only of this shard");
    }
}
