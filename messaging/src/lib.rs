//! Kafka: consumers, producers, headers, topics. Knows no saga by name.
//!
//! The only crate that knows librdkafka. What every client relies on is set in [`settings`]; a [`Consumer`] hands out
//! batches from a thread of its own, a [`Producer`] reports each delivery once, an [`AckedProducer`] publishes until
//! everything is acknowledged; a [`pace::Pace`] says when a batch is worth a wait.

mod acked;
mod bootstrap;
mod cause;
mod client_log;
mod consumer;
mod dead_letter;
pub mod embedded;
mod events;
pub mod fetch;
pub mod headers;
pub mod look;
pub mod meters;
pub mod pace;
mod poller;
mod producer;
pub mod reach;
mod record;
mod reports;
mod sampling;
pub mod settings;
pub mod telemetry;
mod topic_id;
pub mod topics;
mod trace_parent;

pub use acked::{AckedProducer, PublishError};
pub use cause::Cause;
pub use consumer::{
    Assignments, BATCH_BYTES, COMMIT_INTERVAL, CommitError, Consumer, ConsumerEvent, ConsumerLimits, Polled,
    StartAt,
};
pub use producer::{Deliveries, DeliveryFailure, Placed, Producer, Report, SendError, WarmUpError};
pub use record::{Headers, Received, Record};
pub use sampling::{Sampler, SamplingError};
pub use settings::{KafkaError, KafkaSettings};
pub use telemetry::TraceParent;
pub use topic_id::topic_id;
