//! `orchestrator check FILE…`: whether definitions may be published, on paper. It needs no database and no broker.

mod json;
mod report;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use saga_defs::definition::{Definition, DefinitionError, MAX_SOURCE_BYTES, Problem};
use schemas::Catalog;

const FILES: &str = "files";
const SCHEMAS: &str = "schemas";
const FORMAT: &str = "format";
const COLOR: &str = "color";

/// The sub-command's own arguments.
pub(crate) fn command() -> Command {
    Command::new("check")
        .about("Checks definitions; the exit code is 1 if any is wrong")
        .arg(
            Arg::new(FILES)
                .value_name("FILE")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("A definition (TOML)"),
        )
        .arg(
            Arg::new(SCHEMAS)
                .long("schemas")
                .value_name("DIR")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("A folder of Avro schemas (*.avsc) beside those that ship; may be given several times"),
        )
        .arg(
            Arg::new(FORMAT)
                .long("format")
                .value_name("FORMAT")
                .value_parser(["human", "json"])
                .default_value("human")
                .help("What is printed: a text for people, or JSON for programs"),
        )
        .arg(
            Arg::new(COLOR)
                .long("color")
                .value_name("WHEN")
                .value_parser(["auto", "always", "never"])
                .default_value("auto")
                .help("Colours; auto is on a terminal where NO_COLOR is not set"),
        )
}

/// Checks what the arguments name and prints it on standard output.
///
/// # Errors
/// Standard output cannot be written to. A reader that went away early is none.
pub(crate) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let paths = |name| arguments.get_many::<PathBuf>(name).into_iter().flatten();
    let (schemas, mut files) = catalog(paths(SCHEMAS));
    files.extend(paths(FILES).map(|path| check(path, &schemas)));
    let choice = |name| arguments.get_one::<String>(name).map_or("", String::as_str);
    let text = match choice(FORMAT) {
        "json" => json::print(&files)?,
        _ => report::print(&files),
    };
    let mut out = AutoStream::new(io::stdout().lock(), colours(choice(COLOR)));
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    Ok(if files.iter().all(CheckedFile::is_right) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn colours(choice: &str) -> ColorChoice {
    match choice {
        "always" => ColorChoice::Always,
        "never" => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// A file and what is to be said of it.
struct CheckedFile {
    name: String,
    outcome: Outcome,
}

enum Outcome {
    /// It may be published.
    Right(Box<Definition>),
    /// It may not, for what stands in its text.
    Wrong { source: String, problems: Vec<Problem> },
    /// It could not even be looked at; or it is a schema, whose problems have no line.
    Unusable(String),
}

impl CheckedFile {
    const fn is_right(&self) -> bool {
        matches!(self.outcome, Outcome::Right(_))
    }
}

/// The schemas that ship and those of the folders. What is wrong with a folder is reported as a file of its own, and the
/// definitions are checked without it.
fn catalog<'a>(folders: impl Iterator<Item = &'a PathBuf>) -> (Catalog, Vec<CheckedFile>) {
    let mut catalog = Catalog::clone(&Catalog::shipped());
    let mut wrong = Vec::new();
    for folder in folders {
        let more = Catalog::read_dir(folder).map_err(|error| vec![error]);
        match more.and_then(|sources| catalog.with_sources(sources)) {
            Ok(more) => catalog = more,
            Err(errors) => wrong.extend(errors.iter().map(|error| CheckedFile {
                name: folder.display().to_string(),
                outcome: Outcome::Unusable(crate::api::chain(error)),
            })),
        }
    }
    (catalog, wrong)
}

fn check(path: &Path, catalog: &Catalog) -> CheckedFile {
    let name = path.display().to_string();
    let outcome = match read(path) {
        Err(why) => Outcome::Unusable(why),
        Ok(source) => match crate::definitions::check(&source, catalog) {
            Ok(definition) => Outcome::Right(Box::new(definition)),
            Err(DefinitionError { problems, .. }) => Outcome::Wrong { source, problems },
        },
    };
    CheckedFile { name, outcome }
}

fn read(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > MAX_SOURCE_BYTES as u64 {
        return Err(format!("is longer than {MAX_SOURCE_BYTES} bytes; shorten it"));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}
