//! What happens, as it happens: server-sent events, gone on with by themselves where a connection breaks.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName};
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
    /// The service has said itself not to come back before.
    told_to_wait: Duration,
    /// Something came: whoever is away now was there.
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
            told_to_wait: Duration::ZERO,
            was_there: false,
            ended: false,
        }
    }

    /// The next one; `None` after the last.
    ///
    /// # Errors
    /// The service refuses, e.g. because the journal no longer has what comes next ([`crate::ProblemKind::Gone`]); it
    /// cannot be reached at first, or not for a minute; streams that open say nothing; or what it sends cannot be read.
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
                None => self.read().await?,
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
            // The protocol's pause before a reconnection, which the service may set: nothing tells when it is back.
            let wait = self.come_back_after.saturating_mul(twice).min(LONGEST_WAIT);
            sleep(jittered(wait.max(std::mem::take(&mut self.told_to_wait)))).await;
        }
        self.away = Some((since, tries + 1));
        let mut call = self.call.clone();
        if let Some(last) = &self.last {
            call = call.header(HeaderName::from_static("last-event-id"), last.clone());
        }
        match self.client.stream(&call).await {
            // Nothing comes after what was heard last.
            Ok(response) if response.status() == StatusCode::NO_CONTENT => self.ended = true,
            Ok(response) if is_stream(&response) => self.open = Some((response, Frames::default())),
            Ok(_) => return Err(self.unreadable("something that is no event stream".to_owned())),
            Err(error) => match self.come_back(&error) {
                Some(wait) if since.elapsed().saturating_add(wait) < self.limit() => self.told_to_wait = wait,
                _ => return Err(error),
            },
        }
        Ok(())
    }

    /// For how long it is tried again while nothing is heard.
    fn limit(&self) -> Duration {
        if self.was_there { AWAY_LIMIT } else { self.client.retry_limit() }
    }

    /// When it may be another time, if soon. Who cannot be reached at all at first may not be there at all, and what stands
    /// in between and has no service behind it may never have one.
    fn come_back(&self, error: &Error) -> Option<Duration> {
        let soon = match error {
            Error::Problem { problem, .. } if matches!(problem.status, 429 | 503) => {
                return problem.retry_after;
            }
            Error::Problem { .. } | Error::Invalid(_) => false,
            Error::Unreachable { .. } => self.was_there,
            Error::Unexpected { status, .. } => self.was_there && matches!(status, 502..=504),
            Error::Broken { .. } | Error::NoAnswer { .. } => true,
        };
        soon.then_some(Duration::ZERO)
    }

    /// Reads on, or lets go of a connection that has ended, is broken or says nothing. The service says something at once:
    /// what opens and stays silent is gathered by somebody on the way.
    async fn read(&mut self) -> Result<(), Error> {
        let Some((response, frames)) = &mut self.open else { return Ok(()) };
        let quiet = if self.away.is_some() { self.client.answer_limit() } else { QUIET_LIMIT };
        match timeout(quiet, response.chunk()).await {
            Ok(Ok(Some(bytes))) => frames.push(&bytes),
            Ok(Ok(None) | Err(_)) | Err(_) => self.open = None,
        }
        let silent =
            self.open.is_none() && self.away.is_some_and(|(since, _)| since.elapsed() >= self.limit());
        if silent { Err(self.unreadable("an event stream that says nothing".to_owned())) } else { Ok(()) }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<T>, Error> {
        (self.away, self.was_there) = (None, true);
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

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"))
}

/// Up to half as long again, so that those who were sent away in one instant do not come back in one.
fn jittered(wait: Duration) -> Duration {
    let chance = u32::try_from(RandomState::new().hash_one(()) % 512).unwrap_or_default();
    wait + wait * chance / 1_024
}
