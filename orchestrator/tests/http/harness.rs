//! A service per test: its own database, its own port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use local_postgres::TestServer;
use messaging::embedded::Broker;
use messaging::topics::EMBEDDED_PARTITIONS;
use migrations::apply;
use migrations::orchestrator::Migrator;
use orchestrator::api::bulk::Actions;
use orchestrator::api::hands::OwnHands;
use orchestrator::api::{ActorHeader, Api, HttpLimits, serve};
use orchestrator::bulk::driver::Driver;
use orchestrator::definitions::Definitions;
use orchestrator::engine::participants::health::Limits;
use orchestrator::metrics::Metrics;
use orchestrator::participants::Desk;
use orchestrator::registration::Registrar;
use orchestrator::store::Store;
use orchestrator::store::bulk::Bulk;
use orchestrator::store::queries::Reads;
use reqwest::{Method, RequestBuilder, StatusCode};
use saga_defs::Shipped;
use saga_defs::definition::Definition;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_engine::FakeEngine;

pub(crate) const USER: &str = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
pub(crate) const RESOURCE: &str = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0c";
pub(crate) const NOBODY: &str = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000";

/// A second definition, with steps after the point of no return.
const DELIVERY: &str = r#"
name = "delivery"
version = 3
input = "booking.StartBooking"

[[step]]
name = "reserve"
participant = "booking"
kind = "compensatable"
command = "booking.ReserveBooking"
reply = "booking.BookingReserved"
compensation = "booking.CancelBooking"
retry = { max_attempts = 1 }
compensation_retry = { max_attempts = 1 }

[[step]]
name = "confirm"
participant = "booking"
kind = "retriable"
command = "booking.ConfirmBooking"
reply = "booking.BookingConfirmed"
retry = { max_attempts = 2 }
"#;

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<std::io::Result<()>>,
    pub(crate) broker: Broker,
    /// The connections of its engine.
    pub(crate) engine_side: Store,
    url: String,
    db: DatabaseConnection,
    client: reqwest::Client,
}

pub(crate) struct Options {
    pub(crate) limits: HttpLimits,
    pub(crate) allow_forced_outcomes: bool,
    /// Whether the definition `booking` is published.
    pub(crate) booking: bool,
    /// What says who acts.
    pub(crate) actor_header: Option<ActorHeader>,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: HttpLimits::default(), allow_forced_outcomes: true, booking: true, actor_header: None }
    }
}

/// An answer that was read.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A problem in one line, after checking that it is one.
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{} {}", self.status, self.text);
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{body}");
        assert!(!self.header("x-request-id").is_empty());
        let kind = body["type"].as_str().unwrap().strip_prefix("urn:saga:problem:").unwrap().to_owned();
        let mut line = format!("{} {kind}: {}", self.status.as_u16(), body["detail"].as_str().unwrap());
        if let Some(errors) = body["errors"].as_array() {
            let fields: Vec<&str> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
            line.push_str(&format!(" [{}]", fields.join(", ")));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(self.header("retry-after").parse::<u64>().unwrap() > 0);
        }
        line
    }
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let url = TestServer::shared().fresh_database();
        Self::start_on(&url, options).await
    }

    pub(crate) async fn start_on(url: &str, options: Options) -> Self {
        let db = Database::connect(url).await.unwrap();
        apply::apply::<Migrator>(&db).await.unwrap();
        let booking = Shipped::named("booking").filter(|_| options.booking);
        let booking = booking.map(|shipped| shipped.definition());
        let definitions = Definitions::of(booking.into_iter().chain([Definition::parse(DELIVERY).unwrap()]));
        let engine = Arc::new(FakeEngine::new(db.clone(), definitions.clone()));
        let broker = Broker::start(&[]).unwrap();
        let store = Store::connect(&url.to_owned().into()).await.unwrap();
        let reads = Reads::connect(&url.to_owned().into()).await.unwrap();
        let desk =
            Desk::open(store.clone(), reads.clone(), "http://here".into(), Limits::default()).await.unwrap();
        let engine_side = store.clone();
        let registrar = Registrar::new(store, definitions.clone(), broker.settings(), EMBEDDED_PARTITIONS, 1);
        let bulk = Bulk::connect(&url.to_owned().into()).await.unwrap();
        let wake = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let hands = OwnHands::new(
            engine.clone(),
            reads.clone(),
            options.limits.forward,
            options.actor_header.clone(),
        )
        .unwrap();
        let metrics = Metrics::new().unwrap();
        let driver =
            Driver::new(bulk.clone(), Arc::new(hands), definitions.clone(), wake.clone(), metrics.clone());
        tokio::spawn(driver.run(stop.clone()));
        let api = Api {
            engine: engine.clone(),
            reads,
            actions: Actions { store: bulk, wake },
            participants: desk,
            definitions,
            registrar,
            kafka: broker.settings(),
            command_partitions: EMBEDDED_PARTITIONS,
            metrics,
            allow_forced_outcomes: options.allow_forced_outcomes,
            actor_header: options.actor_header,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serve(api, listener.into(), stop.clone(), options.limits));
        // Every client needs one, and only the first installation in a process succeeds.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let url = url.to_owned();
        Self { address, engine, stop, served, broker, engine_side, url, db, client }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answered {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answered { status, headers, text: answer.text().await.unwrap() }
    }

    /// The engine's side of the service's database.
    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.url.clone().into()).await.unwrap()
    }

    /// What the API reads with.
    pub(crate) fn reads(&self) -> Reads {
        Reads::new(self.db.clone())
    }

    /// An answer without its body, which may never end.
    pub(crate) async fn head_of(&self, request: RequestBuilder) -> Answered {
        let answer = request.send().await.unwrap();
        Answered { status: answer.status(), headers: answer.headers().clone(), text: String::new() }
    }

    /// The column `text` of a query.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let statement = Statement::from_string(DbBackend::Postgres, query);
        let rows = self.db.query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get("", "text").unwrap()).collect()
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.send(self.request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answered {
        self.send(self.request("POST", path).json(body)).await
    }

    /// A JSON body with headers.
    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answered {
        let request = headers
            .iter()
            .fold(self.request("POST", path), |request, (name, value)| request.header(*name, *value));
        self.send(request.json(body)).await
    }
}

/// Waits for what must become true.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within 15 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
