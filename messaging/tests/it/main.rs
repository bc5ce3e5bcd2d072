//! The crate against a broker: the embedded one, or that of `TEST_KAFKA_BOOTSTRAP_SERVERS` where no faults are made.
#![expect(clippy::unwrap_used, reason = "what a test did not expect fails it")]

mod cluster;
mod dead_letters;

mod groups;
mod publishing;
mod reading;
mod sending;
mod topics;
