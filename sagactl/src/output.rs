//! What is printed. Results go to standard output, everything else to standard error; neither is missed when nobody
//! reads it.

use std::io::{self, IsTerminal as _, Write as _};

use anstream::AutoStream;
use serde::Serialize;

use crate::cli::Format;
use crate::failure::Failure;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    width: Option<u16>,
}

impl Output {
    /// As wide as the terminal; `COLUMNS` says otherwise, and what is no terminal has no width.
    pub(crate) fn new(format: Format) -> Self {
        let told =
            std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|width| *width > 0);
        let seen = || {
            let terminal = io::stdout().is_terminal();
            terminal.then(|| comfy_table::Table::new().width()).flatten()
        };
        Self { format, width: told.or_else(seen) }
    }

    /// Columns of the terminal; `None` where there is none.
    pub(crate) const fn width(self) -> Option<u16> {
        self.width
    }

    /// Whether more is wanted than fits most terminals.
    pub(crate) fn is_wide(self) -> bool {
        self.format == Format::Wide
    }

    /// Whether it is for people.
    pub(crate) const fn is_for_people(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Prints a result: as it is for programs, as ids, or as a text for people.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        ids: impl IntoIterator<Item = String>,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Wide => text(),
            Format::Id => ids.into_iter().map(|id| id + "\n").collect(),
            Format::Json => json(value)? + "\n",
            Format::Yaml => yaml(value)?,
        };
        print(&text)
    }

    /// Prints one of several results that come one at a time: a line of JSON, a document of YAML, an id, or a line of text.
    pub(crate) fn item<T: Serialize>(
        self,
        value: &T,
        id: impl FnOnce() -> String,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Wide => text(),
            Format::Id => id(),
            Format::Json => {
                serde_json::to_string(value).map_err(|error| Failure::error(format!("no JSON: {error}")))?
            }
            Format::Yaml => format!("---\n{}", yaml(value)?.trim_end()),
        };
        print(&(text + "\n"))
    }
}

/// JSON for people and programs.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::error(format!("no JSON: {error}")))
}

fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::error(format!("no YAML: {error}")))
}

/// Prints on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = AutoStream::auto(io::stdout().lock());
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Says something beside the results.
pub(crate) fn note(line: &str) {
    // Nobody who reads it is no reason for another error.
    let _ = writeln!(AutoStream::auto(io::stderr().lock()), "{line}");
}
