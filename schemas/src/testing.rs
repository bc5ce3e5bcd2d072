//! A schema registry for tests: the published REST shapes, over HTTP, in memory. It can be away, ask for a password, and
//! says what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::avsc;
use crate::compat;
use crate::registry::{Address, SchemaId};

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The rule of a subject that has none of its own.
const DEFAULT_RULE: &str = "BACKWARD";

/// A running registry. It ends when it is dropped.
pub struct StubRegistry {
    url: String,
    state: Arc<Mutex<State>>,
    serving: AbortHandle,
}

#[derive(Default)]
struct State {
    /// By id, less one.
    schemas: Vec<String>,
    /// The ids of each subject's versions.
    subjects: BTreeMap<String, Vec<u32>>,
    rules: BTreeMap<String, String>,
    asked: Vec<String>,
    away: bool,
    /// What a request must say under `Authorization`.
    authorization: Option<String>,
}

impl Drop for StubRegistry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer: status and body.
type Said = (StatusCode, Value);

impl StubRegistry {
    /// An empty one, on a free port.
    ///
    /// # Panics
    /// No port can be listened on.
    pub async fn start() -> Self {
        Self::listening(None).await
    }

    /// The same over TLS, with this certificate (PEM, of `localhost`) and its key.
    ///
    /// # Panics
    /// No port can be listened on, or certificate and key are none.
    pub async fn start_over_tls(certificate: &str, key: &str) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        Self::listening(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listening(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let url = match &tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { url, state, serving: serving.abort_handle() }
    }

    /// Its address, as `SCHEMA_REGISTRY_URL` takes it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The same, read.
    ///
    /// # Panics
    /// Never.
    pub fn address(&self) -> Address {
        Address::parse(&self.url()).expect("an address")
    }

    /// From now on, whether connections are broken off.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// From now on, who may ask.
    pub fn demand(&self, user: &str, password: &str) {
        let said = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        self.state().authorization = Some(said);
    }

    /// Every request since the last time, `<METHOD> <path>` each; also those that were not answered.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    /// The subjects and how many versions each has.
    pub fn subjects(&self) -> Vec<(String, usize)> {
        self.state().subjects.iter().map(|(name, ids)| (name.clone(), ids.len())).collect()
    }

    /// The rule that was set for a subject.
    pub fn rule(&self, subject: &str) -> Option<String> {
        self.state().rules.get(subject).cloned()
    }

    /// Registers a schema as a subject's next version, whatever it is.
    pub fn put(&self, subject: &str, schema: &str) -> SchemaId {
        SchemaId(self.state().put(subject, schema))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    if lock(&state).away {
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move { answer(request, &state).await.ok_or("away") }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// `None`: the connection is broken off.
async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Option<Response<String>> {
    let (parts, body) = request.into_parts();
    let body = collected(body).await?;
    let (status, said) = {
        let mut state = lock(state);
        state.asked.push(format!("{} {}", parts.method, parts.uri.path()));
        if state.away {
            return None;
        }
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if state.authorization.is_some() && state.authorization.as_deref() != given {
            fault(StatusCode::UNAUTHORIZED, 40101, "Unauthorized")
        } else {
            let url = Url::parse(&format!("http://stub{}", parts.uri)).ok()?;
            let segments = url.path_segments().map(|all| all.map(decoded).collect()).unwrap_or_default();
            state.route(&parts.method, segments, &body)
        }
    };
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, MEDIA_TYPE);
    response.body(said.to_string()).ok()
}

async fn collected(mut body: Incoming) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            let data: Bytes = data;
            all.extend_from_slice(&data);
        }
    }
    Some(all)
}

/// A segment of a path without its percent signs.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let hex = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.filter(|_| first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn fault(status: StatusCode, code: u32, message: impl Into<String>) -> Said {
    (status, json!({ "error_code": code, "message": message.into() }))
}

fn no_subject(subject: &str) -> Said {
    fault(StatusCode::NOT_FOUND, 40401, format!("Subject '{subject}' not found."))
}

impl State {
    fn route(&mut self, method: &Method, segments: Vec<String>, body: &[u8]) -> Said {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (method.as_str(), path.as_slice()) {
            ("GET", ["subjects"]) => (StatusCode::OK, json!(self.subjects.keys().collect::<Vec<_>>())),
            ("POST", ["subjects", subject]) => self.look_up(subject, &body),
            ("GET", ["subjects", subject, "versions"]) => match self.subjects.get(*subject) {
                Some(ids) => (StatusCode::OK, json!((1..=ids.len()).collect::<Vec<_>>())),
                None => no_subject(subject),
            },
            ("POST", ["subjects", subject, "versions"]) => self.register(subject, &body),
            ("GET", ["subjects", subject, "versions", version]) => self.version(subject, version),
            ("GET", ["schemas", "ids", id]) => self.schema(id),
            ("POST", ["compatibility", "subjects", subject, "versions", version]) => {
                self.compatibility(subject, version, &body)
            }
            ("PUT", ["config", subject]) => {
                let Some(rule) = body["compatibility"].as_str() else {
                    return fault(StatusCode::UNPROCESSABLE_ENTITY, 42203, "Invalid compatibility level");
                };
                self.rules.insert((*subject).to_owned(), rule.to_owned());
                (StatusCode::OK, json!({ "compatibility": rule }))
            }
            ("GET", ["config", subject]) => {
                let rule = self.rules.get(*subject).map_or(DEFAULT_RULE, String::as_str);
                (StatusCode::OK, json!({ "compatibilityLevel": rule }))
            }
            _ => fault(StatusCode::NOT_FOUND, 404, "HTTP 404 Not Found"),
        }
    }

    fn text(&self, id: u32) -> Option<&String> {
        self.schemas.get(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    fn put(&mut self, subject: &str, schema: &str) -> u32 {
        let at = self.schemas.iter().position(|known| same(known, schema)).unwrap_or_else(|| {
            self.schemas.push(schema.to_owned());
            self.schemas.len() - 1
        });
        let id = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let ids = self.subjects.entry(subject.to_owned()).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
        id
    }

    fn look_up(&self, subject: &str, body: &Value) -> Said {
        let Some(ids) = self.subjects.get(subject) else { return no_subject(subject) };
        let wanted = body["schema"].as_str().unwrap_or_default();
        let found = ids.iter().position(|id| self.text(*id).is_some_and(|known| same(known, wanted)));
        match found {
            Some(at) => {
                let said = json!({ "subject": subject, "id": ids[at], "version": at + 1, "schema": wanted });
                (StatusCode::OK, said)
            }
            None => fault(StatusCode::NOT_FOUND, 40403, "Schema not found"),
        }
    }

    fn register(&mut self, subject: &str, body: &Value) -> Said {
        let wanted = body["schema"].as_str().unwrap_or_default();
        let Ok(schema) = avsc::parse(wanted) else {
            return fault(StatusCode::UNPROCESSABLE_ENTITY, 42201, "Invalid schema");
        };
        let ids = self.subjects.get(subject).cloned().unwrap_or_default();
        let known = ids.iter().filter_map(|id| avsc::parse(self.text(*id)?).ok());
        let goes = known.into_iter().all(|known| compat::conflicts(&known.shape, &schema.shape).is_empty());
        if !goes {
            let message = format!(
                "Schema being registered is incompatible with an earlier schema for subject \"{subject}\""
            );
            return fault(StatusCode::CONFLICT, 409, message);
        }
        (StatusCode::OK, json!({ "id": self.put(subject, wanted) }))
    }

    fn version(&self, subject: &str, version: &str) -> Said {
        let Some(ids) = self.subjects.get(subject) else { return no_subject(subject) };
        let number = match version {
            "latest" => Some(ids.len()),
            number => number.parse().ok().filter(|number| (1..=ids.len()).contains(number)),
        };
        match number {
            Some(number) => {
                let id = ids[number - 1];
                let said =
                    json!({ "subject": subject, "id": id, "version": number, "schema": self.text(id) });
                (StatusCode::OK, said)
            }
            None => fault(StatusCode::NOT_FOUND, 40402, format!("Version {version} not found.")),
        }
    }

    fn schema(&self, id: &str) -> Said {
        match id.parse().ok().and_then(|id| self.text(id)) {
            Some(text) => (StatusCode::OK, json!({ "schema": text })),
            None => fault(StatusCode::NOT_FOUND, 40403, format!("Schema {id} not found")),
        }
    }

    fn compatibility(&self, subject: &str, version: &str, body: &Value) -> Said {
        let (status, known) = self.version(subject, version);
        if status != StatusCode::OK {
            return (status, known);
        }
        let (Ok(known), Ok(wanted)) = (
            avsc::parse(known["schema"].as_str().unwrap_or_default()),
            avsc::parse(body["schema"].as_str().unwrap_or_default()),
        ) else {
            return fault(StatusCode::UNPROCESSABLE_ENTITY, 42201, "Invalid schema");
        };
        let goes = compat::conflicts(&known.shape, &wanted.shape).is_empty();
        (StatusCode::OK, json!({ "is_compatible": goes }))
    }
}

fn same(one: &str, other: &str) -> bool {
    let read = |text| serde_json::from_str::<Value>(text).ok();
    read(one).is_some() && read(one) == read(other)
}
