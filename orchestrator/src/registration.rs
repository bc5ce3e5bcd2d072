//! Publishing definitions and the schemas they bring: checked as a whole, made durable together, then known to every
//! process. What is published never changes, so nothing here needs undoing.

pub mod brought;
pub mod examine;
pub mod folders;
pub mod turns;

use std::sync::Arc;

use messaging::KafkaSettings;
use messaging::topics::{self, TopicError, TopicSpec};
use saga_defs::check::Participants;
use saga_defs::definition::{Definition, DefinitionError};
use saga_defs::ids::DefinitionRef;
use schemas::registry::ObtainError;

use self::brought::{Brought, Grown, WrongSchema};
use self::examine::{ModelCheck, Refusal};
use self::turns::{Crowded, Purpose, Turns};
use crate::definitions::{Definitions, Entry, Published};
use crate::engine::clock;
use crate::store::audit::AuditRow;
use crate::store::definitions::Publication;
use crate::store::{Store, StoreError};

/// One definition brings at most this many schemas: it has at most 64 steps with four messages each.
pub const MAX_SCHEMAS: usize = 256;
/// How often something is checked anew because others published in between.
const PUBLISH_TRIES: usize = 5;

/// A definition that somebody wants to be published.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its text.
    pub source: String,
    /// The schemas that it brings.
    pub schemas: Vec<Brought>,
}

/// A definition was not published.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It may not be, for what stands in its text or in the schemas that it brings.
    #[error("the definition is refused")]
    Refused {
        /// What is wrong with the schemas, in order of place.
        schemas: Vec<WrongSchema>,
        /// What is wrong with the definition. If schemas could not be read, only what can be told without any.
        definition: Option<Refusal>,
    },
    /// Its version is published with other content.
    #[error("its version is published with other content")]
    OtherContent(Refusal),
    /// A topic of its participants is not as it has to be.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Others published all the time.
    #[error("others publish at the same time; try again")]
    Contended,
    /// Too many wait for the model check.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The schema registry has no ids for its schemas.
    #[error(transparent)]
    Registry(#[from] ObtainError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a candidate is that would be published.
#[derive(Clone, Debug)]
pub struct Examined {
    /// As it is understood.
    pub definition: Definition,
    /// What the model check said of all its runs; `None` of one that is published.
    pub model_check: Option<ModelCheck>,
    /// Whether this very version is published already.
    pub is_published: bool,
}

/// Publishes definitions. Cheap to clone.
#[derive(Clone)]
pub struct Registrar {
    store: Store,
    definitions: Definitions,
    kafka: KafkaSettings,
    command_partitions: u16,
    replication: i32,
    model_checks: Turns,
}

impl Registrar {
    /// For these; the topics of new participants get so many partitions and copies.
    pub fn new(
        store: Store,
        definitions: Definitions,
        kafka: KafkaSettings,
        command_partitions: u16,
        replication: i32,
    ) -> Self {
        Self { store, definitions, kafka, command_partitions, replication, model_checks: Turns::new() }
    }

    /// Publishes a definition with its schemas, and makes the topics of its participants. One that is published already
    /// is left as it is.
    ///
    /// # Errors
    /// It is refused, or something that is needed is away. Then nothing is published, or whether it is is not known;
    /// asking again does no harm.
    pub async fn register(&self, candidate: &Candidate, actor: &str) -> Result<Entry, RegisterError> {
        // A definition's runs follow from its text alone, so they are looked at once.
        let mut model_check = None;
        for _ in 0..PUBLISH_TRIES {
            self.definitions.refresh(&self.store).await?;
            let published = self.definitions.now();
            let mut grown = Grown::new(&published, &candidate.schemas);
            let schemas = std::mem::take(&mut grown.rows);
            let catalog = grown.catalog.clone();
            let definition = self.read(&candidate.source, &published, grown, Purpose::Publish).await?;
            let id = definition.id.clone();
            let is_new = published.get(&id).is_none();
            let mut publication = Publication { schemas, ..Publication::default() };
            if is_new {
                let checked = match model_check {
                    Some(checked) => checked,
                    None => self.model(&definition, Purpose::Publish).await?,
                };
                model_check = Some(checked);
                self.make_topics(&definition).await?;
                publication.definitions.push((id.clone(), candidate.source.clone(), json(&checked)));
            }
            if is_new || !publication.schemas.is_empty() {
                // Before anybody writes them: from the first message on they are written as all others are.
                if let Some(registry) = catalog.registry() {
                    registry.obtain_more(&catalog.with_definitions([&definition])).await?;
                }
                publication.audit.push(audit(&id, publication.schemas.len(), actor));
                if !self.store.publish(&publication, published.counts()).await? {
                    continue;
                }
                self.definitions.refresh(&self.store).await?;
            }
            if let Some(entry) = self.definitions.entry(&id) {
                return Ok(entry);
            }
        }
        Err(RegisterError::Contended)
    }

    /// Holds a candidate against what is published, as [`Registrar::register`] does, and publishes nothing. Whether the
    /// topics of new participants can be made is not looked at.
    ///
    /// # Errors
    /// What [`Registrar::register`] would refuse, or the database does not answer.
    pub async fn examine(&self, candidate: &Candidate) -> Result<Examined, RegisterError> {
        self.definitions.refresh(&self.store).await?;
        let published = self.definitions.now();
        let grown = Grown::new(&published, &candidate.schemas);
        let definition = self.read(&candidate.source, &published, grown, Purpose::Check).await?;
        let is_published = published.get(&definition.id).is_some();
        let model_check =
            if is_published { None } else { Some(self.model(&definition, Purpose::Check).await?) };
        Ok(Examined { definition, model_check, is_published })
    }

    /// What is published, as this process knows it.
    pub const fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// A definition, also one that another process published a moment ago.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find(&self, id: &DefinitionRef) -> Result<Option<Entry>, StoreError> {
        self.definitions.find(&self.store, id).await?;
        Ok(self.definitions.entry(id))
    }

    /// Learns what others have published.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.definitions.refresh(&self.store).await
    }

    /// Reads a definition and holds it, and the schemas that come with it, against what is published. One that is
    /// published already is not checked again: its schemas may have grown since.
    async fn read(
        &self,
        source: &str,
        published: &Published,
        grown: Grown<'_>,
        purpose: Purpose,
    ) -> Result<Definition, RegisterError> {
        let parsed = Definition::parse(source);
        let known = parsed.as_ref().ok().and_then(|definition| published.get(&definition.id));
        if let (Ok(definition), Some(known)) = (&parsed, known)
            && !known.definition.same_recipe(definition)
        {
            let (id, next) = (&definition.id, published.next_version(&definition.id.name));
            return Err(RegisterError::OtherContent(examine::other_content(source, id, next)));
        }
        // Without all schemas it would be told that it lacks those that are wrong.
        let read = if known.is_none() && grown.is_whole() {
            examine::read(source, &grown.catalog, &Participants::of(published.all()))
        } else {
            parsed.clone()
        };
        let schemas = grown.refused(parsed.as_ref().ok());
        match read {
            Ok(definition) if schemas.is_empty() => Ok(definition),
            Ok(_) => Err(RegisterError::Refused { schemas, definition: None }),
            Err(error) => {
                let definition = Some(self.refusal(error, purpose).await?);
                Err(RegisterError::Refused { schemas, definition })
            }
        }
    }

    async fn refusal(&self, error: DefinitionError, purpose: Purpose) -> Result<Refusal, Crowded> {
        if error.misordered.is_none() {
            return Ok(examine::refusal(error));
        }
        self.in_turn(purpose, || examine::refusal(error)).await
    }

    async fn model(&self, definition: &Definition, purpose: Purpose) -> Result<ModelCheck, RegisterError> {
        let definition = definition.clone();
        let checked = self.in_turn(purpose, move || examine::model(&definition)).await?;
        checked.map_err(|refusal| RegisterError::Refused { schemas: Vec::new(), definition: Some(refusal) })
    }

    /// Runs a model check beside everything else, when it is its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        purpose: Purpose,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Crowded> {
        let turn = self.model_checks.take(purpose).await?;
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        Ok(off_thread(work).await)
    }

    /// Commands must find their topics from the first saga on, in every process.
    async fn make_topics(&self, definition: &Definition) -> Result<(), TopicError> {
        let spec = |participant: Arc<str>| {
            let partitions = i32::from(self.command_partitions);
            TopicSpec::new(format!("{participant}.commands"), partitions, self.replication)
        };
        let specs: Vec<TopicSpec> = definition.participants().into_iter().map(spec).collect();
        topics::ensure(&self.kafka, &specs).await
    }
}

/// Runs what may take long beside everything else.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn audit(id: &DefinitionRef, schemas: usize, actor: &str) -> AuditRow {
    let reason = match schemas {
        0 => id.to_string(),
        1 => format!("{id}, with 1 schema"),
        more => format!("{id}, with {more} schemas"),
    };
    let after = serde_json::json!({ "definition": *id.name, "version": id.version, "schemas": schemas });
    AuditRow::new(clock::now(), actor, "register", &reason).changing(None, after)
}

fn json(model_check: &ModelCheck) -> Option<serde_json::Value> {
    serde_json::to_value(model_check).ok()
}
