//! The questions that are asked after every disturbance: did every accepted booking end as it should, is the journal
//! whole, did every effect happen once? [`gather`] looks everything up, [`judge`] says what of it does not hold.

pub mod evidence;
pub mod gather;
pub mod judge;
pub mod watch;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use saga_defs::time::Timestamp;
use sea_orm::Value;

use crate::load::Accepted;
use crate::stack::Stack;
use crate::wait::{SOON, eventually};
pub use evidence::Tolerance;
use evidence::{Evidence, Planted, Start};
use judge::Violation;

/// At most so many violations are shown.
const SHOWN: usize = 20;
/// How long sagas that are in flight may take to end, once nothing disturbs them any more.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Sagas that completed.
    pub completed: usize,
    /// Sagas that were compensated.
    pub compensated: usize,
}

impl Seen {
    /// In this evidence.
    pub fn of(evidence: &Evidence) -> Self {
        let count = |status: &str| evidence.sagas.iter().filter(|row| row.status == status).count();
        Self { completed: count("completed"), compensated: count("compensated") }
    }
}

/// Waits until every saga of the stack has ended, then asks everything.
///
/// # Errors
/// Sagas that do not end, and everything that is not as it has to be, a line each.
pub async fn check(stack: &Stack, accepted: &[Accepted]) -> Result<Seen> {
    check_with(stack, accepted, Tolerance::None).await
}

/// As [`check`], after a disturbance that may change how bookings end.
///
/// # Errors
/// As [`check`].
pub async fn check_with(stack: &Stack, accepted: &[Accepted], tolerance: Tolerance) -> Result<Seen> {
    check_all(stack, accepted, tolerance, Vec::new()).await
}

/// As [`check`], when strangers have put records where they should not be.
///
/// # Errors
/// As [`check`].
pub async fn check_planted(stack: &Stack, accepted: &[Accepted], planted: Vec<Planted>) -> Result<Seen> {
    check_all(stack, accepted, Tolerance::None, planted).await
}

async fn check_all(
    stack: &Stack,
    accepted: &[Accepted],
    tolerance: Tolerance,
    planted: Vec<Planted>,
) -> Result<Seen> {
    all_ended(stack, END_LIMIT).await?;
    let start = |accepted: &Accepted| Start {
        end: Some(accepted.end),
        accepted: vec![accepted.saga],
        requests: 1,
        ..Start::default()
    };
    let starts: Vec<Start> = accepted.iter().map(start).collect();
    let add = |evidence: &mut Evidence| evidence.planted.clone_from(&planted);
    let (evidence, violations) = ask(stack, starts, tolerance, add).await?;
    let lines: Vec<String> = violations.iter().take(SHOWN).map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations:\n{}", violations.len(), lines.join("\n"));
    Ok(Seen::of(&evidence))
}

/// Gathers and judges until nothing is wrong any more: what is committed is published a little later. `add` adds what
/// only the caller knows.
///
/// # Errors
/// Something does not answer.
pub async fn ask(
    stack: &Stack,
    starts: Vec<Start>,
    tolerance: Tolerance,
    add: impl Fn(&mut Evidence),
) -> Result<(Evidence, Vec<Violation>)> {
    let deadline = Instant::now() + SOON;
    loop {
        let mut evidence = gather::gather(stack, starts.clone(), tolerance).await?;
        add(&mut evidence);
        let violations = judge::judge(&evidence);
        if violations.is_empty() || Instant::now() >= deadline {
            return Ok((evidence, violations));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until every saga has ended.
///
/// # Errors
/// Some have not, within `limit`; the text names a few.
pub async fn all_ended(stack: &Stack, limit: Duration) -> Result<()> {
    ended(stack, None, limit).await
}

/// Waits until every saga has ended that was started before this moment, or just every saga.
///
/// # Errors
/// Some have not, within `limit`; the text names a few.
pub async fn ended(stack: &Stack, before: Option<Timestamp>, limit: Duration) -> Result<()> {
    const OPEN: &str =
        "status NOT IN ('completed', 'compensated') AND started_at < coalesce($1::timestamptz, 'infinity')";
    let before: Value = before.map(|before| before.to_string()).into();
    let query = format!("SELECT count(*) AS n FROM saga WHERE {OPEN}");
    let mut open = 0;
    let ended = eventually("every saga ends", limit, async || {
        open = stack.sagas.number(&query, vec![before.clone()]).await?;
        Ok((open == 0).then_some(()))
    });
    let ended = ended.await;
    if ended.is_err() {
        let samples = format!(
            "SELECT id || ' ' || status || ' at ' || coalesce(step, '?') || ', wakes at ' \
             || coalesce(wake_at::text, '?') || ', updated ' || updated_at AS text FROM saga \
             WHERE {OPEN} ORDER BY id LIMIT 10"
        );
        let samples = stack.sagas.texts(&samples, vec![before]).await?;
        return ended.with_context(|| format!("{open} are open, e.g.\n{}", samples.join("\n")));
    }
    Ok(())
}

/// Each shard's epoch, by shard.
///
/// # Errors
/// The database does not answer.
pub async fn epochs(stack: &Stack) -> Result<Vec<i64>> {
    let rows = stack.sagas.rows("SELECT epoch FROM shard ORDER BY id", Vec::<Value>::new()).await?;
    rows.iter().map(|row| Ok(row.try_get("", "epoch")?)).collect()
}
