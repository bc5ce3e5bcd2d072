//! `sagactl saga list`, and sagas as rows.

use clap::Args;
use comfy_table::Cell;
use saga_client::{Page, Paging, Saga, SagaFilter, SagaStatus, StepStatus};
use time::OffsetDateTime;

use super::reason;
use crate::arguments::{Extent, moment, one_of};
use crate::failure::{Exit, Failure};
use crate::output::{Output, note};
use crate::session::Session;
use crate::style::Mood;
use crate::table::{Table, cell, optional, status};
use crate::words::{age, between, length};

/// Which sagas.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// Of this definition
    #[arg(long, value_name = "NAME")]
    definition: Option<String>,
    /// In this status
    #[arg(long, value_parser = one_of(SagaStatus::KNOWN))]
    status: Option<String>,
    /// At this step
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
    /// Of this business key
    #[arg(long, value_name = "KEY")]
    business_key: Option<String>,
    /// Started later than this: a moment, or how long ago it was
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    started_after: Option<OffsetDateTime>,
    /// Started earlier than this
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    started_before: Option<OffsetDateTime>,
}

impl From<Which> for SagaFilter {
    fn from(which: Which) -> Self {
        Self {
            definition: which.definition,
            status: which.status.as_deref().map(SagaStatus::from),
            step: which.step,
            business_key: which.business_key,
            started_after: which.started_after,
            started_before: which.started_before,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    extent: Extent,
}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let filter = SagaFilter::from(self.which);
        let page = if self.extent.all {
            let all = session.client.sagas().pages(&filter).collect().await;
            all.map(|items| Page { items, next_cursor: None })
        } else {
            some(session, &filter, self.extent.limit).await
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => return Err(session.failed(error).await),
        };
        print_page(session.output, &page)?;
        if page.items.is_empty() && session.output.is_for_people() {
            note("no saga matches");
        }
        if page.next_cursor.is_some() {
            note(&format!("these are the newest {}; there are more: --all, or --limit", page.items.len()));
        }
        Ok(Exit::Done)
    }
}

/// The newest so many. A page of the service may be short and not be the last.
async fn some(session: &Session, filter: &SagaFilter, limit: u32) -> Result<Page<Saga>, saga_client::Error> {
    let mut found = Page { items: Vec::new(), next_cursor: None };
    loop {
        let left = limit.saturating_sub(u32::try_from(found.items.len()).unwrap_or(u32::MAX));
        let paging = Paging { limit: Some(left), cursor: found.next_cursor.take() };
        let page = session.client.sagas().list(filter, &paging).await?;
        found.items.extend(page.items);
        found.next_cursor = page.next_cursor;
        if found.next_cursor.is_none() || found.items.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(found);
        }
    }
}

/// Prints sagas as rows, or as a page.
pub(crate) fn print_page(output: Output, page: &Page<Saga>) -> Result<(), Failure> {
    let ids = page.items.iter().map(|saga| saga.saga_id.to_string());
    output.result(page, ids, || rows(output, &page.items))
}

/// Prints one saga as a row, or as it is.
pub(crate) fn print_one(session: &Session, saga: &Saga) -> Result<(), Failure> {
    let output = session.output;
    output.result(saga, [saga.saga_id.to_string()], || rows(output, std::slice::from_ref(saga)))
}

fn rows(output: Output, sagas: &[Saga]) -> String {
    let mut columns = vec!["SAGA", "STATUS", "DEFINITION", "AGE", "AT", "REASON"];
    if output.is_wide() {
        columns.extend(["BUSINESS KEY", "REVISION", "TOOK", "NEXT"]);
    }
    let mut table = Table::new(&columns, &["REASON", "BUSINESS KEY"]);
    for saga in sagas {
        table.row(row(output, saga));
    }
    table.text(output)
}

fn row(output: Output, saga: &Saga) -> Vec<Cell> {
    let mut row = vec![
        cell(saga.saga_id.to_string()),
        status(saga.status.as_str(), Mood::from(&saga.status)),
        cell(format!("{} v{}", saga.definition, saga.version)),
        cell(age(saga.started_at)),
        optional(place(saga)),
        cell(reason(saga)),
    ];
    if output.is_wide() {
        let took = saga.finished_at.map(|at| length(between(saga.started_at, at)));
        row.push(optional(saga.business_key.as_ref()));
        row.push(cell(saga.revision.to_string()));
        row.push(optional(took));
        row.push(optional(next(saga)));
    }
    row
}

/// The step that a saga is at, and its attempt.
fn place(saga: &Saga) -> Option<String> {
    let here = |status: &StepStatus| {
        matches!(status, StepStatus::Running | StepStatus::Compensating | StepStatus::Stuck)
    };
    let step = saga.steps.iter().find(|step| here(&step.status))?;
    let undoing = saga.status == SagaStatus::Compensating || step.status == StepStatus::Compensating;
    Some(format!("{}{} #{}", if undoing { "undo " } else { "" }, step.name, step.attempt))
}

/// When the next timeout, retry or deadline comes.
pub(crate) fn next(saga: &Saga) -> Option<String> {
    let at = saga.next_wake_at?;
    let left = between(OffsetDateTime::now_utc(), at);
    Some(if left.is_zero() { "now".to_owned() } else { format!("in {}", length(left)) })
}
