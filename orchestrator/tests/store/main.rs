//! The store against a real Postgres, beyond what `simulation/tests/conformance.rs` asks of it and of the one in memory.
#![cfg(test)]

mod choices;
mod shard_rows;

use std::time::{Duration, Instant};

use local_postgres::TestServer;
use migrations::apply;
use migrations::orchestrator::Migrator;
use orchestrator::store::commit::{Committed, JournalRow, ShardAdvance, Writes};
use orchestrator::store::definitions::{Counts, Publication};
use orchestrator::store::letters::{LetterChange, LetterRow};
use orchestrator::store::listing::Listed;
use orchestrator::store::queries::{Reads, SagaFilter};
use orchestrator::store::retention::Retention;
use orchestrator::store::shards::{Claimant, Claimed, ShardCountError};
use orchestrator::store::{ENGINE_CONNECTIONS, Store, StoreError};
use saga_defs::ids::{DeadLetterId, Revision, SagaId, Shard, ShardCount};
use saga_defs::saga::Status;
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use secrecy::SecretString;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

async fn store() -> Store {
    store_on(&TestServer::shared().fresh_database()).await
}

async fn store_on(url: &str) -> Store {
    let store = Store::connect(&SecretString::from(url)).await.unwrap();
    apply::apply::<Migrator>(store.connection()).await.unwrap();
    store.remember_shards(ShardCount::new(4).unwrap()).await.unwrap();
    store.make_journal_partitions().await.unwrap();
    store
}

async fn claim(store: &Store, shards: &[u16], owner: &str) -> Vec<Claimed> {
    let shards: Vec<Shard> = shards.iter().map(|&n| Shard(n)).collect();
    let owner = Claimant::new(owner, Uuid::nil());
    let mut claimed = store.claim(&shards, &owner, "broker-1", None).await.unwrap();
    claimed.sort_by_key(|claim| claim.shard);
    claimed
}

fn saga_id(n: u8) -> SagaId {
    SagaId::new(NOW, [n; 10])
}

/// A batch that appends `rows` lines to each claimed shard's journal.
fn batch(claimed: &[Claimed], rows: i64) -> Writes {
    let mut writes = Writes::default();
    for claim in claimed {
        for seq in claim.next_seq..claim.next_seq + rows {
            writes.journal.push(JournalRow {
                shard: claim.shard,
                seq,
                saga: saga_id(claim.shard.0 as u8).as_uuid(),
                revision: Revision(seq as u32),
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

/// Waits for what must become true.
async fn becomes(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !check().await {
        assert!(Instant::now() < deadline, "{what}: not within 15 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn count(store: &Store, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = store.connection().query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Commits share a connection that is kept from one to the next.
#[tokio::test]
async fn a_commit_does_not_suffer_from_the_one_before() {
    let store = store().await;
    let claimed = claim(&store, &[0], "only").await;
    let at = |next_seq| vec![Claimed { next_seq, ..claimed[0].clone() }];
    let id = DeadLetterId::from_uuid(Uuid::from_u128(1));
    store.ingest(&[LetterChange::Keep(letter(id))]).await.unwrap();

    // Refused in the middle of a transaction.
    let mut refused = batch(&at(1), 1);
    refused.letters.push(LetterChange::Redrive {
        id,
        at: NOW,
        reason: "again".to_owned(),
        changes: None,
        must: true,
    });
    refused.journal[0].event = "a NUL \0".to_owned();
    let error = store.commit(&refused).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    let left = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    becomes("it is rolled back", async || count(&store, left).await == 0).await;
    assert_eq!(store.commit(&batch(&at(1), 1)).await.unwrap(), Committed::Yes);

    // Killed between two commits: the first one notices, the next one has another connection.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    count(&store, kill).await;
    let error = store.commit(&batch(&at(2), 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown(_)), "{error:?}");
    let next = loop {
        match store.commit(&batch(&at(2), 1)).await {
            Ok(next) => break next,
            Err(StoreError::Unknown(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(next, Committed::Yes);
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

#[tokio::test]
async fn a_letter_keeps_its_record_byte_for_byte_and_its_life() {
    let store = store().await;
    let id = DeadLetterId::from_uuid(Uuid::from_u128(1));
    let keep = LetterChange::Keep(letter(id));
    store.ingest(&[keep.clone(), keep]).await.unwrap();
    let stored = store.letters(&[id]).await.unwrap().remove(0);
    let original = letter(id);
    assert_eq!(
        (stored.row.key, stored.row.value, stored.row.headers),
        (original.key, None, original.headers)
    );
    assert_eq!(stored.row.message, "a NUL \u{fffd} in a foreign text");

    let reason = "try again".to_owned();
    let redrive = || LetterChange::Redrive { id, at: NOW, reason: reason.clone(), changes: None, must: true };
    let claimed = claim(&store, &[0], "only").await;
    let mut writes = batch(&claimed, 1);
    writes.letters.push(redrive());
    assert_eq!(store.commit(&writes).await.unwrap(), Committed::Yes);
    let next = vec![Claimed { next_seq: 2, ..claimed[0].clone() }];
    let mut again = batch(&next, 1);
    again.letters.push(redrive());
    assert_eq!(store.commit(&again).await.unwrap(), Committed::LetterMoved, "it is not open any more");
    assert_eq!(
        count(&store, "SELECT next_seq FROM shard WHERE id = 0").await,
        2,
        "and nothing else happened"
    );

    store.ingest(&[LetterChange::Reopen { id, at: NOW, reason: "failed again".to_owned() }]).await.unwrap();
    let sql = "SELECT string_agg(e->>'what', ', ') FROM dead_letter, json_array_elements(lineage) e";
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = store.connection().query_one_raw(statement).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "failed, redriven, open");
}

#[tokio::test]
async fn the_number_of_shards_is_remembered() {
    let store = store().await;
    store.remember_shards(ShardCount::new(4).unwrap()).await.unwrap();
    let error = store.remember_shards(ShardCount::new(8).unwrap()).await.unwrap_err();
    assert!(matches!(error, ShardCountError::Differs { remembered: 4, found: 8 }), "{error:?}");
}

/// Says under another broker that everything that waits has been published again.
fn republished(claimed: &[Claimed]) -> Writes {
    let mut writes = batch(claimed, 1);
    writes.shards.iter_mut().for_each(|advance| advance.republish = false);
    writes
}

#[tokio::test]
async fn every_claim_publishes_again_until_a_commit_of_the_newest_owner_says_that_it_is_done() {
    let store = store().await;
    let unanswered = claim(&store, &[0], "first").await;
    let first = claim(&store, &[0], "first").await;
    assert!(first[0].republish, "the claim before came to nothing");
    assert_eq!(store.commit(&batch(&first, 1)).await.unwrap(), Committed::Yes);
    let renewed = store.renew(&[(Shard(0), first[0].epoch)]).await.unwrap();
    assert!(renewed[0].republish, "a renewal changes nothing about it");

    let second = claim(&store, &[0], "second").await;
    assert_eq!((second[0].inbox_offset, second[0].republish), (1, true), "read on, but publish again");
    for old in [unanswered, renewed] {
        let old = vec![Claimed { next_seq: 2, ..old[0].clone() }];
        assert_eq!(store.commit(&republished(&old)).await.unwrap(), Committed::Fenced);
    }
    assert!(claim(&store, &[0], "third").await[0].republish, "only the owner can tell");

    let third = claim(&store, &[0], "third").await;
    assert_eq!(store.commit(&republished(&third)).await.unwrap(), Committed::Yes);
    assert!(!claim(&store, &[0], "fourth").await[0].republish);
}

/// A backup or a verification reads the journal for a long time. Making a partition must not queue every commit behind it.
#[tokio::test]
async fn a_partition_does_not_wait_for_a_long_reader() {
    let store = store().await;
    let claimed = claim(&store, &[0], "only").await;
    store.connection().execute_unprepared(&format!("DROP TABLE {}", newest_day(&store).await)).await.unwrap();
    let reader = store.connection().begin().await.unwrap();
    reader.execute_unprepared("SELECT FROM journal LIMIT 1").await.unwrap();

    let began = Instant::now();
    let (made, committed) =
        tokio::join!(store.make_journal_partitions(), async { store.commit(&batch(&claimed, 1)).await });
    assert!(matches!(made, Err(StoreError::TryAgain { .. })), "{made:?}");
    assert_eq!(committed.unwrap(), Committed::Yes);
    assert!(began.elapsed() < Duration::from_secs(5), "it waited {:?}", began.elapsed());

    reader.rollback().await.unwrap();
    store.make_journal_partitions().await.unwrap();
}

/// What cannot go to its day's partition is kept, counted, and moved there as the runbook says.
#[tokio::test]
async fn rows_without_a_partition_are_counted_and_moved() {
    let url = TestServer::shared().fresh_database();
    let store = store_on(&url).await;
    let retention = Retention::connect(&SecretString::from(url)).await.unwrap();
    assert_eq!(retention.unpartitioned().await.unwrap(), 0);
    // The batch is of a day far ahead.
    let claimed = claim(&store, &[0], "only").await;
    assert_eq!(store.commit(&batch(&claimed, 3)).await.unwrap(), Committed::Yes);
    assert_eq!(retention.unpartitioned().await.unwrap(), 3);

    let runbook = include_str!("../../../docs/runbooks/journal-without-partition.md");
    let (_, rest) = runbook.split_once("```sql\n").unwrap();
    store.connection().execute_unprepared(rest.split_once("```").unwrap().0).await.unwrap();
    assert_eq!(retention.unpartitioned().await.unwrap(), 0);
    let days = retention.days().await.unwrap();
    assert_eq!(days.last().unwrap().partition, "journal_20270115");
    let moved = store.connection().execute_unprepared("DELETE FROM journal_20270115").await.unwrap();
    assert_eq!(moved.rows_affected(), 3);
}

async fn newest_day(store: &Store) -> String {
    let sql = "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'journal'::regclass
               AND inhrelid <> 'journal_default'::regclass";
    let row =
        store.connection().query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    row.unwrap().try_get_by_index(0).unwrap()
}

/// The batch statement finds its rows by key whatever the planner knows of the tables.
#[tokio::test]
async fn updates_find_their_sagas_by_key() {
    let store = store().await;
    let sql = "EXPLAIN (COSTS OFF)
               UPDATE saga AS s SET revision = u.revision
               FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::int[]) AS revision) AS u WHERE s.id = u.id";
    let values = vec![vec![saga_id(1).as_uuid()].into(), vec![1_i32].into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let rows = store.connection().query_all_raw(statement).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    insta::assert_snapshot!(plan.join("\n"), @r"
    Update on saga s
      ->  Nested Loop
            ->  Subquery Scan on u
                  ->  ProjectSet
                        ->  Result
            ->  Index Scan using saga_pkey on saga s
                  Index Cond: (id = u.id)
    ");
}

#[tokio::test]
async fn those_who_publish_leave_connections_to_the_engine() {
    let store = store().await;
    // Somebody else publishes, and takes long.
    let other = store.connection().begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(x'736167612d707562'::bigint)";
    other.execute_unprepared(lock).await.unwrap();
    let publish = || {
        let store = store.clone();
        tokio::spawn(async move { store.publish(&Publication::default(), Counts::default()).await })
    };
    let publishing: Vec<_> = (0..ENGINE_CONNECTIONS * 2).map(|_| publish()).collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    becomes("one waits", async || count(&store, waiting).await > 0).await;
    assert_eq!(count(&store, waiting).await, 1, "the others wait without a connection");
    other.commit().await.unwrap();
    for one in publishing {
        assert!(one.await.unwrap().unwrap());
    }
}

/// Ended sagas, numbered by age from 1, of shard 1.
async fn many_ended(store: &Store, sagas: u32) {
    let sql = format!(
        "INSERT INTO saga (id, shard, definition, version, revision, status, started_at, updated_at, finished_at, body)
         SELECT lpad(n::text, 32, '0')::uuid, 1, 'booking', 1, 4, 'completed', now(), now(), now(),
             '{{\"state\":\"completed\",\"steps\":[],\"data\":{{}}}}'
         FROM generate_series(1, {sagas}) AS n"
    );
    store.connection().execute_unprepared(&sql).await.unwrap();
}

/// The saga with this number, in the order of [`many_ended`].
fn numbered(n: u32) -> Uuid {
    format!("{n:0>32}").parse().unwrap()
}

#[tokio::test]
async fn a_take_over_finds_the_few_that_wait_among_many() {
    let store = store().await;
    many_ended(&store, 45_000).await;
    let waiting = "UPDATE saga SET finished_at = NULL, status = 'running', shard = n % 3
                   FROM (SELECT n, lpad(n::text, 32, '0')::uuid AS key FROM unnest(ARRAY[7, 20000, 20001, 45000]) AS n) AS w
                   WHERE id = key";
    store.connection().execute_unprepared(waiting).await.unwrap();
    let (mut found, mut next) = (Vec::new(), Some(numbered(8)));
    let mut statements = 0;
    while let Some(first) = next {
        let chunk = store.open_sagas(&[Shard(0), Shard(2)], first).await.unwrap();
        found.extend(chunk.waiting.iter().map(|saga| (saga.id.as_uuid(), saga.shard)));
        next = chunk.next;
        statements += 1;
    }
    // 20,001 is of shard 0, 20,000 of shard 2, 45,000 of shard 0; 7 is below the first.
    let expected = [(20_000, 2), (20_001, 0), (45_000, 0)].map(|(n, shard)| (numbered(n), Shard(shard)));
    assert_eq!(found, expected);
    assert!((3..=4).contains(&statements), "{statements}");
}

#[tokio::test]
async fn a_list_looks_at_some_sagas_and_says_where_to_go_on() {
    let store = store().await;
    many_ended(&store, 12_000).await;
    let rare = format!("UPDATE saga SET status = 'compensated' WHERE id = '{}'", numbered(3));
    store.connection().execute_unprepared(&rare).await.unwrap();
    let reads = Reads::new(store.connection().clone());
    let all = reads.sagas(&SagaFilter::default(), None, 2).await.unwrap();
    let ids =
        |listed: &Listed| listed.sagas.iter().map(|stored| stored.saga.id.as_uuid()).collect::<Vec<_>>();
    assert_eq!(
        (ids(&all), all.next.unwrap().as_uuid()),
        (vec![numbered(12_000), numbered(11_999)], numbered(11_999))
    );

    let filter = SagaFilter { status: Some(Status::Compensated), ..SagaFilter::default() };
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let page = reads.sagas(&filter, before, 10).await.unwrap();
        pages.push(ids(&page));
        let Some(next) = page.next else { break };
        before = Some(next.as_uuid());
    }
    assert_eq!(pages, [vec![], vec![], vec![numbered(3)]]);

    // Nothing waits, and nothing is stuck: neither needs a walk.
    for status in [Status::Running, Status::Stuck] {
        let update = format!("UPDATE shard SET open_from = '{}'", numbered(11_000));
        store.connection().execute_unprepared(&update).await.unwrap();
        let filter = SagaFilter { status: Some(status), ..SagaFilter::default() };
        let page = reads.sagas(&filter, None, 10).await.unwrap();
        assert_eq!((ids(&page), page.next), (vec![], None), "{status:?}");
    }
}
