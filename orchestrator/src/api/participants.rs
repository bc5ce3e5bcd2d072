//! Participants: which are held because they do not answer; paused and resumed by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use saga_defs::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::body::Body;
use super::document::{Problems, VerbProblems};
use super::fields::Fields;
use super::idempotency::{before, request_key, taken};
use super::mount::Asked;
use super::problem::{Answer, Kind, Problem, json};
use super::strict_json::shown;
use super::verbs::{MAX_REASON, VerbRequest};
use super::words::ParticipantStateView;
use crate::engine::participants::health::Cause;
use crate::participants::Participant;
use crate::store::StoreError;

/// The last word of an operator on a participant.
#[derive(Serialize, ToSchema)]
#[schema(as = ParticipantOrder)]
pub(crate) struct OrderView {
    /// Whether it is paused by it.
    paused: bool,
    actor: String,
    reason: String,
    #[schema(format = DateTime)]
    at: String,
}

/// A participant, over all orchestrator processes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Participant)]
pub(crate) struct ParticipantView {
    name: String,
    state: ParticipantStateView,
    /// Why it is held: `silence`, `failures` or `operator`; null while it answers.
    #[schema(required)]
    cause: Option<String>,
    /// Since when; null while it answers.
    #[schema(required, format = DateTime)]
    since: Option<String>,
    /// How many sagas wait for it: their attempts, and the timeouts of what is out, stand still.
    waiting: u64,
    /// The oldest of them; null if none waits.
    #[schema(required, format = Uuid)]
    oldest_saga_id: Option<String>,
    /// Its last answer that was no failure; null if nobody remembers one.
    #[schema(required, format = DateTime)]
    last_answer_at: Option<String>,
    /// When one command is let through to it next; null where none is.
    #[schema(required, format = DateTime)]
    next_probe_at: Option<String>,
    /// The last word of an operator on it; null if there was none.
    #[schema(required)]
    order: Option<OrderView>,
}

/// All participants.
#[derive(Serialize, ToSchema)]
#[schema(as = ParticipantList)]
pub(crate) struct ParticipantList {
    items: Vec<ParticipantView>,
}

impl From<Participant> for ParticipantView {
    fn from(participant: Participant) -> Self {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let line = participant.line;
        Self {
            name: line.participant.to_string(),
            state: line.state.into(),
            cause: line.cause.map(Cause::as_str).map(str::to_owned),
            since: time(line.since),
            waiting: line.waiting,
            oldest_saga_id: line.oldest.map(|saga| saga.to_string()),
            last_answer_at: time(line.last_answer),
            next_probe_at: time(line.next_probe),
            order: participant.order.map(|order| OrderView {
                paused: order.paused,
                actor: order.actor,
                reason: order.reason,
                at: order.at.to_string(),
            }),
        }
    }
}

/// The participants of every definition that is published.
fn known(app: &App) -> BTreeSet<Arc<str>> {
    let definitions = app.api.definitions.all();
    definitions.iter().flat_map(|definition| definition.participants()).collect()
}

/// Lists the participants of all definitions: which answer, which are held or paused, and how many sagas wait for them.
#[utoipa::path(
    get, path = "/api/participants", tag = "Operators", operation_id = "listParticipants",
    responses((status = 200, description = "All of them, by name.", body = ParticipantList), Problems),
)]
pub(crate) async fn list_participants(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let all = app.api.participants.all(known(&app)).await?;
    Ok(json(StatusCode::OK, &ParticipantList { items: all.into_iter().map(ParticipantView::from).collect() }))
}

/// Asks a participant nothing more. What is out stays out and its answers count; everything else waits.
#[utoipa::path(
    post, path = "/api/participants/{name}/pause", tag = "Operators", operation_id = "pauseParticipant",
    params(
        ("name" = String, Path, description = "The participant's name."),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is paused; the participant as it is now.", body = ParticipantView), VerbProblems),
)]
pub(crate) async fn pause_participant(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    order(&app, &asked, &body, true).await
}

/// Asks a participant again that is paused or held: a little more each second, as far as it answers.
#[utoipa::path(
    post, path = "/api/participants/{name}/resume", tag = "Operators", operation_id = "resumeParticipant",
    params(
        ("name" = String, Path, description = "The participant's name."),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key acts once."),
    ),
    request_body = VerbRequest,
    responses((status = 200, description = "It is asked again; the participant as it is now.", body = ParticipantView), VerbProblems),
)]
pub(crate) async fn resume_participant(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    order(&app, &asked, &body, false).await
}

async fn order(app: &App, asked: &Asked, body: &Body, paused: bool) -> Answer {
    asked.no_query()?;
    let mut fields = Fields::new(body.fields.clone());
    let reason = fields.text("reason", MAX_REASON);
    fields.done()?;
    let text = asked.params.first().map_or("", String::as_str);
    let names = known(app);
    let name = names.iter().find(|name| ***name == *text).cloned().ok_or_else(|| {
        let all: Vec<&str> = names.iter().map(|name| &**name).collect();
        let text =
            format!("no definition has a participant `{}`; there are: {}", shown(text), all.join(", "));
        Problem::new(Kind::NotFound, text)
    })?;
    let route = if paused { "pause participant" } else { "resume participant" };
    let key = request_key(&asked.headers, route, &name, &body.fields)?;
    if before(&app.api.reads, key.as_ref()).await?.is_none() {
        let (actor, reason) = (app.actor(asked)?, reason.unwrap_or_default());
        match app.api.participants.order(name.clone(), paused, &actor, &reason, key).await {
            Ok(()) => {}
            Err(StoreError::Refused { constraint: Some(taken_by), .. }) if taken_by == "request_key_pkey" => {
                taken(&app.api.reads, key.as_ref()).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let all = app.api.participants.all(names).await?;
    let found = all.into_iter().find(|one| one.line.participant == name);
    let view = found.map(ParticipantView::from);
    Ok(json(StatusCode::OK, &view))
}
