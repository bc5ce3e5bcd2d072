//! `check --against OLD NEW`: what a new version changes, and which of the old one's baseline runs go another way.

use saga_defs::definition::Definition;
use serde::Serialize;

use super::{Checked, Outcome};
use crate::registration::examine;
use crate::versions::{ChangeView, Diverging, Replayed, changes};

/// A definition compared with an older one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Against {
    file: String,
    name: String,
    version: u32,
    changes: Vec<ChangeView>,
    rehearsals: Replayed,
}

/// An older version that others are compared with.
pub(super) struct Older {
    file: String,
    definition: Definition,
}

impl Older {
    /// From a file's text. Its messages are not looked at: it is published, or what is said of it does not matter.
    ///
    /// # Errors
    /// The file, when it is no definition.
    pub(super) fn read(file: String, text: Result<String, String>) -> Result<Self, Box<Checked>> {
        let source = match text {
            Ok(source) => source,
            Err(why) => return Err(Box::new(Checked::unusable(file, why))),
        };
        match Definition::parse(&source) {
            Ok(definition) => Ok(Self { file, definition }),
            Err(error) => {
                let outcome = Outcome::Wrong(examine::refusal(error));
                Err(Box::new(Checked { name: file, source, outcome, against: None }))
            }
        }
    }

    /// What a newer version changes.
    pub(super) fn compare(&self, new: &Definition) -> Against {
        let old = &self.definition;
        Against {
            file: self.file.clone(),
            name: old.id.name.to_string(),
            version: old.id.version,
            changes: changes(old, new),
            rehearsals: Replayed::rehearsed(old, new),
        }
    }
}

impl Against {
    /// For people, ending with a line break.
    pub(super) fn text(&self) -> String {
        let Self { name, version, changes, rehearsals, .. } = self;
        let mut text = format!("against {name} version {version}:\n");
        if changes.is_empty() {
            text.push_str("  no change\n");
        }
        for ChangeView { change, for_running, for_new } in changes {
            text.push_str(&format!(
                "  {change}\n      running sagas: {for_running}\n      new sagas: {for_new}\n"
            ));
        }
        let parted: usize = rehearsals.diverging.iter().map(|place| place.runs.len()).sum();
        let same = rehearsals.same;
        text.push_str(&format!("  of its baseline runs {same} go the same way, {parted} another:\n"));
        if parted == 0 {
            text.truncate(text.len() - ":\n".len());
            text.push('\n');
        }
        for place in &rehearsals.diverging {
            let Diverging { revision, event, expected, got, runs } = place;
            text.push_str(&format!("    revision {revision}, {event}: {expected} -> {got}\n"));
            text.push_str(&format!("      in: {}\n", runs.join("; ")));
        }
        text
    }
}
