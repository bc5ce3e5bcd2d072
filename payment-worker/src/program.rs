//! The worker's command line.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::bail;
use participant::service::{
    Invocation, LogFormat, Program, WorkerSettings, run_program, start_logging, stop_on_signals, traced,
};

use crate::settings::{PaymentSettings, known};
use crate::{PROGRAM, migrate, serve};

/// Runs the worker's program with a command line, whose first part is the program's own name. Not generic
/// over the arguments: the whole service would be compiled once more in every program that calls this.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let program = Program::new(PROGRAM, "The participant that owns payments", known());
    let read = |settings: &_| Ok(PaymentSettings::read(settings)?.worker);
    run_program(program.reading(read), args, run)
}

async fn run(Invocation { command, settings, .. }: Invocation) -> anyhow::Result<()> {
    match command.as_str() {
        "serve" => {
            let settings = PaymentSettings::read(&settings)?;
            start_logging(settings.worker.log_format);
            traced(PROGRAM, serve(settings, stop_on_signals()?)).await
        }
        "migrate" => {
            start_logging(LogFormat::default());
            let url = WorkerSettings::read_database_url(&settings)?;
            Ok(migrate(&url, &stop_on_signals()?).await?)
        }
        _ => bail!("no such sub-command"),
    }
}
