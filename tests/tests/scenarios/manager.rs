//! The service manager that starts a program is told how it is, as systemd wants it of units with `Type=notify`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tests::process::{Program, Service, Signal};
use tests::scenario::on_own_stack;
use tests::stack::{Options, STOP_LIMIT, Stack};
use tests::wait::SOON;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

const ALIVE: &str = "WATCHDOG=1";

/// Whoever listens at `NOTIFY_SOCKET`.
struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Listener {
    /// Programs of the stack that are started from now on speak to this one.
    fn of_next(stack: &Stack) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("notify-{}", uuid::Uuid::new_v4()));
        let socket = UnixDatagram::bind(&path)?;
        stack.tell("NOTIFY_SOCKET", path.display().to_string());
        stack.tell("WATCHDOG_USEC", "100000");
        Ok(Self { socket, path })
    }

    async fn next(&self) -> Result<String> {
        let mut bytes = [0; 64];
        let received = timeout(SOON, self.socket.recv(&mut bytes)).await;
        let length = received.context("nothing is heard")??;
        Ok(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned())
    }

    /// Waits for this word, before which there may only be signs of life.
    async fn hears(&self, word: &str) -> Result<()> {
        loop {
            let heard = self.next().await?;
            if heard == word {
                return Ok(());
            }
            ensure!(heard == ALIVE, "{word} was expected, not {heard}");
        }
    }

    async fn hears_of_the_end(&self, service: &Service) -> Result<()> {
        self.hears(ALIVE).await?;
        service.signal(Signal::Terminate)?;
        self.hears("STOPPING=1").await?;
        let status = service.ended(STOP_LIMIT).await?;
        ensure!(status.success(), "{} ended with {status}", service.name());
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_service_manager_hears_when_a_program_is_ready_that_it_lives_and_that_it_stops() {
    on_own_stack(Options { orchestrators: 0, workers: false, ..Options::default() }, async |stack| {
        let of_orchestrator = Listener::of_next(stack)?;
        let orchestrator = stack.start_orchestrator().await?;
        of_orchestrator.hears("READY=1").await?;
        // To its end at once: what nobody reads fills the queue.
        of_orchestrator.hears_of_the_end(&orchestrator.service).await?;
        for program in [Program::BookingWorker, Program::PaymentWorker] {
            let listener = Listener::of_next(stack)?;
            let worker = stack.start_worker(program)?;
            listener.hears("READY=1").await?;
            assert_eq!(stack.probes(program).await?.get("/readyz").await?.status, 200);
            listener.hears_of_the_end(&worker).await?;
        }
        Ok(())
    });
}
