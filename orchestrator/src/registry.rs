//! `orchestrator schemas`: the schemas of this program held against the schema registry.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command};
use saga_defs::definition::Definition;
use schemas::Catalog;
use schemas::registry::{Difference, SubjectReport};

use crate::registration::folders;

/// The sub-command's name.
pub const NAME: &str = "schemas";
const CHECK: &str = "check";
const REGISTER: &str = "register";
const DIFF: &str = "diff";

/// As the command line knows it.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Holds the schemas that ship and those of SCHEMAS_DIR against the registry of SCHEMA_REGISTRY_URL")
        .long_about(
            "Holds the schemas that ship and those of SCHEMAS_DIR against the registry of SCHEMA_REGISTRY_URL. Their \
             subjects are <topic>-<record>; which topics they go to is said by the definitions that ship, those of \
             DEFINITIONS_DIR and the attribute `topic` of a schema.",
        )
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
/// The registry does not answer, or refuses; or a definition of the folder cannot be read.
pub async fn run(catalog: &Catalog, definitions: Option<&Path>, arguments: &ArgMatches) -> Result<ExitCode> {
    let mut told_by = Vec::new();
    for (origin, text) in folders::sources(&[], definitions)? {
        told_by.push(Definition::parse(&text).with_context(|| origin)?);
    }
    let catalog = &catalog.with_definitions(&told_by);
    let registry = catalog.registry().context("SCHEMA_REGISTRY_URL: there is no registry")?;
    let reports = registry.compare(catalog).await?;
    let conflicts = told(&reports, Difference::is_conflict);
    let elsewhere = elsewhere(catalog);
    match arguments.subcommand_name() {
        Some(DIFF) => {
            let differences = told(&reports, |_| true);
            print(&differences, &format!("{} subjects are as they are here{elsewhere}", reports.len()))
        }
        // Checked as a whole first: a half of a release's schemas helps nobody.
        Some(REGISTER) if conflicts.is_empty() => {
            let new = registry.register(catalog).await?;
            let mut text = String::new();
            for schema in &new {
                let _ = writeln!(text, "{schema} is registered");
            }
            write(&format!(
                "{text}{} schemas are new, all of {} subjects are there{elsewhere}\n",
                new.len(),
                reports.len()
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => print(
            &conflicts,
            &format!("all versions of {} subjects can read each other{elsewhere}", reports.len()),
        ),
    }
}

/// The records that a registry is not asked for: inputs of sagas, or forgotten ones.
fn elsewhere(catalog: &Catalog) -> String {
    let names: Vec<&str> = catalog.without_topic().collect();
    if names.is_empty() { String::new() } else { format!("; on no topic: {}", names.join(", ")) }
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
