//! `sagactl saga watch`, and waiting for the end of a saga.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use saga_client::{Error, HistoryItem, ProblemKind, Saga, SagaEvent, SagaId, SagaStatus};
use tokio::time::{Instant, interval, timeout_at};

use super::list::print_one;
use super::look::{all, missing};
use super::outcome;
use crate::arguments::{Waiting, one_of};
use crate::failure::{Exit, Failure};
use crate::history::Teller;
use crate::output::note;
use crate::session::Session;
use crate::style::{DIM, painted};
use crate::words::{moment, plain};

/// Between two looks, where there is nothing to listen to: an orchestrator that is older, or a proxy that lets no stream
/// through.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longer than anybody watches.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// The saga's id; without one, all sagas from now on
    saga: Option<SagaId>,
    /// Of all sagas, those of this definition only
    #[arg(long, value_name = "NAME", conflicts_with = "saga")]
    definition: Option<String>,
    /// Of all sagas, what leads into this status only
    #[arg(long, value_parser = one_of(SagaStatus::KNOWN), conflicts_with = "saga")]
    status: Option<String>,
    /// Watches so long at most; one saga until it has ended if it is left out
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

impl Watch {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let until = Instant::now() + self.timeout.unwrap_or(FOR_EVER).min(FOR_EVER);
        match self.saga {
            Some(saga) => outcome(&follow(session, saga, until).await?),
            None => everything(session, self, until).await,
        }
    }
}

/// Waits for the end of a saga as it was asked for, and prints it.
pub(crate) async fn finish(session: &Session, saga: SagaId, waiting: &Waiting) -> Result<Exit, Failure> {
    if waiting.watch {
        return outcome(&follow(session, saga, Instant::now() + waiting.timeout.min(FOR_EVER)).await?);
    }
    let seen = match session.client.sagas().settled(saga, waiting.timeout).await {
        Ok(seen) => seen,
        Err(error) => return Err(missing(session, error).await),
    };
    print_one(session, &seen)?;
    outcome(&seen)
}

/// Waits for the end of each of these sagas, no longer than was asked for in all. How the command ends for the first that
/// does not complete; of each that is stuck or not done in time it is told.
pub(crate) async fn settle(
    session: &Session,
    sagas: &mut [Saga],
    waiting: &Waiting,
) -> Result<Option<Exit>, Failure> {
    let until = Instant::now() + waiting.timeout.min(FOR_EVER);
    let mut worst = None;
    for saga in sagas {
        let left = until.saturating_duration_since(Instant::now());
        *saga = match session.client.sagas().settled(saga.saga_id, left).await {
            Ok(seen) => seen,
            Err(error) => return Err(missing(session, error).await),
        };
        let exit = outcome(saga).unwrap_or_else(|failure| {
            let exit = failure.exit();
            failure.tell();
            exit
        });
        worst = worst.or(Some(exit).filter(|exit| *exit != Exit::Done));
    }
    Ok(worst)
}

/// A saga that is watched, and how far that was told.
struct Watched<'a> {
    session: &'a Session,
    teller: Teller,
    /// As it was last seen, and not before what was told of it.
    saga: Saga,
    told: u32,
}

/// Why watching ended before the saga was settled.
enum Stop {
    /// There is nothing to listen to.
    Deaf(Error),
    /// It is over.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Watched<'_> {
    /// Tells a transition, unless it was told.
    fn tell(&mut self, item: &HistoryItem) -> Result<(), Failure> {
        if item.revision <= self.told {
            return Ok(());
        }
        self.told = item.revision;
        let line = || self.teller.line(&self.saga, item);
        self.session.output.item(item, || item.revision.to_string(), line)
    }

    /// The saga as it is now.
    async fn look(&mut self) -> Result<(), Failure> {
        match self.session.client.sagas().get(self.saga.saga_id).await {
            Ok(saga) => self.saga = saga,
            Err(error) => return Err(missing(self.session, error).await),
        }
        Ok(())
    }

    /// Whether it moves no further by itself, and all of it was told.
    fn is_settled(&self) -> bool {
        self.saga.status.is_settled() && self.told >= self.saga.revision
    }

    /// Tells what has happened so far.
    async fn past(&mut self) -> Result<(), Failure> {
        let items = match all(self.session, self.saga.saga_id).await {
            Ok(items) => items,
            Err(error) => return Err(missing(self.session, error).await),
        };
        // The saga after its history, so that what it says of the end is there for every line.
        self.look().await?;
        items.iter().try_for_each(|item| self.tell(item))
    }

    /// Tells what happens, until the saga is settled. What is no longer kept is left out.
    async fn listen(&mut self, after: Option<u32>) -> Result<(), Stop> {
        let mut events = self.session.client.sagas().watch(self.saga.saga_id, after);
        loop {
            let Some(told) = events.next().await.map_err(Stop::Deaf)? else { return Ok(self.look().await?) };
            if told.status != SagaStatus::Running && told.revision > self.saga.revision {
                self.look().await?;
            }
            self.tell(&told.into())?;
            if self.is_settled() {
                return Ok(());
            }
        }
    }

    /// Asks for the history again and again, until the saga is settled.
    async fn ask(&mut self) -> Result<(), Failure> {
        let mut turns = interval(LOOK_EVERY);
        loop {
            turns.tick().await;
            self.past().await?;
            if self.is_settled() {
                return Ok(());
            }
        }
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        let mut heard = self.listen(None).await;
        if let Err(Stop::Deaf(error)) = &heard
            && error.kind() == Some(ProblemKind::Gone)
        {
            note("the journal no longer has all of it; this is what is left, and what comes");
            self.past().await?;
            heard = if self.is_settled() { Ok(()) } else { self.listen(Some(self.saga.revision)).await };
        }
        match heard {
            Ok(()) => Ok(()),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Deaf(error @ Error::Unreachable { .. })) => Err(error.into()),
            Err(Stop::Deaf(error)) => {
                let why = plain(&error.to_string());
                note(&format!(
                    "asking for the history every {} s, for there are no events to listen to: {why}",
                    LOOK_EVERY.as_secs()
                ));
                self.ask().await
            }
        }
    }
}

/// Prints every transition of a saga as it happens, until it has ended, is stuck, or the time is over; the saga as it was
/// last seen.
async fn follow(session: &Session, id: SagaId, until: Instant) -> Result<Saga, Failure> {
    let begun = async {
        let saga = session.client.sagas().get(id).await?;
        Ok((Teller::of(session, &saga.definition, saga.version).await?, saga))
    };
    let (teller, saga) = match begun.await {
        Ok(begun) => begun,
        Err(error) => return Err(missing(session, error).await),
    };
    let mut watched = Watched { session, teller, saga, told: 0 };
    match timeout_at(until, watched.watch()).await {
        Ok(over) => over?,
        Err(_) => watched.look().await?,
    }
    Ok(watched.saga)
}

/// Prints every transition of all sagas, until the time is over.
async fn everything(session: &Session, watch: Watch, until: Instant) -> Result<Exit, Failure> {
    let status = watch.status.as_deref().map(SagaStatus::from);
    let mut events = session.client.sagas().watch_all(watch.definition.as_deref(), status.as_ref(), None);
    let mut tellers = HashMap::new();
    loop {
        let told = match timeout_at(until, events.next()).await {
            Ok(Ok(Some(told))) => told,
            Ok(Ok(None)) | Err(_) => return Ok(Exit::Done),
            Ok(Err(error)) => return Err(session.failed(error).await),
        };
        let Ok(line) = timeout_at(until, line(session, &mut tellers, &told)).await else {
            return Ok(Exit::Done);
        };
        session.output.item(&told, || told.saga_id.to_string(), || line)?;
    }
}

/// A transition of any saga, in one line.
async fn line(session: &Session, tellers: &mut HashMap<(String, u32), Teller>, told: &SagaEvent) -> String {
    let (at, id) = (painted(DIM, &moment(told.at)), told.saga_id);
    // It has left meanwhile.
    let (Some(name), Some(version)) = (&told.definition, told.version) else {
        return format!("{at}  {id}  {}", told.status);
    };
    let of = (name.clone(), version);
    if !tellers.contains_key(&of)
        && let Ok(teller) = Teller::of(session, name, version).await
    {
        tellers.insert(of.clone(), teller);
    }
    let item = HistoryItem::from(told.clone());
    let words = tellers.get(&of).map(|teller| teller.words(id, None, &item));
    let words = words.unwrap_or_else(|| told.status.to_string());
    format!("{at}  {id}  {} v{version}  {words}", plain(name))
}
