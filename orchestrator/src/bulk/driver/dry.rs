//! Dry runs: what would become of each, by the same rules, and nothing is done.

use std::collections::BTreeMap;

use saga_defs::machine::{self, Moment, Transition};
use saga_defs::saga::{Event, Saga};
use serde::{Deserialize, Serialize};

use super::round::{expected, told};
use super::{Task, Went};
use crate::bulk::judge::{self, Fate};
use crate::engine::clock;
use crate::engine::handle::Verb;
use crate::store::StoreError;
use crate::store::bulk_drive::{Chosen, ItemChange, LetterHere, Round};

/// Letters that are looked at in one commit, with their values, each of which may be of a mebibyte. Two dry runs of a
/// process have theirs at a time ([`Bulk::turn`]).
///
/// [`Bulk::turn`]: crate::store::bulk::Bulk::turn
const PAGE: u32 = 64;

/// What a dry run found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Found {
    /// How many were looked at so far.
    pub examined: u32,
    /// How many would be sent.
    pub would_send: u32,
    /// How many would not, by why.
    pub would_not: BTreeMap<String, u32>,
    /// Of letters: how many have a value, as it would be sent, that its schema takes.
    pub passes_schema: u32,
    /// Of letters: how many have not.
    pub fails_schema: u32,
    /// Everything up to this place of the selection has been looked at.
    pub done_up_to: u32,
}

impl Task {
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn examine(&mut self) -> Result<Went, StoreError> {
        let mut found = serde_json::from_value::<Found>(self.action.progress.clone()).unwrap_or_default();
        while !self.stop.is_cancelled() {
            let chosen = self.driver.store.next(self.action.id, found.done_up_to, PAGE).await?;
            let fates = self.fates(&chosen, &mut found).await?;
            let mut items = Vec::with_capacity(chosen.len());
            for (chosen, fate) in chosen.iter().zip(fates) {
                found.examined += 1;
                if fate == Fate::Send {
                    found.would_send += 1;
                } else {
                    *found.would_not.entry(fate.code().to_owned()).or_default() += 1;
                }
                found.done_up_to = u32::try_from(chosen.place).unwrap_or_default();
                let (code, note) = (Some(fate.code()), fate.note());
                items.push(ItemChange { place: chosen.place, state: "examined", code, note });
            }
            let finished = chosen.is_empty() || self.action.status != "running";
            let over = chosen.is_empty().then_some(("completed", None));
            let progress = serde_json::to_value(&found).unwrap_or_default();
            let round = Round { items: &items, progress, over, finished, at: clock::now() };
            match self.driver.store.record(self.action.id, self.token, &round).await? {
                Some(status) if !finished => self.action.status = status,
                Some(_) | None => break,
            }
        }
        Ok(Went::Over)
    }

    async fn fates(&self, chosen: &[Chosen], found: &mut Found) -> Result<Vec<Fate>, StoreError> {
        if !self.is_of_letters() {
            return self.fates_of_sagas(chosen).await;
        }
        let _turn = self.driver.store.turn().await;
        let (letters, sagas) = self.letters_and_sagas(chosen, true).await?;
        let mut fate = |chosen: &Chosen| {
            let letter = letters.get(&chosen.subject);
            let saga = letter.and_then(|letter| letter.saga).and_then(|saga| sagas.get(&saga));
            let fate = judge::letter(letter.map(|letter| &letter.now), saga.map(|(now, _)| now));
            let fits = self.fits(letter);
            match &fits {
                Ok(()) => found.passes_schema += 1,
                Err(_) => found.fails_schema += 1,
            }
            match fits {
                // An original is sent as it is, whatever it is; that may be what is wanted.
                Err(why) if fate == Fate::Send && self.action.patch.is_some() => Fate::Unfit(why),
                _ => fate,
            }
        };
        Ok(chosen.iter().map(&mut fate).collect())
    }

    /// Whether the value, as it would be sent, is what its schema takes today.
    fn fits(&self, letter: Option<&LetterHere>) -> Result<(), String> {
        if self.edit(letter).map_err(|no| told(&no))?.is_some() {
            return Ok(());
        }
        let value = letter.and_then(|letter| letter.value.as_deref()).ok_or("the record has no value")?;
        let catalog = self.driver.definitions.catalog();
        let decoded = catalog.decode(value).map_err(|error| error.to_string())?;
        match catalog.validate(&decoded.message_type, &decoded.fields).first() {
            None => Ok(()),
            Some(problem) => Err(problem.to_string()),
        }
    }

    async fn fates_of_sagas(&self, chosen: &[Chosen]) -> Result<Vec<Fate>, StoreError> {
        let ids: Vec<_> = chosen.iter().map(|chosen| chosen.subject).collect();
        let sagas = self.driver.store.sagas_now(&ids).await?;
        let fate = |chosen: &Chosen| match sagas.get(&chosen.subject) {
            None => Fate::Gone,
            Some((now, saga)) => self.fate_of_saga(chosen, now.revision, saga),
        };
        Ok(chosen.iter().map(fate).collect())
    }

    /// What the pure core would say.
    fn fate_of_saga(&self, chosen: &Chosen, revision: i32, saga: &Saga) -> Fate {
        let status = saga.status().as_str();
        let Some(verb) = self.verb() else {
            return Fate::Refused(format!("there is no verb {}", self.action.verb));
        };
        if expected(&verb, chosen).is_some() && chosen.revision != Some(revision) {
            return Fate::Refused("the saga is at another revision".to_owned());
        }
        let found = self.driver.definitions.get(&saga.definition.name, saga.definition.version);
        let Some(definition) = found else {
            return Fate::Refused("its definition is not known here".to_owned());
        };
        let reason = self.action.reason.as_str().into();
        let event = match verb {
            Verb::Cancel => Event::Cancel { reason },
            Verb::Redrive { input } => Event::Redrive { reason, input },
            Verb::Skip => Event::Skip { reason },
            Verb::RetryNow => Event::RetryNow { reason },
        };
        match machine::transition(&definition, saga, &event, Moment::of(saga, clock::now())) {
            Transition::Moved(_) => Fate::Send,
            Transition::Ignored(_) => Fate::Refused(format!("not possible: the saga is {status}")),
        }
    }
}
