//! A Postgres that crashes, answers too late or never, breaks connections, or refuses for a while; and the network to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{Connection as _, Executor as _};
use tokio::time::{Instant, sleep};

use super::{BROKEN, Harm};
use crate::campaign::field::{Field, WORKERS};
use crate::database::Database;
use crate::proxy::{Loss, Proxy, Weather};
use crate::random::Random;

/// How long commits are lost one after the other.
const LOSSES: Duration = Duration::from_secs(10);
/// Commits of one process that are lost at a time.
const LOST_AT_ONCE: u64 = 3;
/// Between two rounds of broken connections.
const BREAK_EVERY: Duration = Duration::from_secs(1);
const BREAKS: u64 = 10;
/// What the network takes longer, and give or take.
const DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(100));
const SLOW: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// A network in which something is lost, from less than any limit of ours to more than each of them.
const SILENT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));
/// How long Postgres is away.
const AWAY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(120));
/// How long one transaction in ten is refused.
const REFUSING: Duration = Duration::from_secs(10);
/// How long an old snapshot keeps dead rows from being removed.
const PINNED: Duration = Duration::from_secs(20);
/// Days of the journal that are made and dropped.
const DAYS: u32 = 20;
/// How long a table is locked, and between two times that it is.
const LOCKED: Duration = Duration::from_millis(1_500);

pub(super) async fn crash(field: &Field) -> Result<Harm> {
    let begun = Instant::now();
    let base = field.base.clone();
    tokio::task::spawn_blocking(move || base.postgres.crash(Duration::ZERO)).await??;
    Ok(Harm::of(format!("Postgres was back after {:?}", begun.elapsed())))
}

pub(super) async fn go_away(field: &Field, random: &mut Random) -> Result<Harm> {
    let (base, time) = (field.base.clone(), random.between(AWAY.0, AWAY.1));
    tokio::task::spawn_blocking(move || base.postgres.crash(time)).await??;
    Ok(Harm::of(format!("for {time:?}")))
}

/// The links of the processes that run.
fn links(field: &Field) -> Result<Vec<(String, Arc<Proxy>)>> {
    let names = field.stack.orchestrators().into_iter().map(|one| one.service.name().to_owned());
    let workers = WORKERS.into_iter().flat_map(|program| field.stack.workers(program));
    let names: Vec<String> = names.chain(workers.map(|worker| worker.name().to_owned())).collect();
    names.into_iter().map(|name| Ok((name.clone(), field.links.get(&name)?))).collect()
}

pub(super) async fn lose_answers(field: &Field, random: &mut Random) -> Result<Harm> {
    let until = Instant::now() + LOSSES;
    let all = links(field)?;
    let before: u64 = all.iter().map(|(_, link)| link.lost()).sum();
    while Instant::now() < until {
        let (_, link) = random.pick(&all).context("a process runs")?;
        let losses = (0..=random.below(LOST_AT_ONCE))
            .map(|_| if random.once_in(3) { Loss::Fate } else { Loss::Answer });
        link.lose(losses.collect::<Vec<_>>());
        sleep(random.between(Duration::from_millis(100), Duration::from_millis(800))).await;
    }
    all.iter().for_each(|(_, link)| link.lose_nothing());
    let lost = all.iter().map(|(_, link)| link.lost()).sum::<u64>() - before;
    Ok(Harm::of(format!("{lost} commits were not answered")))
}

pub(super) async fn break_connections(field: &Field) -> Result<Harm> {
    let mut broken = 0;
    for _ in 0..BREAKS {
        for database in databases(field) {
            broken += database.break_connections().await?;
        }
        sleep(BREAK_EVERY).await;
    }
    Ok(Harm::of(format!("{broken} connections")))
}

fn databases(field: &Field) -> [&Database; 3] {
    [&field.stack.sagas, &field.stack.bookings, &field.stack.payments]
}

pub(super) async fn delay(field: &Field, random: &mut Random) -> Result<Harm> {
    let time = random.between(SLOW.0, SLOW.1);
    let all = links(field)?;
    all.iter().for_each(|(_, link)| link.set(Weather::Slow(DELAY.0, DELAY.1)));
    sleep(time).await;
    all.iter().for_each(|(_, link)| link.set(Weather::Clear));
    Ok(Harm::of(format!("for all processes, {time:?}")))
}

pub(super) async fn half_open(field: &Field, random: &mut Random) -> Result<Harm> {
    let time = random.between(SILENT.0, SILENT.1);
    let all = links(field)?;
    let (name, link) = random.pick(&all).context("a process runs")?;
    let weather = *random.pick(&BROKEN).context("a kind")?;
    link.set(weather);
    sleep(time).await;
    link.set(Weather::Clear);
    // One that finds itself without its shards for too long ends, so that somebody starts it anew.
    field.complete().await?;
    Ok(Harm::of(format!("{weather:?} between {name} and Postgres, {time:?}")))
}

/// Deadlocks, serialization failures and statements that take too long, as Postgres reports them.
const REFUSE: &str = "
CREATE SCHEMA IF NOT EXISTS refusing;
CREATE OR REPLACE FUNCTION refusing.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE floor(random() * 30)
        WHEN 0 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40P01';
        WHEN 1 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40001';
        WHEN 2 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '57014';
        ELSE NULL;
    END CASE;
    RETURN NULL;
END $$;";

pub(super) async fn refuse(field: &Field) -> Result<Harm> {
    let tables = ["shard", "inbox", "inbox"];
    for (database, table) in databases(field).into_iter().zip(tables) {
        database.execute(REFUSE).await?;
        let trigger = format!(
            "CREATE OR REPLACE TRIGGER refusing AFTER INSERT OR UPDATE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION refusing.refuse()"
        );
        database.execute(&trigger).await?;
    }
    sleep(REFUSING).await;
    for (database, table) in databases(field).into_iter().zip(tables) {
        database.execute(&format!("DROP TRIGGER refusing ON {table}")).await?;
    }
    Ok(Harm::of(format!("one statement in ten for {REFUSING:?}")))
}

pub(super) async fn pin_horizon(field: &Field) -> Result<Harm> {
    let mut pins = Vec::new();
    for database in databases(field) {
        let options: PgConnectOptions = database.url().parse()?;
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        connection.execute("SELECT count(*) FROM pg_class").await?;
        pins.push(connection);
    }
    sleep(PINNED).await;
    for pin in pins {
        pin.close().await?;
    }
    Ok(Harm::of(format!("three snapshots stood for {PINNED:?}")))
}

/// As maintenance does that was started at a bad time: a table that every commit writes is locked.
pub(super) async fn lock_tables(field: &Field, random: &mut Random) -> Result<Harm> {
    let tables = [("journal", 0), ("saga", 0), ("shard", 0), ("bookings", 1), ("payments", 2)];
    let (table, database) = *random.pick(&tables).context("a table")?;
    let statement = format!(
        "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({}); COMMIT",
        LOCKED.as_secs_f64()
    );
    databases(field)[database].execute(&statement).await?;
    Ok(Harm::of(format!("{table} for {LOCKED:?}")))
}

/// Days of the journal are made and dropped while every commit writes to it.
pub(super) async fn maintain_partitions(field: &Field, random: &mut Random) -> Result<Harm> {
    let sagas = &field.stack.sagas;
    for year in 2_100..2_100 + DAYS {
        let day = format!("FROM ('{year}-01-01') TO ('{year}-01-02')");
        sagas.execute(&format!("CREATE TABLE journal_{year} PARTITION OF journal FOR VALUES {day}")).await?;
        sleep(random.between(Duration::ZERO, BREAK_EVERY)).await;
        sagas.execute(&format!("DROP TABLE journal_{year}")).await?;
    }
    Ok(Harm::of(format!("{DAYS} days")))
}
