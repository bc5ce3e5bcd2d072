//! Decisions that come to nothing: the database refuses what they write, or they come upon a defect of ours. Either concerns
//! one input; the others of its batch go on.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use messaging::telemetry;
use participant::crash;
use saga_defs::ids::{DeadLetterId, SagaId};
use saga_defs::saga::Refusal;

use super::super::batch::{Batch, Context, Input};
use super::super::handle::{ActError, StartError};
use super::super::traces;
use super::{Arrived, Asker, Lane};
use crate::store::letters::StoredLetter;

/// The code of a saga that was parked since the database refuses its rows.
const CODE_DATABASE: &str = "database_refused";
/// The code of a saga that was parked since a decision about it panicked.
const CODE_DEFECT: &str = "defect";

/// Why nothing came of some inputs.
#[derive(Debug)]
pub(super) enum Objection {
    /// The database refuses what would be written.
    Database { message: String, constraint: Option<String> },
    /// The decision panicked.
    Defect { message: String },
}

impl Objection {
    fn key_is_taken(&self) -> bool {
        matches!(self, Self::Database { constraint: Some(name), .. } if name == "request_key_pkey")
    }

    fn to_start(&self) -> StartError {
        match self {
            Self::Database { .. } if self.key_is_taken() => StartError::KeyTaken,
            Self::Database { message, .. } => StartError::Refused { message: message.clone() },
            Self::Defect { .. } => StartError::Defect,
        }
    }

    fn to_act(&self) -> ActError {
        match self {
            Self::Database { .. } if self.key_is_taken() => ActError::KeyTaken,
            Self::Database { message, .. } => ActError::Refused { message: message.clone() },
            Self::Defect { .. } => ActError::Defect,
        }
    }

    fn cause(&self) -> Refusal {
        match self {
            Self::Database { message, .. } => Refusal::new(CODE_DATABASE, message),
            Self::Defect { message } => Refusal::new(CODE_DEFECT, message),
        }
    }
}

impl Lane {
    /// What the inputs come to. A panic is caught here, where nothing has been changed yet: a decision only reads.
    pub(super) fn decide(
        &self,
        group: &[Arrived],
        letters: &HashMap<DeadLetterId, StoredLetter>,
        taken_keys: &HashSet<Vec<u8>>,
    ) -> Result<Batch, Objection> {
        let context = Context {
            shards: &self.shards,
            shard_count: self.shard_count,
            sagas: self.sagas.all(),
            letters,
            taken_keys,
            definitions: &self.definitions,
            records: &self.maker,
            participants: &self.participants,
            incarnation: &self.settings.incarnation,
            now: self.environment.now(),
            traced: telemetry::recorder().is_some_and(|recorder| recorder.sampler().records_any()),
        };
        let inputs = || group.iter().map(|arrived| &arrived.input);
        let decided = catch_unwind(AssertUnwindSafe(|| {
            if crash::ENABLED {
                inputs().for_each(|input| self.strike(input));
            }
            Batch::decide(context, inputs().enumerate())
        }));
        decided.map_err(|panic| {
            self.metrics.panicked();
            Objection::Defect { message: text_of(&*panic) }
        })
    }

    /// In tests some decisions have a defect.
    fn strike(&self, input: &Input) {
        match input {
            Input::Start(_, start) => {
                crash::defect("start", start.business_key.as_deref().unwrap_or_default())
            }
            Input::Record(..) => {
                let held = self.saga_of(input).and_then(|id| self.sagas.get(id));
                let key = held.and_then(|held| held.saga.business_key.as_deref());
                crash::defect("reply", key.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// An input alone in its batch that nothing comes of: a client is told; a saga of ours is parked as stuck.
    pub(super) fn object(&self, group: Vec<Arrived>, objection: &Objection) -> Option<Arrived> {
        let arrived = group.into_iter().next()?;
        match (arrived.asker, &arrived.input) {
            (Some(Asker::Start(asker)), _) => {
                let _ = asker.send(Err(objection.to_start()));
                None
            }
            (Some(Asker::Act(asker)), _) => {
                let _ = asker.send(Err(objection.to_act()));
                None
            }
            (Some(Asker::Letter(asker)), _) => {
                let _ = asker.send(Err(objection.to_act()));
                None
            }
            (None, Input::Quarantine(saga, _)) => {
                let trace = self.trace_of(*saga);
                tracing::error!(%saga, trace, ?objection, "a saga cannot even be parked; it is left as it is");
                None
            }
            (None, input) => {
                let Some(saga) = self.saga_of(input) else {
                    tracing::error!(?input, ?objection, "nothing can come of this input; it is left out");
                    return None;
                };
                let trace = self.trace_of(saga);
                tracing::error!(%saga, trace, ?objection, "a saga cannot go on; it is parked as stuck");
                Some(Arrived::of_ours(Input::Quarantine(saga, objection.cause())))
            }
        }
    }

    /// The trace of a saga that is in memory.
    fn trace_of(&self, saga: SagaId) -> Option<String> {
        self.sagas.get(saga).map(|held| traces::of_saga(&held.saga).trace())
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
