//! `sagactl saga show|history|diagram`.

use clap::{Args, ValueEnum};
use saga_client::{Error, HistoryItem, Page, Paging, SagaId};

use super::timeline::timeline;
use super::watch::finish;
use super::{advise, outcome};
use crate::arguments::Waiting;
use crate::failure::{Exit, Failure};
use crate::history::Teller;
use crate::output::print;
use crate::session::Session;

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The saga's id
    saga: SagaId,
    #[command(flatten)]
    waiting: Waiting,
}

impl Show {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.waiting.watch {
            return finish(session, self.saga, &self.waiting).await;
        }
        let sagas = session.client.sagas();
        let found = if self.waiting.wait {
            sagas.settled(self.saga, self.waiting.timeout).await
        } else {
            sagas.get(self.saga).await
        };
        let saga = match found {
            Ok(saga) => saga,
            Err(error) => return Err(missing(session, error).await),
        };
        let output = session.output;
        output.result(&saga, [saga.saga_id.to_string()], || timeline(&saga, output))?;
        if self.waiting.wait {
            return outcome(&saga);
        }
        if output.is_for_people() {
            advise(&saga);
        }
        Ok(Exit::Done)
    }
}

/// What a failed look at a saga means.
pub(crate) async fn missing(session: &Session, error: Error) -> Failure {
    let not_found = error.is_not_found();
    let failure = session.failed(error).await;
    if not_found { failure.next("sagactl saga list") } else { failure }
}

#[derive(Args, Debug)]
pub(crate) struct History {
    /// The saga's id
    saga: SagaId,
}

impl History {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let asked = async {
            let saga = session.client.sagas().get(self.saga).await?;
            let teller = Teller::of(session, &saga.definition, saga.version).await?;
            Ok((all(session, self.saga).await?, saga, teller))
        };
        let (items, saga, teller) = match asked.await {
            Ok(found) => found,
            Err(error) => return Err(missing(session, error).await),
        };
        let page = Page { items, next_cursor: None };
        let ids = page.items.iter().map(|item| item.revision.to_string());
        session.output.result(&page, ids, || {
            let lines = page.items.iter().map(|item| teller.line(&saga, item) + "\n");
            lines.collect()
        })?;
        Ok(Exit::Done)
    }
}

/// Every transition of a saga.
pub(crate) async fn all(session: &Session, saga: SagaId) -> Result<Vec<HistoryItem>, Error> {
    let mut items = Vec::new();
    let mut paging = Paging::default();
    loop {
        let page = session.client.sagas().history(saga, &paging).await?;
        items.extend(page.items);
        if page.next_cursor.is_none() {
            return Ok(items);
        }
        paging.cursor = page.next_cursor;
    }
}

#[derive(Args, Debug)]
pub(crate) struct Diagram {
    /// The saga's id
    saga: SagaId,
    /// As what it is drawn
    #[arg(long, value_enum, default_value_t)]
    format: Drawing,
}

/// As what a saga is drawn.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Drawing {
    /// A Mermaid flowchart
    #[default]
    Mermaid,
    /// A picture
    Svg,
}

impl Diagram {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let drawn = match self.format {
            Drawing::Mermaid => session.client.sagas().mermaid(self.saga).await,
            Drawing::Svg => session.client.sagas().svg(self.saga).await,
        };
        match drawn {
            Ok(text) => print(&text)?,
            Err(error) => return Err(missing(session, error).await),
        }
        Ok(Exit::Done)
    }
}
