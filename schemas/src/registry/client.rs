//! The registry's REST protocol, as far as it is needed: one try of each question.

use std::time::Duration;

use reqwest::{Certificate, Method, Request, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ids::SchemaId;

/// What a registry speaks.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The largest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// How much of somebody else's words is repeated, in characters.
const QUOTED_CHARACTERS: usize = 300;
/// The rule under which every subject's versions stand.
pub(super) const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// What rustls begins with where it finds a certificate wrong. Its error itself is out of sight below an [`std::io::Error`].
const UNTRUSTED: &str = "invalid peer certificate";

/// The registry's codes for what is not there: a subject, a version, a schema.
const MISSING_CODES: [u32; 3] = [40401, 40402, 40403];

/// Where a registry is, and who asks it.
#[derive(Debug, Clone)]
pub struct Address {
    /// `http://` or `https://`, with no user in it; a path is kept.
    pub url: Url,
    /// User and password of basic authentication.
    pub user: Option<(String, SecretString)>,
    /// PEM certificates of authorities to trust beside the system's.
    pub authorities: Option<Vec<u8>>,
}

impl Address {
    /// An address from its text, without anything else; `None` if it is none that can be used.
    pub fn parse(text: &str) -> Option<Self> {
        let url: Url = text.parse().ok()?;
        let usable = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        usable.then_some(Self { url, user: None, authorities: None })
    }
}

/// A question had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There was none, or one that says to come again.
    #[error("does not answer ({0})")]
    Away(String),
    /// The registry refuses.
    #[error("says {status}{}: {message}", code.map(|code| format!(" (code {code})")).unwrap_or_default())]
    Refused {
        /// The status.
        status: u16,
        /// Its own code.
        code: Option<u32>,
        /// Its words.
        message: String,
    },
    /// What is there does not speak as a registry does.
    #[error("answers as no schema registry does: {0}")]
    Strange(String),
    /// No client can be made.
    #[error("cannot be asked: {0}")]
    Client(String),
}

impl RegistryError {
    /// Whether asking again may help.
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Whether it lacks what it was asked for.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if MISSING_CODES.contains(code))
    }
}

#[derive(Deserialize)]
struct Fault {
    error_code: Option<u32>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct WithId {
    id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schema {
    schema: String,
    /// None: Avro.
    schema_type: Option<String>,
}

/// One version of a subject.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SubjectVersion {
    /// The registry's number of it, from 1.
    pub(super) version: u32,
    /// The schema's text.
    pub(super) schema: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compatibility {
    compatibility_level: Option<String>,
}

/// Asks one registry.
pub(super) struct Client {
    http: reqwest::Client,
    address: Address,
}

impl Client {
    pub(super) fn new(address: &Address, limit: Duration) -> Result<Self, RegistryError> {
        // Another part of the process may have chosen already; either choice serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |error: reqwest::Error| RegistryError::Client(with_causes(&error));
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limit)
            .timeout(limit);
        if let Some(pem) = &address.authorities {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(wrong)?);
        }
        Ok(Self { http: builder.build().map_err(wrong)?, address: address.clone() })
    }

    pub(super) fn url(&self) -> &str {
        self.address.url.as_str()
    }

    /// The id under which a subject has this very schema.
    pub(super) async fn look_up(&self, subject: &str, schema: &str) -> Result<SchemaId, RegistryError> {
        let found: WithId =
            self.ask(Method::POST, &["subjects", subject], Some(json!({ "schema": schema }))).await?;
        Ok(SchemaId(found.id))
    }

    /// Registers a schema as the next version of a subject, if it does not have it.
    pub(super) async fn register(&self, subject: &str, schema: &str) -> Result<SchemaId, RegistryError> {
        let body = Some(json!({ "schema": schema }));
        let made: WithId = self.ask(Method::POST, &["subjects", subject, "versions"], body).await?;
        Ok(SchemaId(made.id))
    }

    /// The text of a schema.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<String, RegistryError> {
        let found: Schema = self.ask(Method::GET, &["schemas", "ids", &id.to_string()], None).await?;
        match found.schema_type.as_deref() {
            None | Some("AVRO") => Ok(found.schema),
            Some(other) => Err(RegistryError::Strange(format!("the schema is {}, not AVRO", quoted(other)))),
        }
    }

    /// The numbers of a subject's versions.
    pub(super) async fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        self.ask(Method::GET, &["subjects", subject, "versions"], None).await
    }

    /// One version of a subject.
    pub(super) async fn version(&self, subject: &str, version: u32) -> Result<SubjectVersion, RegistryError> {
        self.ask(Method::GET, &["subjects", subject, "versions", &version.to_string()], None).await
    }

    /// The rule of a subject, its own or the registry's.
    pub(super) async fn compatibility(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let mut url = self.url_of(&["config", subject]);
        url.set_query(Some("defaultToGlobal=true"));
        let found: Compatibility = self.send(Request::new(Method::GET, url)).await?;
        Ok(found.compatibility_level)
    }

    /// Sets the rule of a subject.
    pub(super) async fn demand_compatibility(&self, subject: &str) -> Result<(), RegistryError> {
        let body = Some(json!({ "compatibility": COMPATIBILITY }));
        self.ask::<Value>(Method::PUT, &["config", subject], body).await.map(drop)
    }

    fn url_of(&self, path: &[&str]) -> Url {
        let mut url = self.address.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<T, RegistryError> {
        let mut request = Request::new(method, self.url_of(path));
        if let Some(body) = body {
            let kind = reqwest::header::HeaderValue::from_static(MEDIA_TYPE);
            request.headers_mut().insert(reqwest::header::CONTENT_TYPE, kind);
            *request.body_mut() = Some(body.to_string().into());
        }
        self.send(request).await
    }

    async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, RegistryError> {
        let mut builder = reqwest::RequestBuilder::from_parts(self.http.clone(), request)
            .header(reqwest::header::ACCEPT, MEDIA_TYPE);
        if let Some((user, password)) = &self.address.user {
            builder = builder.basic_auth(user, Some(password.expose_secret()));
        }
        let answer = builder.send().await.map_err(unanswered)?;
        let status = answer.status();
        let body = read(answer).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| RegistryError::Strange(error.to_string()));
        }
        Err(refusal(status, &body))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> RegistryError {
    let fault: Option<Fault> = serde_json::from_slice(body).ok();
    let said = fault.as_ref().and_then(|fault| fault.message.as_deref()).map(quoted);
    let comes_back = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if comes_back {
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        return RegistryError::Away(format!("status {}{said}", status.as_u16()));
    }
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD say who asks"
        }
        _ if status.is_redirection() => "SCHEMA_REGISTRY_URL has to be where it really is",
        _ => "nothing more",
    };
    RegistryError::Refused {
        status: status.as_u16(),
        code: fault.and_then(|fault| fault.error_code),
        message: said.unwrap_or_else(|| hint.to_owned()),
    }
}

async fn read(mut answer: Response) -> Result<Vec<u8>, RegistryError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > ANSWER_LIMIT_BYTES {
            let why = format!("more than {ANSWER_LIMIT_BYTES} bytes");
            return Err(RegistryError::Strange(why));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn unanswered(error: reqwest::Error) -> RegistryError {
    let mut text = with_causes(&error.without_url());
    if text.contains(UNTRUSTED) {
        text.push_str("; SCHEMA_REGISTRY_CA names the authorities that are trusted beside the system's");
    }
    RegistryError::Away(text)
}

/// Somebody else's words: short, in one line.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
