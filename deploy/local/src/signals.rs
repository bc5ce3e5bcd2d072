//! Ctrl-C and SIGTERM: the first lets everything finish, the second waits for nothing.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::children::kill_all;
use crate::terminal::Terminal;

/// The exit code when a second signal does not wait for the work in flight.
const IMPATIENT: i32 = 130;

/// A token that the first signal cancels. At the second one the program ends; what it has started ends with it.
pub(crate) fn stop_on_signals(terminal: Terminal) -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let mut received = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        received().await;
        terminal.say("\nstopping; once more does not wait for what is in flight");
        cancelled.cancel();
        received().await;
        kill_all();
        // Postgres is told by the kernel, and writes what it has.
        std::process::exit(IMPATIENT);
    });
    Ok(stop)
}
