//! What librdkafka's consumer has to say, one event after the other.
//!
//! `BaseConsumer::poll` would do, but for three things: it does not tell which partition an error is about, it panics
//! on a header name that is not UTF-8, and it calls back for a rebalance where an event in a loop is simpler. So this
//! file reads the consumer's queue itself. All `unsafe` of the consumer is here.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::client_log::log_line;
use crate::record::{Headers, Received};

/// A topic's partition.
pub(crate) type Place = (Arc<str>, i32);

/// One event of a consumer.
pub(crate) enum Event {
    /// A record was fetched.
    Record(Received),
    /// The group has given us these partitions.
    Assigned(Vec<Place>),
    /// The group takes the partitions away.
    Revoked,
    /// Something went wrong, perhaps with one partition.
    Error { code: RDKafkaErrorCode, text: String, place: Option<Place> },
    /// An asynchronous commit is done.
    Committed(RDKafkaErrorCode),
    /// Nothing for us; it was dealt with here.
    Served,
}

/// The queue of a consumer's events.
pub(crate) struct EventQueue<'c, C: ConsumerContext> {
    queue: NonNull<native::rd_kafka_queue_t>,
    topics: Vec<Arc<str>>,
    /// The queue belongs to the client: it must not outlive it.
    _consumer: &'c BaseConsumer<C>,
}

impl<'c, C: ConsumerContext> EventQueue<'c, C> {
    /// `None` if the consumer has no group.
    pub(crate) fn of(consumer: &'c BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client is alive, it is borrowed for as long as the queue lives.
        let queue = unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Some(Self { queue: NonNull::new(queue)?, topics: Vec::new(), _consumer: consumer })
    }

    /// Waits for the next event; zero does not wait.
    pub(crate) fn poll(&mut self, wait: Duration) -> Option<Event> {
        // SAFETY: the queue is alive until our drop.
        let event = unsafe { OwnedEvent::poll(self.queue, wait) }?;
        Some(self.read(&event))
    }

    fn read(&mut self, event: &OwnedEvent) -> Event {
        match event.kind() {
            native::RD_KAFKA_EVENT_FETCH => self.record(event),
            native::RD_KAFKA_EVENT_REBALANCE => match event.error() {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assigned(self.places(event)),
                _ => Event::Revoked,
            },
            native::RD_KAFKA_EVENT_ERROR => Event::Error {
                code: event.error().into(),
                text: event.error_text(),
                place: self.place_of_error(event),
            },
            native::RD_KAFKA_EVENT_OFFSET_COMMIT => Event::Committed(event.error().into()),
            native::RD_KAFKA_EVENT_LOG => {
                event.log();
                Event::Served
            }
            _ => Event::Served,
        }
    }

    fn record(&mut self, event: &OwnedEvent) -> Event {
        // SAFETY: the event is alive; the message lives as long as the event.
        let Some(message) = (unsafe { native::rd_kafka_event_message_next(event.0.as_ptr()).as_ref() })
        else {
            return Event::Served;
        };
        // SAFETY: a message's topic handle is alive as long as the message; its name is a C string.
        let topic =
            self.interned(unsafe { text_of(native::rd_kafka_topic_name(message.rkt)) }.unwrap_or_default());
        let code = RDKafkaErrorCode::from(message.err);
        if code != RDKafkaErrorCode::NoError {
            return Event::Error { text: code.to_string(), code, place: Some((topic, message.partition)) };
        }
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: message and the place for the answer are alive.
        let timestamp_ms = unsafe { native::rd_kafka_message_timestamp(message, &raw mut kind) };
        let headers = headers_of(message);
        Event::Record(Received {
            topic,
            partition: message.partition,
            offset: message.offset,
            timestamp_ms: (timestamp_ms >= 0).then_some(timestamp_ms),
            // SAFETY: librdkafka gives pointer and length of memory that lives as long as the message.
            key: unsafe { bytes_of(message.key, message.key_len) },
            // SAFETY: as for the key.
            value: unsafe { bytes_of(message.payload, message.len) },
            headers,
        })
    }

    fn places(&mut self, event: &OwnedEvent) -> Vec<Place> {
        // SAFETY: the list lives as long as the event; it is null for events without one.
        let Some(list) = (unsafe { native::rd_kafka_event_topic_partition_list(event.0.as_ptr()).as_ref() })
        else {
            return Vec::new();
        };
        let count = usize::try_from(list.cnt).unwrap_or(0);
        (0..count)
            .map(|i| {
                // SAFETY: `elems` holds `cnt` elements, each with a C string as topic.
                let (topic, partition) = unsafe {
                    let element = &*list.elems.add(i);
                    (text_of(element.topic).unwrap_or_default(), element.partition)
                };
                (self.interned(topic), partition)
            })
            .collect()
    }

    fn place_of_error(&mut self, event: &OwnedEvent) -> Option<Place> {
        // SAFETY: the event is alive; the answer is a copy of ours, or null.
        let place = unsafe { native::rd_kafka_event_topic_partition(event.0.as_ptr()) };
        // SAFETY: as above.
        let (topic, partition) = unsafe {
            let place = place.as_ref()?;
            (text_of(place.topic).unwrap_or_default().to_owned(), place.partition)
        };
        // SAFETY: the copy is ours, not null, and not used after this.
        unsafe { native::rd_kafka_topic_partition_destroy(place) };
        Some((self.interned(&topic), partition))
    }

    /// One allocation per topic instead of one per record.
    fn interned(&mut self, topic: &str) -> Arc<str> {
        if let Some(known) = self.topics.iter().find(|known| ***known == *topic) {
            return known.clone();
        }
        let topic: Arc<str> = topic.into();
        self.topics.push(topic.clone());
        topic
    }
}

impl<C: ConsumerContext> Drop for EventQueue<'_, C> {
    fn drop(&mut self) {
        // SAFETY: our own reference, given back once, while the client is alive.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// An event of any client.
pub(crate) struct OwnedEvent(pub(crate) NonNull<native::rd_kafka_event_t>);

impl OwnedEvent {
    /// Waits for a queue's next event; zero does not wait.
    ///
    /// # Safety
    /// The queue is alive.
    pub(crate) unsafe fn poll(queue: NonNull<native::rd_kafka_queue_t>, wait: Duration) -> Option<Self> {
        let wait_ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: by this function's contract; the event is ours, and destroyed in our drop.
        NonNull::new(unsafe { native::rd_kafka_queue_poll(queue.as_ptr(), wait_ms) }).map(Self)
    }

    pub(crate) fn kind(&self) -> i32 {
        // SAFETY: the event is alive until our drop.
        unsafe { native::rd_kafka_event_type(self.0.as_ptr()) }
    }

    pub(crate) fn error(&self) -> RDKafkaRespErr {
        // SAFETY: the event is alive until our drop.
        unsafe { native::rd_kafka_event_error(self.0.as_ptr()) }
    }

    pub(crate) fn error_text(&self) -> String {
        // SAFETY: the text lives as long as the event.
        unsafe { text_of(native::rd_kafka_event_error_string(self.0.as_ptr())) }
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn log(&self) {
        let (mut facility, mut line, mut level): (*const c_char, *const c_char, c_int) =
            (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is alive, and so are the places for the answer; the texts live as long as the event.
        let (facility, line) = unsafe {
            let event = self.0.as_ptr();
            if native::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) != 0 {
                return;
            }
            (text_of(facility).unwrap_or_default(), text_of(line).unwrap_or_default())
        };
        log_line(level_of(level), facility.trim(), line.trim());
    }
}

impl Drop for OwnedEvent {
    fn drop(&mut self) {
        // SAFETY: the event is ours and is destroyed once.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// syslog's numbers.
fn level_of(level: c_int) -> RDKafkaLogLevel {
    match level {
        0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// All headers of a message. Names that are not UTF-8 are read with replacement characters; headers that librdkafka
/// cannot take apart (damaged, or more than 100 000 of them) are left out as a whole, with a warning.
fn headers_of(message: &native::rd_kafka_message_t) -> Headers {
    let mut list = ptr::null_mut();
    // SAFETY: the message is alive; the list belongs to it.
    let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_message_headers(message, &raw mut list) });
    match code {
        RDKafkaErrorCode::NoError => {}
        RDKafkaErrorCode::NoEnt => return Headers::new(),
        _ => {
            let (partition, offset) = (message.partition, message.offset);
            tracing::warn!(partition, offset, %code, "the headers of a record cannot be read");
            return Headers::new();
        }
    }
    // SAFETY: the list is alive as long as the message.
    let count = unsafe { native::rd_kafka_header_cnt(list) };
    let mut headers = Headers::with_capacity(count);
    for index in 0..count {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list and the places for the answer are alive.
        let code = RDKafkaErrorCode::from(unsafe {
            native::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size)
        });
        if code != RDKafkaErrorCode::NoError {
            break;
        }
        // SAFETY: a header's name is a C string of the list.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        // SAFETY: pointer and length are of the list's memory.
        headers.push_nullable(name, unsafe { bytes_of(value, size) });
    }
    headers
}

/// # Safety
/// `from` is null or points to `len` bytes.
unsafe fn bytes_of(from: *const c_void, len: usize) -> Option<Vec<u8>> {
    if from.is_null() {
        return None;
    }
    // SAFETY: by this function's contract.
    Some(unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) }.to_vec())
}

/// # Safety
/// `from` is null or a C string that lives as long as `'a`.
unsafe fn text_of<'a>(from: *const c_char) -> Option<&'a str> {
    if from.is_null() {
        return None;
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(from) }.to_str().ok()
}
