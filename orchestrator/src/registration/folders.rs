//! Definitions and schemas from folders, published at the start of a process.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use saga_defs::definition::Definition;
use saga_defs::{Shipped, shipped};
use schemas::Catalog;

use super::brought::{Brought, Grown, SchemaFault, WrongSchema};
use super::{PUBLISH_TRIES, Registrar, audit, json, off_thread};
use crate::check::{self, Checked, Outcome, Runs};
use crate::definitions::{Definitions, Published};
use crate::store::StoreError;
use crate::store::definitions::{Counts, Publication, SchemaRow};

/// Who publishes what stands in the folders, in the audit.
const ACTOR: &str = "start";

/// Which of what ships is published, and where further definitions and schemas are.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The shipped definitions that are published.
    pub shipped: Vec<Shipped>,
    /// Definitions (`*.toml`).
    pub definitions: Option<PathBuf>,
    /// Schemas (`*.avsc`).
    pub schemas: Option<PathBuf>,
}

/// All that ships, and nothing else.
impl Default for Folders {
    fn default() -> Self {
        Self { shipped: shipped().to_vec(), definitions: None, schemas: None }
    }
}

/// What is to be published, checked, and not published yet: its topics come first.
pub struct Plan {
    brought: Vec<Brought>,
    sources: Arc<[(String, String)]>,
    found: Found,
}

/// What of it is new, as far as was known at that moment.
struct Found {
    publication: Publication,
    definitions: Vec<Arc<Definition>>,
    checked_against: Counts,
}

impl Plan {
    /// The definitions that are not published yet.
    pub fn definitions(&self) -> &[Arc<Definition>] {
        &self.found.definitions
    }
}

/// What stands in the folders was not published.
#[derive(Debug, thiserror::Error)]
pub enum FoldersError {
    /// A folder or file cannot be read.
    #[error("{path}: cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Schemas may not be used.
    #[error("the schemas are refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Schemas(Vec<SchemaFault>),
    /// Definitions may not be published; each with its problems, the right ones too.
    #[error("{} of the definitions are refused", .0.iter().filter(|checked| !checked.is_right()).count())]
    Definitions(Vec<Checked>),
    /// Others published all the time.
    #[error("others publish at the same time; try again")]
    Contended,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The texts of these shipped definitions, then of a folder's `*.toml` files in order of name, each with its origin.
///
/// # Errors
/// A file that cannot be read.
pub fn sources(ships: &[Shipped], folder: Option<&Path>) -> Result<Vec<(String, String)>, FoldersError> {
    let ships = ships.iter().map(|one| (format!("shipped {}", one.file), one.text.to_owned()));
    let mut sources: Vec<(String, String)> = ships.collect();
    let Some(folder) = folder else { return Ok(sources) };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| FoldersError::Unreadable { path, source }
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

/// The shipped schemas and those of a folder.
fn schemas(folder: Option<&Path>) -> Result<Vec<Brought>, FoldersError> {
    let ships = Catalog::shipped_sources().iter();
    let mut all: Vec<Brought> =
        ships.map(|(file, text)| Brought { origin: (*file).to_owned(), text: (*text).to_owned() }).collect();
    if let Some(folder) = folder {
        let files = Catalog::read_dir(folder).map_err(|error| FoldersError::Schemas(vec![error.into()]))?;
        all.extend(files.into_iter().map(|(origin, text)| Brought { origin, text }));
    }
    Ok(all)
}

/// Checks what ships and what stands in the folders, as far as that can be told without a database.
///
/// # Errors
/// Something cannot be read, or a schema is wrong. Definitions that are wrong are none.
pub fn check(definitions: Option<&Path>, schemas_dir: Option<&Path>) -> Result<Vec<Checked>, FoldersError> {
    Ok(on_paper(definitions, schemas_dir)?.0)
}

/// As [`check`], with the schemas that they were checked against.
pub(crate) fn on_paper(
    definitions: Option<&Path>,
    schemas_dir: Option<&Path>,
) -> Result<(Vec<Checked>, Arc<Catalog>), FoldersError> {
    let published = Definitions::of(shipped().iter().map(Shipped::definition)).now();
    let (catalog, _) = grow(&published, &schemas(schemas_dir)?)?;
    let texts = sources(shipped(), definitions)?.into_iter().map(|(name, source)| (name, Ok(source)));
    let checked = check::sources(texts, &catalog, &published, Runs::OfNew);
    Ok((checked, catalog))
}

/// The catalog with these schemas as well, and the rows of those that the database does not have.
fn grow(published: &Published, brought: &[Brought]) -> Result<(Arc<Catalog>, Vec<SchemaRow>), FoldersError> {
    let mut grown = Grown::new(published, brought);
    let (catalog, rows) = (grown.catalog.clone(), std::mem::take(&mut grown.rows));
    let wrong: Vec<WrongSchema> = grown.refused(None);
    if wrong.is_empty() {
        return Ok((catalog, rows));
    }
    Err(FoldersError::Schemas(wrong.into_iter().map(|wrong| wrong.fault).collect()))
}

impl Registrar {
    /// Checks what ships and what stands in the folders, and finds out what of it is to be published.
    ///
    /// # Errors
    /// Something in the folders is wrong.
    pub async fn plan_folders(&self, folders: &Folders) -> Result<Plan, FoldersError> {
        let brought = schemas(folders.schemas.as_deref())?;
        let sources: Arc<[(String, String)]> =
            sources(&folders.shipped, folders.definitions.as_deref())?.into();
        let found = self.gather(&brought, sources.clone()).await?;
        Ok(Plan { brought, sources, found })
    }

    /// Publishes a plan. What others have published since is taken into account.
    ///
    /// The shipped schemas are published as well: an older release that still runs beside this one can then go on with
    /// what this one brings.
    ///
    /// # Errors
    /// Something does not go with what others have published; then nothing is published.
    pub async fn publish_plan(&self, plan: Plan) -> Result<(), FoldersError> {
        let Plan { brought, sources, mut found } = plan;
        for _ in 0..PUBLISH_TRIES {
            let Found { publication, checked_against, .. } = found;
            let nothing = publication.definitions.is_empty() && publication.schemas.is_empty();
            if nothing || self.store.publish(&publication, checked_against).await? {
                self.definitions.refresh(&self.store).await?;
                return Ok(());
            }
            found = self.gather(&brought, sources.clone()).await?;
        }
        Err(FoldersError::Contended)
    }

    /// Plans and publishes.
    ///
    /// # Errors
    /// Something in the folders is wrong; then nothing is published.
    pub async fn publish_folders(&self, folders: &Folders) -> Result<(), FoldersError> {
        let plan = self.plan_folders(folders).await?;
        self.publish_plan(plan).await
    }

    async fn gather(
        &self,
        brought: &[Brought],
        sources: Arc<[(String, String)]>,
    ) -> Result<Found, FoldersError> {
        self.definitions.refresh(&self.store).await?;
        let published = self.definitions.now();
        let (catalog, schemas) = grow(&published, brought)?;
        let against = published.clone();
        let work = move || {
            let texts = sources.iter().map(|(name, source)| (name.clone(), Ok(source.clone())));
            check::sources(texts, &catalog, &against, Runs::OfNew)
        };
        let checked: Vec<Checked> = off_thread(work).await;
        if checked.iter().any(|checked| !checked.is_right()) {
            return Err(FoldersError::Definitions(checked));
        }
        let mut publication = Publication { schemas, ..Publication::default() };
        let (mut definitions, mut seen) = (Vec::new(), HashSet::new());
        for Checked { source, outcome, .. } in checked {
            let Outcome::Right { definition, model_check } = outcome else { continue };
            if published.get(&definition.id).is_none() && seen.insert(definition.id.clone()) {
                publication.audit.push(audit(&definition.id, 0, ACTOR));
                publication.definitions.push((
                    definition.id.clone(),
                    source,
                    model_check.as_ref().and_then(json),
                ));
                definitions.push(definition);
            }
        }
        Ok(Found { publication, definitions, checked_against: published.counts() })
    }
}
