//! A service whose spans are exported.

use messaging::telemetry;

/// Runs a service; its spans are exported, under this name, if an `OTEL_EXPORTER_OTLP_*` variable is set. The last ones leave
/// when it has ended.
///
/// # Errors
/// Those of the service; one of OpenTelemetry's variables is wrong.
pub async fn traced<E>(name: &'static str, service: impl Future<Output = Result<(), E>>) -> anyhow::Result<()>
where
    anyhow::Error: From<E>,
{
    let spans = telemetry::start(name)?;
    let served = service.await;
    spans.shutdown().await;
    Ok(served?)
}
