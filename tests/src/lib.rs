//! What the end-to-end scenarios are written with: services as real processes, a broker, databases, an HTTP client,
//! and the questions that are asked afterwards.
//!
//! A scenario (in `tests/scenarios/`) gets a [`stack::Stack`], does something to it, and looks at [`story::story`]: the
//! transcript of a saga and what its participants have in their tables. [`oracle`] asks the same of many sagas at once.

pub mod apache_kafka;
pub mod api;
#[cfg(target_os = "linux")]
pub mod bench;
#[cfg(target_os = "linux")]
pub mod campaign;
pub mod crashes;
pub mod database;
pub mod folder;
pub mod ground;
pub mod kafka;
pub mod load;
pub mod made_up;
pub mod measured;
pub mod oracle;
pub mod otlp;
pub mod process;
pub mod proxy;
pub mod random;
pub mod recipes;
pub mod scenario;
pub mod services;
pub mod stack;
pub mod stand_in;
pub mod story;
pub mod wait;
