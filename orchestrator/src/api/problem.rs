//! Problem documents (RFC 9457): the one form of every error of every route.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use saga_defs::definition::Problem as DefinitionProblem;
use saga_defs::ids::SagaId;
use schemas::FieldProblem;
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::store::StoreError;

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Wrong fields that are listed one by one.
const MAX_ERRORS: usize = 100;
/// Wrong fields that the detail tells.
const MAX_TOLD: usize = 10;
/// What clients are told to wait when the database is away.
const DATABASE_RETRY: Duration = Duration::from_secs(2);
/// What clients are told to wait when this process is stopping: another one takes over in about that time.
const STOPPING_RETRY: Duration = Duration::from_secs(1);

/// What a handler returns.
pub(crate) type Answer = Result<Response, Problem>;

macro_rules! kinds {
    ($($name:ident = $slug:literal, $status:ident, $title:literal;)*) => {
        /// The kinds of problem; the slug is the stable part of `type`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Kind { $($name),* }

        impl Kind {
            /// The stable `type`.
            pub(crate) const fn uri(self) -> &'static str {
                match self { $(Self::$name => concat!("urn:saga:problem:", $slug)),* }
            }

            const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

kinds! {
    Malformed = "malformed", BAD_REQUEST, "The request cannot be read";
    BadHeader = "header", BAD_REQUEST, "A header is not as it should be";
    BadQuery = "query", BAD_REQUEST, "The query cannot be read";
    ForcedOutcome = "forced-outcome", BAD_REQUEST, "A forced outcome is not allowed or not known";
    NotFound = "not-found", NOT_FOUND, "There is no such thing";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "The request did not arrive in time";
    Gone = "gone", GONE, "It is no longer kept";
    WrongState = "wrong-state", CONFLICT, "Not possible in this state";
    MovedOn = "moved-on", PRECONDITION_FAILED, "It has moved on since it was seen";
    TooLarge = "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    MediaType = "media-type", UNSUPPORTED_MEDIA_TYPE, "The media type is not supported";
    Validation = "validation", UNPROCESSABLE_ENTITY, "Read, but wrong";
    KeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The idempotency key was used for another request";
    Definition = "definition", UNPROCESSABLE_ENTITY, "The definition is refused";
    Published = "definition-published", UNPROCESSABLE_ENTITY, "This version is published with other content";
    Refused = "refused", UNPROCESSABLE_ENTITY, "The data is refused";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something is wrong on our side";
    Busy = "busy", SERVICE_UNAVAILABLE, "Too busy";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "A part is missing";
    Stopping = "stopping", SERVICE_UNAVAILABLE, "Stopping";
    Elsewhere = "elsewhere", SERVICE_UNAVAILABLE, "The owner cannot be reached";
    Timeout = "timeout", SERVICE_UNAVAILABLE, "No answer in time";
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "Not ready";
}

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where it is: a path into the body, the name of a query parameter or of a header.
    pub(crate) field: String,
    /// What was found and what is allowed.
    pub(crate) message: String,
    /// In a definition's text: the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// In a definition's text: the character in its line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), line: None, column: None }
    }

    /// A problem of a definition's text: what is wrong, and what to do.
    pub(crate) fn of_text(field: &str, problem: &DefinitionProblem) -> Self {
        let help = problem.help.iter().map(|help| format!("; {help}"));
        let message = std::iter::once(problem.message.clone()).chain(help).collect::<String>();
        Self { line: Some(problem.line), column: Some(problem.column), ..Self::new(field, message) }
    }

    /// A schema's complaint about a field.
    pub(crate) fn plain(problem: &FieldProblem) -> Self {
        Self::new(&*problem.field, &*problem.message)
    }

    /// A schema's complaint about a field below `prefix`.
    pub(crate) fn below(prefix: &str, problem: &FieldProblem) -> Self {
        let field =
            if problem.field.is_empty() { prefix.to_owned() } else { format!("{prefix}.{}", problem.field) };
        Self::new(field, &*problem.message)
    }
}

/// An error as it is sent: `application/problem+json`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(crate) struct ProblemView<'a> {
    /// Stable, for programs: `urn:saga:problem:<kind>`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The same for every problem of the type.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong this time, for people.
    detail: &'a str,
    /// The saga concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    saga_id: Option<String>,
    /// Every wrong field.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// For a definition that is refused because a run of it ends wrong: that run, a line for each transition.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    /// For a verb that is not possible now: the saga's or dead letter's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<&'a str>,
    /// For a verb that is not possible now: the statuses that allow it.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allowed_in: &'a [&'static str],
}

/// An error on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    kind: Kind,
    detail: Cow<'static, str>,
    saga: Option<SagaId>,
    errors: Vec<FieldError>,
    run: Option<String>,
    current: Option<String>,
    allowed_in: &'static [&'static str],
    allow: Option<String>,
    retry_after: Option<Duration>,
    etag: Option<HeaderValue>,
    close: bool,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            kind,
            detail: detail.into(),
            saga: None,
            errors: Vec::new(),
            run: None,
            current: None,
            allowed_in: &[],
            allow: None,
            retry_after: None,
            etag: None,
            close: false,
        }))
    }

    /// Fields that were read and are wrong.
    pub(crate) fn validation(errors: Vec<FieldError>) -> Self {
        Self::fields(Kind::Validation, errors)
    }

    /// One such field.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::validation(vec![FieldError::new(field, message)])
    }

    /// Of that kind, because of these fields. What is repeated of them is bounded: a body may have thousands.
    pub(crate) fn fields(kind: Kind, mut errors: Vec<FieldError>) -> Self {
        let sentence = |error: &FieldError| match (error.field.as_str(), error.line, error.column) {
            (_, Some(line), Some(column)) => format!("line {line}, column {column}: {}", error.message),
            ("", ..) => error.message.clone(),
            (field, ..) => format!("{field}: {}", error.message),
        };
        let mut detail = errors.iter().take(MAX_TOLD).map(sentence).collect::<Vec<_>>().join("; ");
        if errors.len() > MAX_TOLD {
            detail.push_str(&format!("; and {} more", errors.len() - MAX_TOLD));
        }
        errors.truncate(MAX_ERRORS);
        let mut problem = Self::new(kind, detail);
        problem.0.errors = errors;
        problem
    }

    pub(crate) fn no_saga(id: SagaId) -> Self {
        Self::new(Kind::NotFound, format!("no saga has the id {id}")).of(id)
    }

    pub(crate) fn stopping() -> Self {
        Self::new(Kind::Stopping, "the service is stopping; ask again, another process takes over")
            .retry_after(STOPPING_RETRY)
    }

    /// A request came upon a defect of ours.
    pub(crate) fn defect() -> Self {
        Self::new(Kind::Internal, "the request could not be handled; the log has the cause")
    }

    /// Names the saga concerned.
    pub(crate) fn of(mut self, saga: SagaId) -> Self {
        self.0.saga = Some(saga);
        self
    }

    /// Says what the state is and which ones would allow it.
    pub(crate) fn in_state(mut self, current: &str, allowed_in: &'static [&'static str]) -> Self {
        self.0.current = Some(current.to_owned());
        self.0.allowed_in = allowed_in;
        self
    }

    /// Shows a run that ends wrong.
    pub(crate) fn showing(mut self, run: Option<String>) -> Self {
        self.0.run = run;
        self
    }

    /// The `Allow` header.
    pub(crate) fn allow(mut self, methods: String) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// The `Retry-After` header.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The `ETag` header: what it is now.
    pub(crate) fn etag(mut self, etag: HeaderValue) -> Self {
        self.0.etag = Some(etag);
        self
    }

    /// Ends the connection: what is still coming over it is of no use.
    pub(crate) fn close(mut self) -> Self {
        self.0.close = true;
        self
    }
}

/// What a failed read means for the client. The cause is logged here and nowhere else; it is not sent.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unknown(_) | StoreError::TryAgain { .. } => {
                tracing::warn!(
                    error = chain(&error),
                    "a request could not be answered: the database is away"
                );
                Self::new(Kind::Unavailable, "the database cannot be reached at the moment")
                    .retry_after(DATABASE_RETRY)
            }
            StoreError::Refused { .. } | StoreError::Row(_) => {
                tracing::error!(error = chain(&error), "a request could not be answered");
                Self::new(Kind::Internal, "stored data could not be read; the service's log has the cause")
            }
        }
    }
}

/// An error with its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl warp::reject::Reject for Problem {}

impl warp::Reply for Problem {
    fn into_response(self) -> Response {
        let Parts { kind, detail, saga, errors, run, current, allowed_in, allow, retry_after, etag, close } =
            *self.0;
        let status = kind.status();
        let view = ProblemView {
            kind: kind.uri(),
            title: kind.title(),
            status: status.as_u16(),
            detail: &detail,
            saga_id: saga.map(|id| id.to_string()),
            errors: &errors,
            run: run.as_deref(),
            current: current.as_deref(),
            allowed_in,
        };
        let mut response = json_as(status, PROBLEM_JSON, &view);
        let headers = response.headers_mut();
        if let Some(methods) = allow.and_then(|methods| HeaderValue::from_str(&methods).ok()) {
            headers.insert(header::ALLOW, methods);
        }
        if let Some(wait) = retry_after {
            // Whole seconds, rounded up: coming back too early is of no use.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64));
        }
        if let Some(etag) = etag {
            headers.insert(header::ETAG, etag);
        }
        if close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_as(status, "application/json", value)
}

fn json_as(status: StatusCode, media_type: &'static str, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => with_body(status, media_type, body.into()),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            with_body(StatusCode::INTERNAL_SERVER_ERROR, PROBLEM_JSON, bytes::Bytes::from_static(b"{}"))
        }
    }
}

/// An answer of that media type.
pub(crate) fn with_body(status: StatusCode, media_type: &'static str, body: bytes::Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
