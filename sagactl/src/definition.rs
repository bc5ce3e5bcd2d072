//! `sagactl definition …`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use saga_client::{CheckedDefinition, Definition, DefinitionItem, Error, NewDefinition, Plan, VersionPlan};

use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::session::Session;
use crate::style::{BAD, DIM, GOOD, STRONG, painted};
use crate::table::{Table, cell};
use crate::words::{count, moment, plain, plain_lines};

/// What can be done with definitions.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists the definitions
    List,
    /// Shows a definition with its text
    Show(Named),
    /// Holds definitions against everything that is published, and looks at all their runs; publishes nothing
    Check(Check),
    /// Publishes a definition, with schemas of its own if it brings any
    Register(Register),
    /// Shows what a version changes: for open sagas, and for recorded runs played again on it
    Plan(Planned),
}

/// Which definition.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// Its name
    name: String,
    /// Its version; the newest if it is left out
    version: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The definitions (TOML)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A folder of Avro schemas (*.avsc) that they bring
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Register {
    /// The definition (TOML)
    file: PathBuf,
    /// A folder of Avro schemas (*.avsc) that it brings
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Planned {
    #[command(flatten)]
    named: Named,
    /// Plays so many recorded runs again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    runs: Option<u32>,
}

impl Verb {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List => list(session).await,
            Self::Show(named) => {
                let (name, version) = named.resolve(session).await?;
                let found = session.client.definitions().get(&name, version).await;
                print_definition(session, &or_missing(session, found).await?)
            }
            Self::Check(check) => check.run(session).await,
            Self::Register(register) => {
                let definition = read(&register.file, register.schemas.as_deref())?;
                let published = session.client.definitions().register(&definition).await;
                match published {
                    Ok(published) => print_item(session, &published.item),
                    Err(error) => Err(session.failed(error).await),
                }
            }
            Self::Plan(planned) => {
                let (name, version) = planned.named.resolve(session).await?;
                let plan = session.client.definitions().plan(&name, version, planned.runs).await;
                print_plan(session, &or_missing(session, plan).await?)
            }
        }
    }
}

impl Check {
    /// What is wrong with one file does not keep the others from being looked at.
    async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let mut exit = Exit::Done;
        for file in &self.files {
            let definition = match read(file, self.schemas.as_deref()) {
                Ok(definition) => definition,
                Err(failure) => {
                    failure.tell();
                    exit = Exit::Usage;
                    continue;
                }
            };
            match session.client.definitions().check(&definition).await {
                Ok(found) => session.output.item(&found, || id(&found.item), || checked(file, &found))?,
                Err(error) if error.problem().is_some_and(|problem| problem.status == 422) => {
                    session.failed(error).await.of(&file.display().to_string()).tell();
                    exit = if exit == Exit::Done { Exit::Error } else { exit };
                }
                Err(error) => return Err(session.failed(error).await),
            }
        }
        Ok(exit)
    }
}

/// What was found of a definition that would be published, in one line.
fn checked(file: &Path, found: &CheckedDefinition) -> String {
    let how = match found.model_check {
        _ if found.published => "is published already".to_owned(),
        Some(check) if check.complete => format!("all runs hold, {} looked at", count(check.states, "state")),
        Some(check) => {
            format!("no run was found that ends wrong, in {}; it has more", count(check.states, "state"))
        }
        None => "can be published".to_owned(),
    };
    let (name, version) = (plain(&found.item.name), found.item.version);
    format!("{} {}: {name} v{version}: {how}", painted(GOOD, "ok"), file.display())
}

impl Named {
    async fn resolve(self, session: &Session) -> Result<(String, u32), Failure> {
        if let Some(version) = self.version {
            return Ok((self.name, version));
        }
        let list = session.client.definitions().list().await;
        let list = or_missing(session, list).await?;
        let newest = list.items.iter().filter(|item| item.name == self.name).map(|item| item.version).max();
        let none = || {
            Failure::new(Exit::NotFound, format!("no definition is named `{}`", self.name))
                .next("sagactl definition list")
        };
        newest.ok_or_else(none).map(|version| (self.name, version))
    }
}

async fn or_missing<T>(session: &Session, found: Result<T, Error>) -> Result<T, Failure> {
    match found {
        Ok(found) => Ok(found),
        Err(error) => {
            let not_found = error.is_not_found();
            let failure = session.failed(error).await;
            Err(if not_found { failure.next("sagactl definition list") } else { failure })
        }
    }
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let found = session.client.definitions().list().await;
    let list = or_missing(session, found).await?;
    session.output.result(&list, list.items.iter().map(id), || rows(session, &list.items))?;
    Ok(Exit::Done)
}

fn id(item: &DefinitionItem) -> String {
    format!("{} {}", item.name, item.version)
}

fn print_item(session: &Session, item: &DefinitionItem) -> Result<Exit, Failure> {
    session.output.result(item, [id(item)], || rows(session, std::slice::from_ref(item)))?;
    Ok(Exit::Done)
}

fn rows(session: &Session, items: &[DefinitionItem]) -> String {
    let mut table = Table::new(&["DEFINITION", "VERSION", "INPUT", "STEPS"], &["STEPS"]);
    for item in items {
        let steps: Vec<&str> = item.steps.iter().map(|step| step.name.as_str()).collect();
        table.row([
            cell(&item.name),
            cell(item.version.to_string()),
            cell(&item.input),
            cell(steps.join(", ")),
        ]);
    }
    table.text(session.output)
}

fn print_definition(session: &Session, found: &Definition) -> Result<Exit, Failure> {
    session.output.result(found, [id(&found.item)], || {
        let item = &found.item;
        let mut text = format!("{} v{}\n", painted(STRONG, &plain(&item.name)), item.version);
        let mut pair = |name: &str, value: &str| {
            let _ = writeln!(text, "  {}{value}", painted(DIM, &format!("{name:<14}")));
        };
        pair("input", &plain(&item.input));
        if let Some(at) = found.registered_at {
            pair("published", &moment(at));
        }
        match found.model_check {
            Some(check) if check.complete => {
                pair("model check", &format!("holds, {} looked at", count(check.states, "state")))
            }
            Some(check) => pair(
                "model check",
                &format!("nothing found in {}; it has more", count(check.states, "state")),
            ),
            None => pair("model check", "none"),
        }
        let _ = write!(text, "\n{}", plain_lines(&found.source));
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    })?;
    Ok(Exit::Done)
}

fn print_plan(session: &Session, plan: &Plan) -> Result<Exit, Failure> {
    session.output.result(plan, [format!("{} {}", plan.definition, plan.version)], || {
        let mut text = format!(
            "{} v{}: {}\n",
            painted(STRONG, &plain(&plan.definition)),
            plan.version,
            open(plan.open.running, plan.open.compensating, plan.open.stuck)
        );
        for other in &plan.others {
            text.push_str(&version(other));
        }
        text
    })?;
    if plan.others.is_empty() && session.output.is_for_people() {
        note("no other version has open sagas or recorded runs");
    }
    Ok(Exit::Done)
}

fn open(running: u64, compensating: u64, stuck: u64) -> String {
    format!(
        "{} open: {running} running, {compensating} compensating, {stuck} stuck",
        count(running + compensating + stuck, "saga")
    )
}

fn version(other: &VersionPlan) -> String {
    let open = open(other.open.running, other.open.compensating, other.open.stuck);
    let mut text =
        format!("\n{}: {open}; they stay on it\n", painted(STRONG, &format!("v{}", other.version)));
    for change in &other.changes {
        let _ = writeln!(text, "  {}", plain(&change.change));
        let _ = writeln!(text, "    {} {}", painted(DIM, "running:"), plain(&change.for_running));
        let _ = writeln!(text, "    {} {}", painted(DIM, "new:    "), plain(&change.for_new));
    }
    let runs = &other.histories;
    let parted: usize = runs.diverging.iter().map(|place| place.runs.len()).sum();
    let _ = writeln!(
        text,
        "  recorded runs: {} would go the same way, {parted} another, {} cannot be played",
        runs.same, runs.unknown
    );
    for place in &runs.diverging {
        let _ = writeln!(
            text,
            "  {} after {}: {} before, {} now ({})",
            painted(BAD, &format!("revision {}", place.revision)),
            plain(&place.event),
            plain(&place.expected),
            plain(&place.got),
            count(u64::try_from(place.runs.len()).unwrap_or(u64::MAX), "run"),
        );
    }
    text
}

/// A definition's file and the schemas of a folder.
fn read(file: &Path, schemas: Option<&Path>) -> Result<NewDefinition, Failure> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Failure::usage(format!("{} cannot be read: {error}", path.display()))
    };
    let mut definition =
        NewDefinition::of(fs::read_to_string(file).map_err(|error| unreadable(file, error))?);
    let Some(folder) = schemas else { return Ok(definition) };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|error| unreadable(folder, error))?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "avsc"));
    paths.sort();
    if paths.is_empty() {
        return Err(Failure::usage(format!("no *.avsc is in {}", folder.display())));
    }
    for path in paths {
        definition = definition.schema(fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?);
    }
    Ok(definition)
}
