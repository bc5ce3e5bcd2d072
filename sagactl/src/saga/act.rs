//! `sagactl saga cancel|redrive|skip|retry-now`.

use clap::Args;
use saga_client::{Act, Error, Page, Saga, SagaId};

use super::list::{print_one, print_page};
use super::look::missing;
use super::watch::{finish, settle};
use crate::arguments::{Because, Waiting, object};
use crate::ask::go_on;
use crate::failure::{Exit, Failure};
use crate::session::Session;
use crate::words::count;

#[derive(Args, Debug)]
pub(crate) struct Plain {
    /// The saga's id, or several
    #[arg(required = true, value_name = "SAGA")]
    sagas: Vec<SagaId>,
    #[command(flatten)]
    because: Because,
    /// Acts only if this is still the saga's revision
    #[arg(long, value_name = "N")]
    if_revision: Option<u32>,
    /// Does not ask before it acts on several
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args, Debug)]
pub(crate) struct Redrive {
    #[command(flatten)]
    plain: Plain,
    /// Values for fields of the command, in place of those from the saga's data: a JSON object, @FILE, or -
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
}

pub(crate) async fn cancel(session: &Session, plain: Plain) -> Result<Exit, Failure> {
    let sagas = session.client.sagas();
    on_each(session, plain, "cancel", None, async |saga, act| sagas.cancel(saga, &act).await).await
}

pub(crate) async fn skip(session: &Session, plain: Plain) -> Result<Exit, Failure> {
    let sagas = session.client.sagas();
    on_each(session, plain, "skip the stuck step of", None, async |saga, act| sagas.skip(saga, &act).await)
        .await
}

pub(crate) async fn retry_now(session: &Session, plain: Plain) -> Result<Exit, Failure> {
    let sagas = session.client.sagas();
    on_each(session, plain, "retry now", None, async |saga, act| sagas.retry_now(saga, &act).await).await
}

pub(crate) async fn redrive(session: &Session, redrive: Redrive) -> Result<Exit, Failure> {
    let sagas = session.client.sagas();
    let Redrive { plain, input } = redrive;
    on_each(session, plain, "redrive", input, async |saga, act| sagas.redrive(saga, &act).await).await
}

/// Acts on each saga. What fails with one does not keep the others from it.
async fn on_each(
    session: &Session,
    plain: Plain,
    verb: &str,
    input: Option<String>,
    act: impl AsyncFn(SagaId, Act) -> Result<Saga, Error>,
) -> Result<Exit, Failure> {
    let input = input.map(|text| object(&text, "--input")).transpose()?;
    let several = plain.sagas.len() > 1;
    if several && plain.if_revision.is_some() {
        return Err(Failure::usage("--if-revision is of one saga, and several are named"));
    }
    if several && plain.waiting.watch {
        return Err(Failure::usage("--watch shows one saga, and several are named")
            .next("say --wait to wait for all of them, or `sagactl saga watch` to watch one"));
    }
    if several {
        let many = u64::try_from(plain.sagas.len()).unwrap_or(u64::MAX);
        go_on(&format!("{verb} {}", count(many, "saga")), plain.yes)?;
    }
    let (mut moved, mut failed) = (Vec::new(), None);
    for saga in plain.sagas {
        let mut word = Act::because(&*plain.because.reason);
        if let Some(input) = &input {
            word = word.input(input.clone());
        }
        if let Some(revision) = plain.if_revision {
            word = word.if_revision(revision);
        }
        if let Some(key) = &plain.because.idempotency_key {
            // One key is for one request.
            word = word.idempotency_key(if several { format!("{key}:{saga}") } else { key.clone() });
        }
        match act(saga, word).await {
            Ok(saga) => moved.push(saga),
            Err(error) => {
                let failure = missing(session, error).await;
                if !several {
                    return Err(failure);
                }
                failure.tell();
                failed = Some(Exit::Error);
            }
        }
    }
    if let ([saga], false) = (moved.as_slice(), several) {
        if plain.waiting.wait || plain.waiting.watch {
            return finish(session, saga.saga_id, &plain.waiting).await;
        }
        print_one(session, saga)?;
        return Ok(Exit::Done);
    }
    if plain.waiting.wait {
        let ended = settle(session, &mut moved, &plain.waiting).await?;
        failed = failed.or(ended);
    }
    print_page(session.output, &Page { items: moved, next_cursor: None })?;
    Ok(failed.unwrap_or(Exit::Done))
}
