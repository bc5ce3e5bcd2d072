//! Calls to the outside, one per command, with bounds.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;

use crate::outcome::Refusal;

/// The bounds of [`call_each`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// How many calls may run at once.
    pub concurrency: usize,
    /// How long one call may take; then its command is answered `failed` with the code `call_timed_out`.
    pub timeout: Duration,
}

/// Calls the outside once for each of `commands`, within `limits`; the answers come in the order of the commands.
pub async fn call_each<'a, C, A, F>(
    commands: &'a [C],
    limits: CallLimits,
    call: impl Fn(&'a C) -> F,
) -> Vec<Result<A, Refusal>>
where
    F: Future<Output = Result<A, Refusal>>,
{
    let calls = commands.iter().map(|command| {
        let call = call(command);
        async move {
            tokio::time::timeout(limits.timeout, call).await.unwrap_or_else(|_| {
                Err(Refusal::new("call_timed_out", format!("no answer within {:?}", limits.timeout)))
            })
        }
    });
    futures::stream::iter(calls).buffered(limits.concurrency.max(1)).collect().await
}
