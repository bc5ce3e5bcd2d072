//! Colours. They are always written, and taken off where nobody wants them.

use anstyle::{AnsiColor, Style};
use comfy_table::Color;
use saga_client::{DeadLetterStatus, SagaStatus, StepStatus};

/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What needs somebody.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is under way.
pub(crate) const GOING: Style = AnsiColor::Cyan.on_default();
/// What is being undone, or was.
pub(crate) const UNDONE: Style = AnsiColor::Yellow.on_default();
/// What is less important.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What comes first.
pub(crate) const STRONG: Style = Style::new().bold();

/// The text in that style.
pub(crate) fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The text in that style, and blanks up to a width that are not.
pub(crate) fn padded(style: Style, text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.chars().count());
    format!("{}{}", painted(style, text), " ".repeat(blanks))
}

/// What a status means for whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It went well.
    Good,
    /// It needs somebody.
    Bad,
    /// It is under way.
    Going,
    /// It is being undone, or was.
    Undone,
    /// Nothing to look at.
    Quiet,
}

impl Mood {
    pub(crate) const fn style(self) -> Style {
        match self {
            Self::Good => GOOD,
            Self::Bad => BAD,
            Self::Going => GOING,
            Self::Undone => UNDONE,
            Self::Quiet => DIM,
        }
    }

    pub(crate) const fn color(self) -> Option<Color> {
        match self {
            Self::Good => Some(Color::DarkGreen),
            Self::Bad => Some(Color::DarkRed),
            Self::Going => Some(Color::DarkCyan),
            Self::Undone => Some(Color::DarkYellow),
            Self::Quiet => None,
        }
    }
}

impl From<&SagaStatus> for Mood {
    fn from(status: &SagaStatus) -> Self {
        match status {
            SagaStatus::Running => Self::Going,
            SagaStatus::Completed => Self::Good,
            SagaStatus::Compensating | SagaStatus::Compensated => Self::Undone,
            SagaStatus::Stuck => Self::Bad,
            _ => Self::Quiet,
        }
    }
}

impl From<&StepStatus> for Mood {
    fn from(status: &StepStatus) -> Self {
        match status {
            StepStatus::Running => Self::Going,
            StepStatus::Succeeded => Self::Good,
            StepStatus::Compensating | StepStatus::Compensated => Self::Undone,
            StepStatus::Rejected | StepStatus::InDoubt | StepStatus::Stuck => Self::Bad,
            _ => Self::Quiet,
        }
    }
}

impl From<&DeadLetterStatus> for Mood {
    fn from(status: &DeadLetterStatus) -> Self {
        match status {
            DeadLetterStatus::Open => Self::Bad,
            DeadLetterStatus::Redriven => Self::Going,
            DeadLetterStatus::Resolved => Self::Good,
            _ => Self::Quiet,
        }
    }
}
