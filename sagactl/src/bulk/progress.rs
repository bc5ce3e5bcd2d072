//! The progress of an act on many: a bar on a terminal, a line for each change elsewhere.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use saga_client::{BulkAction, BulkActionId, BulkStatus};

use super::follow::Follow;
use super::{Kind, show};
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::session::Session;
use crate::words::{count, plain};

/// Shows the progress until everything has its outcome, then what came of it.
pub(super) async fn watch(session: &Session, kind: Kind, id: BulkActionId) -> Result<Exit, Failure> {
    let bar = std::io::stderr().is_terminal().then(bar);
    let mut told = String::new();
    let mut follow = Follow::new(session, kind, id);
    let mut last = None;
    while let Some(action) = follow.next().await? {
        let line = line(&action);
        if line != told {
            match &bar {
                Some(bar) => draw(bar, &action, &line),
                None => note(&line),
            }
            told = line;
        }
        last = Some(action);
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let action = match last {
        Some(action) => action,
        None => {
            let found = kind.get(session, id).await;
            kind.or_missing(session, found).await?
        }
    };
    show::print_row(session, &action)?;
    ended(kind, &action)
}

fn ended(kind: Kind, action: &BulkAction) -> Result<Exit, Failure> {
    let next = |outcome: &str| format!("sagactl {} items {} --outcome {outcome}", kind.noun(), action.id);
    if action.status == BulkStatus::Stopped {
        let why = action.stop_reason.as_deref().unwrap_or("why is not known");
        return Err(
            Failure::error(format!("it stopped by itself: {}", plain(why))).next(next("failed_again"))
        );
    }
    match action.failed_again {
        0 => Ok(Exit::Done),
        failed => {
            let failed = count(u64::from(failed), kind.of());
            Err(Failure::error(format!("{failed} failed again")).next(next("failed_again")))
        }
    }
}

fn line(action: &BulkAction) -> String {
    let waits =
        action.waits_for.as_ref().map(|waits| format!("; waits for {}", plain(waits))).unwrap_or_default();
    format!(
        "{} of {} sent: {} succeeded, {} failed again, {} waiting{waits}",
        action.sent, action.selected, action.succeeded, action.failed_again, action.waiting
    )
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}") {
        bar.set_style(style);
    }
    bar
}

fn draw(bar: &ProgressBar, action: &BulkAction, line: &str) {
    let passed: u32 = action.passed_over.values().sum();
    bar.set_length(u64::from(action.selected));
    bar.set_position(u64::from(action.succeeded + action.failed_again + passed));
    bar.set_message(line.to_owned());
}
