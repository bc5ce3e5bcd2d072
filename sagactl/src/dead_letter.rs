//! `sagactl dead-letter …`.

mod act;
mod groups;
pub(crate) mod list;
mod show;

use clap::Subcommand;
use saga_client::{DeadLetter, Error};

use crate::failure::{Exit, Failure};
use crate::session::Session;

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists dead letters, newest first
    List(list::List),
    /// Groups dead letters by cause, message type and step, with their counts
    Groups(groups::Groups),
    /// Shows a dead letter with everything in it
    Show(show::Show),
    /// Sends dead letters again, one copy of each
    Redrive(act::Redrive),
    /// Edits a dead letter's value in your editor and sends it again
    Edit(act::Edit),
    /// Puts dead letters aside
    Discard(act::Discard),
}

impl Verb {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.run(session).await,
            Self::Groups(groups) => groups.run(session).await,
            Self::Show(show) => show.run(session).await,
            Self::Redrive(redrive) => redrive.run(session).await,
            Self::Edit(edit) => edit.run(session).await,
            Self::Discard(discard) => discard.run(session).await,
        }
    }
}

/// What a failed question about a dead letter means.
async fn missing(session: &Session, error: Error) -> Failure {
    let not_found = error.is_not_found();
    let failure = session.failed(error).await;
    if not_found { failure.next("sagactl dead-letter list") } else { failure }
}

fn print_one(session: &Session, letter: &DeadLetter) -> Result<(), Failure> {
    let output = session.output;
    output.result(letter, [letter.item.id.to_string()], || {
        list::rows(output, std::slice::from_ref(&letter.item))
    })
}
