//! What every worker's program needs around its participant: settings, sub-commands, logs, signals, migrations.

mod config;
mod database;
pub mod health;
mod logging;
mod manager;
mod observed;
mod probes;
mod program;
mod registry;
mod settings;
mod signals;
mod traced;
mod worker;

pub use database::{open, wait_until_migrated};
pub use logging::{LogFormat, start_logging};
pub use manager::ServiceManager;
pub use observed::{ObservingError, observed};
pub use program::{Invocation, Program, run_program};
pub use settings::{Origin, Setting, SettingError, Settings};
pub use signals::stop_on_signals;
pub use traced::traced;
pub use worker::{METRICS_ADDR, WORKER_SETTINGS, WorkerSettings};
