//! The booking worker on a real Postgres and a real Kafka protocol.
#![expect(clippy::unwrap_used, reason = "what a test did not expect fails it")]

mod bench;
mod bookings;
mod capacity;
mod program;
