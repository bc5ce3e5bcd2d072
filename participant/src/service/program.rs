//! A program's command line: sub-commands and settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Termination};

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::service::settings::{Setting, SettingError, Settings, read_file};

const CONFIG: &str = "config";
/// The exit code for a wrong command line or setting.
const USAGE: u8 = 2;

/// A program: its name, its settings, and its sub-commands.
#[derive(Debug, Clone)]
pub struct Program {
    command: Command,
    settings: Vec<Setting>,
}

/// One call of a program.
#[derive(Debug)]
pub struct Invocation {
    /// The sub-command's name.
    pub command: String,
    /// The sub-command's own arguments.
    pub arguments: ArgMatches,
    /// The values of all settings.
    pub settings: Settings,
}

impl Program {
    /// A program with the sub-commands `serve` and `migrate` and the settings given.
    pub fn new(name: &'static str, about: &'static str, settings: impl IntoIterator<Item = Setting>) -> Self {
        let settings: Vec<Setting> = settings.into_iter().collect();
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .global(true)
            .help("A TOML file of settings; the environment and flags come before it");
        let command = Command::new(name)
            .about(about)
            .version(env!("CARGO_PKG_VERSION"))
            .subcommand_required(true)
            .arg_required_else_help(true)
            .arg(config)
            .args(settings.iter().map(argument))
            .subcommand(Command::new("serve").about("Serves commands until SIGTERM or Ctrl-C"))
            .subcommand(Command::new("migrate").about("Brings the database up to date, then ends"));
        Self { command, settings }
    }

    /// The same with one more sub-command.
    #[must_use]
    pub fn with(mut self, subcommand: Command) -> Self {
        self.command = self.command.subcommand(subcommand);
        self
    }

    /// The same with one more sub-command, which needs no settings: they are taken, and its help leaves them out.
    #[must_use]
    pub fn with_plain(self, subcommand: Command) -> Self {
        // An argument of the same id is not replaced by the global one, so hiding this one hides the setting here only.
        let hidden: Vec<Arg> = self.settings.iter().map(|setting| argument(setting).hide(true)).collect();
        self.with(subcommand.args(hidden))
    }

    /// The same with `serve` explained in other words than a worker's.
    #[must_use]
    pub fn serving(mut self, about: &'static str) -> Self {
        self.command = self.command.mut_subcommand("serve", |serve| serve.about(about));
        self
    }

    /// Reads a command line (its first part is the program's own name), the environment and the settings file. Help,
    /// and what is wrong, is printed here.
    ///
    /// # Errors
    /// The code to exit with.
    pub fn parse(self, args: impl IntoIterator<Item = OsString>) -> Result<Invocation, ExitCode> {
        let matches = self.command.try_get_matches_from(args).map_err(|error| {
            // A closed pipe is no reason for another error.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
        })?;
        invocation(&self.settings, &matches).map_err(|error| wrong_setting(&error))
    }
}

/// Parses the command line and runs `run` on a runtime of its own. What goes wrong is one line on standard error; the
/// exit code is 2 for a wrong command line or setting, 1 for anything else. Where nothing goes wrong it is what `run`
/// says: a sub-command that answers a question may answer no.
pub fn run_program<F, T>(
    program: Program,
    args: impl IntoIterator<Item = OsString>,
    run: impl FnOnce(Invocation) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<T>>,
    T: Termination,
{
    let name = program.command.get_name().to_owned();
    let invocation = match program.parse(args) {
        Ok(invocation) => invocation,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(invocation)) {
        Ok(done) => done.report(),
        Err(error) => match error.downcast_ref::<SettingError>() {
            Some(error) => wrong_setting(error),
            None => {
                eprintln!("{name}: {}", format!("{error:#}").replace('\n', " "));
                ExitCode::FAILURE
            }
        },
    }
}

/// Says what is wrong with a setting, and with which code to exit.
fn wrong_setting(error: &SettingError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(USAGE)
}

fn argument(setting: &Setting) -> Arg {
    let argument = Arg::new(setting.name)
        .long(setting.flag())
        .env(setting.name)
        .value_name("VALUE")
        .global(true)
        .hide_env_values(true);
    match setting.default {
        Some(default) => argument.help(format!("{} [default: {default}]", setting.help)),
        None => argument.help(setting.help),
    }
}

fn invocation(known: &[Setting], matches: &ArgMatches) -> Result<Invocation, SettingError> {
    let file = match matches.get_one::<PathBuf>(CONFIG) {
        Some(path) => read_file(Path::new(path), known)?,
        None => BTreeMap::new(),
    };
    let given = |setting: &Setting| matches.get_one::<String>(setting.name).cloned();
    let settings = Settings::gather(known, given, &file);
    let (command, arguments) = matches.subcommand().map_or_else(
        || (String::new(), ArgMatches::default()),
        |(name, arguments)| (name.to_owned(), arguments.clone()),
    );
    Ok(Invocation { command, arguments, settings })
}
