//! The command line's own shape: nouns, and what goes with every one of them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::failure::{Exit, Failure};
use crate::session::Session;
use crate::{audit, bulk, dead_letter, definition, participant, saga, why};

const ABOUT: &str = "Looks at sagas, dead letters and definitions, and acts on them";

const AFTER: &str = "\
Exit codes: 0 ok, 1 error, 2 wrong usage, 3 a saga that was waited for is compensated, 4 it did not end in time, 5 not found, 6 moved on since --if-revision.

Environment: SAGACTL_URL, SAGACTL_TOKEN or SAGACTL_TOKEN_FILE, SAGACTL_ACTOR, EDITOR, NO_COLOR, COLUMNS.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "sagactl", version, about = ABOUT, after_help = AFTER, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// What goes with every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The orchestrator's address
    #[arg(
        long,
        global = true,
        env = "SAGACTL_URL",
        default_value = "http://127.0.0.1:8080",
        help_heading = "Everywhere"
    )]
    pub(crate) url: String,
    /// A file with the token that is sent; SAGACTL_TOKEN may have the token itself
    #[arg(long, global = true, env = "SAGACTL_TOKEN_FILE", value_name = "FILE", help_heading = "Everywhere")]
    pub(crate) token_file: Option<PathBuf>,
    /// Who acts, for the audit: sent as X-Saga-Actor, which counts where the orchestrator is told to believe it
    #[arg(
        long = "as",
        global = true,
        env = "SAGACTL_ACTOR",
        value_name = "NAME",
        help_heading = "Everywhere"
    )]
    pub(crate) acting_as: Option<String>,
    /// How it is printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Everywhere"
    )]
    output: Format,
    /// The same as -o json
    #[arg(long, global = true, conflicts_with = "output", help_heading = "Everywhere")]
    json: bool,
    /// Colours; auto is on a terminal where NO_COLOR is not set
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Everywhere"
    )]
    pub(crate) color: When,
}

impl Global {
    /// How results are printed.
    pub(crate) const fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For people, with more columns
    Wide,
    /// For programs
    Json,
    /// For programs
    Yaml,
    /// Ids alone, one a line
    Id,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl When {
    /// From now on, for both outputs.
    pub(crate) fn apply(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// What can be looked at and acted on.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one in each run of the program")]
pub(crate) enum Noun {
    #[command(flatten)]
    Asking(Asking),
    /// Prints a script that completes commands in your shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Prints the manual page, or writes one for each command
    Man {
        /// Writes the pages into this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// The nouns that need an orchestrator.
#[derive(Debug, Subcommand)]
pub(crate) enum Asking {
    /// Sagas: start, look, watch, act
    #[command(subcommand)]
    Saga(saga::Verb),
    /// Records that nobody could handle
    #[command(subcommand)]
    DeadLetter(dead_letter::Verb),
    /// Many dead letters sent again, at a pace
    #[command(subcommand)]
    Redrive(bulk::Redrive),
    /// One verb on many sagas, at a pace
    #[command(subcommand)]
    SagaAction(bulk::SagaAction),
    /// What sagas are started by
    #[command(subcommand)]
    Definition(definition::Verb),
    /// What everything open waits for, counted by cause
    Why,
    /// Who is asked at the moment, and who is not
    #[command(subcommand)]
    Participant(participant::Verb),
    /// What operators did
    #[command(subcommand)]
    Audit(audit::Verb),
}

impl Asking {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Saga(verb) => verb.run(session).await,
            Self::DeadLetter(verb) => verb.run(session).await,
            Self::Redrive(verb) => verb.run(session).await,
            Self::SagaAction(verb) => verb.run(session).await,
            Self::Definition(verb) => verb.run(session).await,
            Self::Why => why::causes(session).await,
            Self::Participant(verb) => verb.run(session).await,
            Self::Audit(verb) => verb.run(session).await,
        }
    }
}
