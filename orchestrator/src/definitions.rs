//! What is published, as this process knows it: recipes, and the schemas of their messages. It grows while the service
//! runs; nothing in it ever changes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use saga_defs::definition::{Definition, DefinitionError};
use saga_defs::ids::DefinitionRef;
use schemas::registry::Registry;
use schemas::{Catalog, SchemaError};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::engine::storage::Storage;
use crate::registration::examine::ModelCheck;
use crate::store::definitions::{Counts, Rows};
use crate::store::{Store, StoreError};

/// How often a process looks for what others have published. What it is asked for by name it looks for at once.
pub const REFRESH: Duration = Duration::from_secs(2);

/// What was published cannot be used by this process.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// A definition's text.
    #[error("{definition} is published, but this release cannot read it; run the release that published it")]
    Definition {
        /// Which.
        definition: DefinitionRef,
        /// What is wrong.
        #[source]
        source: DefinitionError,
    },
    /// A schema's text, or it does not go with one that ships.
    #[error("a published schema does not go with this release; run the release that published it")]
    Schema(#[source] SchemaError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A published recipe.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The recipe.
    pub definition: Arc<Definition>,
    /// When it was published; `None` for tests and tools.
    pub registered_at: Option<OffsetDateTime>,
    /// What the model check said then.
    pub model_check: Option<ModelCheck>,
}

/// All of it at one moment.
#[derive(Clone, Debug)]
pub struct Published {
    entries: BTreeMap<DefinitionRef, Entry>,
    catalog: Arc<Catalog>,
    counts: Counts,
    stored: BTreeSet<(String, u32)>,
}

/// What is published. Cheap to clone; all clones grow together.
#[derive(Clone)]
pub struct Definitions {
    known: Arc<ArcSwap<Published>>,
    /// Whoever looks for more, so that one look serves all who wait.
    looking: Arc<Mutex<()>>,
}

impl Definitions {
    /// With these and the shipped schemas, for tests and tools.
    pub fn of(definitions: impl IntoIterator<Item = Definition>) -> Self {
        let entry = |definition: Definition| {
            let definition = Arc::new(definition);
            (definition.id.clone(), Entry { definition, registered_at: None, model_check: None })
        };
        Self::knowing(definitions.into_iter().map(entry).collect(), Catalog::shipped())
    }

    /// What ships as schemas and what the database has.
    ///
    /// # Errors
    /// Something published cannot be used, or the database does not answer.
    pub async fn open(store: &Store) -> Result<Self, PublishedError> {
        Self::open_with(store, None).await
    }

    /// The same with a schema registry, whose ids messages are written with.
    ///
    /// # Errors
    /// As [`Definitions::open`].
    pub async fn open_with(store: &Store, registry: Option<Arc<Registry>>) -> Result<Self, PublishedError> {
        let shipped = Catalog::shipped();
        let shipped = match registry {
            Some(registry) => Arc::new(shipped.with_registry(registry)),
            None => shipped,
        };
        let all = Self::knowing(BTreeMap::new(), shipped);
        let rows = store.published().await?;
        let (published, trouble) = all.known.load().with(rows);
        if let Some(first) = trouble.into_iter().next() {
            return Err(first);
        }
        all.known.store(Arc::new(published));
        Ok(all)
    }

    fn knowing(entries: BTreeMap<DefinitionRef, Entry>, catalog: Arc<Catalog>) -> Self {
        let published = Published { entries, catalog, counts: Counts::default(), stored: BTreeSet::new() };
        Self { known: Arc::new(ArcSwap::from_pointee(published)), looking: Arc::default() }
    }

    /// The newest version of that name.
    pub fn newest(&self, name: &str) -> Option<Arc<Definition>> {
        self.known.load().newest(name).map(|entry| entry.definition.clone())
    }

    /// Exactly that one.
    pub fn get(&self, name: &str, version: u32) -> Option<Arc<Definition>> {
        self.entry(&DefinitionRef { name: name.into(), version }).map(|entry| entry.definition)
    }

    /// Exactly that one, with when it was published.
    pub fn entry(&self, id: &DefinitionRef) -> Option<Entry> {
        self.known.load().get(id).cloned()
    }

    /// All of them, by name and version.
    pub fn all(&self) -> Vec<Arc<Definition>> {
        self.known.load().entries.values().map(|entry| entry.definition.clone()).collect()
    }

    /// The schemas of all messages. A moment's picture: to be taken anew for each batch or request.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.known.load().catalog.clone()
    }

    /// The same, for reading one message: its schema is asked for first if it has an id of the registry that nobody has
    /// seen yet.
    pub async fn catalog_for(&self, message: Option<&[u8]>) -> Arc<Catalog> {
        let catalog = self.catalog();
        if let Some(registry) = catalog.registry() {
            registry.learn(message).await;
        }
        catalog
    }

    /// All of it, as it is at this moment.
    pub fn now(&self) -> Arc<Published> {
        self.known.load_full()
    }

    /// Exactly that one; another process may have published it a moment ago. Its schemas are known when it is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find(
        &self,
        store: &dyn Storage,
        wanted: &DefinitionRef,
    ) -> Result<Option<Arc<Definition>>, StoreError> {
        if let Some(known) = self.entry(wanted) {
            return Ok(Some(known.definition));
        }
        self.refresh(store).await?;
        Ok(self.entry(wanted).map(|entry| entry.definition))
    }

    /// Learns what others have published. One cheap query when there is nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn refresh(&self, store: &dyn Storage) -> Result<(), StoreError> {
        let _one = self.looking.lock().await;
        let known = self.known.load_full();
        if store.published_counts().await? == known.counts {
            return Ok(());
        }
        let (published, trouble) = known.with(store.published().await?);
        for error in trouble {
            let error = anyhow::Error::from(error);
            tracing::error!("something new is published that this process cannot use: {error:#}");
        }
        self.known.store(Arc::new(published));
        Ok(())
    }

    /// Looks for more every [`REFRESH`] until told to stop.
    pub async fn keep_fresh(self, store: Store, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
            }
            if let Err(error) = self.refresh(&store).await {
                tracing::warn!(%error, "whether there are new definitions is not known; looking again");
            }
        }
    }
}

impl Published {
    /// The newest version of that name.
    pub fn newest(&self, name: &str) -> Option<&Entry> {
        let version = |version| DefinitionRef { name: name.into(), version };
        self.entries.range(version(0)..=version(u32::MAX)).next_back().map(|(_, entry)| entry)
    }

    /// Exactly that one.
    pub fn get(&self, id: &DefinitionRef) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The first version of that name that is free.
    pub fn next_version(&self, name: &str) -> u32 {
        self.newest(name).map_or(1, |entry| entry.definition.id.version.saturating_add(1))
    }

    /// All of them, by name and version.
    pub fn all(&self) -> impl Iterator<Item = &Definition> {
        self.entries.values().map(|entry| &*entry.definition)
    }

    /// The schemas of all messages.
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// How much of it is in the database.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the database has this version of this schema.
    pub fn stores(&self, schema: &str, version: u32) -> bool {
        self.stored.contains(&(schema.to_owned(), version))
    }

    /// With these rows as well, and what of them cannot be used.
    fn with(&self, rows: Rows) -> (Self, Vec<PublishedError>) {
        let mut trouble = Vec::new();
        let catalog = with_schemas(&self.catalog, &rows, &mut trouble);
        let stored = rows.schemas.iter().map(|row| (row.name.clone(), row.version)).collect();
        let mut all = Self { counts: rows.counts(), catalog, stored, entries: self.entries.clone() };
        for row in rows.definitions {
            if all.entries.contains_key(&row.id) {
                continue;
            }
            match Definition::parse(&row.source) {
                Ok(definition) => {
                    let entry = Entry {
                        definition: Arc::new(definition),
                        registered_at: Some(row.registered_at),
                        model_check: row.model_check.and_then(|said| serde_json::from_value(said).ok()),
                    };
                    all.entries.insert(row.id, entry);
                }
                Err(source) => trouble.push(PublishedError::Definition { definition: row.id, source }),
            }
        }
        // All of them again: a schema may have come that answers what an older definition asks.
        all.catalog = Arc::new(all.catalog.with_definitions(all.all()));
        (all, trouble)
    }
}

fn with_schemas(known: &Arc<Catalog>, rows: &Rows, trouble: &mut Vec<PublishedError>) -> Arc<Catalog> {
    let sources = || rows.schemas.iter().map(|row| (row.file_name(), row.source.clone()));
    if let Ok(all) = known.with_sources(sources()) {
        return Arc::new(all);
    }
    // One or more cannot be used; the others can.
    let mut catalog = known.clone();
    for source in sources() {
        match catalog.with_sources([source]) {
            Ok(more) => catalog = Arc::new(more),
            Err(errors) => trouble.extend(errors.into_iter().map(PublishedError::Schema)),
        }
    }
    catalog
}
