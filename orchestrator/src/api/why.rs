//! What a saga waits for, with what only the owner's memory and the broker know.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use saga_defs::definition::Definition;
use saga_defs::ids::Direction;
use saga_defs::saga::{Saga, State};
use saga_defs::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::document::NamedProblems;
use super::mount::Asked;
use super::problem::{Answer, Kind, Problem, json};
use super::sagas::find;
use super::whereabouts::{GroupView, Out, PlaceView, whereabouts};
use super::wire::{ErrorView, StatusView, step_name};
use super::words::{ParticipantStateView, UpcomingKindView, WaitsForView};
use crate::engine::clock;
use crate::engine::handle::{ActError, Looked};
use crate::engine::participants::board::Line;
use crate::why::{Command, For, Passed, Published, Waits, waits};

/// How long the owner has to say what is in its memory.
const OWNER_LIMIT: Duration = Duration::from_secs(1);

/// The command that a saga is at.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AwaitedCommand)]
pub(crate) struct CommandView {
    step: String,
    participant: String,
    /// `forward` or `compensation`.
    direction: &'static str,
    #[schema(format = Uuid)]
    command_id: String,
    /// The Avro record that is sent.
    message_type: String,
    /// The Avro record that a success answers with; null for a compensation, which may be answered with any.
    #[schema(required)]
    reply_type: Option<String>,
    /// Which attempt; while it waits to try again, the one that comes.
    attempt: u32,
    max_attempts: u32,
    /// How often an operator sent it on its way anew.
    redrives: u32,
    /// Whether an earlier attempt timed out, so that it may have been carried out.
    in_doubt: bool,
    /// Where it lies; null where it is not out.
    #[schema(required)]
    place: Option<PlaceView>,
    /// How far the participant is; null where it is not out.
    #[schema(required)]
    group: Option<GroupView>,
    /// The dead letter that it became; null where it did not.
    #[schema(required, format = Uuid)]
    dead_letter_id: Option<String>,
}

/// Something that will happen by itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Upcoming)]
pub(crate) struct UpcomingView {
    what: UpcomingKindView,
    #[schema(format = DateTime)]
    at: String,
    /// What follows, e.g. `back off 200ms` or `undo reserve-booking #1`.
    then: String,
}

/// A command that is still to come.
#[derive(Serialize, ToSchema)]
#[schema(as = RemainingStep)]
pub(crate) struct RemainingView {
    step: String,
    participant: String,
    /// `forward` or `compensation`.
    direction: &'static str,
}

/// What an operator may do.
#[derive(Serialize, ToSchema)]
#[schema(as = PossibleVerb)]
pub(crate) struct WayView {
    /// `cancel`, `redrive`, `skip` or `retry-now`.
    verb: &'static str,
    possible: bool,
    /// What follows; where it is not possible, why.
    then: String,
}

/// An error, and at which step.
#[derive(Serialize, ToSchema)]
#[schema(as = LastError)]
pub(crate) struct LastErrorView {
    step: String,
    #[serde(flatten)]
    error: ErrorView,
}

/// A participant that is held.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HeldParticipant)]
pub(crate) struct HoldView {
    participant: String,
    state: ParticipantStateView,
    /// `silence`, `failures` or `operator`.
    cause: String,
    #[schema(format = DateTime)]
    since: String,
    /// How many sagas wait for it.
    waiting: u64,
    /// When one command is let through to it next; null where none is.
    #[schema(required, format = DateTime)]
    next_probe_at: Option<String>,
}

impl HoldView {
    fn of(line: &Line) -> Option<Self> {
        Some(Self {
            participant: line.participant.to_string(),
            state: line.state.into(),
            cause: line.cause?.as_str().to_owned(),
            since: line.since?.to_string(),
            waiting: line.waiting,
            next_probe_at: line.next_probe.map(|at| at.to_string()),
        })
    }

    fn sentence(&self) -> String {
        let Self { participant, cause, since, .. } = self;
        let why = match cause.as_str() {
            "operator" => "an operator paused it",
            "failures" => "it only fails",
            _ => "it does not answer",
        };
        let uncounted = "No attempt is counted meanwhile.";
        let (state, then) = match self.state {
            ParticipantStateView::Answering => ("answering", uncounted),
            ParticipantStateView::Ramping => ("ramping", "It comes back by and by."),
            ParticipantStateView::Held => ("held", uncounted),
            ParticipantStateView::Paused => ("paused", uncounted),
        };
        format!(" {participant} is {state} since {since}: {why}. {then}")
    }
}

/// What a saga waits for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Why)]
pub(crate) struct WhyView {
    #[schema(format = Uuid)]
    saga_id: String,
    definition: String,
    version: u32,
    status: StatusView,
    revision: u32,
    /// Everything below in a sentence.
    summary: String,
    waits_for: WaitsForView,
    /// The participant of its command, where that is asked nothing at the moment: the attempt is not made, or its timeout
    /// stands still.
    #[schema(required)]
    held: Option<HoldView>,
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
    /// The command that it is at; null when it has ended.
    #[schema(required)]
    command: Option<CommandView>,
    /// What happens next by itself; null: nothing, or it is not known when.
    #[schema(required)]
    next: Option<UpcomingView>,
    /// All that will happen by itself if nothing comes before, in order.
    upcoming: Vec<UpcomingView>,
    /// What was said last: of the current step, or why it compensates or is stuck.
    #[schema(required)]
    last_error: Option<LastErrorView>,
    /// The commands that come after the current one, if nothing goes wrong.
    remaining: Vec<RemainingView>,
    /// What an operator may do now.
    verbs: Vec<WayView>,
    /// When this was so.
    #[schema(format = DateTime)]
    as_of: String,
}

/// Says what a saga waits for: which reply, since when, which attempt, what happens next and when, where the command lies
/// and whether the participant has passed it, the last error, the steps that remain, and what an operator may do.
#[utoipa::path(
    get, path = "/api/sagas/{sagaId}/why", tag = "Sagas", operation_id = "whySaga",
    params(("sagaId" = String, Path, description = "The saga's id.", format = Uuid)),
    responses((status = 200, description = "What it waits for.", body = WhyView), NamedProblems),
)]
pub(crate) async fn why_saga(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let stored = find(&app, &asked).await?;
    let saga = stored.saga;
    let definition = app.definition(&saga.definition).await?.ok_or_else(|| {
        let text = format!("the definition {} is not known here", saga.definition);
        Problem::new(Kind::NotFound, text).of(saga.id)
    })?;
    let looked = match &saga.state {
        State::Awaiting(_) | State::Backoff { .. } => {
            app.api.engine.look(saga.id, OWNER_LIMIT).await.map_err(Some)
        }
        State::Stuck { .. } | State::Completed | State::Compensated => Err(None),
    };
    // The owner knows more.
    if let Err(Some(ActError::NotHere { owner: Some(owner) })) = &looked
        && let Some(answer) = app.forwarder.look(owner, &asked).await
    {
        return Ok(answer);
    }
    let looked = looked.map_err(|error| match error {
        Some(ActError::NotHere { owner: None }) => "no process owns the saga's shard at the moment",
        Some(ActError::NotHere { .. }) => "the process that owns the saga does not answer",
        _ => "the engine of the process that owns the saga does not answer",
    });
    Ok(json(StatusCode::OK, &view(&app, &saga, &definition, looked).await?))
}

async fn view(
    app: &App,
    saga: &Saga,
    definition: &Definition,
    looked: Result<Looked, &'static str>,
) -> Result<WhyView, Problem> {
    let now = clock::now();
    let timeout_at = looked.ok().and_then(|looked| looked.wake).and_then(|wake| wake.timeout_at);
    let held = held(app, definition, saga, looked.is_ok());
    let waits = waits(definition, saga, timeout_at, held.is_some(), now);
    let mut since = saga.updated_at;
    let mut out = None;
    if let (For::Reply, Some(command)) = (waits.what, &waits.command) {
        let decided = app.api.reads.decided(saga.id, command.at).await?;
        since = decided.map_or(since, |decided| decided.at);
        out = Some(whereabouts(app, saga, command, decided, looked).await);
    }
    let upcoming = || {
        waits.upcoming.iter().map(|next| UpcomingView {
            what: UpcomingKindView::of(next.what),
            at: next.at.to_string(),
            then: next.then.clone(),
        })
    };
    Ok(WhyView {
        saga_id: saga.id.to_string(),
        definition: saga.definition.name.to_string(),
        version: saga.definition.version,
        status: saga.status().into(),
        revision: saga.revision.0,
        summary: summary(&waits, since, out.as_ref(), held.as_ref()),
        waits_for: waits.what.into(),
        held,
        since: since.to_string(),
        next: upcoming().next(),
        upcoming: upcoming().collect(),
        last_error: waits.last_error.as_ref().map(|(step, refusal)| LastErrorView {
            step: step_name(Some(definition), *step),
            error: refusal.into(),
        }),
        remaining: waits
            .remaining
            .iter()
            .map(|remaining| RemainingView {
                step: remaining.step.name.to_string(),
                participant: remaining.step.participant.to_string(),
                direction: remaining.direction.as_str(),
            })
            .collect(),
        verbs: waits
            .ways
            .iter()
            .map(|way| WayView { verb: way.verb, possible: way.possible, then: way.then.clone() })
            .collect(),
        command: waits.command.as_ref().map(|command| command_view(command, waits.what, out)),
        as_of: now.to_string(),
    })
}

/// The participant that a saga waits for, if the saga's owner holds it: every process judges by its own sagas. Who is not the
/// owner knows operators' orders only.
fn held(app: &App, definition: &Definition, saga: &Saga, here: bool) -> Option<HoldView> {
    let (State::Awaiting(at) | State::Backoff { next: at, .. }) = &saga.state else { return None };
    let name = &definition.step(at.step)?.participant;
    let desk = &app.api.participants;
    HoldView::of(&if here { desk.own(name) } else { desk.ordered(name) }.line)
}

fn command_view(command: &Command<'_>, what: For, out: Option<Out>) -> CommandView {
    let (place, group) = out.map(|out| out.views(command)).unzip();
    CommandView {
        step: command.step.name.to_string(),
        participant: command.step.participant.to_string(),
        direction: command.at.direction.as_str(),
        command_id: command.id.to_string(),
        message_type: command.message_type.to_owned(),
        reply_type: command.reply.map(str::to_owned),
        attempt: command.at.attempt.0,
        max_attempts: command.max_attempts,
        redrives: command.at.redrive,
        in_doubt: command.at.doubt,
        place,
        group,
        dead_letter_id: (what == For::Operator).then(|| command.letter().to_string()),
    }
}

fn summary(waits: &Waits<'_>, since: Timestamp, out: Option<&Out>, held: Option<&HoldView>) -> String {
    let Some(command) = &waits.command else {
        return match waits.what {
            For::Nothing => "It has ended.".to_owned(),
            For::Reply | For::Retry | For::Participant | For::Operator => {
                "Its definition has no such step.".to_owned()
            }
        };
    };
    let undo = if command.at.direction == Direction::Compensation { "undo " } else { "" };
    let (step, participant) = (&command.step.name, &command.step.participant);
    let attempt = format!("attempt {} of {}", command.at.attempt, command.max_attempts);
    let mut text = match waits.what {
        For::Reply => format!("Since {since} it waits for {participant}'s reply to {undo}{step}, {attempt}."),
        For::Retry => format!("Since {since} it waits to try {undo}{step} again, {attempt}."),
        For::Participant => {
            format!("Since {since} it waits until {participant} is asked again for {undo}{step}, {attempt}.")
        }
        For::Operator => format!("Since {since} it is stuck at {undo}{step} and waits for an operator."),
        For::Nothing => "It has ended.".to_owned(),
    };
    text.extend(held.map(HoldView::sentence));
    if let Some(out) = out {
        let topic = command.topic();
        let partition = out.partition;
        text.push_str(&match &out.published {
            Published::At(offset) => format!(" The command lies at {topic}/{partition}, offset {offset};"),
            Published::Somewhere(why) => {
                format!(" The command lies on {topic}/{partition}, offset unknown: {why}.")
            }
            Published::NotYet => format!(" The broker has not acknowledged the command for {topic} yet."),
            Published::Unknown(why) => format!(" Whether the command is published is not known: {why}."),
        });
        let group = command.group();
        text.push_str(&match &out.passed {
            Passed::Yes => format!(" {group} has passed it."),
            Passed::No { ahead: 0 } => {
                format!(" {group} has not passed it, though it is the next to be read.")
            }
            Passed::No { ahead } => format!(" {group} has not passed it, {ahead} records come first."),
            Passed::Unknown(why) if matches!(out.published, Published::At(_)) => {
                format!(" whether {group} has passed it is not known: {why}.")
            }
            Passed::Unknown(_) => String::new(),
        });
    }
    if let Some((_, error)) = &waits.last_error {
        text.push_str(&format!(" Last error: {}.", error.code));
    }
    if let Some(next) = waits.upcoming.first() {
        text.push_str(&format!(" Next: {} at {}, then {}.", next.what, next.at, next.then));
    }
    let possible: Vec<&str> = waits.ways.iter().filter(|way| way.possible).map(|way| way.verb).collect();
    if waits.what == For::Operator {
        text.push_str(&format!(" Possible: {}.", possible.join(", ")));
    }
    text
}
