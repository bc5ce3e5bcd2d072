//! A schema registry: ids of schemas for the wire format that Confluent's clients share. With one, messages begin with a
//! zero byte and four bytes of id instead of Avro's single-object header; readers take both at all times.
//!
//! Nobody waits for the registry to write a message: ids of all schemas of a catalog are obtained before a program serves
//! ([`Registry::obtain`]) and kept for as long as it lives. A message with an id that was never seen is asked for before
//! its batch is read ([`Registry::learn`]), in bounded time; what is not learned then is unreadable, for a while.
//!
//! The subject of a schema is `<topic>-<its record's full name>` (what Confluent calls `TopicRecordNameStrategy`), its
//! compatibility `FULL_TRANSITIVE`, which is this crate's own rule. A record of several topics has several subjects and one
//! id; one of no topic that the catalog knows ([`Catalog::topics`]) has neither, and is written in single-object encoding.

mod client;
mod compare;
pub(crate) mod ids;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use client::Client;
pub use client::{Address, RegistryError};
pub use compare::{Difference, SubjectReport};
pub use ids::SchemaId;
use ids::{Ids, Learned, Unknown};

use crate::Catalog;
use crate::avsc;
use crate::catalog::Entry;

/// Questions to the registry at a time.
const AT_ONCE: usize = 8;
/// Unknown ids that one batch may ask for; what is over is unreadable for [`Limits::away`].
pub const ASKED_IDS: usize = 64;
/// How often an id is asked for that the registry does not have: it may just have been given.
const MISSING_TRIES: u32 = 3;
/// The first wait before asking again; it doubles, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The bounds in time of what is asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long one question may take.
    pub question: Duration,
    /// How long a batch waits for the schemas of ids that it brings and nobody has seen.
    pub learn: Duration,
    /// How long an id that the registry does not have is not asked for again.
    pub missing: Duration,
    /// How long an id is not asked for again that the registry did not answer for.
    pub away: Duration,
    /// How often [`Registry::keep`] looks whether the registry answers, and whether a new schema lacks its id.
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            question: Duration::from_secs(3),
            learn: Duration::from_secs(10),
            missing: Duration::from_secs(60),
            away: Duration::from_secs(30),
            look: Duration::from_secs(5),
        }
    }
}

/// What a registry is used for. Messages in both formats are read in each mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Messages are written in single-object encoding: for a change-over, while others do not read ids yet.
    Read,
    /// Messages are written with ids. Who registers schemas is somebody else, e.g. `orchestrator schemas register`.
    Write,
    /// The same, and schemas that the registry lacks are given to it, under `FULL_TRANSITIVE`.
    Register,
}

/// A registry, and what is known of it. Shared by all catalogs that grow from one.
pub struct Registry {
    client: Client,
    mode: Mode,
    limits: Limits,
    ids: Ids,
    standing: RwLock<Standing>,
}

/// How the last questions to the registry ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been asked yet.
    Unasked,
    /// It answers, and all schemas have ids.
    Well,
    /// It does not, or not all have.
    Trouble(String),
}

/// Schemas have no ids.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The registry did not answer, or refused.
    #[error("the schema registry (SCHEMA_REGISTRY_URL), asked for {schema}: {source}")]
    Registry {
        /// About which schema.
        schema: String,
        /// What happened.
        source: RegistryError,
    },
    /// It does not have them, and nobody is to register them here.
    #[error(
        "the schema registry (SCHEMA_REGISTRY_URL) lacks {}: run `orchestrator schemas register`, or set \
         SCHEMA_REGISTRY_MODE=register", listed(.0)
    )]
    NotRegistered(Vec<String>),
}

impl ObtainError {
    /// Whether asking again may help without anybody doing anything.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Registry { source, .. } if source.is_away())
    }
}

/// The first of some names, and how many there are more.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("url", &self.client.url()).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry at an address. Nothing is asked yet.
    ///
    /// # Errors
    /// No client can be made of the address, e.g. for its certificates.
    pub fn new(address: &Address, mode: Mode, limits: Limits) -> Result<Self, RegistryError> {
        let client = Client::new(address, limits.question)?;
        let standing = RwLock::new(Standing::Unasked);
        Ok(Self { client, mode, limits, ids: Ids::default(), standing })
    }

    /// How it is, for those who look whether the program is ready.
    pub fn standing(&self) -> Standing {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In a line, whether it is as it should be, and what was found.
    pub fn told(&self) -> (bool, String) {
        let known = self.ids.written();
        match self.standing() {
            Standing::Unasked => (true, "not asked yet".to_owned()),
            Standing::Well if self.mode == Mode::Read => {
                (true, "answers; nothing is written with its ids".to_owned())
            }
            Standing::Well => (true, format!("answers; {known} schemas have ids")),
            Standing::Trouble(why) => (false, format!("{why}; {known} schemas go on with the ids they have")),
        }
    }

    /// Gets the ids of all schemas of a catalog that have none yet, under each of their subjects, from the registry or, if
    /// they are to be registered, by registering them, each subject's versions in order.
    ///
    /// # Errors
    /// Some have none. Those that have keep them. Never in [`Mode::Read`], where nothing is asked.
    pub async fn obtain(&self, catalog: &Catalog) -> Result<(), ObtainError> {
        let obtained = self.obtain_missing(catalog).await;
        self.stands(match &obtained {
            Ok(()) => Standing::Well,
            Err(error) => Standing::Trouble(error.to_string()),
        });
        obtained
    }

    /// As [`Registry::obtain`], for schemas that nobody uses yet: that they have no ids says nothing against the program.
    ///
    /// # Errors
    /// Some have none. Those that have keep them.
    pub async fn obtain_more(&self, catalog: &Catalog) -> Result<(), ObtainError> {
        self.obtain_missing(catalog).await
    }

    async fn obtain_missing(&self, catalog: &Catalog) -> Result<(), ObtainError> {
        if self.mode == Mode::Read {
            return Ok(());
        }
        let subjects = catalog.subjects().map(|mut entries| {
            entries.retain(|entry| !self.ids.is_placed(entry));
            entries
        });
        let subjects: Vec<Vec<Entry>> = subjects.filter(|entries| !entries.is_empty()).collect();
        let mut asked = stream::iter(subjects.into_iter().map(|entries| self.obtain_subject(entries)))
            .buffer_unordered(AT_ONCE);
        let (mut missing, mut failed) = (Vec::new(), None);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(lacks) => missing.extend(lacks),
                Err(error) => {
                    let away = matches!(&error, ObtainError::Registry { source, .. } if source.is_away());
                    failed = Some(error);
                    // The others would only wait as long for the same.
                    if away {
                        break;
                    }
                }
            }
        }
        missing.sort();
        match failed {
            Some(error) => Err(error),
            None if missing.is_empty() => Ok(()),
            None => Err(ObtainError::NotRegistered(missing)),
        }
    }

    /// The ids of one subject's versions; gives the versions that the registry lacks and that nobody registers here.
    async fn obtain_subject(&self, entries: Vec<Entry>) -> Result<Vec<String>, ObtainError> {
        let mut missing = Vec::new();
        for entry in entries {
            let failed = |source| ObtainError::Registry { schema: entry.place.to_string(), source };
            let id = match self.client.look_up(&entry.subject, &entry.text).await {
                Ok(id) => id,
                Err(error) if error.is_missing() => match self.mode {
                    Mode::Register => self.register_one(&entry).await.map_err(failed)?,
                    Mode::Read | Mode::Write => {
                        missing.push(entry.place.to_string());
                        continue;
                    }
                },
                Err(error) => return Err(failed(error)),
            };
            self.ids.know_own(&entry, id);
        }
        Ok(missing)
    }

    async fn register_one(&self, entry: &Entry) -> Result<SchemaId, RegistryError> {
        self.client.demand_compatibility(&entry.subject).await?;
        self.client.register(&entry.subject, &entry.text).await
    }

    /// Registers every schema of a catalog that the registry lacks, and sets the compatibility of every subject; gives
    /// the names of those that are new there.
    ///
    /// # Errors
    /// The registry did not answer, or refused one. Those before it stay registered.
    pub async fn register(&self, catalog: &Catalog) -> Result<Vec<String>, ObtainError> {
        let mut new = Vec::new();
        for entry in catalog.subjects().flatten() {
            let failed = |source| ObtainError::Registry { schema: entry.place.to_string(), source };
            let id = match self.client.look_up(&entry.subject, &entry.text).await {
                Ok(id) => {
                    self.client.demand_compatibility(&entry.subject).await.map_err(failed)?;
                    id
                }
                Err(error) if error.is_missing() => {
                    let id = self.register_one(&entry).await.map_err(failed)?;
                    new.push(entry.place.to_string());
                    id
                }
                Err(error) => return Err(failed(error)),
            };
            self.ids.know_own(&entry, id);
        }
        Ok(new)
    }

    /// Holds a catalog against the registry: a report for each subject, in order of record and topic. Changes nothing there.
    ///
    /// # Errors
    /// The registry did not answer, or refused.
    pub async fn compare(&self, catalog: &Catalog) -> Result<Vec<SubjectReport>, ObtainError> {
        compare::all(&self.client, catalog).await
    }

    /// Asks for the schemas of messages that were written with ids nobody has seen, before they are read. Returns at once
    /// where there are none; waits [`Limits::learn`] at most. What is not known afterwards cannot be read for a while:
    /// [`Limits::missing`] or [`Limits::away`].
    pub async fn learn<'m>(&self, messages: impl IntoIterator<Item = &'m [u8]>) {
        let now = Instant::now();
        let mut wanted: BTreeSet<SchemaId> = BTreeSet::new();
        for id in messages.into_iter().filter_map(ids::framed) {
            if self.ids.is_worth_asking(id, now) {
                wanted.insert(id);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let over = wanted.iter().copied().skip(ASKED_IDS).collect::<Vec<_>>();
        for id in over {
            wanted.remove(&id);
            self.ids.lack(id, Unknown::until(now + self.limits.away, "too many unknown ids came at once"));
        }
        let until = now + self.limits.learn;
        let asked = wanted.into_iter().map(|id| async move {
            let learned = tokio::time::timeout_at(until, self.ask(id)).await;
            let (learned, unanswered) = match learned {
                Ok(learned) => (learned, false),
                Err(_) => {
                    let limit = self.limits.learn.as_secs_f64();
                    (Err((format!("the registry did not answer for {limit} s"), self.limits.away)), true)
                }
            };
            match learned {
                Ok(learned) => self.ids.know(id, learned),
                Err((why, lifetime)) => {
                    tracing::warn!(%id, "the schema of this id is not known: {why}");
                    self.ids.lack(id, Unknown::until(Instant::now() + lifetime, why));
                }
            }
            unanswered
        });
        let asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        // Each to its end: what is left out would be asked for again by the next batch.
        let unanswered = asked.fold(false, |any, unanswered| async move { any | unanswered });
        if unanswered.await {
            self.stands(Standing::Trouble("does not answer".to_owned()));
        }
    }

    /// Asks for one id until there is an answer; without one, why not and for how long that is to be remembered.
    async fn ask(&self, id: SchemaId) -> Result<Learned, (String, Duration)> {
        let (mut pause, mut tries) = (FIRST_WAIT, 0);
        loop {
            match self.client.schema(id).await {
                Ok(text) => {
                    return match avsc::parse(&text) {
                        Ok(schema) => Ok(Learned::of(schema)),
                        Err(refused) => {
                            let why = format!("its schema cannot be worked with: {}", refused.reason);
                            Err((why, self.limits.missing))
                        }
                    };
                }
                Err(error) if error.is_away() => {}
                Err(error) if error.is_missing() => {
                    tries += 1;
                    if tries >= MISSING_TRIES {
                        return Err(("the registry has no such id".to_owned(), self.limits.missing));
                    }
                }
                Err(error) => return Err((error.to_string(), self.limits.away)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_WAIT);
        }
    }

    /// Looks after the registry for as long as it is polled: whether it answers, and whether schemas have come to the
    /// catalog that have no ids yet.
    pub async fn keep(&self, catalog: impl Fn() -> std::sync::Arc<Catalog>) {
        loop {
            tokio::time::sleep(self.limits.look).await;
            let before = self.standing();
            // With nothing to obtain it would not be asked anything. Any id will do; that it is nobody's is an answer.
            match self.client.schema(self.ids.any_own().unwrap_or(SchemaId(1))).await {
                Err(error) if !error.is_missing() => self.stands(Standing::Trouble(error.to_string())),
                _ => drop(self.obtain(&catalog()).await),
            }
            match (before, self.standing()) {
                (Standing::Trouble(_), Standing::Trouble(_)) => {}
                (_, Standing::Trouble(why)) => tracing::warn!("schema registry: {why}"),
                (Standing::Trouble(_), _) => tracing::info!("the schema registry answers again"),
                _ => {}
            }
        }
    }

    pub(crate) const fn ids(&self) -> &Ids {
        &self.ids
    }

    fn stands(&self, standing: Standing) {
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}
