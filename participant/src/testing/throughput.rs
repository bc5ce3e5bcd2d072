//! How many commands a worker gets through, and what they cost.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use messaging::fetch::watermarks;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{Bench, INBOX, TestCommand};

/// So many commands are sent at once.
const CHUNK: usize = 250;
/// The broker keeps the last few megabytes of a partition: no more commands than this may wait.
const WAITING: i64 = 4_000;
/// The time between two looks at how many are answered.
const LOOK: Duration = Duration::from_millis(10);
/// The kernel counts CPU time in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sends `commands`, at most `per_second` of them, to a worker that is serving, waits until all are answered, and prints
/// the rate and the CPU time by thread (this process holds worker, broker and sender) and of the worker's Postgres
/// backends, whose connections are called `application`.
pub async fn measure(bench: &Bench, application: &str, commands: &[TestCommand], per_second: usize) {
    // The first ones pay for connections, plans and schemas.
    let (warm_up, measured) = commands.split_at(commands.len().min(CHUNK * 4));
    send(bench, warm_up, 0, usize::MAX).await;
    let before = (cpu_of_threads(), cpu_of_backends(bench, application).await);
    let commits = commits(bench).await;
    let start = Instant::now();
    send(bench, measured, warm_up.len(), per_second).await;
    let took = start.elapsed();

    let count = measured.len() as f64;
    println!("{:.0} commands/s ({count} in {took:.1?})", count / took.as_secs_f64());
    println!("{:.4} commits per command", (self::commits(bench).await - commits) as f64 / count);
    let backends = cpu_of_backends(bench, application).await - before.1;
    println!("{:7.1} µs/command  Postgres backends", backends * 1e6 / count);
    for (thread, seconds) in cpu_of_threads() {
        let used = seconds - before.0.get(&thread).copied().unwrap_or_default();
        if used * 1e6 / count >= 0.5 {
            println!("{:7.1} µs/command  {thread}", used * 1e6 / count);
        }
    }
}

async fn send(bench: &Bench, commands: &[TestCommand], answered_before: usize, per_second: usize) {
    let start = Instant::now();
    let size = CHUNK.min(per_second / 100 + 1);
    let (mut sent, mut answered) = (0, answered(bench).await);
    for chunk in commands.chunks(size) {
        let due = start + Duration::from_secs_f64(sent as f64 / per_second as f64);
        tokio::time::sleep_until(due.into()).await;
        while (answered_before + sent) as i64 - answered > WAITING {
            tokio::time::sleep(LOOK).await;
            answered = self::answered(bench).await;
        }
        bench.send_commands(chunk).await;
        sent += chunk.len();
    }
    while answered < (answered_before + sent) as i64 {
        tokio::time::sleep(LOOK).await;
        answered = self::answered(bench).await;
    }
}

/// How many replies there are. Asks the broker: the database is busy enough.
async fn answered(bench: &Bench) -> i64 {
    let kafka = bench.kafka.clone();
    let marks = tokio::task::spawn_blocking(move || watermarks(&kafka, INBOX)).await.unwrap().unwrap();
    marks.iter().map(|mark| mark.high).sum()
}

async fn commits(bench: &Bench) -> i64 {
    bench.count("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").await
}

fn cpu_of_threads() -> BTreeMap<String, f64> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        if let Some((name, seconds)) = cpu(&task.path().join("stat")) {
            *threads.entry(name).or_default() += seconds;
        }
    }
    threads
}

async fn cpu_of_backends(bench: &Bench, application: &str) -> f64 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [application.into()]);
    let rows = bench.database.query_all_raw(statement).await.unwrap();
    let pids = rows.iter().map(|row| row.try_get_by_index::<i32>(0).unwrap());
    pids.filter_map(|pid| cpu(format!("/proc/{pid}/stat").as_ref())).map(|(_, seconds)| seconds).sum()
}

/// The name of a process or thread, and the seconds it has worked.
fn cpu(stat: &std::path::Path) -> Option<(String, f64)> {
    let text = fs::read_to_string(stat).ok()?;
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((name, ticks / TICKS_PER_SECOND))
}
