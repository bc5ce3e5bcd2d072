//! `sagactl dead-letter groups`.

use clap::Args;
use saga_client::{DeadLetterFilter, DeadLetterGroup, DeadLetterStatus, Page, Paging};

use crate::arguments::{Extent, one_of};
use crate::failure::{Exit, Failure};
use crate::output::{Output, note};
use crate::session::Session;
use crate::style::Mood;
use crate::table::{Table, cell, optional, status};
use crate::words::age;

#[derive(Args, Debug)]
pub(crate) struct Groups {
    /// With letters in this status
    #[arg(long, value_parser = one_of(DeadLetterStatus::KNOWN))]
    status: Option<String>,
    /// Of this cause, e.g. payment_declined
    #[arg(long, value_name = "CODE")]
    cause: Option<String>,
    #[command(flatten)]
    extent: Extent,
}

impl Groups {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let filter = DeadLetterFilter {
            status: self.status.as_deref().map(DeadLetterStatus::from),
            reason: self.cause,
            ..DeadLetterFilter::default()
        };
        let limit = if self.extent.all { 500 } else { self.extent.limit };
        let mut page = Page { items: Vec::new(), next_cursor: None };
        loop {
            let paging = Paging { limit: Some(limit), cursor: page.next_cursor.take() };
            match session.client.dead_letters().groups(&filter, &paging).await {
                Ok(more) => {
                    page.items.extend(more.items);
                    page.next_cursor = more.next_cursor;
                }
                Err(error) => return Err(session.failed(error).await),
            }
            if !self.extent.all || page.next_cursor.is_none() {
                break;
            }
        }
        let output = session.output;
        output.result(&page, page.items.iter().map(|item| item.group.to_string()), || {
            rows(output, &page.items)
        })?;
        if page.items.is_empty() && output.is_for_people() {
            note("no group matches");
        }
        if page.next_cursor.is_some() {
            note(&format!("these are the first {}; there are more: --all, or --limit", page.items.len()));
        }
        Ok(Exit::Done)
    }
}

fn rows(output: Output, groups: &[DeadLetterGroup]) -> String {
    let columns = [
        "GROUP",
        "OPEN",
        "CAUSE",
        "MESSAGE TYPE",
        "STEP",
        "REDRIVEN",
        "RESOLVED",
        "DISCARDED",
        "LAST SEEN",
        "FIRST SEEN",
    ];
    let mut table = Table::new(&columns, &[]);
    for group in groups {
        let mood = if group.by_status.open > 0 { Mood::Bad } else { Mood::Quiet };
        table.row([
            cell(group.group.to_string()),
            status(&group.by_status.open.to_string(), mood),
            cell(&group.reason),
            optional(group.message_type.as_ref()),
            optional(group.step.as_ref()),
            cell(group.by_status.redriven.to_string()),
            cell(group.by_status.resolved.to_string()),
            cell(group.by_status.discarded.to_string()),
            cell(age(group.last_seen_at)),
            cell(age(group.first_seen_at)),
        ]);
    }
    table.text(output)
}
