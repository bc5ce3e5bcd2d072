//! `sagactl saga watch`, and waiting for the end of a saga.

use std::time::Duration;

use clap::Args;
use saga_client::{Error, Saga, SagaId, SagaStatus};
use tokio::time::{Instant, sleep};

use super::list::print_one;
use super::look::{all, missing};
use super::outcome;
use crate::arguments::Waiting;
use crate::failure::{Exit, Failure};
use crate::history::Teller;
use crate::session::Session;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// The saga's id
    saga: SagaId,
    /// Watches so long at most; until it has ended if it is left out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

impl Watch {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let until = self.timeout.map(|limit| Instant::now() + limit);
        outcome(&follow(session, self.saga, until).await?)
    }
}

/// Waits for the end of a saga as it was asked for, and prints it.
pub(crate) async fn finish(session: &Session, saga: SagaId, waiting: &Waiting) -> Result<Exit, Failure> {
    if waiting.watch {
        return outcome(&follow(session, saga, Some(Instant::now() + waiting.timeout)).await?);
    }
    let seen = match session.client.sagas().settled(saga, waiting.timeout).await {
        Ok(seen) => seen,
        Err(error) => return Err(missing(session, error).await),
    };
    print_one(session, &seen)?;
    outcome(&seen)
}

/// Prints every transition of a saga as it happens, until it has ended, is stuck, or the time is over; the saga as it was
/// last seen.
async fn follow(session: &Session, id: SagaId, until: Option<Instant>) -> Result<Saga, Failure> {
    let sagas = session.client.sagas();
    let begun = async {
        let saga = sagas.get(id).await?;
        Teller::of(session, &saga).await
    };
    let teller = match begun.await {
        Ok(teller) => teller,
        Err(error) => return Err(missing(session, error).await),
    };
    let mut told = 0;
    loop {
        // The saga after its history, so that what it says of the end is there for every line.
        let look = async { Ok::<_, Error>((all(session, id).await?, sagas.get(id).await?)) };
        let (items, saga) = match look.await {
            Ok(seen) => seen,
            Err(error) => return Err(missing(session, error).await),
        };
        for item in items.iter().filter(|item| item.revision > told) {
            let line = || teller.line(&saga, item, saga.started_at);
            session.output.item(item, || item.revision.to_string(), line)?;
        }
        told = items.last().map_or(told, |item| item.revision);
        let settled = saga.status.is_final() || saga.status == SagaStatus::Stuck;
        if (settled && told >= saga.revision) || until.is_some_and(|until| Instant::now() >= until) {
            return Ok(saga);
        }
        sleep(LOOK_EVERY).await;
    }
}
