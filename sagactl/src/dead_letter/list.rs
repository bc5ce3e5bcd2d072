//! `sagactl dead-letter list`, and dead letters as rows.

use clap::Args;
use saga_client::{DeadLetterFilter, DeadLetterItem, DeadLetterStatus, GroupId, Page, Paging, SagaId};

use crate::arguments::{Extent, one_of};
use crate::failure::{Exit, Failure};
use crate::output::{Output, note};
use crate::session::Session;
use crate::style::Mood;
use crate::table::{Table, cell, optional, status};
use crate::words::{age, moment};

/// Which dead letters.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// In this status
    #[arg(long, value_parser = one_of(DeadLetterStatus::KNOWN))]
    status: Option<String>,
    /// Of this cause, e.g. payment_declined
    #[arg(long, value_name = "CODE")]
    cause: Option<String>,
    /// Of this saga
    #[arg(long, value_name = "SAGA")]
    saga: Option<SagaId>,
    /// Of this group (sagactl dead-letter groups)
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupId>,
}

impl From<Which> for DeadLetterFilter {
    fn from(which: Which) -> Self {
        Self {
            status: which.status.as_deref().map(DeadLetterStatus::from),
            reason: which.cause,
            saga_id: which.saga,
            group: which.group,
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
        let filter = DeadLetterFilter::from(self.which);
        let letters = session.client.dead_letters();
        let page = if self.extent.all {
            letters.pages(&filter).collect().await.map(|items| Page { items, next_cursor: None })
        } else {
            letters.list(&filter, &Paging::first(self.extent.limit)).await
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => return Err(session.failed(error).await),
        };
        let output = session.output;
        print_page(output, &page)?;
        if page.items.is_empty() && output.is_for_people() {
            note("no dead letter matches");
        }
        if page.next_cursor.is_some() {
            note(&format!("these are the newest {}; there are more: --all, or --limit", page.items.len()));
        }
        Ok(Exit::Done)
    }
}

/// Prints dead letters as rows, or as a page.
pub(super) fn print_page(output: Output, page: &Page<DeadLetterItem>) -> Result<(), Failure> {
    output.result(page, page.items.iter().map(|item| item.id.to_string()), || rows(output, &page.items))
}

pub(super) fn rows(output: Output, items: &[DeadLetterItem]) -> String {
    let mut columns = vec!["DEAD LETTER", "STATUS", "CAUSE", "MESSAGE TYPE", "STEP", "TRIES", "AGE"];
    if output.is_wide() {
        columns.extend(["SAGA", "TOPIC", "SOURCE", "LAST FAILED", "MESSAGE"]);
    }
    let mut table = Table::new(&columns, &["MESSAGE"]);
    for item in items {
        let undoing = item.direction.as_deref() == Some("compensation");
        let step = item.step.as_ref().map(|step| format!("{}{step}", if undoing { "undo " } else { "" }));
        let mut row = vec![
            cell(item.id.to_string()),
            status(item.status.as_str(), Mood::from(&item.status)),
            cell(&item.reason),
            optional(item.message_type.as_ref()),
            optional(step),
            cell(item.attempts.to_string()),
            cell(age(item.first_failed_at)),
        ];
        if output.is_wide() {
            row.push(optional(item.saga_id));
            row.push(cell(&item.topic));
            row.push(cell(&item.source));
            row.push(cell(moment(item.last_failed_at)));
            row.push(cell(&item.message));
        }
        table.row(row);
    }
    table.text(output)
}
