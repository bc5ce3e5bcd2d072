//! What every handler has at hand.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use saga_defs::definition::Definition;
use saga_defs::ids::DefinitionRef;
use saga_defs::saga::Saga;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;

use super::Api;
use super::actor::actor;
use super::feed::Feed;
use super::forward::Forwarder;
use super::mount::Asked;
use super::problem::{Problem, json};
use super::trace;
use super::wire::SagaView;
use crate::engine::shards::shown_wake;
use crate::store::queries::StoredSaga;

/// The API's parts, shared by all requests.
pub(crate) struct App {
    pub(crate) api: Api,
    pub(crate) forwarder: Forwarder,
    /// What those are told who listen to events.
    pub(crate) feed: Feed,
    /// Who may ask the broker something at the moment.
    pub(crate) broker_looks: Arc<Semaphore>,
    /// How often a quiet event stream gives a sign of life.
    pub(crate) heartbeat: Duration,
    /// Ends what only waits.
    pub(crate) stop: CancellationToken,
    /// The OpenAPI document, once the routes that it describes are there.
    pub(crate) document: OnceLock<bytes::Bytes>,
}

impl App {
    /// A definition, also one that another process has published since this one started.
    pub(crate) async fn definition(&self, id: &DefinitionRef) -> Result<Option<Arc<Definition>>, Problem> {
        Ok(self.api.registrar.find(id).await?.map(|entry| entry.definition))
    }

    /// Who asked, for the audit.
    pub(crate) fn actor(&self, asked: &Asked) -> Result<Arc<str>, Problem> {
        actor(self.api.actor_header.as_ref(), &asked.headers)
    }

    /// A saga, as the engine gave it, as it is sent.
    pub(crate) async fn view(&self, saga: &Saga) -> Result<SagaView, Problem> {
        let definition = self.definition(&saga.definition).await?;
        // As its row has it, which was written at its last transition.
        let wake_at = definition.as_deref().and_then(|found| shown_wake(found, saga, saga.updated_at));
        Ok(SagaView::of(saga, definition.as_deref(), wake_at))
    }

    /// A stored saga as it is sent.
    pub(crate) async fn stored_view(&self, stored: &StoredSaga) -> Result<SagaView, Problem> {
        let definition = self.definition(&stored.saga.definition).await?;
        Ok(SagaView::of(&stored.saga, definition.as_deref(), stored.wake_at))
    }
}

/// A saga as an answer, with its revision as the entity tag.
pub(crate) fn saga_response(status: StatusCode, saga: &Saga, view: &SagaView) -> Response {
    let mut response = json(status, view);
    response.headers_mut().insert(header::ETAG, etag(u64::from(saga.revision.0)));
    trace::note(&mut response, saga);
    response
}

/// A saga's revision as an entity tag.
pub(crate) fn etag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}
