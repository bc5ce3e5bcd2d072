//! Who is known to perform which commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::Spanned;

use crate::definition::Definition;
use crate::definition::StepKind;
use crate::definition::keys::shown;
use crate::definition::outline::Outline;
use crate::definition::problem::Problems;
use crate::spelling::{did_you_mean, nearest};

/// What a step sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Command,
    Compensation,
}

/// The participants of the published definitions, each with its commands and compensations.
///
/// A name that is not among them is a new participant's, which needs no registration, so it is not wrong by itself. It
/// is refused where it can only be a slip: when a participant that is known performs this command already, or when the
/// command's namespace is a known participant's name. A command or compensation that only others perform is refused for
/// a known participant, too: it would be sent to one that cannot read it.
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
            if let (Some(command), Some(compensation)) = (&step.command, &step.compensation)
                && command.get_ref() == compensation.get_ref()
            {
                let message = format!("{} would undo itself", shown(command.get_ref()));
                let help = "name the command that undoes it; sent again, it would be done again".to_owned();
                problems.report(compensation.span(), message, help);
            }
            let (Some(participant), Some(command)) = (&step.participant, &step.command) else { continue };
            let fits = self.check_one(participant, Message::Command, command, problems)
                && self.meant(participant, command, outline, problems);
            // A wrong participant is said once.
            if let (true, Some(compensation)) = (fits, &step.compensation) {
                self.check_one(participant, Message::Compensation, compensation, problems);
            }
        }
    }

    /// Whether a new participant's name is no misspelling of another one's of the same definition. It is one where the
    /// command's namespace is spelt right.
    fn meant(
        &self,
        participant: &Spanned<Arc<str>>,
        command: &Spanned<Arc<str>>,
        outline: &Outline,
        problems: &mut Problems<'_>,
    ) -> bool {
        let name = participant.get_ref();
        let Some((namespace, _)) = command.get_ref().rsplit_once('.') else { return true };
        let others = outline.steps.iter().filter_map(|step| step.participant.as_ref());
        let others = others.map(|other| &**other.get_ref()).filter(|other| *other == namespace);
        if self.commands.contains_key(name) || **name == *namespace || nearest(name, others).is_none() {
            return true;
        }
        let text = format!(
            "no participant `{}` is known, and {} has another namespace",
            shown(name),
            shown(command.get_ref())
        );
        problems.report(participant.span(), text, format!("did you mean `{}`?", shown(namespace)));
        false
    }

    /// Whether the participant may be the one to perform this.
    fn check_one(
        &self,
        participant: &Spanned<Arc<str>>,
        message: Message,
        command: &Spanned<Arc<str>>,
        problems: &mut Problems<'_>,
    ) -> bool {
        let name = participant.get_ref();
        let known = self.commands.get(name);
        if known.is_some_and(|commands| commands.contains(command.get_ref())) {
            return true;
        }
        let owner = match (known, message) {
            // The name is no slip, so only what is published says whose command it is.
            (Some(_), _) | (None, Message::Compensation) => self.performer(command.get_ref()),
            (None, Message::Command) => self.owner(command.get_ref()),
        };
        let Some((owner, why)) = owner else { return true };
        if known.is_none() && message == Message::Command {
            let text = format!("no participant `{}` is known, and {why}", shown(name));
            let help = did_you_mean(name, [&*owner], || {
                format!("write `participant = \"{owner}\"`, or give the new participant a command of its own")
            });
            problems.report(participant.span(), text, help);
        } else {
            let text = format!("{why}, but it would be sent to `{}`", shown(name));
            let help = match message {
                Message::Command => {
                    format!("write `participant = \"{owner}\"`, or name a command of `{}`", shown(name))
                }
                Message::Compensation => {
                    format!("name a command of `{}` that undoes the step", shown(name))
                }
            };
            problems.report(command.span(), text, help);
        }
        false
    }

    /// The known participant that performs a command in a published definition, in words.
    fn performer(&self, command: &str) -> Option<(Arc<str>, String)> {
        let (owner, _) = self.commands.iter().find(|(_, commands)| commands.contains(command))?;
        Some((owner.clone(), format!("{} is a command of `{owner}`", shown(command))))
    }

    /// The known participant that a command belongs to, and why.
    fn owner(&self, command: &str) -> Option<(Arc<str>, String)> {
        if let Some(performer) = self.performer(command) {
            return Some(performer);
        }
        let (namespace, _) = command.rsplit_once('.')?;
        let (owner, _) = self.commands.get_key_value(namespace)?;
        Some((owner.clone(), format!("{} has the namespace of `{owner}`", shown(command))))
    }
}
