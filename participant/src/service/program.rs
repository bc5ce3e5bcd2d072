//! A program's command line: sub-commands and settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::service::config;
use crate::service::settings::{Layer, Origin, Setting, SettingError, Settings, read_file};
use crate::service::worker::WorkerSettings;

const CONFIG: &str = "config";
/// The exit code for a wrong command line or setting.
pub(crate) const USAGE: u8 = 2;

/// A program: its name, its settings, and its sub-commands.
#[derive(Debug, Clone)]
pub struct Program {
    command: Command,
    settings: Vec<Setting>,
    read: Read,
}

/// Reads all settings of a program, and gives those that every program has.
pub(crate) type Read = fn(&Settings) -> Result<WorkerSettings, SettingError>;

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
            .args(settings.iter().filter_map(file_argument))
            .subcommand(Command::new("serve").about("Serves commands until SIGTERM or Ctrl-C"))
            .subcommand(Command::new("migrate").about("Brings the database up to date, then ends"))
            .subcommand(config::command());
        Self { command, settings, read: WorkerSettings::read }
    }

    /// The same with settings that are read so; without it [`WorkerSettings::read`] is all.
    #[must_use]
    pub fn reading(mut self, read: Read) -> Self {
        self.read = read;
        self
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
        let all = self.settings.iter().map(argument).chain(self.settings.iter().filter_map(file_argument));
        let hidden: Vec<Arg> = all.map(|argument| argument.hide(true)).collect();
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
    let (name, read) = (program.command.get_name().to_owned(), program.read);
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
    if invocation.command == config::NAME {
        return runtime.block_on(config::run(&name, read, &invocation.settings, &invocation.arguments));
    }
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

/// The same for a file that holds a secret.
fn file_argument(setting: &Setting) -> Option<Arg> {
    let name = setting.file_name()?;
    let argument = Arg::new(name.clone())
        .long(format!("{}-file", setting.flag()))
        .env(name)
        .value_name("FILE")
        .global(true)
        .hide_env_values(true);
    Some(argument.help(format!("A file that holds {} instead", setting.name)))
}

fn invocation(known: &[Setting], matches: &ArgMatches) -> Result<Invocation, SettingError> {
    let names = known.iter().flat_map(|one| std::iter::once(one.name.to_owned()).chain(one.file_name()));
    let given = |source: ValueSource| -> BTreeMap<String, String> {
        let from = names.clone().filter(|name| matches.value_source(name) == Some(source));
        from.filter_map(|name| {
            let value = matches.get_one::<String>(&name)?.clone();
            Some((name, value))
        })
        .collect()
    };
    let mut layers = vec![
        Layer { origin: Origin::Flag, values: given(ValueSource::CommandLine) },
        Layer { origin: Origin::Environment, values: given(ValueSource::EnvVariable) },
    ];
    if let Some(path) = matches.get_one::<PathBuf>(CONFIG) {
        layers.push(Layer { origin: Origin::File(path.clone()), values: read_file(path, known)? });
    }
    let settings = Settings::gather(known, &layers)?;
    let (command, arguments) = matches.subcommand().map_or_else(
        || (String::new(), ArgMatches::default()),
        |(name, arguments)| (name.to_owned(), arguments.clone()),
    );
    Ok(Invocation { command, arguments, settings })
}
