//! `sagactl`, the command line for operators: `sagactl NOUN VERB`.
//!
//! What it found goes to standard output, everything else to standard error. Everything is asked of the orchestrator's
//! HTTP API, with the crate `client`; it decides nothing itself.

mod arguments;
mod ask;
mod audit;
mod bulk;
mod cli;
mod dead_letter;
mod definition;
mod edit;
mod failure;
mod history;
mod output;
mod paper;
mod participant;
mod saga;
mod session;
mod style;
mod table;
mod why;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Noun};
use crate::failure::{Exit, Failure};
use crate::session::Session;

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => {
            // A reader that went away is no reason to complain.
            let _ = told.print();
            return ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(1));
        }
    };
    cli.global.color.apply();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.tell(),
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let noun = match cli.noun {
        Noun::Completions { shell } => return paper::completions(shell),
        Noun::Man { dir } => return paper::man(dir.as_deref()),
        Noun::Asking(noun) => noun,
    };
    let session = Session::new(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot begin: {error}")))?;
    runtime.block_on(noun.run(&session))
}
