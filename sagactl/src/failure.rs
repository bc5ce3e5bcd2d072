//! How a command ends: its exit code, and what is said when it did not do what it was asked for.

use std::io;
use std::process::ExitCode;

use saga_client::{Error, Problem, ProblemKind};

use crate::output::note;
use crate::style::{BAD, DIM, painted};
use crate::words::plain;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked for.
    Done,
    /// It did not.
    Error,
    /// It was asked for something that is none of its commands.
    Usage,
    /// A saga that was waited for is compensated.
    Compensated,
    /// A saga that was waited for has not ended in time.
    TimedOut,
    /// There is no such thing.
    NotFound,
    /// It has moved on since it was seen.
    MovedOn,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Error => 1,
            Exit::Usage => 2,
            Exit::Compensated => 3,
            Exit::TimedOut => 4,
            Exit::NotFound => 5,
            Exit::MovedOn => 6,
        })
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to be told.
    Told {
        /// The exit code.
        exit: Exit,
        /// What is wrong.
        message: String,
        /// More of it, a line each.
        details: Vec<String>,
        /// What to do now, a line each.
        next: Vec<String>,
    },
    /// Nobody reads on.
    NobodyReads,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into(), details: Vec::new(), next: Vec::new() }
    }

    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// With a line that says more.
    pub(crate) fn detail(mut self, line: impl Into<String>) -> Self {
        if let Self::Told { details, .. } = &mut self {
            details.push(line.into());
        }
        self
    }

    /// With something that the user can do now.
    pub(crate) fn next(mut self, line: impl Into<String>) -> Self {
        if let Self::Told { next, .. } = &mut self {
            next.push(line.into());
        }
        self
    }

    /// How the command ends.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NobodyReads => Exit::Done,
            Self::Told { exit, .. } => *exit,
        }
    }

    /// Says what it is about, before everything else.
    pub(crate) fn of(mut self, what: &str) -> Self {
        if let Self::Told { message, .. } = &mut self {
            *message = format!("{what}: {message}");
        }
        self
    }

    /// Tells it on standard error.
    pub(crate) fn tell(self) -> ExitCode {
        match self {
            Self::NobodyReads => Exit::Done.into(),
            Self::Told { exit, message, details, next } => {
                note(&format!("{} {message}", painted(BAD, "error:")));
                for line in details {
                    note(&format!("  {line}"));
                }
                for line in next {
                    note(&format!("{} {line}", painted(DIM, "next:")));
                }
                exit.into()
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::error(format!("the output cannot be written: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Problem { problem, .. } => of_problem(problem),
            Error::Unreachable { url, .. } => Self::error(chain(&error)).next(format!(
                "start the orchestrator, or name the address of one with --url or SAGACTL_URL (now {url})"
            )),
            Error::Broken { .. } | Error::NoAnswer { .. } => Self::error(chain(&error))
                .next("look whether it was done before you ask again: `sagactl saga show`"),
            Error::Unexpected { .. } => Self::error(plain(&error.to_string()))
                .next("look whether --url or SAGACTL_URL names an orchestrator"),
            _ => Self::usage(chain(&error)),
        }
    }
}

fn of_problem(problem: &Problem) -> Failure {
    let kind = problem.kind();
    let exit = match kind {
        ProblemKind::NotFound => Exit::NotFound,
        ProblemKind::MovedOn => Exit::MovedOn,
        _ => Exit::Error,
    };
    // Where each field is told in a line of its own, the sum of them is not repeated.
    let message = match (problem.errors.as_slice(), &kind) {
        // As it is called here.
        ([], ProblemKind::MovedOn) => plain(&problem.detail).replace("If-Match", "--if-revision"),
        ([], _) => plain(&problem.detail),
        (_, ProblemKind::Validation) => "what was asked for is wrong".to_owned(),
        _ => plain(&problem.title),
    };
    let mut failure = Failure::new(exit, message);
    for wrong in &problem.errors {
        let place = match (wrong.line, wrong.column) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: "),
            _ if wrong.field.is_empty() => String::new(),
            _ => format!("{}: ", plain(&wrong.field)),
        };
        failure = failure.detail(format!("{place}{}", plain(&wrong.message)));
    }
    if let Some(run) = &problem.run {
        failure = failure.detail("the run that ends wrong:");
        for line in run.lines() {
            failure = failure.detail(format!("  {}", plain(line)));
        }
    }
    match next_of(problem, &kind) {
        Some(next) => failure.next(next),
        None => failure,
    }
}

fn next_of(problem: &Problem, kind: &ProblemKind) -> Option<String> {
    Some(match kind {
        ProblemKind::WrongState => format!("sagactl saga show {}", problem.saga_id?),
        ProblemKind::MovedOn => {
            format!(
                "sagactl saga show {}, and ask again with its revision if it still fits",
                problem.saga_id?
            )
        }
        ProblemKind::KeyReused => "give another --idempotency-key, or none".to_owned(),
        ProblemKind::Published => "raise the version in the file".to_owned(),
        ProblemKind::Validation | ProblemKind::Definition | ProblemKind::Query => {
            "correct what is named above and ask again; nothing was done".to_owned()
        }
        ProblemKind::Internal => "the orchestrator's log has the cause".to_owned(),
        ProblemKind::Busy
        | ProblemKind::Unavailable
        | ProblemKind::Stopping
        | ProblemKind::Elsewhere
        | ProblemKind::Timeout
        | ProblemKind::NotReady => match problem.retry_after {
            Some(wait) => format!("ask again in {} s; it was tried several times", wait.as_secs().max(1)),
            None => "ask again in a moment".to_owned(),
        },
        _ => return None,
    })
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    plain(&text)
}
