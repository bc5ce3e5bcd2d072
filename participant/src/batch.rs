//! One batch of records: read, answered in rounds, made ready to be published.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use messaging::headers::{ReplyHeaders, name, push_traceparent};
use messaging::{Headers, Received, Record, TraceParent};
use saga_defs::saga::Echo;
use tokio_util::sync::CancellationToken;

use crate::dead_letter::Letters;
use crate::executor::Executor;
use crate::intake::{Incoming, Intake, NotACommand, rounds};
use crate::publisher::{Outgoing, Publication};
use crate::records::Answer;
use crate::retry::Stopped;
use crate::traces::{self, Parents};
use crate::vitals::Tally;

/// The header that tells repeats of a domain event from other events: the command's id and the event's number.
const EVENT_ID: &str = "event-id";

/// The commands of a batch, and what is already known to be sent.
pub(crate) struct Batch {
    rounds: Vec<Vec<Incoming>>,
    publication: Publication,
    begun: (Instant, SystemTime),
}

impl Batch {
    /// Takes commands from records; of what is none, dead letters are made.
    pub(crate) fn read(
        records: Vec<Received>,
        executor: &Executor,
        by_type: &HashMap<String, usize>,
        letters: &Letters,
    ) -> Self {
        let intake = Intake { catalog: &executor.catalog, by_type, handlers: &executor.handlers };
        let mut publication = Publication::default();
        let mut commands = Vec::with_capacity(records.len());
        executor.vitals.takes(&records);
        for received in records {
            let received = Arc::new(received);
            publication.completes(&received);
            match intake.take(&received) {
                Ok(command) => commands.push(command),
                Err(not) => {
                    executor.vitals.dead_letter(not.reason());
                    publication.replies.push(letter(received, &not, letters));
                }
            }
        }
        Self { rounds: rounds(commands), publication, begun: (Instant::now(), SystemTime::now()) }
    }

    /// Runs all commands. When it is stopped meanwhile, nothing is published: after the next start, what was committed
    /// is replayed.
    pub(crate) async fn answer(
        self,
        executor: &Executor,
        stop: &CancellationToken,
    ) -> Result<Publication, Stopped> {
        let mut publication = self.publication;
        let (begun, begun_at) = self.begun;
        let mut tally = Tally::default();
        for round in self.rounds {
            let answers = executor.run(&round, stop).await?;
            for (command, answer) in round.into_iter().zip(answers) {
                let parents = traces::follow(&command, answer.as_ref(), begun_at);
                tally.count(&command, answer.as_ref());
                if let Some(answer) = answer {
                    publish(&command, answer, parents, &mut publication);
                }
            }
        }
        executor.vitals.answered(begun, tally);
        Ok(publication)
    }
}

impl Publication {
    /// Notes that a record is done when this publication is.
    fn completes(&mut self, received: &Received) {
        let next = received.offset + 1;
        let known = self
            .offsets
            .iter_mut()
            .find(|(topic, partition, _)| *partition == received.partition && *topic == received.topic);
        match known {
            Some((_, _, offset)) => *offset = next.max(*offset),
            None => self.offsets.push((received.topic.clone(), received.partition, next)),
        }
    }
}

fn letter(received: Arc<Received>, not: &NotACommand, letters: &Letters) -> Outgoing {
    let text = not.to_string();
    tracing::warn!(
        topic = &*received.topic,
        partition = received.partition,
        offset = received.offset,
        saga = traces::saga_of(&received),
        trace = traces::id_of(&received),
        "a record becomes a dead letter: {text}"
    );
    let record = letters.of_record(&received, not.reason(), &text);
    Outgoing { record, of: received, is_letter: true }
}

/// The reply (unless it is to be lost) and the domain events of a command.
fn publish(command: &Incoming, answer: Answer, parents: Parents, out: &mut Publication) {
    let headers = &command.headers;
    let Answer { outcome, reply, .. } = answer;
    let reply = Arc::unwrap_or_clone(reply);
    for (number, event) in reply.events.into_iter().enumerate() {
        let mut event_headers = Headers::with_capacity(4);
        event_headers.push(EVENT_ID, format!("{}-{number}", headers.command_id));
        event_headers.push(name::SAGA_ID, headers.saga_id.to_string());
        event_headers.push(name::MESSAGE_TYPE, event.message_type.as_bytes());
        push_traceparent(&mut event_headers, parents.of_events);
        let record = Record::new(Arc::<str>::from(event.topic), event.key, event.value, event_headers);
        out.events.push(Outgoing { record, of: command.received.clone(), is_letter: false });
    }
    if reply.lost {
        return;
    }
    out.replies.push(Outgoing {
        record: reply_record(command, outcome, reply.message_type, reply.value, parents.of_reply),
        of: command.received.clone(),
        is_letter: false,
    });
}

fn reply_record(
    command: &Incoming,
    outcome: messaging::headers::OutcomeKind,
    message_type: Arc<str>,
    value: Vec<u8>,
    traceparent: Option<TraceParent>,
) -> Record {
    let headers = &command.headers;
    let reply = ReplyHeaders {
        saga_id: headers.saga_id,
        command_id: headers.command_id,
        outcome,
        echo: Some(Echo { attempt: headers.attempt, redrive: headers.redrive }),
        message_type,
        traceparent,
    };
    Record {
        partition: Some(headers.reply_partition),
        ..Record::new(headers.reply_topic.clone(), headers.saga_id.to_string(), value, reply.write())
    }
}
