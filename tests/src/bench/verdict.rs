//! Whether everything that must hold does, over every saga of all runs. A figure without this is none.

use std::time::Duration;

use anyhow::{Context, Result};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::booking::Kind;
use super::postgres;
use super::run;
use super::stack::Stack;
use crate::process::Program;

/// `orchestrator verify` reads the whole journal.
const VERIFY_LIMIT: Duration = Duration::from_secs(1_800);
/// Sagas that are read at once.
const PAGE: i64 = 50_000;
/// So many violations of a kind are named.
const NAMED: usize = 10;

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Verdict {
    /// What holds if nothing is wrong.
    pub(crate) looked_at: &'static str,
    pub(crate) sagas: u64,
    pub(crate) completed: u64,
    pub(crate) compensated: u64,
    pub(crate) charges: u64,
    pub(crate) transitions: u64,
    /// Sagas that were compensated because a step took too long: the stack was overloaded.
    pub(crate) timed_out: u64,
    /// A line each; empty means that everything holds.
    pub(crate) violations: Vec<String>,
}

/// What the clients know.
pub(crate) struct Heard {
    /// Every booking that was accepted.
    pub(crate) accepted: Vec<(Uuid, Kind)>,
    /// Requests of which nobody knows what became.
    pub(crate) failures: u64,
    /// Fewest ends in a second of a window, of all runs.
    pub(crate) slowest_second: u64,
}

/// Asks everything. The sagas must have come to their ends.
pub(crate) async fn reach(stack: &Stack, mut heard: Heard) -> Result<Verdict> {
    let report = local::check(&stack.databases, OffsetDateTime::now_utc() + Duration::from_secs(1)).await?;
    let mut verdict = Verdict {
        looked_at: "All invariants hold",
        sagas: report.completed + report.compensated + report.open,
        completed: report.completed,
        compensated: report.compensated,
        charges: report.charges,
        transitions: report.journal,
        violations: report.differences,
        ..Verdict::default()
    };
    verdict.violations.truncate(NAMED);
    heard.accepted.sort_unstable();
    accepted(stack, &heard, &mut verdict).await?;
    letters(stack, &mut verdict).await?;
    announced(stack, &mut verdict).await?;
    verified(stack, &mut verdict).await?;
    if verdict.completed == 0 {
        verdict.violations.push("nothing completed".to_owned());
    }
    if heard.slowest_second == 0 {
        verdict.violations.push("there was a second without a single end".to_owned());
    }
    Ok(verdict)
}

/// Every accepted booking has one saga, which ended as was asked; and there is no saga that nobody asked for.
async fn accepted(stack: &Stack, heard: &Heard, verdict: &mut Verdict) -> Result<()> {
    let (mut wrong, mut strangers, mut found) = (Vec::new(), 0_u64, 0_usize);
    let query = "SELECT id, status, coalesce(body::json #>> '{reason,code}', '') AS code \
                 FROM saga WHERE id > $1 ORDER BY id LIMIT $2";
    let mut after = Uuid::nil();
    loop {
        let values = [after.into(), PAGE.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, query, values);
        let page = stack.databases.orchestrator.query_all_raw(statement).await?;
        for row in &page {
            after = row.try_get("", "id")?;
            let (status, code): (String, String) = (row.try_get("", "status")?, row.try_get("", "code")?);
            let asked = heard.accepted.binary_search_by_key(&after, |(saga, _)| *saga);
            let Ok(at) = asked else {
                strangers += 1;
                continue;
            };
            found += 1;
            let kind = heard.accepted[at].1;
            if status == "compensated" && code == "timed_out" {
                verdict.timed_out += 1;
            } else if status != kind.expected() && wrong.len() < NAMED {
                wrong.push(format!("saga {after} of a {kind:?} booking is {status} ({code})"));
            }
        }
        if page.is_empty() {
            break;
        }
    }
    verdict.violations.extend(wrong);
    if found != heard.accepted.len() {
        let asked = heard.accepted.len();
        verdict.violations.push(format!("{asked} bookings were accepted, and {found} sagas are theirs"));
    }
    if strangers > heard.failures {
        let failures = heard.failures;
        verdict
            .violations
            .push(format!("{strangers} sagas were asked for by nobody; {failures} requests failed"));
    }
    Ok(())
}

async fn letters(stack: &Stack, verdict: &mut Verdict) -> Result<()> {
    let query = "SELECT count(*) AS n FROM dead_letter";
    let letters = postgres::number(&stack.databases.orchestrator, query).await?;
    if letters > 0 {
        verdict.violations.push(format!("{letters} dead letters"));
    }
    Ok(())
}

/// Every start and end, and every domain event, is on its topic: counted, since the embedded broker forgets old records.
async fn announced(stack: &Stack, verdict: &mut Verdict) -> Result<()> {
    let records = run::records(stack).await?;
    let Verdict { sagas, completed, compensated, charges, .. } = *verdict;
    let at_least = [
        ("saga.events", 2 * (completed + compensated)),
        (booking_worker::CONFIRMED, completed),
        (payment_worker::COMPLETED, charges),
        ("saga.inbox", 3 * completed),
        ("booking.commands", 2 * completed + compensated),
        ("payment.commands", completed),
    ];
    for (topic, least) in at_least {
        let there = records.get(topic).copied().unwrap_or(0);
        if u64::try_from(there).unwrap_or(0) < least {
            verdict
                .violations
                .push(format!("{topic} has {there} records of {sagas} sagas, fewer than {least}"));
        }
    }
    Ok(())
}

pub(crate) async fn verified(stack: &Stack, verdict: &mut Verdict) -> Result<()> {
    let verify = stack.service(Program::Orchestrator, &["verify"], "verify")?;
    let status = verify.ended(VERIFY_LIMIT).await.context("orchestrator verify")?;
    if !status.success() {
        let output = verify.output()?;
        verdict.violations.push(format!("orchestrator verify: {status}: {}", output.trim()));
    }
    Ok(())
}
