//! The definitions and schemas that only scenarios know, beside the shipped ones.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use orchestrator::registration::examine::read;
use orchestrator::registration::folders::sources;
use saga_defs::check::Participants;
use saga_defs::definition::Definition;
use schemas::Catalog;

/// The definitions that only scenarios use.
pub fn definitions_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions")
}

/// The schemas that only scenarios use.
pub fn schemas_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

/// The shipped schemas and those of the scenarios.
///
/// # Errors
/// One of them is wrong.
pub fn catalog() -> Result<Catalog> {
    let sources = Catalog::read_dir(&schemas_folder())?;
    Catalog::shipped().with_sources(sources).map_err(|errors| anyhow!("{errors:?}"))
}

/// The shipped definition and those of the scenarios.
///
/// # Errors
/// One of them is wrong.
pub fn definitions(catalog: &Catalog) -> Result<Vec<Definition>> {
    let sources = sources(saga_defs::shipped(), Some(&definitions_folder()))?;
    sources.iter().map(|(_, source)| Ok(read(source, catalog, &Participants::default())?)).collect()
}
