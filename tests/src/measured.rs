//! A collector of measurements, as the services push them over OTLP.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A service, and the name of something that it measures.
pub type Series = (String, String);

/// Keeps the names of what is pushed to it. Ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    seen: Arc<Mutex<BTreeSet<Series>>>,
    endpoint: String,
    server: JoinHandle<()>,
}

impl Collector {
    /// Listens on a port of its own.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<BTreeSet<Series>>>::default();
        let service = MetricsServiceServer::new(Service(seen.clone()));
        let server = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            if let Err(error) = Server::builder().add_service(service).serve_with_incoming(incoming).await {
                eprintln!("the collector ended: {error}");
            }
        });
        Ok(Self { seen, endpoint, server })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What has come so far.
    ///
    /// # Errors
    /// A test has panicked while it looked.
    pub fn seen(&self) -> Result<BTreeSet<Series>> {
        Ok(self.seen.lock().ok().context("the collector has panicked")?.clone())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service(Arc<Mutex<BTreeSet<Series>>>);

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut seen = self.0.lock().map_err(|_| Status::internal("poisoned"))?;
        for of_resource in request.into_inner().resource_metrics {
            let attributes = of_resource.resource.unwrap_or_default().attributes;
            let named = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let service = match named.and_then(|attribute| attribute.value?.value) {
                Some(Value::StringValue(name)) => name,
                _ => String::new(),
            };
            let metrics = of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            seen.extend(metrics.map(|metric| (service.clone(), metric.name)));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
