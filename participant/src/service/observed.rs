//! A worker that shows how it is while it works.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use messaging::meters::MetersError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::service::health::Verdict;
use crate::service::manager::ServiceManager;
use crate::service::probes::Probes;
use crate::service::worker::METRICS_ADDR;
use crate::vitals::Vitals;

/// How long the last measurements may take to leave.
const LAST_EXPORT: Duration = Duration::from_secs(5);

/// A worker cannot show how it is.
#[derive(Debug, thiserror::Error)]
pub enum ObservingError {
    /// Nobody can listen there.
    #[error("{METRICS_ADDR}: cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The instruments, or one of the variables about them.
    #[error(transparent)]
    Meters(#[from] MetersError),
}

/// Runs a worker, and answers `/livez`, `/readyz` and `/metrics` at `address` from the first moment to the last; `None`: nowhere.
/// Tells the service manager that started the process when the worker is ready, that it lives, and that it stops.
/// `work` gives the vitals to its [`crate::Builder`].
///
/// # Errors
/// Those of the worker; nobody can listen there; an exporter of measurements is set up wrongly.
pub async fn observed<E: From<ObservingError>>(
    service: &'static str,
    address: Option<SocketAddr>,
    stop: &CancellationToken,
    work: impl AsyncFnOnce(Arc<Vitals>) -> Result<(), E>,
) -> Result<(), E> {
    let vitals = Vitals::new(service, stop.clone()).map_err(ObservingError::from)?;
    let _answering = match address {
        Some(address) => Some(answering(address, &vitals).await?),
        None => None,
    };
    let told = ServiceManager::of_process().map(|manager| {
        let (ready, alive) = (vitals.clone(), vitals.clone());
        let ready = async move || matches!(ready.ready().await.0, Verdict::Is(_));
        let alive = move || matches!(alive.live().0, Verdict::Is(_));
        AbortOnDropHandle::new(tokio::spawn(manager.tell(ready, alive, stop.clone())))
    });
    let looking = vitals.clone();
    let _looking = AbortOnDropHandle::new(tokio::spawn(async move { looking.look_for_pushes().await }));
    let worked = work(vitals.clone()).await;
    drop(told);
    vitals.meters().shutdown(LAST_EXPORT).await;
    worked
}

async fn answering(
    address: SocketAddr,
    vitals: &Arc<Vitals>,
) -> Result<AbortOnDropHandle<()>, ObservingError> {
    let listening = Probes::listen(address).await;
    let probes = listening.map_err(|source| ObservingError::Listen { address, source })?;
    let url = format!("http://{}", probes.address());
    tracing::info!("/metrics, /livez and /readyz are at {url}");
    // As the orchestrator says it, for scripts. A closed pipe is no reason to stop.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on {url}");
    let _ = out.flush();
    Ok(AbortOnDropHandle::new(tokio::spawn(probes.run(vitals.clone()))))
}
