//! Sagas that have ended long ago: what a service has in its tables after some months.
//!
//! They are copies of one booking that has really completed, with ids in the order of their times, so the table and its
//! index are what so many bookings leave. Their journal is not made: it lies in partitions of other days, which no commit
//! and no page of another saga touches.

use anyhow::{Context, Result};
use sea_orm::ConnectionTrait;

use super::booking::{Bookings, Mix};
use super::open::{self, Starts};
use super::options::Options;
use super::postgres;
use super::run;
use super::stack::Stack;

/// Rows of one statement.
const CHUNK: u64 = 500_000;
/// Their starts are spread over the 90 days before this.
const LAST: &str = "now() - interval '1 day'";

/// Makes them. The load has its sagas afterwards; these have ids below all of those.
pub(crate) async fn make(stack: &Stack, options: &Options, sagas: u64) -> Result<()> {
    let bookings = Bookings::new(1, 1, Mix::Normal, false).waiting();
    let one = Starts { limit: Some(1), ..Starts::of(bookings) };
    open::start(options, one, open::addresses(&stack.running())).await?;
    run::settled(stack).await?;
    let database = &stack.databases.orchestrator;
    let mut made = 0;
    while made < sagas {
        let until = (made + CHUNK).min(sagas);
        database.execute_unprepared(&copies(made, until, sagas)).await.context("copy an ended saga")?;
        made = until;
        eprintln!("{made} of {sagas} ended sagas");
    }
    // As the server would do by itself in the meantime.
    for statement in ["VACUUM (ANALYZE) saga", "CHECKPOINT"] {
        database.execute_unprepared(statement).await.context(statement)?;
    }
    let size = "SELECT pg_total_relation_size('saga') / 1024 / 1024 AS n";
    eprintln!("the sagas take {} MiB on disk", postgres::number(database, size).await?);
    Ok(())
}

/// Takes them away, so that the invariants are asked of the load's sagas alone: nobody has booked these.
pub(crate) async fn remove(stack: &Stack) -> Result<()> {
    let bound = format!("{LAST} + interval '1 hour'");
    let delete = format!("DELETE FROM saga WHERE started_at < {bound}");
    stack.databases.orchestrator.execute_unprepared(&delete).await.context("remove the ended sagas")?;
    Ok(())
}

/// Copies number `from` to just below `until`, of `all`.
fn copies(from: u64, until: u64, all: u64) -> String {
    format!(
        "INSERT INTO saga (id, shard, definition, version, revision, status, step, started_at, updated_at, finished_at, body) \
         SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || \
                 lpad(to_hex((n % 4096)::int), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid, \
           (n % 8)::int, one.definition, one.version, one.revision, one.status, one.step, at, at, at, one.body \
         FROM (SELECT * FROM saga WHERE status = 'completed' AND started_at > {LAST} ORDER BY id DESC LIMIT 1) AS one, \
           (SELECT n, {LAST} - interval '90 days' * (1 - n::float8 / {all}) AS at \
            FROM generate_series({from}::bigint, {until}::bigint - 1) AS n) AS numbers"
    )
}
