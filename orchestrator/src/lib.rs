//! The orchestrator service: engine, store, HTTP API.
//!
//! Read [`engine`] for how sagas move, [`store`] for what is kept, [`api`] for what can be asked.

pub mod api;
pub mod asyncapi;
pub mod bulk;
pub mod check;
pub mod config;
pub mod dead_letters;
pub mod definitions;
pub mod engine;
pub mod metrics;
pub mod participants;
mod program;
pub mod registration;
pub mod registry;
pub mod retention;
pub mod service;
pub mod shards;
pub mod store;
pub mod verify;
pub mod versions;
pub mod why;

pub use config::topics;
pub use program::main;
