//! `orchestrator schemas`: the schemas of this program held against the schema registry.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command};
use schemas::Catalog;
use schemas::registry::{Difference, SubjectReport};

/// The sub-command's name.
pub const NAME: &str = "schemas";
const CHECK: &str = "check";
const REGISTER: &str = "register";
const DIFF: &str = "diff";

/// As the command line knows it.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Holds the schemas that ship and those of SCHEMAS_DIR against the registry of SCHEMA_REGISTRY_URL")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new(CHECK).about(
            "Whether each can read, and be read by, every version that the registry has; the exit code is 1 if not",
        ))
        .subcommand(
            Command::new(REGISTER).about("Registers those that the registry lacks, under FULL_TRANSITIVE; all or none"),
        )
        .subcommand(Command::new(DIFF).about("Says in what the registry differs; the exit code is 1 if it does"))
}

/// Runs it.
///
/// # Errors
/// The registry does not answer, or refuses.
pub async fn run(catalog: &Catalog, arguments: &ArgMatches) -> Result<ExitCode> {
    let registry = catalog.registry().context("SCHEMA_REGISTRY_URL: there is no registry")?;
    let reports = registry.compare(catalog).await?;
    let conflicts = told(&reports, Difference::is_conflict);
    match arguments.subcommand_name() {
        Some(DIFF) => {
            let differences = told(&reports, |_| true);
            print(&differences, &format!("{} subjects are as they are here", reports.len()))
        }
        // Checked as a whole first: a half of a release's schemas helps nobody.
        Some(REGISTER) if conflicts.is_empty() => {
            let new = registry.register(catalog).await?;
            let mut text = String::new();
            for schema in &new {
                let _ = writeln!(text, "{schema} is registered");
            }
            write(&format!(
                "{text}{} schemas are new, all of {} subjects are there\n",
                new.len(),
                reports.len()
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => print(&conflicts, &format!("all versions of {} subjects can read each other", reports.len())),
    }
}

/// A line for each difference of that kind.
fn told(reports: &[SubjectReport], is_meant: impl Fn(&Difference) -> bool) -> String {
    let mut text = String::new();
    for report in reports {
        for difference in report.differences.iter().filter(|difference| is_meant(difference)) {
            let _ = writeln!(text, "{}: {difference}", report.subject);
        }
    }
    text
}

/// What is wrong, or that nothing is.
fn print(wrong: &str, right: &str) -> Result<ExitCode> {
    if wrong.is_empty() {
        write(&format!("{right}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    write(wrong)?;
    Ok(ExitCode::FAILURE)
}

/// A closed pipe is no reason for an error.
fn write(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
