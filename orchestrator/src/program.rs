//! The service's command line.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::bail;
use participant::service::{
    Invocation, LogFormat, Program, WorkerSettings, run_program, start_logging, stop_on_signals, traced,
};

use crate::asyncapi::command as asyncapi;
use crate::check::command as check;
use crate::config::{self, Config, all_settings};
use crate::registry;
use crate::service::{migrate, serve};
use crate::shards;
use crate::verify;

/// Runs the orchestrator's program with a command line, whose first part is the program's own name. Not generic
/// over the arguments: the whole service would be compiled once more in every program that calls this.
pub fn main(args: Vec<OsString>) -> ExitCode {
    run_program(program(), args, run)
}

fn program() -> Program {
    Program::new("orchestrator", "Runs sagas: HTTP in, Postgres, Kafka out", all_settings())
        .reading(|settings| Ok(Config::read(settings)?.base))
        .serving("Runs sagas until SIGTERM or Ctrl-C")
        .with_plain(check::command())
        .with_plain(asyncapi::command())
        .with(verify::command::command())
        .with(shards::command())
        .with(registry::command())
}

async fn run(invocation: Invocation) -> anyhow::Result<ExitCode> {
    match invocation.command.as_str() {
        "serve" => {
            let config = Config::read(&invocation.settings)?;
            start_logging(config.base.log_format);
            traced("orchestrator", serve(config, stop_on_signals()?)).await?;
        }
        "migrate" => {
            start_logging(LogFormat::default());
            let url = WorkerSettings::read_database_url(&invocation.settings)?;
            migrate(&url, &stop_on_signals()?).await?;
        }
        "check" => return check::run(&invocation.arguments),
        asyncapi::NAME => return asyncapi::run(&invocation.arguments),
        verify::command::NAME => {
            start_logging(LogFormat::default());
            let url = WorkerSettings::read_database_url(&invocation.settings)?;
            return verify::command::run(&url, &invocation.arguments).await;
        }
        shards::NAME => {
            start_logging(LogFormat::default());
            shards::run(&WorkerSettings::read(&invocation.settings)?, &invocation.arguments).await?;
        }
        registry::NAME => {
            start_logging(LogFormat::default());
            let catalog = WorkerSettings::read_registered_catalog(&invocation.settings)?;
            let folder = config::definitions_dir(&invocation.settings)?;
            return registry::run(&catalog, folder.as_deref(), &invocation.arguments).await;
        }
        other => bail!("there is no sub-command {other}"),
    }
    Ok(ExitCode::SUCCESS)
}
