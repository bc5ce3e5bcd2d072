//! A producer's delivery reports, as librdkafka queues them: all of a request together.
//!
//! `BaseProducer::poll` would do, but for two things: it spins through the last millisecond of each of its waits, which
//! made an idle producer cost 2 % of a core, and it tells of one report at a time, so that whoever waits for them is woken
//! several times for one request. All `unsafe` of the producer is here.

use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::events::OwnedEvent;
use crate::producer::Placed;

/// A record's token as librdkafka carries it, and what became of it.
pub(crate) type RawReport = (usize, Result<Placed, RDKafkaErrorCode>);

/// The queue of a producer's events.
pub(crate) struct ReportQueue<'p, C: ProducerContext> {
    queue: NonNull<native::rd_kafka_queue_t>,
    /// The queue belongs to the client: it must not outlive it.
    producer: &'p BaseProducer<C>,
}

impl<'p, C: ProducerContext> ReportQueue<'p, C> {
    /// `None` if librdkafka has no such queue, which does not happen.
    pub(crate) fn of(producer: &'p BaseProducer<C>) -> Option<Self> {
        // SAFETY: the client is alive, it is borrowed for as long as the queue lives.
        let queue = unsafe { native::rd_kafka_queue_get_main(producer.client().native_ptr()) };
        Some(Self { queue: NonNull::new(queue)?, producer })
    }

    /// Waits for the next event and returns its reports, in order; none if it is of another kind or if nothing happened.
    /// Other events are dealt with here.
    pub(crate) fn poll(&self, wait: Duration) -> Vec<RawReport> {
        // SAFETY: the queue is alive until our drop.
        let Some(event) = (unsafe { OwnedEvent::poll(self.queue, wait) }) else {
            return Vec::new();
        };
        match event.kind() {
            native::RD_KAFKA_EVENT_DR => return reports(&event),
            native::RD_KAFKA_EVENT_ERROR => {
                let error = ClientError::Global(event.error().into());
                self.producer.context().error(error, event.error_text().trim());
            }
            native::RD_KAFKA_EVENT_LOG => event.log(),
            _ => {}
        }
        Vec::new()
    }
}

fn reports(event: &OwnedEvent) -> Vec<RawReport> {
    // SAFETY: the event is alive.
    let count = unsafe { native::rd_kafka_event_message_count(event.0.as_ptr()) };
    let mut reports = Vec::with_capacity(count);
    // SAFETY: the event is alive, and a message lives as long as its event.
    while let Some(message) = unsafe { native::rd_kafka_event_message_next(event.0.as_ptr()).as_ref() } {
        let outcome = match RDKafkaErrorCode::from(message.err) {
            RDKafkaErrorCode::NoError => Ok(Placed { partition: message.partition, offset: message.offset }),
            code => Err(code),
        };
        reports.push((message._private as usize, outcome));
    }
    reports
}

impl<C: ProducerContext> Drop for ReportQueue<'_, C> {
    fn drop(&mut self) {
        // SAFETY: our own reference, given back once, while the client is alive.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}
