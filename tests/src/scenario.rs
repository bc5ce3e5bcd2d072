//! Running scenarios: on one runtime for the whole process, and with the services' last words when one fails.

use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use futures::FutureExt;
use tokio::runtime::Runtime;

use crate::kafka;
use crate::process::Program;
use crate::stack::{Options, Stack};
use crate::wait::SOON;

/// Runs a scenario on a stack of its own. When it is over, `orchestrator verify` must find nothing.
///
/// # Panics
/// The scenario fails.
pub fn on_own_stack(options: Options, scenario: impl AsyncFnOnce(&Stack) -> Result<()>) {
    runtime().block_on(async {
        match Stack::start(options).await {
            Ok(stack) => {
                tell(&stack, scenario).await;
                tell(&stack, verified).await;
                if let Err(error) = stack.end().await {
                    panic!("the stack does not end: {error:#}");
                }
            }
            Err(error) => panic!("the stack does not start: {error:#}"),
        }
    });
}

/// Runs a scenario on a stack that it shares with all others of its process that do so: it must disturb nobody. On a
/// real broker it has one of its own, since there can be only one at a time.
///
/// # Panics
/// The scenario fails.
pub fn on_shared_stack(scenario: impl AsyncFnOnce(&Stack) -> Result<()>) {
    static SHARED: tokio::sync::OnceCell<Stack> = tokio::sync::OnceCell::const_new();
    if kafka::is_real() {
        return on_own_stack(Options::default(), scenario);
    }
    runtime().block_on(async {
        match SHARED.get_or_try_init(|| Stack::start(Options::default())).await {
            Ok(stack) => tell(stack, scenario).await,
            Err(error) => panic!("the shared stack does not start: {error:#}"),
        }
    });
}

/// Runs a scenario that has no need of a stack.
///
/// # Panics
/// The scenario fails.
pub fn on_no_stack(scenario: impl AsyncFnOnce() -> Result<()>) {
    runtime().block_on(async {
        if let Err(error) = scenario().await {
            panic!("{error:#}");
        }
    });
}

/// Replays the journal with the program that an operator would use.
///
/// # Errors
/// It finds differences; the text has them.
pub async fn verified(stack: &Stack) -> Result<()> {
    let service = stack.run(Program::Orchestrator, &["verify"])?;
    let status = service.ended(SOON).await?;
    ensure!(status.success(), "orchestrator verify: {status}\n{}", service.output()?);
    Ok(())
}

async fn tell(stack: &Stack, scenario: impl AsyncFnOnce(&Stack) -> Result<()>) {
    match AssertUnwindSafe(scenario(stack)).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            eprintln!("{}", stack.last_words());
            panic!("{error:#}");
        }
        Err(panic) => {
            eprintln!("{}", stack.last_words());
            std::panic::resume_unwind(panic);
        }
    }
}

/// One runtime, so that clients and connections may be shared between scenarios.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap_or_else(|error| panic!("no runtime: {error}")))
}
