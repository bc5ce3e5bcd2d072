//! A participant on a real Postgres and a real Kafka protocol.

mod crash;
mod isolation;
mod outside;
mod replay;
mod stack;
mod worker;
