//! What actions over many are on is chosen without a look at what cannot be meant.

use local_postgres::TestServer;
use orchestrator::store::Store;
use orchestrator::store::audit::AuditRow;
use orchestrator::store::bulk::Bulk;
use orchestrator::store::bulk_choice::{Choice, Made, NewAction};
use orchestrator::store::letters::{LetterChange, LetterRow};
use orchestrator::store::queries::SagaFilter;
use saga_defs::ids::{DeadLetterId, SagaId};
use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use secrecy::SecretString;
use uuid::Uuid;

use crate::{NOW, count, letter, many_ended, numbered, store_on};

const ENDED: u32 = 20_000;
/// The one that is stuck, and the first that waits.
const STUCK: u32 = 3;
const WAITS: u32 = 19_990;

/// Among many that ended, one is stuck and old, with a letter that was put aside, and the newest ones wait.
async fn world(url: &str) -> Store {
    let store = store_on(url).await;
    many_ended(&store, ENDED).await;
    let id = DeadLetterId::from_uuid(Uuid::from_u128(1));
    let row = LetterRow { saga: Some(SagaId::from_uuid(numbered(STUCK))), ..letter(id) };
    store.ingest(&[LetterChange::Keep(row)]).await.unwrap();
    // Over a connection of its own, so that what it reads is in the statistics before anything is measured.
    let mut options = ConnectOptions::new(url);
    options.max_connections(1);
    let db = Database::connect(options).await.unwrap();
    for sql in [
        "SET application_name = 'world'".to_owned(),
        format!("UPDATE saga SET status = 'stuck', finished_at = NULL WHERE id = '{}'", numbered(STUCK)),
        format!("UPDATE saga SET status = 'running', finished_at = NULL WHERE id >= '{}'", numbered(WAITS)),
        format!("UPDATE shard SET open_from = '{}'", numbered(WAITS)),
        "UPDATE dead_letter SET status = 'discarded'".to_owned(),
        "ANALYZE saga".to_owned(),
    ] {
        db.execute_unprepared(&sql).await.unwrap();
    }
    db.close().await.unwrap();
    is_closed(&store, "world").await;
    store
}

/// A backend that ends brings the statistics up to date.
async fn is_closed(store: &Store, name: &str) {
    let there = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{name}'"
    );
    crate::becomes("the connection is closed", async || count(store, &there).await == 0).await;
}

/// How many an action in these statuses is on, and how many rows of sagas were read to find them.
async fn chosen(url: &str, store: &Store, statuses: &[&'static str]) -> (u32, i64) {
    let read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'saga'";
    let before = count(store, read).await;
    let bulk = Bulk::connect(&SecretString::from(url)).await.unwrap();
    let choice = Choice::Sagas { filter: SagaFilter::default(), ids: None, statuses: statuses.to_vec() };
    let new = NewAction {
        id: Uuid::now_v7(),
        verb: "cancel",
        choice,
        dry_run: true,
        actor: "a".to_owned(),
        reason: "r".to_owned(),
        filter: serde_json::json!({}),
        patch: None,
        rate: 1,
        ramp: Vec::new(),
        at: NOW,
    };
    let audit = AuditRow::new(NOW, "a", "cancel-sagas", "r");
    let Made::Yes(selected) = bulk.make(&new, &audit, None).await.unwrap() else { panic!("too many") };
    drop(bulk);
    is_closed(store, "orchestrator-bulk").await;
    (selected, count(store, read).await - before)
}

#[tokio::test]
async fn the_sagas_that_ended_are_not_looked_at() {
    let url = TestServer::shared().fresh_database();
    let store = world(&url).await;
    for (statuses, expected) in
        [(&["running", "stuck"][..], 12), (&["stuck"], 1), (&["running", "compensating"], 11)]
    {
        let (selected, read) = chosen(&url, &store, statuses).await;
        assert_eq!(selected, expected, "{statuses:?}");
        assert!(read < 1_000, "{statuses:?}: {read} rows were read");
    }
    let (selected, _) = chosen(&url, &store, &["completed"]).await;
    assert_eq!(selected, ENDED - 12);
}
