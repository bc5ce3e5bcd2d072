//! Traces: spans that are finished, exported over OTLP.
//!
//! A saga outlives the process that began it, so no span is kept open: who sees the end of something writes its span down
//! whole. The ids of what other processes hang their spans on follow from what both know, never from memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, Key, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};
use uuid::Uuid;

use crate::sampling::{Sampler, SamplingError};
pub use crate::trace_parent::{NotATraceParent, TraceParent};

/// The exporter of spans is switched on by this variable,
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// How spans, or measurements, are to be sent, unless a variable of their own says it.
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// The one that there is.
const GRPC: &str = "grpc";
/// How long the last spans may take to leave.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// The names of attributes, by OpenTelemetry's conventions for messaging and HTTP, which are still moving; and our own.
pub mod attribute {
    /// Always `kafka`.
    pub const MESSAGING_SYSTEM: &str = "messaging.system";
    /// The topic.
    pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
    /// The partition.
    pub const MESSAGING_PARTITION: &str = "messaging.destination.partition.id";
    /// `send` or `process`.
    pub const MESSAGING_OPERATION: &str = "messaging.operation.type";
    /// The offset of a record that is processed.
    pub const MESSAGING_OFFSET: &str = "messaging.kafka.offset";
    /// The command's id.
    pub const MESSAGING_MESSAGE: &str = "messaging.message.id";
    /// The saga's id.
    pub const MESSAGING_CONVERSATION: &str = "messaging.message.conversation_id";
    /// The request's method.
    pub const HTTP_METHOD: &str = "http.request.method";
    /// The route, with `{names}`.
    pub const HTTP_ROUTE: &str = "http.route";
    /// The answer's status.
    pub const HTTP_STATUS: &str = "http.response.status_code";
    /// A saga's recipe.
    pub const SAGA_DEFINITION: &str = "saga.definition";
    /// Its version.
    pub const SAGA_VERSION: &str = "saga.version";
    /// Where a saga or a step ended.
    pub const SAGA_STATUS: &str = "saga.status";
    /// The step.
    pub const SAGA_STEP: &str = "saga.step";
    /// `forward` or `compensation`.
    pub const SAGA_DIRECTION: &str = "saga.direction";
    /// The attempt, from 1.
    pub const SAGA_ATTEMPT: &str = "saga.attempt";
    /// How often an operator has sent the command on its way anew.
    pub const SAGA_REDRIVE: &str = "saga.redrive";
    /// What a reply says.
    pub const SAGA_OUTCOME: &str = "saga.outcome";
    /// Why a reply did nothing.
    pub const SAGA_IGNORED: &str = "saga.ignored";
}

/// What can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// Its exporter is switched on by any variable that starts so,
    const fn variables(self) -> &'static str {
        match self {
            Self::Traces => "OTEL_EXPORTER_OTLP_TRACES_",
            Self::Metrics => "OTEL_EXPORTER_OTLP_METRICS_",
        }
    }

    /// and by the one for all signals, for which there may be a collector that takes no measurements.
    const fn is_general(self) -> bool {
        matches!(self, Self::Traces)
    }

    /// How it is sent; comes before [`PROTOCOL`].
    const fn protocol(self) -> &'static str {
        match self {
            Self::Traces => "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            Self::Metrics => "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        }
    }

    /// Switched off by `none`.
    const fn exporter(self) -> &'static str {
        match self {
            Self::Traces => "OTEL_TRACES_EXPORTER",
            Self::Metrics => "OTEL_METRICS_EXPORTER",
        }
    }
}

/// Traces or metrics cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter cannot be made of the `OTEL_EXPORTER_OTLP_*` variables.
    #[error("the OTEL_EXPORTER_OTLP_* variables do not make a span exporter")]
    Exporter(#[source] ExporterBuildError),
    /// As [`TelemetryError::Exporter`], for measurements.
    #[error("the OTEL_EXPORTER_OTLP_* variables do not make a metric exporter")]
    Metrics(#[source] ExporterBuildError),
    /// Spans or measurements are to be sent in a way that there is not.
    #[error("{name}: found {found:?}; allowed: {GRPC} (port 4317 of most collectors)")]
    Protocol {
        /// The variable.
        name: &'static str,
        /// Its value.
        found: String,
    },
    /// `OTEL_TRACES_SAMPLER` or its argument is wrong.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that is answered.
    Server,
    /// A message that is sent.
    Producer,
    /// A message that is processed.
    Consumer,
    /// Anything within one service.
    Internal,
}

impl Kind {
    fn exported(self) -> SpanKind {
        match self {
            Self::Server => SpanKind::Server,
            Self::Producer => SpanKind::Producer,
            Self::Consumer => SpanKind::Consumer,
            Self::Internal => SpanKind::Internal,
        }
    }
}

/// Something that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Which trace, and which span of it.
    pub context: TraceParent,
    /// The span that caused it.
    pub parent: Option<u64>,
    /// What it is, e.g. `send booking.commands`: a few names, whatever the load.
    pub name: Cow<'static, str>,
    /// What it is about.
    pub kind: Kind,
    /// When it began.
    pub start: SystemTime,
    /// When it was over.
    pub end: SystemTime,
    /// By the names of [`attribute`].
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces that it belongs to.
    pub links: Vec<TraceParent>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Span {
    fn exported(self, scope: InstrumentationScope) -> SpanData {
        let mut links = SpanLinks::default();
        links.links = self.links.iter().map(|linked| Link::with_context(context(linked))).collect();
        SpanData {
            span_context: context(&self.context),
            parent_span_id: self.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: false,
            span_kind: self.kind.exported(),
            name: self.name,
            start_time: self.start,
            end_time: self.end,
            attributes: self.attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: scope,
        }
    }
}

fn context(of: &TraceParent) -> SpanContext {
    SpanContext::new(
        TraceId::from(of.trace_id),
        SpanId::from(of.span_id),
        // What is exported is recorded, also where nobody wanted that when it began.
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    )
}

/// Takes finished spans. Never waits: what does not fit into the queue (`OTEL_BSP_MAX_QUEUE_SIZE`, 2,048 unless set) is
/// dropped, and the exporter says how much.
#[derive(Debug)]
pub struct Recorder {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    sampler: Sampler,
}

impl Recorder {
    /// Exports a span.
    pub fn record(&self, span: Span) {
        self.processor.on_end(span.exported(self.scope.clone()));
    }

    /// Which traces are recorded.
    pub const fn sampler(&self) -> Sampler {
        self.sampler
    }
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// Where spans go; `None` unless they are exported.
pub fn recorder() -> Option<&'static Recorder> {
    RECORDER.get()
}

/// The end of the export.
#[must_use = "the last spans leave by shutdown"]
#[derive(Debug)]
pub struct Guard(());

impl Guard {
    /// Sends the last spans, for five seconds at most.
    pub async fn shutdown(self) {
        let last = tokio::task::spawn_blocking(|| {
            recorder().map(|recorder| recorder.processor.shutdown_with_timeout(SHUTDOWN_LIMIT))
        });
        if let Ok(Some(Err(error))) = last.await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Begins to export spans over gRPC, if `OTEL_EXPORTER_OTLP_ENDPOINT` or an `OTEL_EXPORTER_OTLP_TRACES_*` variable is set and
/// neither `OTEL_SDK_DISABLED` nor `OTEL_TRACES_EXPORTER=none` says otherwise. To be called inside the tokio runtime; a second call changes nothing.
///
/// # Errors
/// A variable is wrong.
pub fn start(service: &'static str) -> Result<Guard, TelemetryError> {
    if is_asked_for(Signal::Traces)? && recorder().is_none() {
        let sampler = Sampler::from_environment()?;
        let exporter = SpanExporter::builder().with_tonic().build().map_err(TelemetryError::Exporter)?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource(service));
        let scope = InstrumentationScope::builder("saga").with_version(env!("CARGO_PKG_VERSION")).build();
        if RECORDER.set(Recorder { processor, scope, sampler }).is_err() {
            tracing::debug!("spans are exported already");
        }
    }
    Ok(Guard(()))
}

/// Whether the environment wants this exported.
pub(crate) fn is_asked_for(signal: Signal) -> Result<bool, TelemetryError> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    exports(signal, &variables.collect())
}

/// Who exports: `OTEL_SERVICE_NAME`, else the service; its version; and which of those that are called so: without an id of
/// each process a backend takes what two of them count for the ups and downs of one. `OTEL_RESOURCE_ATTRIBUTES` comes first.
pub(crate) fn resource(service: &'static str) -> Resource {
    static PROCESS: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().to_string());
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty());
    let told = Resource::builder().build();
    let ours = [("service.version", env!("CARGO_PKG_VERSION")), ("service.instance.id", PROCESS.as_str())];
    let missing = ours.into_iter().filter(|(name, _)| told.get(&Key::new(*name)).is_none());
    let attributes: Vec<KeyValue> = missing.map(|(name, value)| KeyValue::new(name, value)).collect();
    let resource = Resource::builder().with_attributes(attributes);
    let resource = if named { resource } else { resource.with_service_name(service) };
    resource.build()
}

/// Whether these variables want this exported.
fn exports(signal: Signal, variables: &BTreeMap<String, String>) -> Result<bool, TelemetryError> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let is = |name: &str, value: &str| set(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
    let mut named = variables.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.as_str());
    let asked =
        named.any(|name| (signal.is_general() && name == ENDPOINT) || name.starts_with(signal.variables()));
    if !asked || is("OTEL_SDK_DISABLED", "true") || is(signal.exporter(), "none") {
        return Ok(false);
    }
    let protocol = [signal.protocol(), PROTOCOL].into_iter().find_map(|name| Some((name, set(name)?)));
    match protocol {
        Some((name, found)) if found != GRPC => Err(TelemetryError::Protocol { name, found: found.clone() }),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes of one name are two.
    #[test]
    fn whoever_exports_says_which_process_of_which_version() {
        let told = resource("orchestrator");
        let get = |name: &'static str| told.get(&Key::new(name)).map(|value| value.to_string());
        assert_eq!(get("service.name").as_deref(), Some("orchestrator"));
        assert_eq!(get("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
        let id = get("service.instance.id").unwrap();
        assert!(Uuid::parse_str(&id).is_ok(), "{id}");
        assert_eq!(resource("orchestrator").get(&Key::new("service.instance.id")).unwrap().to_string(), id);
    }

    fn check(signal: Signal, variables: &[(&str, &str)], expected: &str) {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let found = match exports(signal, &owned.collect()) {
            Ok(exports) => exports.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{signal:?} {variables:?}");
    }

    #[test]
    fn spans_are_exported_where_they_are_asked_for() {
        let check = |variables: &[(&str, &str)], expected: &str| check(Signal::Traces, variables, expected);
        let endpoint = (ENDPOINT, "http://collector:4317");
        check(&[], "false");
        check(&[(ENDPOINT, "")], "false");
        check(&[endpoint], "true");
        check(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317")], "true");
        check(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://collector:4317")], "false");
        check(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")], "false");
        check(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], "false");
        check(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "true");
        check(
            &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
            "OTEL_EXPORTER_OTLP_PROTOCOL: found \"http/protobuf\"; allowed: grpc (port 4317 of most collectors)",
        );
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        check(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), of_traces], "true");
    }

    #[test]
    fn measurements_are_exported_where_they_are_asked_for_by_name() {
        let check = |variables: &[(&str, &str)], expected: &str| check(Signal::Metrics, variables, expected);
        let endpoint = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://collector:4317");
        check(&[], "false");
        check(&[(ENDPOINT, "http://collector:4317")], "false");
        check(&[endpoint], "true");
        check(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")], "false");
        check(&[endpoint, ("OTEL_SDK_DISABLED", "true")], "false");
        check(
            &[endpoint, ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json")],
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: found \"http/json\"; allowed: grpc (port 4317 of most collectors)",
        );
    }
}
