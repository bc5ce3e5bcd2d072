//! `sagactl redrive …` and `sagactl saga-action …`: acts on many, at a pace.

mod follow;
mod progress;
mod show;
mod start;

use clap::{Args, Subcommand};
use saga_client::{Act, BulkAction, BulkActionId, BulkItem, BulkOutcome, Error, Events, Page, Paging};

use crate::arguments::{Because, Extent, one_of};
use crate::failure::{Exit, Failure};
use crate::session::Session;

/// What can be done with redrives.
#[derive(Debug, Subcommand)]
pub(crate) enum Redrive {
    /// Sends many dead letters again, at a pace, with an eye on the outcome
    Start(start::Letters),
    #[command(flatten)]
    Common(Common),
}

/// What can be done with verbs on many sagas.
#[derive(Debug, Subcommand)]
pub(crate) enum SagaAction {
    /// Does one verb to many sagas, at a pace
    Start(start::Sagas),
    #[command(flatten)]
    Common(Common),
}

/// What can be done with both.
#[derive(Debug, Subcommand)]
pub(crate) enum Common {
    /// Lists them, newest first
    List(Extent),
    /// Shows how far one is
    Show(One),
    /// Lists what became of each of the selection
    Items(Items),
    /// Shows the progress of one until everything has its outcome
    Watch(One),
    /// Sends nothing more; what was sent is followed to its end
    Cancel(Cancel),
}

/// Which one.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// Its id
    id: BulkActionId,
}

#[derive(Args, Debug)]
pub(crate) struct Items {
    /// Its id
    id: BulkActionId,
    /// Of this outcome
    #[arg(long, value_parser = one_of(BulkOutcome::KNOWN))]
    outcome: Option<String>,
    #[command(flatten)]
    extent: Extent,
}

#[derive(Args, Debug)]
pub(crate) struct Cancel {
    /// Its id
    id: BulkActionId,
    #[command(flatten)]
    because: Because,
}

impl Redrive {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Start(letters) => letters.run(session).await,
            Self::Common(common) => common.run(session, Kind::Redrive).await,
        }
    }
}

impl SagaAction {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Start(sagas) => sagas.run(session).await,
            Self::Common(common) => common.run(session, Kind::SagaAction).await,
        }
    }
}

impl Common {
    async fn run(self, session: &Session, kind: Kind) -> Result<Exit, Failure> {
        match self {
            Self::List(extent) => show::list(session, kind, &extent).await,
            Self::Show(one) => {
                let found = kind.get(session, one.id).await;
                show::print_action(session, kind, &kind.or_missing(session, found).await?)
            }
            Self::Items(items) => show::items(session, kind, items).await,
            Self::Watch(one) => progress::watch(session, kind, one.id).await,
            Self::Cancel(cancel) => {
                let mut act = Act::because(cancel.because.reason);
                if let Some(key) = cancel.because.idempotency_key {
                    act = act.idempotency_key(key);
                }
                let cancelled = kind.cancel(session, cancel.id, &act).await;
                show::print_row(session, &kind.or_missing(session, cancelled).await?)
            }
        }
    }
}

/// Of letters or of sagas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Dead letters are sent again.
    Redrive,
    /// A verb on sagas.
    SagaAction,
}

impl Kind {
    /// Its noun on the command line.
    const fn noun(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::SagaAction => "saga-action",
        }
    }

    /// What it acts on.
    const fn of(self) -> &'static str {
        match self {
            Self::Redrive => "dead letter",
            Self::SagaAction => "saga",
        }
    }

    async fn get(self, session: &Session, id: BulkActionId) -> Result<BulkAction, Error> {
        match self {
            Self::Redrive => session.client.redrives().get(id).await,
            Self::SagaAction => session.client.saga_actions().get(id).await,
        }
    }

    fn watch(self, session: &Session, id: BulkActionId) -> Events<BulkAction> {
        match self {
            Self::Redrive => session.client.redrives().watch(id),
            Self::SagaAction => session.client.saga_actions().watch(id),
        }
    }

    async fn list(self, session: &Session, paging: &Paging) -> Result<Page<BulkAction>, Error> {
        match self {
            Self::Redrive => session.client.redrives().list(paging).await,
            Self::SagaAction => session.client.saga_actions().list(paging).await,
        }
    }

    async fn items(
        self,
        session: &Session,
        id: BulkActionId,
        outcome: Option<&BulkOutcome>,
        paging: &Paging,
    ) -> Result<Page<BulkItem>, Error> {
        match self {
            Self::Redrive => session.client.redrives().letters(id, outcome, paging).await,
            Self::SagaAction => session.client.saga_actions().sagas(id, outcome, paging).await,
        }
    }

    async fn cancel(self, session: &Session, id: BulkActionId, act: &Act) -> Result<BulkAction, Error> {
        match self {
            Self::Redrive => session.client.redrives().cancel(id, act).await,
            Self::SagaAction => session.client.saga_actions().cancel(id, act).await,
        }
    }

    async fn or_missing<T>(self, session: &Session, found: Result<T, Error>) -> Result<T, Failure> {
        match found {
            Ok(found) => Ok(found),
            Err(error) => {
                let not_found = error.is_not_found();
                let failure = session.failed(error).await;
                Err(if not_found { failure.next(format!("sagactl {} list", self.noun())) } else { failure })
            }
        }
    }
}
