//! What a process measures: one meter, read as Prometheus text, and pushed over OTLP where that is asked for.

use std::sync::Mutex;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

use crate::telemetry::{self, Signal, TelemetryError};

/// Bounds of histograms of times, in seconds: from a quick commit to a saga that waited for its deadline.
const SECONDS: [f64; 19] = [
    0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    300.0, 900.0,
];
/// Bounds of histograms of how much is done at once.
const BATCH_SIZES: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];

/// The media type of [`Meters::render`].
pub const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The instruments could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetersError {
    /// The reader for Prometheus was refused.
    #[error("the metrics cannot be set up: {0}")]
    Reader(String),
    /// A variable of OpenTelemetry's is wrong.
    #[error(transparent)]
    Export(#[from] TelemetryError),
}

/// The instruments of one process, and who reads them.
#[derive(Debug)]
pub struct Meters {
    registry: Registry,
    provider: Mutex<Option<SdkMeterProvider>>,
    meter: Meter,
    pushed: bool,
}

/// How often to look at what is otherwise looked at when somebody reads, where measurements are pushed.
pub const LOOK_FOR_PUSHES: Duration = Duration::from_secs(5);

impl Meters {
    /// For the service of that name: read by [`Meters::render`], and pushed over OTLP (gRPC) every `OTEL_METRIC_EXPORT_INTERVAL`
    /// milliseconds if a variable `OTEL_EXPORTER_OTLP_METRICS_*` is set and neither `OTEL_SDK_DISABLED` nor
    /// `OTEL_METRICS_EXPORTER=none` says otherwise; then it is to be called inside the tokio runtime.
    ///
    /// # Errors
    /// A reader cannot be registered, or one of OpenTelemetry's variables is wrong.
    pub fn new(service: &'static str) -> Result<Self, MetersError> {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| MetersError::Reader(error.to_string()))?;
        let mut builder = SdkMeterProvider::builder().with_reader(reader);
        let pushed = telemetry::is_asked_for(Signal::Metrics)?;
        if pushed {
            let exporter = MetricExporter::builder().with_tonic().build().map_err(TelemetryError::Metrics)?;
            builder = builder
                .with_reader(PeriodicReader::builder(exporter).build())
                .with_resource(telemetry::resource(service));
        }
        Ok(Self { pushed, ..Self::of(registry, builder.build(), service) })
    }

    /// Instruments that nobody reads.
    pub fn unread() -> Self {
        Self::of(Registry::new(), SdkMeterProvider::builder().build(), "nobody")
    }

    fn of(registry: Registry, provider: SdkMeterProvider, name: &'static str) -> Self {
        let meter = provider.meter(name);
        Self { registry, provider: Mutex::new(Some(provider)), meter, pushed: false }
    }

    /// Whether they are pushed. Then nobody may ever read them, and what is looked at for readers is to be looked at every
    /// [`LOOK_FOR_PUSHES`].
    pub const fn are_pushed(&self) -> bool {
        self.pushed
    }

    /// For instruments that have no constructor here.
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Something that happens, counted.
    pub fn counter(&self, name: &'static str, about: &'static str) -> Counter<u64> {
        self.meter.u64_counter(name).with_description(about).build()
    }

    /// How long something takes, in seconds.
    pub fn seconds(&self, name: &'static str, about: &'static str) -> Histogram<f64> {
        let named = self.meter.f64_histogram(name).with_unit("s").with_description(about);
        named.with_boundaries(SECONDS.to_vec()).build()
    }

    /// How much is done at once.
    pub fn sizes(&self, name: &'static str, about: &'static str) -> Histogram<u64> {
        let named = self.meter.u64_histogram(name).with_description(about);
        named.with_boundaries(BATCH_SIZES.to_vec()).build()
    }

    /// How much there is at the moment.
    pub fn gauge(&self, name: &'static str, about: &'static str) -> Gauge<u64> {
        self.meter.u64_gauge(name).with_description(about).build()
    }

    /// How old something is at the moment, in seconds.
    pub fn age(&self, name: &'static str, about: &'static str) -> Gauge<f64> {
        self.meter.f64_gauge(name).with_unit("s").with_description(about).build()
    }

    /// All of it as Prometheus text, of the type [`PROMETHEUS_TEXT`].
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Pushes what was measured last, where it is pushed at all, for as long as `limit`; nothing is read afterwards.
    pub async fn shutdown(&self, limit: Duration) {
        let taken = self.provider.lock().ok().and_then(|mut provider| provider.take());
        let Some(provider) = taken else { return };
        let last = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        if let Ok(Err(error)) = last.await {
            tracing::warn!(%error, "the last measurements were not exported");
        }
    }
}

/// A label of a series. Its values have to be few, whatever comes from outside.
pub fn label(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_as_prometheus_wants_them() {
        let meters = Meters::new("test").unwrap();
        meters.counter("thing.made", "Things made.").add(2, &[label("kind", "good")]);
        meters.age("thing.age", "The age of the oldest.").record(1.5, &[]);
        meters.gauge("thing.waiting", "Things that wait.").record(3, &[]);
        meters.seconds("thing.duration", "How long it takes.").record(0.004, &[]);
        meters.sizes("thing.batch", "Things at once.").record(9, &[]);
        let text = meters.render();
        let series: Vec<&str> =
            text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket")).collect();
        insta::assert_snapshot!(series.join("\n"), @r#"
        thing_age_seconds 1.5
        thing_batch_sum 9
        thing_batch_count 1
        thing_duration_seconds_sum 0.004
        thing_duration_seconds_count 1
        thing_made_total{kind="good"} 2
        thing_waiting 3
        "#);
    }

    #[tokio::test]
    async fn instruments_that_nobody_reads_take_what_they_are_given() {
        let meters = Meters::unread();
        meters.counter("thing.made", "Things made.").add(2, &[]);
        assert_eq!(meters.render(), "");
        meters.shutdown(Duration::from_secs(1)).await;
        meters.shutdown(Duration::from_secs(1)).await;
    }
}
