//! Publishing definitions and the schemas they bring: checked as a whole, made durable together, then known to every
//! process. What is published never changes, so nothing here needs undoing.

pub mod examine;
pub mod folders;

use std::sync::Arc;

use messaging::KafkaSettings;
use messaging::topics::{self, TopicError, TopicSpec};
use saga_defs::check::Participants;
use saga_defs::definition::Definition;
use saga_defs::ids::DefinitionRef;
use schemas::{Catalog, SchemaError};
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::examine::{ModelCheck, Refusal};
use crate::definitions::{Definitions, Entry, Published};
use crate::engine::clock;
use crate::store::definitions::{Publication, SchemaRow};
use crate::store::letters::AuditRow;
use crate::store::{Store, StoreError};

/// One definition brings at most this many schemas: it has at most 64 steps with four messages each.
pub const MAX_SCHEMAS: usize = 256;
/// The largest version of a schema that the database can keep.
const MAX_SCHEMA_VERSION: u32 = i32::MAX.unsigned_abs();
/// How often something is checked anew because others published in between.
const PUBLISH_TRIES: usize = 5;
/// Model checks at a time: each may keep a core and a good part of the memory busy.
const MODEL_CHECKS: usize = 1;

/// A definition that somebody wants to be published.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its text.
    pub source: String,
    /// The schemas that it brings.
    pub schemas: Vec<Brought>,
}

/// A schema that comes with a definition.
#[derive(Clone, Debug)]
pub struct Brought {
    /// Where the text came from. One that ends in `.vN.avsc` says which version it is.
    pub origin: String,
    /// The text.
    pub text: String,
}

/// A definition was not published.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It may not be, for what stands in its text.
    #[error("the definition is refused")]
    Refused(Refusal),
    /// Schemas that it brings may not be used.
    #[error("{} of the schemas are refused", .0.len())]
    Schemas(Vec<WrongSchema>),
    /// Its version is published with other content.
    #[error(
        "{definition} is published with other content, and a published version never changes: give it version {next}"
    )]
    OtherContent {
        /// Which.
        definition: DefinitionRef,
        /// The first free version.
        next: u32,
    },
    /// A topic of its participants is not as it has to be.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Others published all the time.
    #[error("others publish at the same time; try again")]
    Contended,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with one of the schemas.
#[derive(Debug)]
pub struct WrongSchema {
    /// Which of them, from 0.
    pub position: usize,
    /// What.
    pub error: SchemaError,
}

/// Publishes definitions. Cheap to clone.
#[derive(Clone)]
pub struct Registrar {
    store: Store,
    definitions: Definitions,
    kafka: KafkaSettings,
    command_partitions: u16,
    replication: i32,
    model_checks: Arc<Semaphore>,
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
        let model_checks = Arc::new(Semaphore::new(MODEL_CHECKS));
        Self { store, definitions, kafka, command_partitions, replication, model_checks }
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
            let (catalog, schemas) = bring(&published, &candidate.schemas).map_err(RegisterError::Schemas)?;
            let definition = self.read(&candidate.source, &published, &catalog).await?;
            let id = definition.id.clone();
            let is_new = is_new(&published, &definition)?;
            let mut publication = Publication { schemas, ..Publication::default() };
            if is_new {
                let checked = match model_check {
                    Some(checked) => checked,
                    None => self.model(&definition).await?,
                };
                model_check = Some(checked);
                self.make_topics(&definition).await?;
                publication.definitions.push((id.clone(), candidate.source.clone(), json(&checked)));
            }
            if is_new || !publication.schemas.is_empty() {
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

    async fn read(
        &self,
        source: &str,
        published: &Published,
        catalog: &Arc<Catalog>,
    ) -> Result<Definition, RegisterError> {
        match examine::read(source, catalog, &Participants::of(published.all())) {
            Ok(definition) => Ok(definition),
            Err(error) => Err(RegisterError::Refused(self.off_thread(|| examine::refusal(error)).await)),
        }
    }

    async fn model(&self, definition: &Definition) -> Result<ModelCheck, RegisterError> {
        let definition = definition.clone();
        self.off_thread(move || examine::model(&definition)).await.map_err(RegisterError::Refused)
    }

    /// Runs what may take long beside everything else, one at a time.
    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // Nobody closes the semaphore, so without a permit there is none to wait for.
        let permit = self.model_checks.clone().acquire_owned().await.ok();
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        match done.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
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

/// Whether the definition is not published yet.
fn is_new(published: &Published, definition: &Definition) -> Result<bool, RegisterError> {
    match published.get(&definition.id) {
        None => Ok(true),
        Some(known) if same_recipe(&known.definition, definition) => Ok(false),
        Some(_) => {
            let next = published.next_version(&definition.id.name);
            Err(RegisterError::OtherContent { definition: definition.id.clone(), next })
        }
    }
}

/// Whether two texts of one version say the same, comments and spacing apart.
pub(crate) fn same_recipe(one: &Definition, other: &Definition) -> bool {
    one.steps == other.steps && one.deadline == other.deadline && one.input == other.input
}

/// The catalog with these schemas as well, and the rows of those that the database does not have.
fn bring(
    published: &Published,
    brought: &[Brought],
) -> Result<(Arc<Catalog>, Vec<SchemaRow>), Vec<WrongSchema>> {
    let mut catalog = published.catalog().clone();
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (position, Brought { origin, text }) in brought.iter().enumerate() {
        let placed = catalog.place(origin, text).and_then(|placed| match placed {
            (_, version) if version > MAX_SCHEMA_VERSION => {
                let (origin, field) = (origin.clone(), String::new());
                Err(SchemaError::Refused {
                    origin,
                    field,
                    reason: format!("the version is above {MAX_SCHEMA_VERSION}"),
                })
            }
            placed => Ok(placed),
        });
        let placed = placed.map_err(|error| vec![error]);
        let added = placed.and_then(|(name, version)| {
            let row =
                SchemaRow { name: name.to_string(), version, origin: origin.clone(), source: text.clone() };
            Ok((catalog.with_sources([(row.file_name(), text.clone())])?, row))
        });
        match added {
            Ok((more, row)) => {
                catalog = Arc::new(more);
                let twice = rows.iter().any(|other: &SchemaRow| other.file_name() == row.file_name());
                if !twice && !published.stores(&row.name, row.version) {
                    rows.push(row);
                }
            }
            Err(errors) => {
                wrong.extend(errors.into_iter().map(|error| WrongSchema { position, error }));
            }
        }
    }
    if wrong.is_empty() { Ok((catalog, rows)) } else { Err(wrong) }
}

fn audit(id: &DefinitionRef, schemas: usize, actor: &str) -> AuditRow {
    AuditRow {
        id: Uuid::now_v7(),
        at: clock::now(),
        actor: actor.to_owned(),
        verb: "register",
        saga: None,
        letter: None,
        reason: match schemas {
            0 => id.to_string(),
            1 => format!("{id}, with 1 schema"),
            more => format!("{id}, with {more} schemas"),
        },
    }
}

fn json(model_check: &ModelCheck) -> Option<serde_json::Value> {
    serde_json::to_value(model_check).ok()
}
