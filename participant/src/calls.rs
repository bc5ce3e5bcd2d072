//! Calls to the outside, one per command, with bounds.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;

use crate::outcome::Refusal;

/// A call to the outside that brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// It is certain that nothing happened, e.g. no connection was made: the command is answered `failed`.
    NotMade(Refusal),
    /// It may have happened, e.g. no answer came in time. A forward command is not answered at all, since `failed`
    /// would promise that nothing happened: the step times out, counts as in doubt, and is undone too.
    Unknown(Refusal),
}

/// The bounds of [`call_each`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// How many calls may run at once.
    pub concurrency: usize,
    /// How long one call may take; then it may have happened ([`CallError::Unknown`]).
    pub timeout: Duration,
}

/// Calls the outside once for each of `commands`, within `limits`; the answers come in the order of the commands.
pub async fn call_each<'a, C, A, F>(
    commands: &'a [C],
    limits: CallLimits,
    call: impl Fn(&'a C) -> F,
) -> Vec<Result<A, CallError>>
where
    F: Future<Output = Result<A, CallError>>,
{
    let calls = commands.iter().map(|command| {
        let call = call(command);
        async move {
            tokio::time::timeout(limits.timeout, call).await.unwrap_or_else(|_| {
                let late = format!("no answer within {:?}", limits.timeout);
                Err(CallError::Unknown(Refusal::new("call_timed_out", late)))
            })
        }
    });
    futures::stream::iter(calls).buffered(limits.concurrency.max(1)).collect().await
}
