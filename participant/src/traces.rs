//! What a participant writes down of a saga's trace: the processing of a command, and the sending of its reply.

use std::time::SystemTime;

use messaging::headers::{OutcomeKind, name, read_traceparent};
use messaging::telemetry::{Kind, Span, attribute, recorder};
use messaging::{Received, TraceParent};

use saga_defs::ids::SagaId;

use crate::intake::Incoming;
use crate::records::Answer;

/// The saga that a record says it is about, for a line of the log.
pub(crate) fn saga_of(received: &Received) -> Option<String> {
    let id: SagaId = received.headers.text(name::SAGA_ID)?.parse().ok()?;
    Some(id.to_string())
}

/// The id of the trace that a record belongs to, for a line of the log.
pub(crate) fn id_of(received: &Received) -> Option<String> {
    read_traceparent(&received.headers).map(|parent| parent.trace())
}

/// What the messages of a command carry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parents {
    pub(crate) of_reply: Option<TraceParent>,
    pub(crate) of_events: Option<TraceParent>,
}

/// Writes down that a command was processed since `begun`; its answer is committed. The ids follow from the command's own:
/// a repeat of its reply is the same to the last header.
pub(crate) fn follow(command: &Incoming, answer: Option<&Answer>, begun: SystemTime) -> Parents {
    let Some(sent) = command.headers.traceparent else { return Parents::default() };
    let Some(recorder) = recorder().filter(|_| sent.is_sampled()) else {
        return Parents { of_reply: Some(sent), of_events: Some(sent) };
    };
    let processed = sent.derived("process");
    let replied = processed.derived("reply");
    let now = SystemTime::now();
    recorder.record(processing(command, answer, (sent, processed), (begun, now)));
    if answer.is_some_and(|answer| !answer.reply.lost) {
        recorder.record(replying(command, (processed, replied), now));
    }
    Parents { of_reply: Some(replied), of_events: Some(processed) }
}

fn processing(
    command: &Incoming,
    answer: Option<&Answer>,
    (parent, context): (TraceParent, TraceParent),
    (start, end): (SystemTime, SystemTime),
) -> Span {
    let (headers, received) = (&command.headers, &command.received);
    let mut attributes = vec![
        (attribute::MESSAGING_SYSTEM, "kafka".into()),
        (attribute::MESSAGING_OPERATION, "process".into()),
        (attribute::MESSAGING_DESTINATION, received.topic.to_string().into()),
        (attribute::MESSAGING_PARTITION, received.partition.to_string().into()),
        (attribute::MESSAGING_OFFSET, received.offset.into()),
        (attribute::MESSAGING_MESSAGE, headers.command_id.to_string().into()),
        (attribute::MESSAGING_CONVERSATION, headers.saga_id.to_string().into()),
        (attribute::SAGA_STEP, headers.step.to_string().into()),
        (attribute::SAGA_DIRECTION, headers.direction.as_str().into()),
        (attribute::SAGA_ATTEMPT, i64::from(headers.attempt.0).into()),
    ];
    let outcome = answer.map(|answer| answer.outcome);
    attributes.extend(outcome.map(|outcome| (attribute::SAGA_OUTCOME, outcome.as_str().into())));
    Span {
        context,
        parent: Some(parent.span_id),
        name: format!("process {}", received.topic).into(),
        kind: Kind::Consumer,
        start,
        end,
        attributes,
        links: Vec::new(),
        // That business refuses something is no error.
        error: (outcome == Some(OutcomeKind::Failed)).then(|| "failed, to be tried again".to_owned()),
    }
}

fn replying(command: &Incoming, (parent, context): (TraceParent, TraceParent), at: SystemTime) -> Span {
    let headers = &command.headers;
    Span {
        context,
        parent: Some(parent.span_id),
        name: format!("send {}", headers.reply_topic).into(),
        kind: Kind::Producer,
        start: at,
        end: at,
        attributes: vec![
            (attribute::MESSAGING_SYSTEM, "kafka".into()),
            (attribute::MESSAGING_OPERATION, "send".into()),
            (attribute::MESSAGING_DESTINATION, headers.reply_topic.to_string().into()),
            (attribute::MESSAGING_PARTITION, headers.reply_partition.to_string().into()),
            (attribute::MESSAGING_MESSAGE, headers.command_id.to_string().into()),
            (attribute::MESSAGING_CONVERSATION, headers.saga_id.to_string().into()),
        ],
        links: Vec::new(),
        error: None,
    }
}
