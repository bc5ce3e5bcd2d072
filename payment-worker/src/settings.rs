//! The settings of this worker, beside those that every worker has.

use std::time::Duration;

use participant::service::{Setting, SettingError, Settings, WORKER_SETTINGS, WorkerSettings};
use reqwest::Url;

const PAYMENT_GATEWAY: &str = "PAYMENT_GATEWAY";
const PAYMENT_GATEWAY_URL: &str = "PAYMENT_GATEWAY_URL";
const SIMULATED_LATENCY_MS: &str = "SIMULATED_LATENCY_MS";
const ALLOW_FORCED_OUTCOMES: &str = "ALLOW_FORCED_OUTCOMES";

const OWN: [Setting; 4] = [
    Setting::new(PAYMENT_GATEWAY, "simulated (in this process) or http").or("simulated"),
    Setting::new(PAYMENT_GATEWAY_URL, "Where the http gateway is: http://… or https://…")
        .secret_but(shown_gateway),
    Setting::new(SIMULATED_LATENCY_MS, "How long the simulated gateway takes, in milliseconds").or("0"),
    Setting::new(ALLOW_FORCED_OUTCOMES, "Whether commands may say what the simulated gateway pretends")
        .or("false"),
];

/// The path and the query may hold a token.
fn shown_gateway(url: &str) -> Option<String> {
    let url: Url = url.parse().ok()?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{}{port}/…", url.scheme(), url.host_str()?))
}

/// All settings of the program.
pub(crate) fn known() -> impl Iterator<Item = Setting> {
    WORKER_SETTINGS.into_iter().chain(OWN)
}

/// Which gateway moves the money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayChoice {
    /// None: one in this process pretends.
    Simulated {
        /// How long it takes to answer.
        latency: Duration,
        /// Whether commands may say what it pretends, for demonstrations and tests.
        allow_forced_outcomes: bool,
    },
    /// One behind HTTP.
    Http {
        /// `POST` goes to `charges` and `refunds` below it.
        url: Url,
    },
}

/// What the payment worker must know.
#[derive(Debug, Clone)]
pub struct PaymentSettings {
    /// What every worker must know.
    pub worker: WorkerSettings,
    /// The gateway.
    pub gateway: GatewayChoice,
}

impl PaymentSettings {
    /// From a program's settings.
    ///
    /// # Errors
    /// The first that is missing or wrong.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        Ok(Self { worker: WorkerSettings::read(settings)?, gateway: gateway(settings)? })
    }
}

fn gateway(settings: &Settings) -> Result<GatewayChoice, SettingError> {
    let allow_forced_outcomes = settings.switch(ALLOW_FORCED_OUTCOMES)?;
    match settings.text(PAYMENT_GATEWAY) {
        Some("simulated") => {
            let most_ms = 60_000;
            let latency = settings.read(SIMULATED_LATENCY_MS, "a number from 0 to 60000", |text| {
                text.parse().ok().filter(|ms| *ms <= most_ms).map(Duration::from_millis)
            })?;
            Ok(GatewayChoice::Simulated { latency, allow_forced_outcomes })
        }
        // A real gateway cannot be told what to pretend.
        Some("http") if allow_forced_outcomes => {
            Err(settings.wrong(ALLOW_FORCED_OUTCOMES, "false, with PAYMENT_GATEWAY=http"))
        }
        Some("http") => {
            let url = settings.read(PAYMENT_GATEWAY_URL, "http://HOST/… or https://HOST/…", |text| {
                text.parse::<Url>()
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            })?;
            Ok(GatewayChoice::Http { url })
        }
        _ => Err(settings.wrong(PAYMENT_GATEWAY, "simulated or http")),
    }
}
