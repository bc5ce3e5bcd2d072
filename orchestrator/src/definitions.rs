//! The recipes this service knows: those compiled in, those of `DEFINITIONS_DIR`, and every one ever published here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use saga_defs::check::Participants;
use saga_defs::definition::{Definition, DefinitionError};
use saga_defs::ids::DefinitionRef;
use schemas::Catalog;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::store::{Store, StoreError};

/// A definition that the service cannot take.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// A file cannot be read.
    #[error("{path}: cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A text is not a definition.
    #[error("{origin}")]
    Wrong {
        /// The file, or the database.
        origin: String,
        /// Every problem.
        #[source]
        source: DefinitionError,
    },
    /// A published version has other content.
    #[error("{origin}: {definition} is published with other content; give the changed one a new version")]
    Published {
        /// The file.
        origin: String,
        /// Which.
        definition: DefinitionRef,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All known recipes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Definitions {
    known: Arc<RwLock<HashMap<DefinitionRef, Arc<Definition>>>>,
}

impl Definitions {
    /// With these, for tests and tools.
    pub fn of(definitions: impl IntoIterator<Item = Definition>) -> Self {
        let all = Self::default();
        definitions.into_iter().for_each(|definition| all.insert(definition));
        all
    }

    /// The newest version of that name.
    pub fn newest(&self, name: &str) -> Option<Arc<Definition>> {
        let known = self.known.read().ok()?;
        let named = known.values().filter(|definition| *definition.id.name == *name);
        named.max_by_key(|definition| definition.id.version).cloned()
    }

    /// Exactly that one.
    pub fn get(&self, name: &str, version: u32) -> Option<Arc<Definition>> {
        let key = DefinitionRef { name: name.into(), version };
        self.known.read().ok()?.get(&key).cloned()
    }

    /// All of them, by name and version.
    pub fn all(&self) -> Vec<Arc<Definition>> {
        let mut all: Vec<_> =
            self.known.read().map(|known| known.values().cloned().collect()).unwrap_or_default();
        all.sort_by(|a: &Arc<Definition>, b| a.id.cmp(&b.id));
        all
    }

    /// Exactly that one; another process may have published it since this one started.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find(
        &self,
        store: &Store,
        wanted: &DefinitionRef,
    ) -> Result<Option<Arc<Definition>>, StoreError> {
        if let Some(known) = self.get(&wanted.name, wanted.version) {
            return Ok(Some(known));
        }
        let sql = "SELECT source FROM definition WHERE name = $1 AND version = $2";
        let values = vec![(*wanted.name).into(), version(wanted).into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let Some(row) = store.connection().query_one_raw(statement).await? else { return Ok(None) };
        let source: String = row.try_get("", "source")?;
        match Definition::parse(&source) {
            Ok(definition) => {
                self.insert(definition);
                Ok(self.get(&wanted.name, wanted.version))
            }
            Err(error) => {
                tracing::error!(definition = %wanted, %error, "a published definition cannot be read");
                Ok(None)
            }
        }
    }

    fn insert(&self, definition: Definition) {
        if let Ok(mut known) = self.known.write() {
            known.insert(definition.id.clone(), Arc::new(definition));
        }
    }

    /// Reads the shipped definitions and those of a folder, publishes what is new, and knows every published one.
    ///
    /// # Errors
    /// The first definition that is wrong.
    pub async fn publish(
        store: &Store,
        catalog: &Catalog,
        folder: Option<&Path>,
    ) -> Result<Self, DefinitionsError> {
        let all = Self::default();
        for (origin, source) in published(store).await? {
            let wrong = |source| DefinitionsError::Wrong { origin, source };
            all.insert(Definition::parse(&source).map_err(wrong)?);
        }
        for (origin, source) in sources(folder)? {
            let definition = parse(&origin, &source, catalog)?;
            match all.get(&definition.id.name, definition.id.version) {
                Some(known) if same_recipe(&known, &definition) => {}
                Some(known) => {
                    let definition = known.id.clone();
                    return Err(DefinitionsError::Published { origin, definition });
                }
                None => {
                    let sql = "INSERT INTO definition (name, version, source) VALUES ($1, $2, $3)
                               ON CONFLICT DO NOTHING";
                    let id = &definition.id;
                    let values = vec![(*id.name).into(), version(id).into(), source.into()];
                    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
                    let made = store.connection().execute_raw(statement).await.map_err(StoreError::from)?;
                    if made.rows_affected() == 1 {
                        all.insert(definition);
                        continue;
                    }
                    // Another process published this version a moment ago; what it published counts.
                    match all.find(store, &definition.id).await? {
                        Some(known) if same_recipe(&known, &definition) => {}
                        _ => return Err(DefinitionsError::Published { origin, definition: definition.id }),
                    }
                }
            }
        }
        Ok(all)
    }
}

/// Whether two texts of one version say the same, comments and spacing apart.
fn same_recipe(one: &Definition, other: &Definition) -> bool {
    one.steps == other.steps && one.deadline == other.deadline && one.input == other.input
}

fn version(id: &DefinitionRef) -> i32 {
    i32::try_from(id.version).unwrap_or(i32::MAX)
}

async fn published(store: &Store) -> Result<Vec<(String, String)>, StoreError> {
    let statement =
        Statement::from_string(DbBackend::Postgres, "SELECT name, version, source FROM definition");
    let rows = store.connection().query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let (name, version): (String, i32) = (row.try_get("", "name")?, row.try_get("", "version")?);
            Ok((format!("database, {name} version {version}"), row.try_get("", "source")?))
        })
        .collect()
}

/// The shipped definitions, then a folder's `*.toml` files in order of name.
///
/// # Errors
/// A file that cannot be read.
pub fn sources(folder: Option<&Path>) -> Result<Vec<(String, String)>, DefinitionsError> {
    let origin = |file| format!("shipped {file}");
    let shipped = saga_defs::shipped().iter();
    let mut sources: Vec<_> =
        shipped.map(|shipped| (origin(shipped.file), shipped.text.to_owned())).collect();
    let Some(folder) = folder else { return Ok(sources) };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| DefinitionsError::Unreadable { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        sources.push((path.display().to_string(), text));
    }
    Ok(sources)
}

/// Parses a definition and holds its messages against the schemas.
///
/// # Errors
/// What is wrong with it.
pub fn parse(origin: &str, source: &str, catalog: &Catalog) -> Result<Definition, DefinitionsError> {
    check(source, catalog).map_err(|source| DefinitionsError::Wrong { origin: origin.to_owned(), source })
}

/// Parses a definition and holds its messages against the schemas.
///
/// # Errors
/// Every problem with its text.
pub(crate) fn check(source: &str, catalog: &Catalog) -> Result<Definition, DefinitionError> {
    saga_defs::check::check(source, catalog, &Participants::default())
}
