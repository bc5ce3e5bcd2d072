//! Who is known to perform which commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::definition::Definition;
use crate::definition::StepKind;
use crate::definition::keys::shown;
use crate::definition::outline::Outline;
use crate::definition::problem::Problems;
use crate::spelling::did_you_mean;

/// The participants of the published definitions, each with its commands and compensations.
///
/// A name that is not among them is a new participant's, which needs no registration, so it is not wrong by itself. It
/// is refused where it can only be a slip: when a participant that is known performs this command already, or when the
/// command's namespace is a known participant's name.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Participants {
    commands: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Participants {
    /// Those of these definitions.
    pub fn of<'d>(definitions: impl IntoIterator<Item = &'d Definition>) -> Self {
        let mut all = Self::default();
        definitions.into_iter().for_each(|definition| all.add(definition));
        all
    }

    /// Learns those of one more definition.
    pub fn add(&mut self, definition: &Definition) {
        for step in &definition.steps {
            let commands = self.commands.entry(step.participant.clone()).or_default();
            commands.insert(step.command.clone());
            if let StepKind::Compensatable { compensation } = &step.kind {
                commands.insert(compensation.clone());
            }
        }
    }

    pub(super) fn check(&self, outline: &Outline, problems: &mut Problems<'_>) {
        for step in &outline.steps {
            let (Some(participant), Some(command)) = (&step.participant, &step.command) else { continue };
            if self.commands.contains_key(participant.get_ref()) {
                continue;
            }
            let name = participant.get_ref();
            let Some((owner, why)) = self.owner(command.get_ref()) else { continue };
            let message = format!("no participant `{}` is known, and {why}", shown(name));
            let help = did_you_mean(name, [&*owner], || {
                format!("write `participant = \"{owner}\"`, or give the new participant a command of its own")
            });
            problems.report(participant.span(), message, help);
        }
    }

    /// The known participant that a command belongs to, and why.
    fn owner(&self, command: &str) -> Option<(Arc<str>, String)> {
        if let Some((owner, _)) = self.commands.iter().find(|(_, commands)| commands.contains(command)) {
            return Some((owner.clone(), format!("{} is a command of `{owner}`", shown(command))));
        }
        let (namespace, _) = command.rsplit_once('.')?;
        let (owner, _) = self.commands.get_key_value(namespace)?;
        Some((owner.clone(), format!("{} has the namespace of `{owner}`", shown(command))))
    }
}
