//! `sagactl saga start`.

use clap::Args;
use saga_client::StartSaga;

use super::list::print_one;
use super::watch::finish;
use crate::arguments::{Waiting, object};
use crate::failure::{Exit, Failure};
use crate::session::Session;

#[derive(Args, Debug)]
pub(crate) struct Start {
    /// The definition's name
    definition: String,
    /// Its version; the newest if it is left out
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// The input's fields: a JSON object, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", default_value = "{}")]
    input: String,
    /// Your own name for the saga, to find it again
    #[arg(long, value_name = "KEY")]
    business_key: Option<String>,
    /// The same key and input start one saga; drawn if it is left out
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Start {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let mut start = StartSaga::of(&*self.definition).input(object(&self.input, "--input")?);
        if let Some(version) = self.version {
            start = start.version(version);
        }
        if let Some(key) = self.business_key {
            start = start.business_key(key);
        }
        if let Some(key) = self.idempotency_key {
            start = start.idempotency_key(key);
        }
        let saga = match session.client.sagas().start(&start).await {
            Ok(saga) => saga,
            Err(error) => {
                let wrong_input = error.problem().is_some_and(|problem| !problem.errors.is_empty());
                let failure = session.failed(error).await;
                let look = format!("sagactl definition show {} tells its input", self.definition);
                return Err(if wrong_input { failure.next(look) } else { failure });
            }
        };
        if self.waiting.wait || self.waiting.watch {
            return finish(session, saga.saga_id, &self.waiting).await;
        }
        print_one(session, &saga)?;
        Ok(Exit::Done)
    }
}
