//! Acts on many for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::Cell;
use saga_client::{BulkAction, BulkItem, BulkOutcome, BulkStatus, Page, Paging};

use super::{Items, Kind};
use crate::arguments::Extent;
use crate::failure::{Exit, Failure};
use crate::output::{Output, note};
use crate::session::Session;
use crate::style::{BAD, DIM, Mood, STRONG, painted};
use crate::table::{Table, cell, optional, status};
use crate::words::{age, count, moment, plain};

impl From<&BulkStatus> for Mood {
    fn from(status: &BulkStatus) -> Self {
        match status {
            BulkStatus::Running => Self::Going,
            BulkStatus::Completed => Self::Good,
            BulkStatus::Stopped => Self::Bad,
            _ => Self::Quiet,
        }
    }
}

impl From<&BulkOutcome> for Mood {
    fn from(outcome: &BulkOutcome) -> Self {
        match outcome {
            BulkOutcome::Waiting => Self::Going,
            BulkOutcome::Succeeded => Self::Good,
            BulkOutcome::FailedAgain => Self::Bad,
            _ => Self::Quiet,
        }
    }
}

pub(super) async fn list(session: &Session, kind: Kind, extent: &Extent) -> Result<Exit, Failure> {
    let page = pages(extent, async |paging| kind.list(session, paging).await).await;
    let page = kind.or_missing(session, page).await?;
    let output = session.output;
    output.result(&page, page.items.iter().map(|item| item.id.to_string()), || rows(output, &page.items))?;
    more(page.next_cursor.is_some(), page.items.len());
    Ok(Exit::Done)
}

pub(super) async fn items(session: &Session, kind: Kind, items: Items) -> Result<Exit, Failure> {
    let outcome = items.outcome.as_deref().map(BulkOutcome::from);
    let page =
        pages(&items.extent, async |paging| kind.items(session, items.id, outcome.as_ref(), paging).await)
            .await;
    let page = kind.or_missing(session, page).await?;
    let output = session.output;
    output.result(&page, page.items.iter().map(|item| item.id.to_string()), || {
        item_rows(output, kind, &page.items)
    })?;
    more(page.next_cursor.is_some(), page.items.len());
    Ok(Exit::Done)
}

async fn pages<T>(
    extent: &Extent,
    ask: impl AsyncFn(&Paging) -> Result<Page<T>, saga_client::Error>,
) -> Result<Page<T>, saga_client::Error> {
    let mut page = ask(&Paging::first(if extent.all { 500 } else { extent.limit })).await?;
    while let (true, Some(cursor)) = (extent.all, page.next_cursor.take()) {
        let more = ask(&Paging { limit: Some(500), cursor: Some(cursor) }).await?;
        page.items.extend(more.items);
        page.next_cursor = more.next_cursor;
    }
    Ok(page)
}

fn more(are_there: bool, shown: usize) {
    if are_there {
        note(&format!("these are the first {shown}; there are more: --all, or --limit"));
    }
}

pub(super) fn print_row(session: &Session, action: &BulkAction) -> Result<Exit, Failure> {
    let output = session.output;
    output.result(action, [action.id.to_string()], || rows(output, std::slice::from_ref(action)))?;
    Ok(Exit::Done)
}

fn rows(output: Output, actions: &[BulkAction]) -> String {
    let mut columns = vec![
        "ID",
        "STATUS",
        "ACTION",
        "SELECTED",
        "SENT",
        "SUCCEEDED",
        "FAILED AGAIN",
        "WAITING",
        "AGE",
        "REASON",
    ];
    if output.is_wide() {
        columns.extend(["PASSED OVER", "REMAINING", "RATE", "STEP", "ACTOR", "STOPPED BECAUSE"]);
    }
    let mut table = Table::new(&columns, &["REASON", "STOPPED BECAUSE"]);
    for action in actions {
        table.row(row(output, action));
    }
    table.text(output)
}

fn row(output: Output, action: &BulkAction) -> Vec<Cell> {
    let dry = if action.dry_run { " (dry run)" } else { "" };
    let mut row = vec![
        cell(action.id.to_string()),
        status(action.status.as_str(), Mood::from(&action.status)),
        cell(format!("{}{dry}", action.action)),
        cell(action.selected.to_string()),
        cell(action.sent.to_string()),
        cell(action.succeeded.to_string()),
        cell(action.failed_again.to_string()),
        cell(action.waiting.to_string()),
        cell(age(action.created_at)),
        cell(&action.reason),
    ];
    if output.is_wide() {
        row.push(cell(action.passed_over.values().sum::<u32>().to_string()));
        row.push(cell(action.remaining.to_string()));
        row.push(cell(action.rate_per_second.to_string()));
        row.push(cell(action.step.to_string()));
        row.push(cell(&action.actor));
        row.push(optional(action.stop_reason.as_ref()));
    }
    row
}

fn item_rows(output: Output, kind: Kind, items: &[BulkItem]) -> String {
    let what = match kind {
        Kind::Redrive => "DEAD LETTER",
        Kind::SagaAction => "SAGA",
    };
    let mut table = Table::new(&[what, "OUTCOME", "PLACE", "CODE", "NOTE"], &["NOTE"]);
    for item in items {
        table.row([
            cell(item.id.to_string()),
            status(item.outcome.as_str(), Mood::from(&item.outcome)),
            cell(item.place.to_string()),
            optional(item.code.as_ref()),
            optional(item.note.as_ref()),
        ]);
    }
    table.text(output)
}

/// Prints one with everything that is known of it.
pub(super) fn print_action(session: &Session, kind: Kind, action: &BulkAction) -> Result<Exit, Failure> {
    session.output.result(action, [action.id.to_string()], || told(kind, action))?;
    Ok(Exit::Done)
}

fn told(kind: Kind, action: &BulkAction) -> String {
    let mut text = format!(
        "{}  {} of {}  {}\n",
        painted(STRONG, &action.id.to_string()),
        plain(&action.action),
        count(u64::from(action.selected), kind.of()),
        painted(Mood::from(&action.status).style(), action.status.as_str()),
    );
    let mut pair = |name: &str, value: &str| {
        let _ = writeln!(text, "  {}{value}", painted(DIM, &format!("{name:<16}")));
    };
    pair("reason", &format!("{}, by {}", plain(&action.reason), plain(&action.actor)));
    pair("filter", &plain(&serde_json::to_string(&action.filter).unwrap_or_default()));
    if let Some(patch) = &action.patch {
        pair("patch", &plain(&serde_json::to_string(patch).unwrap_or_default()));
    }
    pair("begun", &format!("{}, {} ago", moment(action.created_at), age(action.created_at)));
    if let Some(found) = &action.found {
        pair("dry run", "nothing is sent");
        pair("would be sent", &found.would_send.to_string());
        why_not(&mut pair, "would not", &found.would_not_send);
        if kind == Kind::Redrive {
            pair("fit the schema", &format!("{}; {} do not", found.passes_schema, found.fails_schema));
        }
        return text;
    }
    pair("pace", &format!("{} a second, first steps {:?}", action.rate_per_second, action.ramp));
    pair("sent", &action.sent.to_string());
    pair("succeeded", &action.succeeded.to_string());
    pair("failed again", &action.failed_again.to_string());
    pair("waiting", &action.waiting.to_string());
    why_not(&mut pair, "passed over", &action.passed_over);
    pair("remaining", &action.remaining.to_string());
    if let Some(waits) = &action.waits_for {
        pair("waits for", &plain(waits));
    }
    if let Some(why) = &action.stop_reason {
        pair("stopped because", &painted(BAD, &plain(why)));
    }
    text
}

fn why_not(pair: &mut impl FnMut(&str, &str), name: &str, why: &BTreeMap<String, u32>) {
    for (why, many) in why {
        pair(name, &format!("{many}: {}", plain(why).replace('_', " ")));
    }
}
