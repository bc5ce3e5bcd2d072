//! Which topic it is: one that was deleted and made again has the name of the old one, and another id. rdkafka does not show
//! it, so librdkafka is asked here, with all `unsafe` of it.

use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;

use crate::events::OwnedEvent;
use crate::settings::{KafkaError, KafkaSettings};

/// What a broker says that does not know ids (before Kafka 2.8).
const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
/// Whom to ask on the embedded broker, which names no controller.
const EMBEDDED_BROKER: i32 = 1;

/// The id of a topic, in Kafka's own writing; `None` if the broker gives it none, or does not tell us. Makes no topic that is
/// missing. Blocks, with a client of its own.
///
/// # Errors
/// The broker does not answer within `limit`, or there is no such topic: another time it may.
pub fn topic_id(
    settings: &KafkaSettings,
    topic: &str,
    limit: Duration,
) -> Result<Option<String>, KafkaError> {
    let client = settings.admin()?;
    let broker = settings.is_embedded().then_some(EMBEDDED_BROKER);
    // SAFETY: the client is alive until the end of this function.
    let answer = unsafe { ask(client.inner().native_ptr(), topic, broker, limit) };
    if answer.as_ref().is_err_and(|code| will_never_tell(*code)) {
        return Ok(None);
    }
    let id = answer.map_err(|code| KafkaError::Unreachable {
        question: format!("the id of topic {topic}"),
        servers: settings.bootstrap_servers.clone(),
        source: Some(ClientError::AdminOp(code).into()),
    })?;
    Ok(Some(id).filter(|id| id != NONE))
}

/// Whether it is of no use to ask again: the broker is too old, or does not want us to know.
const fn will_never_tell(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::UnsupportedVersion
    )
}

/// # Safety
/// The client is alive.
unsafe fn ask(
    client: *mut native::rd_kafka_t,
    topic: &str,
    broker: Option<i32>,
    limit: Duration,
) -> Result<String, RDKafkaErrorCode> {
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let mut names = [name.as_ptr()];
    let limit_ms = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client and the name are alive; each thing that is made is destroyed by its owner, the event first.
    unsafe {
        let made = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(made, native::rd_kafka_TopicCollection_destroy)?;
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let made = native::rd_kafka_AdminOptions_new(client, operation);
        let options = Owned::new(made, native::rd_kafka_AdminOptions_destroy)?;
        native::rd_kafka_AdminOptions_set_request_timeout(options.get(), limit_ms, ptr::null_mut(), 0);
        if let Some(broker) = broker {
            native::rd_kafka_AdminOptions_set_broker(options.get(), broker, ptr::null_mut(), 0);
        }
        let queue = Owned::new(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy)?;
        native::rd_kafka_DescribeTopics(client, topics.get(), options.get(), queue.get());
        // librdkafka itself says when the time is over.
        let wait = limit + Duration::from_secs(1);
        let event = OwnedEvent::poll(queue.0, wait).ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        read(&event)
    }
}

/// The id in an answer.
fn read(event: &OwnedEvent) -> Result<String, RDKafkaErrorCode> {
    let code = RDKafkaErrorCode::from(event.error());
    if code != RDKafkaErrorCode::NoError {
        return Err(code);
    }
    let mut count = 0;
    // SAFETY: the event is alive, and what it holds lives as long; it is null for other events.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let error = native::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null() {
            return Err(native::rd_kafka_error_code(error).into());
        }
        let id = native::rd_kafka_TopicDescription_topic_id(*topics);
        let text = if id.is_null() { ptr::null() } else { native::rd_kafka_Uuid_base64str(id) };
        if text.is_null() {
            return Ok(NONE.to_owned());
        }
        Ok(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

/// Something of librdkafka's that is ours to destroy.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(made: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        NonNull::new(made).map(|made| Self(made, destroy)).ok_or(RDKafkaErrorCode::Fail)
    }

    const fn get(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and not used after this.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}
