//! The settings of a schema registry.

use std::sync::Arc;

use schemas::registry::{Address, Limits, Mode, Registry};
use secrecy::SecretString;

use super::settings::{Setting, SettingError, Settings};
use super::worker::with_causes;

pub(super) const SCHEMA_REGISTRY_URL: &str = "SCHEMA_REGISTRY_URL";
const SCHEMA_REGISTRY_USER: &str = "SCHEMA_REGISTRY_USER";
const SCHEMA_REGISTRY_PASSWORD: &str = "SCHEMA_REGISTRY_PASSWORD";
const SCHEMA_REGISTRY_CA: &str = "SCHEMA_REGISTRY_CA";
const SCHEMA_REGISTRY_MODE: &str = "SCHEMA_REGISTRY_MODE";

/// As every service has them.
pub(super) const REGISTRY_SETTINGS: [Setting; 5] = [
    Setting::new(
        SCHEMA_REGISTRY_URL,
        "A Confluent schema registry, http(s)://HOST:PORT: messages are written with its ids [default: none]",
    ),
    Setting::new(SCHEMA_REGISTRY_USER, "Who asks the registry, with basic authentication"),
    Setting::new(SCHEMA_REGISTRY_PASSWORD, "The password of SCHEMA_REGISTRY_USER").secret(),
    Setting::new(
        SCHEMA_REGISTRY_CA,
        "A file of PEM certificates to trust for the registry, beside the system's",
    ),
    Setting::new(
        SCHEMA_REGISTRY_MODE,
        "read: messages are written without ids, for a change-over; write: with ids that somebody has registered; register: what the registry lacks is registered at the start",
    )
    .or("write"),
];

/// The registry that the settings name; `None` where they name none.
///
/// # Errors
/// One of them is wrong.
pub(super) fn registry(settings: &Settings) -> Result<Option<Arc<Registry>>, SettingError> {
    let given = |name| settings.text(name).filter(|text| !text.is_empty());
    let mode = settings.read(SCHEMA_REGISTRY_MODE, "read, write or register", |text| match text {
        "read" => Some(Mode::Read),
        "write" => Some(Mode::Write),
        "register" => Some(Mode::Register),
        _ => None,
    })?;
    let Some(url) = given(SCHEMA_REGISTRY_URL) else { return Ok(None) };
    let allowed = "http://HOST:PORT or https://HOST:PORT, with a path if need be, and no user, who is SCHEMA_REGISTRY_USER";
    let mut address = Address::parse(url).ok_or_else(|| settings.wrong(SCHEMA_REGISTRY_URL, allowed))?;
    address.user = match (given(SCHEMA_REGISTRY_USER), given(SCHEMA_REGISTRY_PASSWORD)) {
        (None, None) => None,
        (Some(user), Some(password)) => Some((user.to_owned(), SecretString::from(password))),
        (Some(_), None) => {
            return Err(settings.wrong(SCHEMA_REGISTRY_PASSWORD, "the password of SCHEMA_REGISTRY_USER"));
        }
        (None, Some(_)) => {
            return Err(settings.wrong(SCHEMA_REGISTRY_USER, "whose password SCHEMA_REGISTRY_PASSWORD is"));
        }
    };
    address.authorities = match given(SCHEMA_REGISTRY_CA) {
        None => None,
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            settings.wrong(SCHEMA_REGISTRY_CA, format!("a file of PEM certificates ({error})"))
        })?),
    };
    let registry = Registry::new(&address, mode, Limits::default()).map_err(|error| {
        let name = if address.authorities.is_some() { SCHEMA_REGISTRY_CA } else { SCHEMA_REGISTRY_URL };
        settings.wrong(name, format!("what a client can be made of ({})", with_causes(&error)))
    })?;
    Ok(Some(Arc::new(registry)))
}
