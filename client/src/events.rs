//! What happens, as it happens: server-sent events, gone on with by themselves where a connection breaks.

use std::time::Duration;

use reqwest::header::HeaderName;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use crate::call::Call;
use crate::error::Error;
use crate::frames::{Frame, Frames};
use crate::http::Client;
use crate::ids::SagaId;
use crate::sagas::{HistoryItem, SagaStatus};

/// The service gives a sign of life four times as often; without one the connection is taken for broken.
const QUIET_LIMIT: Duration = Duration::from_secs(60);
/// The first wait before a stream is opened again, where the service does not say another (`retry:`). It is the
/// protocol that has clients wait: a service that starts anew is not to be run over by all who listened.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);
/// The longest wait between two attempts; each is twice the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// So long a service that was there may be away before that is an error.
const AWAY_LIMIT: Duration = Duration::from_secs(60);

/// One transition of a saga, as it is told to those who listen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SagaEvent {
    /// Whose.
    pub saga_id: SagaId,
    /// Its definition's name; none where the saga has left meanwhile.
    pub definition: Option<String>,
    /// Its definition's version.
    pub version: Option<u32>,
    /// The saga's revision afterwards.
    pub revision: u32,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What happened: its `type`, and what belongs to it.
    pub event: Map<String, Value>,
    /// What was to be done about it, each with its `type`.
    pub effects: Vec<Map<String, Value>>,
    /// The saga's status afterwards.
    pub status: SagaStatus,
}

impl From<SagaEvent> for HistoryItem {
    fn from(told: SagaEvent) -> Self {
        let SagaEvent { revision, at, event, effects, status, .. } = told;
        Self { revision, at, event, effects, status }
    }
}

/// What a stream is of.
pub(crate) struct Kind<T> {
    /// The name of its events.
    pub(crate) name: &'static str,
    /// Whether the stream ends with this one.
    pub(crate) is_last: fn(&T) -> bool,
}

/// Events that come one after the other. Where the connection breaks, it is opened again from the last one on, so none is
/// missing and none comes twice.
///
/// ```no_run
/// # async fn example(client: saga_client::Client, saga: saga_client::SagaId) -> Result<(), saga_client::Error> {
/// let mut events = client.sagas().watch(saga, None);
/// while let Some(transition) = events.next().await? {
///     println!("{} is {}", transition.saga_id, transition.status);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Events<T> {
    client: Client,
    call: Call,
    kind: Kind<T>,
    last: Option<String>,
    come_back_after: Duration,
    open: Option<(Response, Frames)>,
    /// Since when nothing was heard, and how often it was tried since then.
    away: Option<(Instant, u32)>,
    was_there: bool,
    ended: bool,
}

impl<T: DeserializeOwned> Events<T> {
    pub(crate) fn new(client: Client, call: Call, kind: Kind<T>, last: Option<String>) -> Self {
        Self {
            client,
            call,
            kind,
            last,
            come_back_after: COME_BACK_AFTER,
            open: None,
            away: None,
            was_there: false,
            ended: false,
        }
    }

    /// The next one; `None` after the last.
    ///
    /// # Errors
    /// The service refuses, e.g. because the journal no longer has what comes next ([`crate::ProblemKind::Gone`]); it
    /// cannot be reached at first, or not for a minute; or what it sends cannot be read.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        while !self.ended {
            let Some((_, frames)) = &mut self.open else {
                self.connect().await?;
                continue;
            };
            match frames.next().map_err(|found| self.unreadable(found.to_owned()))? {
                Some(frame) => {
                    if let Some(told) = self.take(frame)? {
                        return Ok(Some(told));
                    }
                }
                None => self.read().await,
            }
        }
        Ok(None)
    }

    /// The id of the last event: a later stream of the same may begin behind it.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last.as_deref()
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let (since, tries) = self.away.unwrap_or_else(|| (Instant::now(), 0));
        if self.was_there || tries > 0 {
            let twice = 2_u32.saturating_pow(tries);
            sleep(self.come_back_after.saturating_mul(twice).min(LONGEST_WAIT)).await;
        }
        self.away = Some((since, tries + 1));
        let mut call = self.call.clone();
        if let Some(last) = &self.last {
            call = call.header(HeaderName::from_static("last-event-id"), last.clone());
        }
        let limit = if self.was_there { AWAY_LIMIT } else { self.client.retry_limit() };
        match self.client.stream(&call).await {
            // Nothing comes after what was heard last.
            Ok(response) if response.status() == StatusCode::NO_CONTENT => self.ended = true,
            Ok(response) => {
                self.was_there = true;
                self.open = Some((response, Frames::default()));
            }
            Err(error) if self.may_come_back(&error) && since.elapsed() < limit => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether it may be another time soon. Who cannot be reached at all at first may not be there at all.
    fn may_come_back(&self, error: &Error) -> bool {
        match error {
            Error::Problem { problem, .. } => matches!(problem.status, 429 | 503),
            Error::Unreachable { .. } => self.was_there,
            Error::Broken { .. } | Error::NoAnswer { .. } => true,
            Error::Invalid(_) | Error::Unexpected { .. } => false,
        }
    }

    /// Reads on, or lets go of a connection that has ended, is broken or says nothing.
    async fn read(&mut self) {
        let Some((response, frames)) = &mut self.open else { return };
        match timeout(QUIET_LIMIT, response.chunk()).await {
            Ok(Ok(Some(bytes))) => frames.push(&bytes),
            Ok(Ok(None) | Err(_)) | Err(_) => self.open = None,
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<T>, Error> {
        self.away = None;
        self.come_back_after = frame.retry.unwrap_or(self.come_back_after);
        self.last = frame.id.or_else(|| self.last.take());
        if frame.event != self.kind.name {
            return Ok(None);
        }
        let told: T = serde_json::from_str(&frame.data)
            .map_err(|error| self.unreadable(format!("an event that cannot be read: {error}")))?;
        self.ended = (self.kind.is_last)(&told);
        Ok(Some(told))
    }

    fn unreadable(&self, found: String) -> Error {
        Error::Unexpected { route: self.call.name(), status: StatusCode::OK.as_u16(), found }
    }
}
