//! A definition held against the schemas of its messages and against the participants that are known.
//!
//! What is checked is that every command and every compensation can be built whenever it may have to be sent:
//! - A **command** has the input, the saga's id under two names ([`Definition::id_field`]) and the replies of the steps
//!   before it.
//! - A **compensation** has no more than its command had: after a timeout the step's own reply is unknown. Only a field
//!   with a default may come from the step's own reply, or from a later one's; then it has the default when that reply
//!   is not there.
//! - A reply may make a name's type narrower (a `null | string` of the input a `string`), never other or wider, so what
//!   was found to fit stays so whichever replies have come.
//!
//! Out of reach: an operator who skips a step leaves its reply out. A command that lacks a field then is refused when it
//! is built, with the fields named.

mod fields;
mod known;
mod participants;
mod types;

use crate::definition::outline::Outline;
use crate::definition::problem::Problems;
use crate::definition::{Definition, DefinitionError};

pub use participants::Participants;
pub use types::{Field, Record, Type};

/// The schemas of messages.
pub trait Messages {
    /// The newest version of the record with that full name; `None` if there is none.
    fn record(&self, full_name: &str) -> Option<Record>;

    /// The full names of all records.
    fn names(&self) -> Vec<String>;
}

/// Parses a definition's text and checks everything about it that needs no other definition's text: its structure, its
/// messages and their fields, its participants.
///
/// # Errors
/// Every problem found, each with its place and what to do, in order of place.
pub fn check(
    source: &str,
    messages: &dyn Messages,
    participants: &Participants,
) -> Result<Definition, DefinitionError> {
    let mut problems = Problems::new(source);
    let outline = Outline::read(source, &mut problems);
    fields::check(&outline, messages, &mut problems);
    participants.check(&outline, &mut problems);
    outline.finish(source, problems)
}
