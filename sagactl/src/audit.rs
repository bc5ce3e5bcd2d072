//! `sagactl audit …`.

use clap::{Args, Subcommand};
use saga_client::{AuditEntry, AuditFilter, DeadLetterId, Page, Paging, SagaId};
use time::OffsetDateTime;

use crate::arguments::{Extent, moment};
use crate::failure::{Exit, Failure};
use crate::output::{Output, note};
use crate::session::Session;
use crate::table::{Table, cell, optional};
use crate::words;

/// What can be asked of the audit.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists what was done, newest first
    List(List),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// By this one
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Of this kind, e.g. cancel, redrive, discard, register
    #[arg(long, value_name = "KIND")]
    action: Option<String>,
    /// On this saga
    #[arg(long, value_name = "SAGA")]
    saga: Option<SagaId>,
    /// On this dead letter
    #[arg(long, value_name = "LETTER")]
    dead_letter: Option<DeadLetterId>,
    /// Later than this: a moment, or how long ago it was
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    after: Option<OffsetDateTime>,
    /// Earlier than this
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    before: Option<OffsetDateTime>,
    #[command(flatten)]
    extent: Extent,
}

impl Verb {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let Self::List(list) = self;
        let filter = AuditFilter {
            actor: list.actor,
            action: list.action,
            saga_id: list.saga,
            dead_letter_id: list.dead_letter,
            after: list.after,
            before: list.before,
        };
        let audit = session.client.audit();
        let page = if list.extent.all {
            audit.pages(&filter).collect().await.map(|items| Page { items, next_cursor: None })
        } else {
            audit.list(&filter, &Paging::first(list.extent.limit)).await
        };
        let page = match page {
            Ok(page) => page,
            Err(error) => return Err(session.failed(error).await),
        };
        let output = session.output;
        output.result(&page, page.items.iter().map(|entry| entry.id.to_string()), || {
            rows(output, &page.items)
        })?;
        if page.items.is_empty() && output.is_for_people() {
            note("nothing was done that matches");
        }
        if page.next_cursor.is_some() {
            note(&format!("these are the newest {}; there are more: --all, or --limit", page.items.len()));
        }
        Ok(Exit::Done)
    }
}

fn rows(output: Output, entries: &[AuditEntry]) -> String {
    let mut columns = vec!["AT", "ACTION", "ACTOR", "SAGA", "DEAD LETTER", "REASON"];
    if output.is_wide() {
        columns.extend(["BEFORE", "AFTER", "CHAIN", "SEQ"]);
    }
    let mut table = Table::new(&columns, &["REASON", "BEFORE", "AFTER"]);
    for entry in entries {
        let mut row = vec![
            cell(words::moment(entry.at)),
            cell(&entry.action),
            cell(&entry.actor),
            optional(entry.saga_id),
            optional(entry.dead_letter_id),
            cell(&entry.reason),
        ];
        if output.is_wide() {
            let state =
                |state: &Option<_>| state.as_ref().and_then(|state| serde_json::to_string(state).ok());
            row.push(optional(state(&entry.before)));
            row.push(optional(state(&entry.after)));
            row.push(cell(entry.chain.to_string()));
            row.push(cell(entry.seq.to_string()));
        }
        table.row(row);
    }
    table.text(output)
}
