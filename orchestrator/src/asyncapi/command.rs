//! `orchestrator asyncapi`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Arg, ArgMatches, Command, value_parser};

use super::{Partitions, document, page};
use crate::check::{self, Outcome};
use crate::registration::folders;

/// Its name.
pub(crate) const NAME: &str = "asyncapi";
const DEFINITIONS: &str = "definitions";
const SCHEMAS: &str = "schemas";
const FORMAT: &str = "format";

/// The sub-command's own arguments.
pub(crate) fn command() -> Command {
    let folder = |name, help| {
        Arg::new(name).long(name).value_name("DIR").value_parser(value_parser!(PathBuf)).help(help)
    };
    let format = Arg::new(FORMAT)
        .long(FORMAT)
        .value_name("FORMAT")
        .value_parser(["json", "markdown"])
        .default_value("json")
        .help("What is printed: the document, or a page for people");
    Command::new(NAME)
        .about("Prints the AsyncAPI document of the definitions that ship and those of a folder")
        .args([
            folder(DEFINITIONS, "A folder of further definitions (*.toml)"),
            folder(SCHEMAS, "A folder of Avro schemas (*.avsc) beside those that ship"),
            format,
        ])
}

/// Prints the document on standard output.
///
/// # Errors
/// A folder cannot be read or has something wrong in it, or standard output cannot be written to.
pub(crate) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let folder = |name| arguments.get_one::<PathBuf>(name).map(PathBuf::as_path);
    let (checked, catalog) = folders::on_paper(folder(DEFINITIONS), folder(SCHEMAS))?;
    if !checked.iter().all(check::Checked::is_right) {
        check::complain(&checked);
        bail!("some definitions are wrong, see above");
    }
    let definitions = checked.iter().filter_map(|checked| match &checked.outcome {
        Outcome::Right { definition, .. } => Some(&**definition),
        _ => None,
    });
    let document = document(definitions, &catalog, Partitions::default());
    let text = match arguments.get_one::<String>(FORMAT).map(String::as_str) {
        Some("markdown") => page(&document),
        _ => format!("{document:#}\n"),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
