//! The HTTP API over real sockets and a real Postgres. Only the engine is a stand-in: it moves sagas by the same pure
//! core, one at a time, without Kafka.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![expect(clippy::too_many_lines, reason = "tables and their snapshots")]

mod actor;
mod audit;
mod bad_input;
mod bookings;
mod connections;
mod dead_letters;
mod definitions;
mod document;
mod events;
mod examples;
mod fake_engine;
mod fuzz;
mod harness;
mod many_letters;
mod operations;
mod participants;
mod plan;
mod progress;
mod redrives;
mod saga_actions;
mod sagas;
mod verbs;
mod why;
