//! Whether definitions may be published, on paper: for `orchestrator check FILE…`, and for the folders that are read at a
//! start. It needs no database and no broker.

mod against;
pub(crate) mod command;
mod json;
mod report;
mod right;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;

use anstream::AutoStream;
use saga_defs::check::Participants;
use saga_defs::definition::Definition;
use saga_defs::ids::DefinitionRef;
use saga_defs::shipped;
use schemas::Catalog;

use self::against::Against;
use crate::definitions::{Entry, Published};
use crate::registration::examine::{self, ModelCheck, Refusal};

/// A file and what is to be said of it.
#[derive(Debug)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Its text; empty if it could not be read.
    pub source: String,
    /// What is to be said of it.
    pub outcome: Outcome,
    /// How it differs from an older version, if that was asked.
    against: Option<Against>,
}

/// What is to be said of a file.
#[derive(Debug)]
pub enum Outcome {
    /// It may be published.
    Right {
        /// What it says.
        definition: Arc<Definition>,
        /// What the model check came to.
        model_check: Option<ModelCheck>,
    },
    /// It may not, for what stands in its text.
    Wrong(Refusal),
    /// It could not even be looked at; or it is a schema, whose problems have no line.
    Unusable(String),
}

impl Checked {
    /// Whether it may be published.
    pub const fn is_right(&self) -> bool {
        matches!(self.outcome, Outcome::Right { .. })
    }

    /// What it says, if it may be published.
    pub fn into_definition(self) -> Option<Definition> {
        match self.outcome {
            Outcome::Right { definition, .. } => Some(Arc::unwrap_or_clone(definition)),
            Outcome::Wrong(_) | Outcome::Unusable(_) => None,
        }
    }

    fn unusable(name: String, why: String) -> Self {
        Self { name, source: String::new(), outcome: Outcome::Unusable(why), against: None }
    }
}

/// Of which definitions all runs are looked at, which takes a moment for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runs {
    /// Of all.
    All,
    /// Of those that are new and do not ship: the shipped ones are looked at in tests. Published ones are only parsed.
    OfNew,
}

/// Checks texts, or says why they could not be read, each against what is published and the ones before it.
pub fn sources(
    sources: impl IntoIterator<Item = (String, Result<String, String>)>,
    catalog: &Catalog,
    published: &Published,
    runs: Runs,
) -> Vec<Checked> {
    let participants = Participants::of(published.all());
    let mut checker = Checker { catalog, published, runs, participants, before: BTreeMap::new() };
    let checked = sources.into_iter().map(|(name, source)| match source {
        Ok(source) => {
            let outcome = checker.check(&source);
            Checked { name, source, outcome, against: None }
        }
        Err(why) => Checked::unusable(name, why),
    });
    checked.collect()
}

struct Checker<'a> {
    catalog: &'a Catalog,
    published: &'a Published,
    runs: Runs,
    participants: Participants,
    before: BTreeMap<DefinitionRef, Arc<Definition>>,
}

impl Checker<'_> {
    fn check(&mut self, source: &str) -> Outcome {
        if let Some(known) = self.published_as(source).filter(|_| self.runs == Runs::OfNew) {
            let (definition, model_check) = (known.definition.clone(), known.model_check);
            return Outcome::Right { definition, model_check };
        }
        let definition = match examine::read(source, self.catalog, &self.participants) {
            Ok(definition) => Arc::new(definition),
            Err(error) => return Outcome::Wrong(examine::refusal(error)),
        };
        let id = &definition.id;
        let known = self.published.get(id);
        if known.is_some_and(|known| !known.definition.same_recipe(&definition)) {
            return Outcome::Wrong(examine::other_content(source, id, self.published.next_version(&id.name)));
        }
        if self.before.get(id).is_some_and(|other| !other.same_recipe(&definition)) {
            return Outcome::Wrong(examine::there_twice(source, id));
        }
        let was_looked_at = known.is_some() || shipped().iter().any(|shipped| shipped.text == source);
        let model_check = if self.runs == Runs::OfNew && was_looked_at {
            known.and_then(|known| known.model_check)
        } else {
            match examine::model(&definition) {
                Ok(model_check) => Some(model_check),
                Err(refusal) => return Outcome::Wrong(refusal),
            }
        };
        self.participants.add(&definition);
        self.before.insert(id.clone(), definition.clone());
        Outcome::Right { definition, model_check }
    }

    /// The published definition that a text says again. It is not checked another time: its schemas may have grown since.
    fn published_as(&self, source: &str) -> Option<&Entry> {
        let definition = Definition::parse(source).ok()?;
        self.published.get(&definition.id).filter(|known| known.definition.same_recipe(&definition))
    }
}

/// Prints on standard error what is wrong with any of them, for people.
pub fn complain(files: &[Checked]) {
    let wrong = files.iter().filter(|file| !file.is_right());
    // Nobody who reads it is no reason for another error.
    let _ = AutoStream::auto(io::stderr()).write_all(report::problems(wrong).as_bytes());
}
