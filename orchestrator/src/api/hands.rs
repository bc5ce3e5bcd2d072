//! Does what a driver asks for: through the engine here, or at the process that owns the saga. Both know it by the same
//! idempotency key, so that it is done once, wherever it is tried.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use saga_defs::Data;
use saga_defs::ids::DeadLetterId;
use uuid::Uuid;

use super::Engine;
use super::actor::ActorHeader;
use super::dead_letters::REDRIVE_ROUTE;
use super::forward::{Forwarder, Told};
use super::idempotency::key_of;
use crate::bulk::hands::{ActOnSaga, Done, Hands, SendLetter};
use crate::engine::handle::{Act, ActError, ActOnLetter, Expected, LetterVerb, RequestKey};
use crate::store::queries::Reads;

/// The hands of this process.
pub struct OwnHands {
    engine: Arc<dyn Engine>,
    reads: Reads,
    forwarder: Forwarder,
}

impl OwnHands {
    /// With a limit for an exchange with another process, and what tells it who acts.
    ///
    /// # Errors
    /// When the client for requests to other processes cannot be built.
    pub fn new(
        engine: Arc<dyn Engine>,
        reads: Reads,
        limit: std::time::Duration,
        actor: Option<ActorHeader>,
    ) -> std::io::Result<Self> {
        let forwarder = Forwarder::new(limit, actor).map_err(std::io::Error::other)?;
        Ok(Self { engine, reads, forwarder })
    }

    /// What the engine's refusal means. What cannot be done because it is done already was perhaps done by this very key.
    async fn refused(&self, error: ActError, own: &Own, target: &str) -> Done {
        match error {
            ActError::KeyTaken => Done::Yes,
            ActError::Busy { .. } | ActError::Stopping | ActError::NotHere { owner: None } => {
                Done::NotNow(error.to_string())
            }
            ActError::NotHere { owner: Some(owner) } => {
                let Own { key, body, actor, expected, .. } = own;
                match self.forwarder.post(&owner, target, key, actor, expected.as_ref(), body).await {
                    Told::Answer(status, _) if status.is_success() => Done::Yes,
                    Told::Answer(status, detail)
                        if status.is_server_error()
                            || status == StatusCode::TOO_MANY_REQUESTS
                            || status == StatusCode::REQUEST_TIMEOUT =>
                    {
                        Done::NotNow(detail)
                    }
                    Told::Answer(_, detail) => self.done_before(&own.request, detail).await,
                    Told::Nothing(why) => Done::NotNow(why),
                }
            }
            ActError::NotFound
            | ActError::NotAllowed { .. }
            | ActError::LetterNotOpen { .. }
            | ActError::MovedOn { .. }
            | ActError::Defect
            | ActError::Refused { .. } => self.done_before(&own.request, sentence(&error)).await,
        }
    }

    async fn done_before(&self, request: &RequestKey, otherwise: String) -> Done {
        match self.reads.request_key(&request.key_hash).await {
            Ok(Some(_)) => Done::Yes,
            Ok(None) => Done::No(otherwise),
            Err(error) => Done::NotNow(error.to_string()),
        }
    }
}

/// One request as another process would get it.
struct Own {
    key: String,
    actor: Arc<str>,
    body: Data,
    request: RequestKey,
    expected: Option<Expected>,
}

impl Own {
    fn new(action: Uuid, subject: Uuid, route: &str, actor: &Arc<str>, body: Data) -> Self {
        let key = key_text(action, subject);
        let request = key_of(&key, route, &subject.to_string(), &body);
        Self { key, actor: actor.clone(), body, request, expected: None }
    }
}

fn key_text(action: Uuid, subject: Uuid) -> String {
    format!("bulk-{action}-{subject}")
}

fn sentence(error: &ActError) -> String {
    match error {
        ActError::NotAllowed { status, .. } => format!("not possible: the saga is {}", status.as_str()),
        ActError::LetterNotOpen { status } => format!("the letter is {status}"),
        other => other.to_string(),
    }
}

#[async_trait]
impl Hands for OwnHands {
    async fn send(&self, send: SendLetter) -> Done {
        let mut body = Data::new();
        body.insert("reason".to_owned(), send.reason.to_string().into());
        if let Some(edit) = &send.edit {
            body.insert("value".to_owned(), serde_json::Value::Object(edit.fields.clone()));
        }
        let own = Own::new(send.action, send.letter.as_uuid(), REDRIVE_ROUTE, &send.actor, body);
        let act = ActOnLetter {
            letter: send.letter,
            verb: LetterVerb::Redrive { edit: send.edit },
            reason: send.reason,
            actor: send.actor,
            key: Some(own.request),
        };
        match self.engine.act_on_letter(act).await {
            Ok(()) => Done::Yes,
            Err(error) => {
                let target = format!("/api/dead-letters/{}/redrive", send.letter);
                self.refused(error, &own, &target).await
            }
        }
    }

    async fn was_sent(&self, action: Uuid, letter: DeadLetterId) -> Done {
        let key = key_of(&key_text(action, letter.as_uuid()), "", "", &Data::new());
        self.done_before(&key, "it was not sent".to_owned()).await
    }

    async fn act(&self, act: ActOnSaga) -> Done {
        let mut body = Data::new();
        body.insert("reason".to_owned(), act.reason.to_string().into());
        let own = Own::new(act.action, act.saga.as_uuid(), act.verb.as_str(), &act.actor, body);
        let own = Own { expected: act.expected.clone(), ..own };
        let target = format!("/api/sagas/{}/{}", act.saga, act.verb.as_str());
        let asked = Act {
            saga: act.saga,
            verb: act.verb,
            reason: act.reason,
            actor: act.actor,
            expected: act.expected,
            key: Some(own.request),
        };
        match self.engine.act(asked).await {
            Ok(_) => Done::Yes,
            Err(error) => self.refused(error, &own, &target).await,
        }
    }
}
