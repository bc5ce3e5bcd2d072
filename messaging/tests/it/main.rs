//! The crate against a broker: the embedded one, or that of `TEST_KAFKA_BOOTSTRAP_SERVERS` where no faults are made.

mod cluster;
mod dead_letters;

mod groups;
mod publishing;
mod reading;
mod sending;
mod topics;
