//! What every worker's program needs around its participant: settings, sub-commands, logs, signals, migrations.

mod database;
mod logging;
mod program;
mod settings;
mod signals;
mod traced;
mod worker;

pub use database::{open, wait_until_migrated};
pub use logging::{LogFormat, start_logging};
pub use program::{Invocation, Program, run_program};
pub use settings::{Setting, SettingError, Settings};
pub use signals::stop_on_signals;
pub use traced::traced;
pub use worker::{WORKER_SETTINGS, WorkerSettings};
