//! The worker's command line.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Arg, Command, value_parser};
use participant::service::{
    Invocation, LogFormat, Program, WORKER_SETTINGS, WorkerSettings, run_program, start_logging,
    stop_on_signals, traced,
};
use uuid::Uuid;

use crate::{PROGRAM, migrate, serve, set_capacity};

/// Runs the worker's program with a command line, whose first part is the program's own name. Not generic
/// over the arguments: the whole service would be compiled once more in every program that calls this.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let program = Program::new(PROGRAM, "The participant that owns bookings and resources", WORKER_SETTINGS)
        .with(resource_command());
    run_program(program, args, run)
}

fn resource_command() -> Command {
    let id = Arg::new("resource").value_name("ID").required(true).value_parser(value_parser!(Uuid));
    let capacity = Arg::new("capacity")
        .long("capacity")
        .value_name("UNITS")
        .required(true)
        .value_parser(value_parser!(i64).range(0..));
    let set = Command::new("set").about("Sets how many units a resource has").arg(id).arg(capacity);
    Command::new("resource").about("Looks after resources").subcommand_required(true).subcommand(set)
}

async fn run(invocation: Invocation) -> anyhow::Result<()> {
    let Invocation { command, arguments, settings } = invocation;
    if command == "serve" {
        let settings = WorkerSettings::read(&settings)?;
        start_logging(settings.log_format);
        return traced(PROGRAM, serve(settings, stop_on_signals()?)).await;
    }
    start_logging(LogFormat::default());
    let url = WorkerSettings::read_database_url(&settings)?;
    let stop = stop_on_signals()?;
    match (command.as_str(), arguments.subcommand()) {
        ("migrate", _) => Ok(migrate(&url, &stop).await?),
        ("resource", Some(("set", arguments))) => {
            let resource = *arguments.get_one::<Uuid>("resource").context("no resource is named")?;
            let capacity = *arguments.get_one::<i64>("capacity").context("no capacity is given")?;
            Ok(set_capacity(&url, resource, capacity, &stop).await?)
        }
        _ => bail!("no such sub-command"),
    }
}
