//! Participants: who is asked at the moment, and who is held.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::act::Act;
use crate::call::Call;
use crate::error::Error;
use crate::http::Client;
use crate::ids::SagaId;
use crate::words::words;

words! {
    /// How a participant is.
    pub enum ParticipantState {
        /// It is asked.
        Answering = "answering",
        /// It does not answer, and is sent a probe now and then.
        Held = "held",
        /// An operator said that it is asked nothing.
        Paused = "paused",
        /// It comes back, and is asked a little more each second.
        Ramping = "ramping",
    }
}

/// An operator's last word on a participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantOrder {
    /// Whether it is paused by it.
    pub paused: bool,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A participant, over all orchestrator processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: ParticipantState,
    /// Why it is held: `silence`, `failures` or `operator`.
    pub cause: Option<String>,
    /// Since when it is held.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// How many sagas wait for it.
    pub waiting: u64,
    /// The oldest of them.
    pub oldest_saga_id: Option<SagaId>,
    /// Its last answer that was no failure.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub last_answer_at: Option<OffsetDateTime>,
    /// When one command is let through to it next.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub next_probe_at: Option<OffsetDateTime>,
    /// The last word of an operator on it.
    pub order: Option<ParticipantOrder>,
}

#[derive(Deserialize)]
struct ParticipantList {
    items: Vec<Participant>,
}

/// What can be done with participants: [`Client::participants`].
#[derive(Clone, Debug)]
pub struct Participants(pub(crate) Client);

impl Participants {
    /// All participants of the published definitions, by name.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn list(&self) -> Result<Vec<Participant>, Error> {
        let list: ParticipantList = self.0.json(Call::get("/api/participants")).await?;
        Ok(list.items)
    }

    /// Asks it nothing more, until it is resumed.
    ///
    /// # Errors
    /// There is no such participant, or whether it was done is not known.
    pub async fn pause(&self, name: &str, act: &Act) -> Result<Participant, Error> {
        self.act("/api/participants/{name}/pause", name, act).await
    }

    /// Asks it again, a little more each second.
    ///
    /// # Errors
    /// As [`Participants::pause`].
    pub async fn resume(&self, name: &str, act: &Act) -> Result<Participant, Error> {
        self.act("/api/participants/{name}/resume", name, act).await
    }

    async fn act(&self, route: &'static str, name: &str, act: &Act) -> Result<Participant, Error> {
        self.0.json(Call::post(route, act.key.as_deref()).at(name).json(act)?).await
    }
}
