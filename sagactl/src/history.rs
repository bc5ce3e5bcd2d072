//! A saga's transitions in words, a line each, as the rest of the project says them.

use saga_client::{Error, HistoryItem, Reason, Saga, SagaId};
use saga_defs::definition::Definition;
use saga_defs::ids;
use saga_defs::render::{Columns, Entry, Line, describe};
use saga_defs::saga::{self, Effect, Event, Outcome, Refusal, Status};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::session::Session;
use crate::style::{DIM, Mood, painted};
use crate::words::{between, length, plain};

/// Says the transitions of sagas of one definition.
pub(crate) struct Teller {
    /// `None`: this program does not understand it, perhaps because it is newer.
    definition: Option<Definition>,
    columns: Columns,
}

impl Teller {
    /// For that definition.
    pub(crate) async fn of(session: &Session, definition: &str, version: u32) -> Result<Self, Error> {
        let published = session.client.definitions().get(definition, version).await?;
        let definition = Definition::parse(&published.source).ok();
        let columns = definition.as_ref().map(Columns::for_definition).unwrap_or_default();
        Ok(Self { definition, columns })
    }

    /// One transition in one line, after how long it came.
    pub(crate) fn line(&self, saga: &Saga, item: &HistoryItem) -> String {
        let after = painted(DIM, &format!("{:>8}", length(between(saga.started_at, item.at))));
        format!("{after}  {}", self.words(saga.saga_id, saga.reason.as_ref(), item))
    }

    /// What happened in one transition; the reason is that of the saga, if it has one by now.
    pub(crate) fn words(&self, saga: SagaId, reason: Option<&Reason>, item: &HistoryItem) -> String {
        let (line, mood) = match self.understood(saga, reason, item) {
            Some((line, mood)) => (self.columns.line(&line), mood),
            None => {
                let kind = item.event.get("type").and_then(Value::as_str).unwrap_or("unknown");
                (format!("{} -> {}", plain(kind), item.status), Mood::Quiet)
            }
        };
        match mood {
            Mood::Quiet => line,
            other => painted(other.style(), &line),
        }
    }

    fn understood(&self, saga: SagaId, reason: Option<&Reason>, item: &HistoryItem) -> Option<(Line, Mood)> {
        let definition = self.definition.as_ref()?;
        let event: Event = self.read(&item.event)?;
        let effects: Vec<Effect> =
            item.effects.iter().map(|effect| self.read(effect)).collect::<Option<_>>()?;
        let reason = reason.map(|reason| saga::Reason {
            refusal: Refusal::new(&reason.code, reason.message.clone()),
            step: None,
        });
        let status = Status::parse(item.status.as_str())?;
        let entry = Entry {
            saga: ids::SagaId::from_uuid(saga.0),
            event: &event,
            effects: &effects,
            status,
            reason: reason.as_ref(),
        };
        Some((describe(definition, &entry), mood(&event, &effects)))
    }

    /// The API names steps; the core numbers them.
    fn read<T: DeserializeOwned>(&self, entry: &Map<String, Value>) -> Option<T> {
        let mut entry = entry.clone();
        let steps = &self.definition.as_ref()?.steps;
        if let Some(step) = entry.get_mut("step")
            && let Some(at) = steps.iter().position(|known| step.as_str() == Some(&known.name))
        {
            *step = at.into();
        }
        serde_json::from_value(Value::Object(entry)).ok()
    }
}

fn mood(event: &Event, effects: &[Effect]) -> Mood {
    for effect in effects {
        match effect {
            Effect::AnnounceEnd { status: Status::Completed } => return Mood::Good,
            Effect::AnnounceEnd { .. } => return Mood::Undone,
            Effect::DeadLetter { .. } => return Mood::Bad,
            _ => {}
        }
    }
    match event {
        Event::Replied { outcome: Outcome::Rejected { .. }, .. } => Mood::Bad,
        Event::Replied { outcome: Outcome::Failed { .. }, .. } | Event::TimedOut(_) => Mood::Undone,
        _ => Mood::Quiet,
    }
}
