//! A participant on a real Postgres and a real Kafka protocol.
#![expect(clippy::unwrap_used, reason = "what a test did not expect fails it")]

mod crash;
mod dynamic;
mod isolation;
mod outside;
mod replay;
mod stack;
mod worker;
