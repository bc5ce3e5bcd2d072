//! The sub-command: its arguments, its progress bar, its output.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anstream::AutoStream;
use clap::{Arg, ArgMatches, Command, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;

use super::report::{DEFAULT_LIMIT, Report};

/// Its name.
pub const NAME: &str = "verify";
const LIMIT: &str = "limit";
const FORMAT: &str = "format";
/// More differences than this are not kept, so that what is in memory stays small.
const MAX_LIMIT: u64 = 100_000;
const BAR: &str =
    "{bar:30} {percent:>3} %  {human_pos} of about {human_len} transitions  {per_sec}  {eta} left";

/// As the command line knows it.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Replays the journal and names each difference; the exit code is 1 if any is found")
        .arg(
            Arg::new(LIMIT)
                .long(LIMIT)
                .value_name("N")
                .value_parser(value_parser!(u64).range(..=MAX_LIMIT))
                .help(format!(
                    "Show at most so many differences; the rest are counted [default: {DEFAULT_LIMIT}]"
                )),
        )
        .arg(
            Arg::new(FORMAT)
                .long(FORMAT)
                .value_name("FORMAT")
                .value_parser(["human", "json"])
                .default_value("human")
                .help("Lines for people, or one JSON object"),
        )
}

/// The exit code if the database could not be read to its end, apart from that for differences.
const UNREADABLE: u8 = 2;

/// Verifies a database and prints what was found. The exit code is 1 if there are differences, 2 if it cannot be read.
///
/// # Errors
/// The report cannot be printed.
pub async fn run(url: &SecretString, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let limit = arguments.get_one::<u64>(LIMIT).and_then(|&limit| usize::try_from(limit).ok());
    let bar = bar();
    let mut tell = |done: u64, total: u64| {
        bar.set_length(total.max(done));
        bar.set_position(done);
    };
    let verified = super::verify(url, limit.unwrap_or(DEFAULT_LIMIT), &mut tell).await;
    bar.finish_and_clear();
    let report = match verified {
        Ok(report) => report,
        Err(error) => {
            eprintln!("orchestrator: DATABASE_URL: the journal cannot be read: {error}");
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    print(&report, arguments.get_one::<String>(FORMAT).is_some_and(|format| format == "json"))?;
    Ok(if report.differences() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// On standard error, and only if a person looks at it.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    // Colours on a terminal only, and not where NO_COLOR is set.
    let mut out = AutoStream::auto(io::stdout().lock());
    let text = if json { report.json() } else { report.text() };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Nobody reads any more: that is no reason for another error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
