//! `orchestrator check FILE…`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use saga_defs::definition::MAX_SOURCE_BYTES;
use saga_defs::{Shipped, shipped};
use schemas::Catalog;

use super::{Checked, Outcome, Runs, against, json, report, sources};
use crate::definitions::Definitions;

const FILES: &str = "files";
const AGAINST: &str = "against";
const SCHEMAS: &str = "schemas";
const FORMAT: &str = "format";
const COLOR: &str = "color";

/// The sub-command's own arguments.
pub(crate) fn command() -> Command {
    let files = Arg::new(FILES)
        .value_name("FILE")
        .required(true)
        .num_args(1..)
        .value_parser(value_parser!(PathBuf))
        .help("A definition (TOML)");
    let against =
        Arg::new(AGAINST).long("against").value_name("OLD").value_parser(value_parser!(PathBuf)).help(
            "Compare each FILE with this older version: what changes, and which baseline runs go another way",
        );
    let schemas = Arg::new(SCHEMAS)
        .long("schemas")
        .value_name("DIR")
        .action(ArgAction::Append)
        .value_parser(value_parser!(PathBuf))
        .help("A folder of Avro schemas (*.avsc) beside those that ship; may be given several times");
    let format = Arg::new(FORMAT)
        .long("format")
        .value_name("FORMAT")
        .value_parser(["human", "json"])
        .default_value("human")
        .help("What is printed: a text for people, or JSON for programs");
    let color = Arg::new(COLOR)
        .long("color")
        .value_name("WHEN")
        .value_parser(["auto", "always", "never"])
        .default_value("auto")
        .help("Colours; auto is on a terminal where NO_COLOR is not set");
    Command::new("check")
        .about("Checks definitions; the exit code is 1 if any is wrong")
        .args([files, against, schemas, format, color])
}

/// Checks what the arguments name and prints it on standard output.
///
/// # Errors
/// Standard output cannot be written to. A reader that went away early is none.
pub(crate) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let paths = |name| arguments.get_many::<PathBuf>(name).into_iter().flatten();
    let (catalog, mut files) = catalog(paths(SCHEMAS));
    let published = Definitions::of(shipped().iter().map(Shipped::definition)).now();
    let texts = paths(FILES).map(|path| (path.display().to_string(), read(path)));
    files.extend(sources(texts, &catalog, &published, Runs::All));
    if let Some(old) = arguments.get_one::<PathBuf>(AGAINST) {
        let wrong = compare(old, &mut files);
        files.splice(0..0, wrong);
    }
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
    Ok(if files.iter().all(Checked::is_right) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn colours(choice: &str) -> ColorChoice {
    match choice {
        "always" => ColorChoice::Always,
        "never" => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// The schemas that ship and those of the folders. What is wrong with a folder is reported as a file of its own, and the
/// definitions are checked without it.
fn catalog<'a>(folders: impl Iterator<Item = &'a PathBuf>) -> (Catalog, Vec<Checked>) {
    let mut catalog = Catalog::clone(&Catalog::shipped());
    let mut wrong = Vec::new();
    for folder in folders {
        let more = Catalog::read_dir(folder).map_err(|error| vec![error]);
        match more.and_then(|sources| catalog.with_sources(sources)) {
            Ok(more) => catalog = more,
            Err(errors) => wrong.extend(errors.iter().map(|error| {
                let (field, told) = error.told();
                let why = if field.is_empty() { told } else { format!("field {field}: {told}") };
                Checked::unusable(
                    error.origin().map_or_else(|| folder.display().to_string(), str::to_owned),
                    why,
                )
            })),
        }
    }
    (catalog, wrong)
}

/// Compares what is right with an older version. An older version that is none is a file of its own.
fn compare(old: &Path, files: &mut [Checked]) -> Option<Checked> {
    let older = against::Older::read(old.display().to_string(), read(old)).map_err(|wrong| *wrong);
    match older {
        Ok(older) => {
            for file in files {
                if let Outcome::Right { definition, .. } = &file.outcome {
                    file.against = Some(older.compare(definition));
                }
            }
            None
        }
        Err(wrong) => Some(wrong),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > MAX_SOURCE_BYTES as u64 {
        return Err(format!("is longer than {MAX_SOURCE_BYTES} bytes; shorten it"));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}
