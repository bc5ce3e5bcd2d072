//! What the API asks of the engine, as a trait, so that the HTTP side can be tested without one.

use std::time::Duration;

use async_trait::async_trait;
use saga_defs::ids::SagaId;
use saga_defs::saga::Saga;

use crate::engine::handle::{
    Act, ActError, ActOnLetter, EngineHandle, EngineHealth, Looked, StartError, StartSaga, Waited,
};

/// The engine, as the API sees it; [`EngineHandle`] has the meaning of each.
#[async_trait]
#[expect(missing_docs, reason = "the same as on EngineHandle")]
pub trait Engine: Send + Sync + 'static {
    async fn start(&self, start: StartSaga) -> Result<Saga, StartError>;
    async fn wait_for_end(&self, saga: SagaId, limit: Duration) -> Waited;
    async fn look(&self, saga: SagaId, limit: Duration) -> Result<Looked, ActError>;
    async fn act(&self, act: Act) -> Result<Saga, ActError>;
    async fn act_on_letter(&self, act: ActOnLetter) -> Result<(), ActError>;
    fn health(&self) -> EngineHealth;
}

#[async_trait]
impl Engine for EngineHandle {
    async fn start(&self, start: StartSaga) -> Result<Saga, StartError> {
        Self::start(self, start).await
    }

    async fn wait_for_end(&self, saga: SagaId, limit: Duration) -> Waited {
        Self::wait_for_end(self, saga, limit).await
    }

    async fn look(&self, saga: SagaId, limit: Duration) -> Result<Looked, ActError> {
        Self::look(self, saga, limit).await
    }

    async fn act(&self, act: Act) -> Result<Saga, ActError> {
        Self::act(self, act).await
    }

    async fn act_on_letter(&self, act: ActOnLetter) -> Result<(), ActError> {
        Self::act_on_letter(self, act).await
    }

    fn health(&self) -> EngineHealth {
        Self::health(self)
    }
}
