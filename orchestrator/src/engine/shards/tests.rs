//! What is owned, and what waits.

use super::*;

fn row(next_seq: i64, inbox_offset: i64) -> Claimed {
    let (shard, epoch, published_seq, open_from) = (Shard(3), 2, 0, NOTHING_OPEN);
    Claimed {
        shard,
        epoch,
        next_seq,
        published_seq,
        inbox_offset,
        open_from,
        republish: false,
        other_topic: false,
    }
}

/// A shard at 5 and 8, a commit that moves it to these numbers, and what the row shows afterwards.
fn check(commit: (i64, i64), found: (i64, i64), expected: Option<bool>) {
    let owned = Owned::new(&row(5, 8), 1);
    let advance = ShardAdvance {
        shard: Shard(3),
        epoch: 1,
        first_seq: 5,
        next_seq: commit.0,
        published_seq: 0,
        inbox_offset: commit.1,
        open_from: NOTHING_OPEN,
        republish: false,
    };
    assert_eq!(owned.tells(&advance, &row(found.0, found.1)), expected, "{commit:?}, found {found:?}");
}

#[test]
fn a_row_tells_whether_a_commit_happened_if_the_commit_moves_it() {
    check((7, 9), (7, 9), Some(true));
    check((7, 9), (5, 8), Some(false));
    check((5, 9), (5, 9), Some(true));
    check((5, 9), (5, 8), Some(false));
    check((6, 8), (6, 8), Some(true));
    check((5, 8), (5, 8), None);
}

#[test]
fn timers_fire_in_order_of_time_and_leave_with_their_shard() {
    let at = Timestamp::from_unix_millis;
    let id = |n: u8| SagaId::new(at(0), [n; 10]);
    let wake = |at| Wake { at, timeout_at: Some(at), awaits_seq: None };
    let mut taken_over = Owned::new(&row(1, 0), 1);
    for (n, millis) in [(1, 300), (2, -5), (3, i64::MAX), (4, 0)] {
        taken_over.found(id(n), wake(at(millis)));
    }
    let mut shards = Shards::default();
    shards.insert(Shard(3), taken_over);
    shards.insert(Shard(4), Owned::new(&Claimed { shard: Shard(4), ..row(1, 0) }, 1));
    shards.set_wake(Shard(4), id(5), Some(wake(at(1))));
    shards.set_wake(Shard(4), id(5), Some(wake(at(2))));
    assert_eq!(shards.next_wake(), Some(at(-5)));
    let due = |shards: &Shards| -> Vec<SagaId> {
        shards.due(at(300), 9).into_iter().map(|(_, saga)| saga).collect()
    };
    assert_eq!(due(&shards), [id(2), id(4), id(5), id(1)]);
    assert_eq!(shards.due(at(300), 1), [(Shard(3), id(2))]);
    assert_eq!(shards.oldest_open(), Some(at(0)));
    let older = SagaId::new(at(1_795_376_787_123), [0; 10]);
    let mut later = Shards::default();
    assert_eq!(later.oldest_open(), None);
    later.insert(Shard(4), Owned::new(&row(1, 0), 1));
    later.set_wake(Shard(4), SagaId::new(at(1_795_376_787_124), [0; 10]), Some(wake(at(1))));
    later.set_wake(Shard(4), older, Some(wake(at(2))));
    assert_eq!(later.oldest_open(), Some(at(1_795_376_787_123)));
    assert_eq!(shards.wake(Shard(3), id(3)), Some(wake(at(i64::MAX))));
    shards.remove(Shard(3));
    assert_eq!((due(&shards), shards.open_count()), (vec![id(5)], 1));
}

#[test]
fn a_stopped_shard_gets_no_sagas_and_its_timers_wait_until_it_is_taken_in_anew() {
    let at = Timestamp::from_unix_millis;
    let id = |n: u8| SagaId::new(at(0), [n; 10]);
    let wake = |at| Wake { at, timeout_at: Some(at), awaits_seq: None };
    let mut shards = Shards::default();
    for number in [3, 4] {
        shards.insert(Shard(number), Owned::new(&Claimed { shard: Shard(number), ..row(1, 0) }, 1));
        shards.set_wake(Shard(number), id(1), Some(wake(at(1))));
    }
    shards.stop(Shard(3));
    shards.set_wake(Shard(3), id(2), Some(wake(at(2))));
    assert_eq!(shards.due(at(9), 9), [(Shard(4), id(1))]);
    assert_eq!(shards.readable().collect::<Vec<_>>(), [Shard(4)]);
    assert_eq!(shards.wake(Shard(3), id(2)), Some(wake(at(2))), "it still waits");
    let mut anew = Owned::new(&row(1, 0), 2);
    anew.found(id(2), wake(at(2)));
    shards.insert(Shard(3), anew);
    assert_eq!(shards.due(at(9), 9), [(Shard(4), id(1)), (Shard(3), id(2))]);
    assert!(shards.is_readable(Shard(3)));
}

/// What a million waiting sagas may cost: the tables' nodes are at worst half full.
#[test]
fn a_waiting_saga_is_small() {
    assert_eq!(size_of::<(SagaId, Slot)>(), 40);
    assert_eq!(size_of::<Timer>(), 26);
}

#[test]
fn where_a_command_lies_is_known_until_the_saga_waits_for_something_else() {
    let (shard, saga) = (Shard(3), SagaId::new(Timestamp::from_unix_millis(0), [1; 10]));
    let at = Timestamp::from_unix_millis;
    let mut shards = Shards::default();
    shards.insert(shard, Owned::new(&row(1, 0), 1));
    for (offset, known) in [(0, Some(0)), (281_474_976_710_654, Some(281_474_976_710_654)), (-1001, None)] {
        let wake = Wake { at: at(900), timeout_at: None, awaits_seq: Some(7) };
        shards.set_wake(shard, saga, Some(wake));
        assert_eq!(shards.offset(shard, saga), None);
        shards.confirmed(shard, saga, 7, at(500), offset);
        assert_eq!(shards.offset(shard, saga), known);
        let again = Wake { at: at(400), timeout_at: Some(at(500)), awaits_seq: None };
        shards.set_wake(shard, saga, Some(again));
        assert_eq!(shards.offset(shard, saga), known, "of the same attempt");
    }
    shards.set_wake(shard, saga, Some(Wake { at: at(1), timeout_at: None, awaits_seq: None }));
    assert_eq!(shards.offset(shard, saga), None);
}

#[test]
fn a_new_broker_has_everything_when_all_that_was_published_again_is_acknowledged() {
    let mut owned = Owned::new(&Claimed { published_seq: 4, republish: true, ..row(5, 8) }, 1);
    let again = Origin::Again(Shard(3));
    let mut told = vec![owned.republish()];
    for change in [Owned::begin_publish, Owned::begin_publish, Owned::end_publish, Owned::end_publish] {
        change(&mut owned, again);
        told.push(owned.republish());
    }
    assert_eq!(told, [false, true, true, true, false]);
    assert_eq!(owned.published_seq(), 4, "the watermark does not go back for it");
    assert!(owned.must_save(), "the row does not say so yet");
}
