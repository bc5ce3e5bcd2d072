//! One saga is one trace: which spans a transition ends, and where in the trace they hang. Pure.
//!
//! Every id follows from the saga and its commands, so whoever owns the saga writes the same tree on, and a worker's span
//! finds its parent in the command's header. The saga's own span is written down when the saga ends.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use messaging::headers::{name, read_traceparent};
use messaging::telemetry::{Kind, Span, attribute};
use messaging::{Received, TraceParent};
use saga_defs::definition::Definition;
use saga_defs::ids::CommandId;
use saga_defs::saga::{Refusal, Saga, State, StepRecord, StepStatus, Try};
use saga_defs::time::Timestamp;

use super::INBOX;

/// The spans of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans {
    /// Over when the batch is committed.
    pub with_commit: Vec<Span>,
    /// Over already.
    pub over: Vec<Span>,
}

impl Spans {
    /// All of them; the commit was at `at`.
    pub fn committed(self, at: SystemTime) -> impl Iterator<Item = Span> {
        let ended = self.with_commit.into_iter().map(move |span| Span { end: at.max(span.start), ..span });
        ended.chain(self.over)
    }
}

/// The saga's own span: in the client's trace, or in one that the saga's id gives. Whether it is recorded was decided where
/// the request came in.
pub fn of_saga(saga: &Saga) -> TraceParent {
    let client = client(saga);
    let id = saga.id.as_uuid();
    TraceParent {
        trace_id: client.map_or_else(|| id.as_u128(), |client| client.trace_id),
        span_id: id.as_u64_pair().1,
        flags: client.map_or(0, |client| client.flags),
    }
}

/// The span of an attempt: what its command carries.
pub fn of_attempt(saga: &Saga, command: CommandId, at: Try) -> TraceParent {
    let low = command.as_uuid().as_u64_pair().1;
    let number = u64::from(at.attempt.0) ^ (u64::from(at.redrive) << 32);
    TraceParent { span_id: low ^ number, ..of_saga(saga) }
}

fn client(saga: &Saga) -> Option<TraceParent> {
    saga.traceparent.as_deref().and_then(|text| TraceParent::parse(text).ok())
}

/// What a transition wrote: the sending of a command, how long the saga waited for an operator, and the saga itself when it has
/// ended, or as far as it came when it is stuck.
pub fn of_transition(
    definition: &Definition,
    before: Option<&Saga>,
    saga: &Saga,
    sent: Option<Try>,
    now: Timestamp,
    spans: &mut Spans,
) {
    let own = of_saga(saga);
    let sampled = own.is_sampled();
    if let Some(at) = sent.filter(|_| sampled) {
        spans.with_commit.extend(sending(definition, saga, at, now));
    }
    if let Some(Saga { state: State::Stuck { at, cause }, .. }) = before {
        spans.over.extend(before.and_then(|before| stuck_stretch(definition, before, *at, cause, now)));
    }
    let undone = matches!(saga.state, State::Compensated);
    let stuck = matches!(saga.state, State::Stuck { .. });
    // Nobody decided for it when it began, but somebody will ask what happened: as much as its row tells.
    if !sampled && (undone || stuck) {
        spans.over.extend(steps(definition, saga, own, now));
    }
    let was_stuck = before.and_then(Saga::current).is_some_and(|at| at.redrive > 0);
    let ended = saga.finished_at.is_some() && (sampled || undone || was_stuck);
    // Of one that goes on nobody will know at its end that it was stuck, and its steps hang below this. Where it is known
    // after all, the span comes again under the same id, to its end: of two the later one counts.
    if ended || (stuck && !sampled && !was_stuck) {
        spans.over.push(whole(saga, own));
    }
}

fn sending(definition: &Definition, saga: &Saga, at: Try, now: Timestamp) -> Option<Span> {
    let step = definition.step(at.step)?;
    let command = CommandId::derive(saga.id, &step.name, at.direction);
    let topic = format!("{}.commands", step.participant);
    let mut attributes = vec![
        (attribute::MESSAGING_SYSTEM, "kafka".into()),
        (attribute::MESSAGING_OPERATION, "send".into()),
        (attribute::MESSAGING_MESSAGE, command.to_string().into()),
        (attribute::MESSAGING_CONVERSATION, saga.id.to_string().into()),
        (attribute::SAGA_STEP, step.name.to_string().into()),
        (attribute::SAGA_DIRECTION, at.direction.as_str().into()),
        (attribute::SAGA_ATTEMPT, i64::from(at.attempt.0).into()),
    ];
    if at.redrive > 0 {
        attributes.push((attribute::SAGA_REDRIVE, i64::from(at.redrive).into()));
    }
    let name = Cow::Owned(format!("send {topic}"));
    attributes.push((attribute::MESSAGING_DESTINATION, topic.into()));
    Some(Span {
        context: of_attempt(saga, command, at),
        parent: Some(of_saga(saga).span_id),
        name,
        kind: Kind::Producer,
        start: system_time(now),
        end: system_time(now),
        attributes,
        links: Vec::new(),
        error: None,
    })
}

/// From the transition that found a saga stuck, or that left it so, to the one that came now.
fn stuck_stretch(
    definition: &Definition,
    before: &Saga,
    at: Try,
    cause: &Refusal,
    now: Timestamp,
) -> Option<Span> {
    let (own, step) = (of_saga(before), definition.step(at.step)?);
    Some(Span {
        context: own.derived(&format!("stuck {}", before.revision.0)),
        parent: Some(own.span_id),
        name: Cow::Owned(format!("stuck at {}", step.name)),
        kind: Kind::Internal,
        start: system_time(before.updated_at),
        end: system_time(now),
        attributes: vec![
            (attribute::MESSAGING_CONVERSATION, before.id.to_string().into()),
            (attribute::SAGA_STEP, step.name.to_string().into()),
            (attribute::SAGA_DIRECTION, at.direction.as_str().into()),
            (attribute::SAGA_STATUS, before.status().as_str().into()),
        ],
        links: Vec::new(),
        error: Some(said(cause)),
    })
}

fn said(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code, refusal.message)
}

/// A reply was read; `ignored` says why it did nothing.
pub fn of_reply(record: &Received, ignored: Option<&'static str>, now: Timestamp) -> Option<Span> {
    let parent = read_traceparent(&record.headers).filter(TraceParent::is_sampled)?;
    let mut attributes = vec![
        (attribute::MESSAGING_SYSTEM, "kafka".into()),
        (attribute::MESSAGING_OPERATION, "process".into()),
        (attribute::MESSAGING_DESTINATION, INBOX.into()),
        (attribute::MESSAGING_PARTITION, record.partition.to_string().into()),
        (attribute::MESSAGING_OFFSET, record.offset.into()),
    ];
    let texts = [
        (attribute::MESSAGING_CONVERSATION, name::SAGA_ID),
        (attribute::MESSAGING_MESSAGE, name::COMMAND_ID),
        (attribute::SAGA_OUTCOME, name::OUTCOME),
    ];
    for (attribute, header) in texts {
        attributes.extend(record.headers.text(header).map(|text| (attribute, text.to_owned().into())));
    }
    attributes.extend(ignored.map(|why| (attribute::SAGA_IGNORED, why.into())));
    Some(Span {
        // A copy of a reply is processed again, and that is another span.
        context: parent.derived(&format!("process {} {}", record.partition, record.offset)),
        parent: Some(parent.span_id),
        name: "process saga.inbox".into(),
        kind: Kind::Consumer,
        start: system_time(now),
        end: system_time(now),
        attributes,
        links: Vec::new(),
        error: None,
    })
}

/// The saga from its start to its end, or to where it is stuck; below the request that started it.
fn whole(saga: &Saga, own: TraceParent) -> Span {
    let reason = match &saga.state {
        State::Stuck { cause, .. } => Some(cause),
        _ => saga.reason.as_ref().map(|reason| &reason.refusal),
    };
    Span {
        context: own,
        parent: client(saga).map(|client| client.span_id),
        name: Cow::Owned(format!("saga {}", saga.definition.name)),
        kind: Kind::Internal,
        start: system_time(saga.started_at),
        end: system_time(saga.finished_at.unwrap_or(saga.updated_at)),
        attributes: vec![
            (attribute::MESSAGING_CONVERSATION, saga.id.to_string().into()),
            (attribute::SAGA_DEFINITION, saga.definition.name.to_string().into()),
            (attribute::SAGA_VERSION, i64::from(saga.definition.version).into()),
            (attribute::SAGA_STATUS, saga.status().as_str().into()),
        ],
        links: Vec::new(),
        error: reason.map(said),
    }
}

/// The steps of a saga as its row has them, each with its last attempt.
fn steps(definition: &Definition, saga: &Saga, own: TraceParent, now: Timestamp) -> Vec<Span> {
    let named = definition.steps.iter().zip(&saga.steps);
    let begun = named.filter_map(|(step, record)| Some((step, record, record.started_at?)));
    let span = |(step, record, start): (&saga_defs::definition::Step, &StepRecord, Timestamp)| Span {
        context: own.derived(&step.name),
        parent: Some(own.span_id),
        name: Cow::Owned(step.name.to_string()),
        kind: Kind::Internal,
        start: system_time(start),
        end: system_time(record.finished_at.unwrap_or(now)),
        attributes: vec![
            (attribute::MESSAGING_CONVERSATION, saga.id.to_string().into()),
            (attribute::SAGA_STATUS, record.status.as_str().into()),
            (attribute::SAGA_ATTEMPT, i64::from(record.attempt).into()),
        ],
        links: Vec::new(),
        error: record.error.as_ref().filter(|_| record.status != StepStatus::Succeeded).map(said),
    };
    begun.map(span).collect()
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.unix_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
