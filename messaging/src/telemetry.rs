//! Logs, and traces that cross from one service to the next.

use std::fmt;
use std::io::IsTerminal as _;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::filter::{EnvFilter, FilterFn, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use crate::trace_parent::{NotATraceParent, TraceParent};

/// What is logged unless `RUST_LOG` says otherwise. librdkafka has much to say about connections that come and go.
const DEFAULT_FILTER: &str = "info,librdkafka=warn,rdkafka=warn,opentelemetry=warn";
/// The exporter is switched on by any variable that starts so.
const OTLP_VARIABLES: &str = "OTEL_EXPORTER_OTLP_";
/// How long the last spans may take to leave.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text; with colours on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// A text that is no log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log format: expected auto, text or json")]
pub struct NotALogFormat;

impl FromStr for LogFormat {
    type Err = NotALogFormat;

    fn from_str(text: &str) -> Result<Self, NotALogFormat> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(NotALogFormat),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Logs or traces cannot be switched on.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` is not what it should be.
    #[error("RUST_LOG: found {found:?}; allowed: directives such as info,librdkafka=warn")]
    Filter {
        /// Its value.
        found: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The exporter cannot be made of the `OTEL_EXPORTER_OTLP_*` variables.
    #[error("the {OTLP_VARIABLES}* variables do not make a span exporter")]
    Exporter(#[source] ExporterBuildError),
    /// This process logs already.
    #[error("logs are switched on already")]
    Twice,
}

/// Keeps the exporter alive.
#[must_use = "the last spans leave by shutdown"]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Guard {
    /// Sends the last spans, for five seconds at most.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else {
            return;
        };
        let last = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_LIMIT));
        if let Ok(Err(error)) = last.await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Switches on logs to stderr, filtered by `RUST_LOG`; and, if an `OTEL_EXPORTER_OTLP_*` variable is set, the export of
/// spans over gRPC. To be called once, inside the tokio runtime.
///
/// # Errors
/// A variable is wrong, or it was called before.
pub fn init(service: &str, format: LogFormat) -> Result<Guard, TelemetryError> {
    let provider = if exports() { Some(provider(service)?) } else { None };
    let spans = provider.as_ref().map(|provider| span_layer(provider.tracer(service.to_owned())));
    let installed = tracing_subscriber::registry().with(log_layer(format, filter()?)).with(spans).try_init();
    installed.map_err(|_| TelemetryError::Twice)?;
    Ok(Guard { provider })
}

/// Makes a span part of the trace that a message carried. Nothing happens unless spans are exported.
pub fn follow(span: &Span, parent: &TraceParent) {
    let context = SpanContext::new(
        TraceId::from(parent.trace_id),
        SpanId::from(parent.span_id),
        TraceFlags::new(parent.flags),
        true,
        TraceState::default(),
    );
    // It fails where spans are not exported, and that is most of the time.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
}

/// What a message that is sent in this span carries; `None` unless spans are exported.
pub fn traceparent_of(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| TraceParent {
        trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(context.span_id().to_bytes()),
        flags: context.trace_flags().to_u8(),
    })
}

fn exports() -> bool {
    std::env::vars_os().any(|(name, value)| {
        name.to_str().is_some_and(|name| name.starts_with(OTLP_VARIABLES)) && !value.is_empty()
    })
}

fn filter() -> Result<EnvFilter, TelemetryError> {
    let directives = std::env::var("RUST_LOG").ok().filter(|found| !found.trim().is_empty());
    let directives = directives.as_deref().unwrap_or(DEFAULT_FILTER);
    EnvFilter::try_new(directives)
        .map_err(|source| TelemetryError::Filter { found: directives.to_owned(), source })
}

fn log_layer<S>(format: LogFormat, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // What cannot be written must not end the service.
        .log_internal_errors(false);
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    } else {
        lines.with_ansi(terminal).with_filter(filter).boxed()
    }
}

fn provider(service: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder().with_tonic().build().map_err(TelemetryError::Exporter)?;
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Spans from `info` up; not those of the exporter's own connection, which would never end.
fn span_layer<S>(tracer: Tracer) -> impl Layer<S>
where
    S: tracing::Subscriber + Send + Sync + for<'a> LookupSpan<'a>,
{
    let own = ["opentelemetry", "tonic", "h2", "hyper", "tower"];
    let foreign = FilterFn::new(move |meta| !own.iter().any(|target| meta.target().starts_with(target)));
    OpenTelemetryLayer::new(tracer).with_filter(foreign).with_filter(LevelFilter::INFO)
}
