//! `sagactl saga …`.

mod act;
pub(crate) mod list;
pub(crate) mod look;
mod start;
mod timeline;
pub(crate) mod watch;

use clap::Subcommand;
use saga_client::{Saga, SagaId, SagaStatus};

use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::session::Session;
use crate::style::{DIM, painted};
use crate::why;
use crate::words::plain;

/// What can be done with sagas.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Starts a saga
    Start(start::Start),
    /// Lists sagas, newest first
    List(list::List),
    /// Shows a saga: its steps as a timeline, its reason, its times
    Show(look::Show),
    /// Shows every transition of a saga
    History(look::History),
    /// Shows what a saga waits for, since when, what comes next, and what can be done
    Why(why::Why),
    /// Shows the transitions as they happen: of a saga until it has ended or is stuck, or of all
    Watch(watch::Watch),
    /// Prints a saga's way as a Mermaid flowchart or a picture, with its place in it
    Diagram(look::Diagram),
    /// Stops going forward and compensates
    Cancel(act::Plain),
    /// Lets stuck sagas try their command again, attempts from 1
    Redrive(act::Redrive),
    /// Takes the stuck step or compensation as done
    Skip(act::Plain),
    /// Does not wait for the back-off
    RetryNow(act::Plain),
}

impl Verb {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Start(start) => start.run(session).await,
            Self::List(list) => list.run(session).await,
            Self::Show(show) => show.run(session).await,
            Self::History(history) => history.run(session).await,
            Self::Why(why) => why.run(session).await,
            Self::Watch(watch) => watch.run(session).await,
            Self::Diagram(diagram) => diagram.run(session).await,
            Self::Cancel(plain) => act::cancel(session, plain).await,
            Self::Redrive(redrive) => act::redrive(session, redrive).await,
            Self::Skip(plain) => act::skip(session, plain).await,
            Self::RetryNow(plain) => act::retry_now(session, plain).await,
        }
    }
}

/// How a command ends that waited for this saga.
pub(crate) fn outcome(saga: &Saga) -> Result<Exit, Failure> {
    match saga.status {
        SagaStatus::Completed => Ok(Exit::Done),
        SagaStatus::Compensated => Ok(Exit::Compensated),
        SagaStatus::Stuck => {
            let failure = Failure::error(format!("saga {} is stuck: {}", saga.saga_id, reason(saga)));
            Err(ways_out(saga.saga_id).into_iter().fold(failure, Failure::next))
        }
        _ => Err(Failure::new(Exit::TimedOut, format!("saga {} is still {}", saga.saga_id, saga.status))
            .next(format!("sagactl saga watch {}", saga.saga_id))),
    }
}

/// Why a saga compensates or waits, in one line; empty if it does neither.
pub(crate) fn reason(saga: &Saga) -> String {
    saga.reason.as_ref().map_or_else(String::new, |reason| {
        let at = reason.step.as_ref().map(|step| format!(" at {}", plain(step))).unwrap_or_default();
        let message = plain(&reason.message);
        let message = if message.is_empty() { message } else { format!(": {message}") };
        format!("{}{at}{message}", plain(&reason.code))
    })
}

/// What helps a stuck saga.
fn ways_out(saga: SagaId) -> [String; 3] {
    [
        format!("sagactl saga why {saga}"),
        format!("sagactl dead-letter list --saga {saga}"),
        format!("sagactl saga redrive {saga} --reason TEXT, or skip, or (while it goes forward) cancel"),
    ]
}

/// Says what to do about a saga that waits for somebody.
fn advise(saga: &Saga) {
    if saga.status == SagaStatus::Stuck {
        for line in ways_out(saga.saga_id) {
            note(&format!("{} {line}", painted(DIM, "next:")));
        }
    }
}
