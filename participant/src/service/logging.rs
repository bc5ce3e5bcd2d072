//! Logs: lines for people, or JSON for machines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise. librdkafka has much to say about connections that come and go.
const DEFAULT_FILTER: &str = "info,librdkafka=warn,rdkafka=warn,opentelemetry=warn";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// `auto`, `text` or `json`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn is_json(self) -> bool {
        match self {
            Self::Auto => !std::io::stderr().is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Starts logging for the process, at `info`, its libraries at `warn`, unless `RUST_LOG` says otherwise. Later calls change nothing.
pub fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let on_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(on_terminal)
        .with_writer(std::io::stderr)
        // A full disk or a closed pipe must not end the service; it would be told where nothing can be written.
        .log_internal_errors(false);
    let started = if format.is_json() { lines.json().try_init() } else { lines.try_init() };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
}
