//! The pure core: how sagas move. No I/O, no clock, no random, no async; time and jitter are arguments.
//!
//! Read [`machine::transition`] first: it is the only place that knows how sagas move.

pub mod check;
pub mod compare;
pub mod definition;
pub mod ids;
pub mod machine;
pub mod participant;
pub mod rehearsal;
pub mod render;
pub mod retry;
pub mod saga;
mod shipped;
mod spelling;
pub mod time;

pub use shipped::{Shipped, shipped};

/// A saga's data, a command's or reply's fields: names to JSON values, in order of name.
pub type Data = serde_json::Map<String, serde_json::Value>;
