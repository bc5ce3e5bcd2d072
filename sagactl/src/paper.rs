//! Completions and manual pages.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use clap_mangen::{Man, generate_to};

use crate::cli::Cli;
use crate::failure::{Exit, Failure};
use crate::output::{note, print};

/// Prints a script that completes commands.
pub(crate) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "sagactl", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Prints the manual page, or writes one for each command.
pub(crate) fn man(dir: Option<&Path>) -> Result<Exit, Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Done);
    };
    let unwritten =
        |error: io::Error| Failure::error(format!("{} cannot be written: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(unwritten)?;
    generate_to(Cli::command(), dir).map_err(unwritten)?;
    note(&format!("the pages are in {}", dir.display()));
    Ok(Exit::Done)
}
