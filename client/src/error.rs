//! What can go wrong with a request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::SagaId;
use crate::words::words;

words! {
    /// The kinds of problem that the service answers with: the stable end of a problem document's `type`.
    pub enum ProblemKind {
        /// The request cannot be read.
        Malformed = "malformed",
        /// A header is not as it should be.
        Header = "header",
        /// The query cannot be read.
        Query = "query",
        /// A forced outcome is not allowed or not known.
        ForcedOutcome = "forced-outcome",
        /// There is no such thing.
        NotFound = "not-found",
        /// The method is not allowed at this path.
        MethodNotAllowed = "method-not-allowed",
        /// The request did not arrive in time.
        RequestTimeout = "request-timeout",
        /// It is no longer kept.
        Gone = "gone",
        /// It has moved on since it was seen.
        MovedOn = "moved-on",
        /// Not possible in this state; [`Problem::allowed_in`] says in which it is.
        WrongState = "wrong-state",
        /// The body is too large.
        TooLarge = "too-large",
        /// The media type is not supported.
        MediaType = "media-type",
        /// Read, but wrong; [`Problem::errors`] names each field.
        Validation = "validation",
        /// The idempotency key was used for another request.
        KeyReused = "idempotency-key-reused",
        /// The definition is refused; [`Problem::errors`] has every reason.
        Definition = "definition",
        /// This version is published with other content.
        Published = "definition-published",
        /// The data is refused.
        Refused = "refused",
        /// Something is wrong on the service's side.
        Internal = "internal",
        /// Too busy.
        Busy = "busy",
        /// A part that the service needs is away.
        Unavailable = "unavailable",
        /// The process is stopping; another takes over.
        Stopping = "stopping",
        /// The process that owns the saga cannot be reached.
        Elsewhere = "elsewhere",
        /// No answer in time.
        Timeout = "timeout",
        /// The service is not ready.
        NotReady = "not-ready",
    }
}

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Where it is: a path into the body, the name of a query parameter or of a header.
    pub field: String,
    /// What was found and what is allowed.
    pub message: String,
    /// In a definition's text: the line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// In a definition's text: the character in its line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// A problem document (RFC 9457), as the service answers every error with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Problem {
    /// Stable, for programs: `urn:saga:problem:<kind>`; see [`Problem::kind`].
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The same for every problem of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, for people.
    pub detail: String,
    /// The saga concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saga_id: Option<SagaId>,
    /// Every wrong field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// For a definition that is refused because a run of it ends wrong: that run, a line for each transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// For a verb that is not possible now: the status of what it was meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// For a verb that is not possible now: the statuses that allow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_in: Vec<String>,
    /// From the header `Retry-After`: when to ask again, in whole seconds.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// Which kind of problem it is.
    pub fn kind(&self) -> ProblemKind {
        ProblemKind::from(self.type_uri.rsplit(':').next().unwrap_or_default())
    }
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client cannot be made or the request cannot be written: what was given is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The service refuses, or cannot do it now.
    #[error("{}", .problem.detail)]
    Problem {
        /// What it says.
        problem: Box<Problem>,
        /// Which route said so, e.g. `GET /api/sagas/{sagaId}`.
        route: String,
    },
    /// There is no connection to the service, so nothing has happened.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// The address that was tried.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The connection broke before the answer. Whether the request was carried out is not known; asking again with the
    /// same idempotency key does no harm.
    #[error("the connection to {url} broke before the answer")]
    Broken {
        /// The service's address.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// There was no answer in time. As with [`Error::Broken`], it may have been carried out.
    #[error("{url} did not answer within {} s", .limit.as_secs())]
    NoAnswer {
        /// The service's address.
        url: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The answer is none of this service: something else listens there, or stands in between.
    #[error("{route} answered {status} with something that is not the orchestrator's: {found}")]
    Unexpected {
        /// Which route was asked.
        route: String,
        /// The HTTP status of the answer.
        status: u16,
        /// What is wrong with it, and how it begins.
        found: String,
    },
}

impl Error {
    /// The problem document, if the service answered with one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem { problem, .. } => Some(problem),
            Self::Invalid(_)
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::NoAnswer { .. }
            | Self::Unexpected { .. } => None,
        }
    }

    /// Which kind of problem the service answered with.
    pub fn kind(&self) -> Option<ProblemKind> {
        self.problem().map(Problem::kind)
    }

    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Some(ProblemKind::NotFound)
    }

    /// Whether the saga has moved on since it was seen ([`crate::Act::if_revision`]).
    pub fn is_moved_on(&self) -> bool {
        self.kind() == Some(ProblemKind::MovedOn)
    }

    /// Whether it is not possible in the state that the saga or dead letter is in.
    pub fn is_wrong_state(&self) -> bool {
        self.kind() == Some(ProblemKind::WrongState)
    }
}
