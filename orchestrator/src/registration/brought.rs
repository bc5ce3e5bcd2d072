//! Schemas that come with definitions: whether they may become known, and what they would do to what is published.

use std::collections::BTreeSet;
use std::sync::Arc;

use saga_defs::check::{self, Participants};
use saga_defs::definition::{Definition, Problem, StepKind};
use saga_defs::ids::DefinitionRef;
use schemas::{Catalog, SchemaError};

use crate::definitions::Published;
use crate::store::definitions::SchemaRow;

/// The largest version of a schema that the database can keep.
const MAX_SCHEMA_VERSION: u32 = i32::MAX.unsigned_abs();
/// The name under which a saga's id always stands in its data.
const SAGA_ID: &str = "sagaId";

/// A schema that comes with a definition.
#[derive(Clone, Debug)]
pub struct Brought {
    /// Where the text came from. One that ends in `.vN.avsc` says which version it is.
    pub origin: String,
    /// The text.
    pub text: String,
}

/// What is wrong with one of the schemas.
#[derive(Debug)]
pub struct WrongSchema {
    /// Which of them, from 0.
    pub position: usize,
    /// What.
    pub fault: SchemaFault,
}

/// Why a schema may not be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFault {
    /// For what stands in it, or since it does not go with the other versions of its record.
    #[error(transparent)]
    Text(#[from] SchemaError),
    /// For what it would do to definitions.
    #[error("{origin}: {harm}")]
    Harm {
        /// Where the text came from.
        origin: String,
        /// What.
        harm: Harm,
    },
}

impl SchemaFault {
    /// The sentence, without where the text came from.
    pub fn told(&self) -> String {
        match self {
            Self::Text(error) => match error.told() {
                ("", told) => told,
                (field, told) => format!("field {field}: {told}"),
            },
            Self::Harm { harm, .. } => harm.to_string(),
        }
    }
}

/// What a new version of a record would do.
#[derive(Debug, thiserror::Error)]
pub enum Harm {
    /// Nothing for the definition that it comes with.
    #[error(
        "{record} is known and {definition} does not use it: a new version of a record comes with a definition that uses it, so leave it out"
    )]
    Unused {
        /// The record.
        record: Arc<str>,
        /// The definition that it comes with.
        definition: DefinitionRef,
    },
    /// Messages of a published definition could not be built any more.
    #[error(
        "{definition} is published and would break: line {}, column {}: {}; give {record} no such field, or use a record of another name",
        .problem.line, .problem.column, .problem.message
    )]
    Breaks {
        /// The record.
        record: Arc<str>,
        /// The definition that would break.
        definition: DefinitionRef,
        /// How.
        problem: Box<Problem>,
    },
    /// The default of a field that older replies do not have would replace a value that sagas have.
    #[error(
        "field {field}: {definition} is published, takes {record} as a reply and has a `{field}` from elsewhere, which an older reply would replace by the default: give the field another name"
    )]
    Overwrites {
        /// The record.
        record: Arc<str>,
        /// Its new field.
        field: Arc<str>,
        /// The definition whose data would lose a value.
        definition: DefinitionRef,
    },
}

/// What is published, with more schemas.
pub(super) struct Grown<'p> {
    published: &'p Published,
    /// All schemas, without those that are wrong.
    pub(super) catalog: Arc<Catalog>,
    /// Those that the database does not have.
    pub(super) rows: Vec<SchemaRow>,
    wrong: Vec<WrongSchema>,
    versions: Vec<NewVersion>,
}

/// A version that a known record did not have.
struct NewVersion {
    position: usize,
    origin: String,
    record: Arc<str>,
}

impl NewVersion {
    fn does(&self, harm: Harm) -> WrongSchema {
        let fault = SchemaFault::Harm { origin: self.origin.clone(), harm };
        WrongSchema { position: self.position, fault }
    }
}

impl<'p> Grown<'p> {
    pub(super) fn new(published: &'p Published, brought: &[Brought]) -> Self {
        let catalog = published.catalog().clone();
        let mut grown =
            Self { published, catalog, rows: Vec::new(), wrong: Vec::new(), versions: Vec::new() };
        for (position, brought) in brought.iter().enumerate() {
            if let Err(errors) = grown.add(position, brought) {
                let wrong = |error| WrongSchema { position, fault: SchemaFault::Text(error) };
                grown.wrong.extend(errors.into_iter().map(wrong));
            }
        }
        grown
    }

    fn add(&mut self, position: usize, Brought { origin, text }: &Brought) -> Result<(), Vec<SchemaError>> {
        let (record, version) = self.catalog.place(origin, text).map_err(|error| vec![error])?;
        if version > MAX_SCHEMA_VERSION {
            let (origin, field) = (origin.clone(), String::new());
            let reason = format!("the version is above {MAX_SCHEMA_VERSION}");
            return Err(vec![SchemaError::Refused { origin, field, reason }]);
        }
        let row =
            SchemaRow { name: record.to_string(), version, origin: origin.clone(), source: text.clone() };
        self.catalog = Arc::new(self.catalog.with_sources([(row.file_name(), text.clone())])?);
        let known = self.published.catalog();
        if known.record(&record).is_some() && !known.has(&record, version) {
            self.versions.push(NewVersion { position, origin: origin.clone(), record });
        }
        let twice = self.rows.iter().any(|other| other.file_name() == row.file_name());
        if !twice && !self.published.stores(&row.name, row.version) {
            self.rows.push(row);
        }
        Ok(())
    }

    /// Whether all of them are in the catalog.
    pub(super) const fn is_whole(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Everything that is wrong with them, in order of place; `comes_with` is the one definition that they are for, if
    /// they are for one and it can be read.
    pub(super) fn refused(self, comes_with: Option<&Definition>) -> Vec<WrongSchema> {
        let mut wrong = if self.is_whole() { self.harm() } else { Vec::new() };
        if let Some(definition) = comes_with {
            for new in self.versions.iter().filter(|new| !names(definition, &new.record)) {
                let (record, definition) = (new.record.clone(), definition.id.clone());
                wrong.push(new.does(Harm::Unused { record, definition }));
            }
        }
        wrong.extend(self.wrong);
        wrong.sort_by_key(|wrong| wrong.position);
        wrong
    }

    /// What they would do to published definitions.
    fn harm(&self) -> Vec<WrongSchema> {
        let mut wrong = Vec::new();
        for definition in self.published.all() {
            let named = || self.versions.iter().filter(|new| names(definition, &new.record));
            let Some(first) = named().next() else { continue };
            if let Some(problem) = self.new_problem(definition) {
                let told = named().find(|new| problem.message.contains(&*new.record)).unwrap_or(first);
                let (record, definition) = (told.record.clone(), definition.id.clone());
                wrong.push(told.does(Harm::Breaks { record, definition, problem: Box::new(problem) }));
            }
            wrong.extend(named().flat_map(|new| self.overwritten(definition, new)));
        }
        wrong
    }

    /// The first problem that the definition has with these schemas and did not have without them.
    fn new_problem(&self, definition: &Definition) -> Option<Problem> {
        let problems = |catalog: &Catalog| {
            let checked = check::check(&definition.source, catalog, &Participants::default());
            checked.err().map(|error| error.problems).unwrap_or_default()
        };
        let before = problems(self.published.catalog());
        problems(&self.catalog).into_iter().find(|problem| !before.contains(problem))
    }

    /// The fields that are new in a reply of the definition, though its data has them from elsewhere.
    fn overwritten(&self, definition: &Definition, new: &NewVersion) -> Vec<WrongSchema> {
        if !definition.steps.iter().any(|step| step.reply == new.record) {
            return Vec::new();
        }
        let fields = |catalog: &Catalog, record: &str| -> BTreeSet<Arc<str>> {
            let fields = catalog.record(record).map(schemas::RecordShape::fields).unwrap_or_default();
            fields.iter().map(|field| field.name().into()).collect()
        };
        let mut data = fields(&self.catalog, &definition.input);
        data.extend([SAGA_ID.into(), definition.id_field().into()]);
        for step in definition.steps.iter().filter(|step| step.reply != new.record) {
            data.append(&mut fields(&self.catalog, &step.reply));
        }
        let older = fields(self.published.catalog(), &new.record);
        let newer = fields(&self.catalog, &new.record);
        let added = newer.into_iter().filter(|field| !older.contains(field) && data.contains(field));
        let overwrites = |field| {
            let (record, definition) = (new.record.clone(), definition.id.clone());
            new.does(Harm::Overwrites { record, field, definition })
        };
        added.map(overwrites).collect()
    }
}

/// Whether a message of the definition is that record.
fn names(definition: &Definition, record: &str) -> bool {
    let undoes = |kind: &StepKind| match kind {
        StepKind::Compensatable { compensation } => &**compensation == record,
        StepKind::Pivot | StepKind::Retriable => false,
    };
    *definition.input == *record
        || definition
            .steps
            .iter()
            .any(|step| *step.command == *record || *step.reply == *record || undoes(&step.kind))
}
