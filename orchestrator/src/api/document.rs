//! The OpenAPI document: its frame, the schemas that the routes refer to, and the problems that all of them share.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderMap;
use utoipa::openapi::path::Paths;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::problem::{FieldError, PROBLEM_JSON, ProblemView};
use super::{
    audit, bookings, bulk_view, causes, dead_letters, definitions, events, examples, letter_groups,
    letter_view, ops, participants, plan, redrives, saga_actions, sagas, verbs, whereabouts, why, wire,
    words,
};
use crate::versions::{ChangeView, Diverging, Replayed};

/// What any route may answer.
pub(crate) struct Problems;

/// What a route may answer that names something in its path.
pub(crate) struct NamedProblems;

/// What a route may answer that takes a body.
pub(crate) struct BodyProblems;

/// What a verb may answer to those who say what they have seen.
pub(crate) struct MatchProblems;

/// What a verb on something may answer.
pub(crate) struct VerbProblems;

const ANY: [(&str, &str); 3] = [
    ("400", "The request cannot be read: path, query, headers or body."),
    ("405", "Another method; `Allow` names those that are possible."),
    ("503", "Not now; `Retry-After` says when to ask again."),
];
const NAMED: (&str, &str) = ("404", "There is no such thing.");
const BODY: [(&str, &str); 4] = [
    ("408", "The body did not arrive in time."),
    ("413", "The body is over 1 MiB."),
    ("415", "The body is of another media type than the route takes."),
    (
        "422",
        "Read, but wrong: `errors` names each field. Or the Idempotency-Key was used for another request.",
    ),
];
const VERB: (&str, &str) = ("409", "Not possible in this state; `allowedIn` says in which it is.");

const MATCH: (&str, &str) = ("412", "The saga has moved on since it was seen; its ETag is that of now.");

type Responses = BTreeMap<String, RefOr<Response>>;

fn problems<'a>(list: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Responses {
    let schema = || RefOr::Ref(Ref::from_schema_name("Problem"));
    let response = |about: &str| {
        let content = ContentBuilder::new().schema(Some(schema())).build();
        ResponseBuilder::new().description(about).content(PROBLEM_JSON, content).build()
    };
    list.into_iter().map(|(status, about)| ((*status).to_owned(), RefOr::T(response(about)))).collect()
}

impl IntoResponses for Problems {
    fn responses() -> Responses {
        problems(&ANY)
    }
}

impl IntoResponses for NamedProblems {
    fn responses() -> Responses {
        problems(ANY.iter().chain([&NAMED]))
    }
}

impl IntoResponses for BodyProblems {
    fn responses() -> Responses {
        problems(ANY.iter().chain(&BODY))
    }
}

impl IntoResponses for MatchProblems {
    fn responses() -> Responses {
        problems([&MATCH])
    }
}

impl IntoResponses for VerbProblems {
    fn responses() -> Responses {
        problems(ANY.iter().chain(&BODY).chain([&NAMED, &VERB]))
    }
}

/// The whole document for these routes.
pub(crate) fn document(paths: &Paths) -> Bytes {
    let info = InfoBuilder::new()
        .title("Saga orchestrator")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Starts sagas, shows where they are, and takes an operator's word where one waits. Every error is an \
             application/problem+json document (RFC 9457); only what cannot be read as HTTP at all is answered \
             with an empty body.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let document =
        OpenApiBuilder::new().info(info).paths(paths.clone()).components(Some(schemas().build())).build();
    let mut document = serde_json::to_value(&document).unwrap_or_default();
    examples::add(&mut document);
    document.to_string().into()
}

fn schemas() -> ComponentsBuilder {
    let mut all = ComponentsBuilder::new();
    macro_rules! add {
        ($($type:ty),* $(,)?) => { $(all = all.schema(<$type>::name(), <$type>::schema());)* };
    }
    add!(ProblemView<'static>, FieldError);
    add!(wire::BookingView, wire::BookingStatusView, bookings::StartBooking);
    add!(
        wire::SagaView,
        wire::StatusView,
        wire::StepView,
        wire::StepStatusView,
        wire::ReasonView,
        wire::ErrorView
    );
    add!(sagas::StartSagaRequest, sagas::SagaPage, sagas::HistoryPage, sagas::HistoryItem);
    add!(audit::AuditEntry, audit::AuditPage, events::SagaEvent);
    add!(why::WhyView, why::CommandView, why::UpcomingView, why::RemainingView, why::WayView);
    add!(why::LastErrorView, whereabouts::PlaceView, whereabouts::GroupView);
    add!(causes::CausesView, causes::CauseView);
    add!(verbs::VerbRequest, verbs::RedriveRequest);
    add!(letter_view::LetterItem, letter_view::LetterPage, letter_view::LetterView, letter_view::HeaderView);
    add!(letter_view::DecodedView, dead_letters::RedriveLetterRequest);
    add!(letter_groups::GroupItem, letter_groups::GroupPage, letter_groups::CountsView);
    add!(bulk_view::ActionView, bulk_view::ActionPage, bulk_view::ItemView, bulk_view::ItemPage);
    add!(bulk_view::DryRunView, redrives::RedriveManyRequest, saga_actions::SagaActionRequest);
    add!(definitions::DefinitionItem, definitions::DefinitionList, definitions::DefinitionView);
    add!(definitions::CheckedView);
    add!(definitions::DefinitionStep, definitions::ModelCheckView, definitions::RegisterRequest);
    add!(participants::ParticipantView, participants::ParticipantList, participants::OrderView);
    add!(why::HoldView, words::WaitsForView, words::UpcomingKindView, words::ParticipantStateView);
    add!(ops::Health, ops::Check);
    add!(plan::Plan, plan::VersionPlan, plan::OpenSagas);
    add!(ChangeView, Replayed, Diverging);
    all
}

/// The `If-None-Match` of a request against an entity tag.
pub(crate) fn not_modified(headers: &HeaderMap, etag: &http::HeaderValue) -> bool {
    let same = |tag: &str| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes()
    };
    let mut tags =
        headers.get_all(http::header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.any(|list| list.split(',').any(same))
}
