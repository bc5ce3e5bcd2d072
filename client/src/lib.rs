//! A typed client of the orchestrator's HTTP API.
//!
//! Everything that acts carries an idempotency key, one of the client's own unless you give one, so that the client may
//! ask again by itself: after `503` and `429` when the service says, and when a connection breaks before the answer.
//! What the service refuses comes as a typed [`Problem`].
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use saga_client::{Act, Client, SagaFilter, SagaStatus, StartSaga};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), saga_client::Error> {
//! let client = Client::new("http://127.0.0.1:8080")?;
//!
//! // The key makes it one saga, however often this runs.
//! let start = StartSaga::of("booking")
//!     .input(json!({
//!         "userId": "5c0a3a1e-6d2b-4a55-9f0e-0a7d3b8f1c11",
//!         "resourceId": "2f1f6d0a-1b7c-4d1e-8a3a-6f0f4f0b9e22",
//!         "amountMinor": 4200,
//!         "currency": "EUR",
//!     }))
//!     .business_key("order-4711")
//!     .idempotency_key("order-4711")
//!     .wait(Duration::from_secs(10));
//! let saga = client.sagas().start(&start).await?;
//! println!("{} is {}", saga.saga_id, saga.status);
//!
//! // Let every stuck saga of a definition try again.
//! let stuck = SagaFilter { status: Some(SagaStatus::Stuck), definition: Some("booking".into()), ..SagaFilter::default() };
//! let mut pages = client.sagas().pages(&stuck);
//! while let Some(page) = pages.next().await? {
//!     for saga in page {
//!         match client.sagas().redrive(saga.saga_id, &Act::because("the gateway is back")).await {
//!             Ok(saga) => println!("{} is {}", saga.saga_id, saga.status),
//!             // It moved on in the meantime.
//!             Err(error) if error.is_wrong_state() => println!("{error}"),
//!             Err(error) => return Err(error),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod act;
mod audit;
mod bookings;
mod bulk;
mod call;
mod dead_letters;
mod definitions;
mod error;
mod events;
mod frames;
mod http;
mod ids;
mod page;
mod participants;
mod sagas;
mod why;
mod words;

pub use act::Act;
pub use audit::{Audit, AuditEntry, AuditFilter};
pub use bookings::{Booking, BookingStatus, Bookings, ForcedOutcome, StartBooking};
pub use bulk::{
    BulkAction, BulkItem, BulkOutcome, BulkStatus, Course, DryRun, Redrives, SagaActions, SagaVerb,
    StartRedrive, StartSagaAction,
};
pub use dead_letters::{
    DeadLetter, DeadLetterCounts, DeadLetterFilter, DeadLetterGroup, DeadLetterItem, DeadLetterStatus,
    DeadLetters, DecodedMessage, FieldChange, LineageEntry, RecordHeader,
};
pub use definitions::{
    CheckedDefinition, Definition, DefinitionChange, DefinitionItem, DefinitionList, DefinitionStep,
    Definitions, DivergingRuns, ModelCheck, NewDefinition, OpenSagas, Plan, ReplayedRuns, VersionPlan,
};
pub use error::{Error, FieldError, Problem, ProblemKind};
pub use events::{Events, SagaEvent};
pub use http::{Client, ClientBuilder};
pub use ids::{BulkActionId, DeadLetterId, GroupId, SagaId};
pub use page::{Page, Pages, Paging};
pub use participants::{Participant, ParticipantOrder, ParticipantState, Participants};
pub use sagas::{
    HistoryItem, Reason, Saga, SagaFilter, SagaStatus, Sagas, StartSaga, Step, StepError, StepKind,
    StepStatus,
};
pub use why::{
    AwaitedCommand, Cause, Causes, CommandPlace, HeldParticipant, LastError, ParticipantGroup, PossibleVerb,
    RemainingStep, Upcoming, UpcomingKind, WaitsFor, Why,
};
