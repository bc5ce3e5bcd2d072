//! A catalog held against a registry.

use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::client::{COMPATIBILITY, Client, RegistryError, SubjectVersion};
use super::{AT_ONCE, ObtainError};
use crate::Catalog;
use crate::avsc;
use crate::catalog::Entry;
use crate::compat;

/// One record of the catalog on one topic, and its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectReport {
    /// `<topic>-<the record's full name>`.
    pub subject: Arc<str>,
    /// What differs; nothing where the registry has all versions, no others, and the right rule.
    pub differences: Vec<Difference>,
}

/// Something in which catalog and registry differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The registry has no such subject.
    NoSubject,
    /// It lacks a version of ours.
    NotThere {
        /// `<name>.v<N>`.
        schema: Arc<str>,
    },
    /// It has a version that is none of ours, but goes with them.
    Theirs {
        /// The registry's number of it.
        version: u32,
    },
    /// A version of ours and one of the registry cannot read each other.
    Incompatible {
        /// `<name>.v<N>`.
        schema: Arc<str>,
        /// The registry's number of the other one.
        version: u32,
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry has a version that this program cannot work with.
    Unusable {
        /// The registry's number of it.
        version: u32,
        /// Why.
        reason: String,
    },
    /// The subject stands under another rule, or under none.
    Rule {
        /// Which.
        found: String,
    },
}

impl Difference {
    /// Whether messages would become unreadable, or the schema could not be registered.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Incompatible { .. } | Self::Unusable { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSubject => f.write_str("the registry has no such subject"),
            Self::NotThere { schema } => write!(f, "{schema} is not registered"),
            Self::Theirs { version } => write!(f, "version {version} of the registry is not known here"),
            Self::Incompatible { schema, version, field, reason } => {
                write!(
                    f,
                    "{schema} and version {version} of the registry cannot read each other: `{field}` {reason}"
                )
            }
            Self::Unusable { version, reason } => {
                write!(f, "version {version} of the registry cannot be worked with: {reason}")
            }
            Self::Rule { found } => write!(f, "its compatibility is {found}, not {COMPATIBILITY}"),
        }
    }
}

/// A report for each record and topic, in this order.
pub(super) async fn all(client: &Client, catalog: &Catalog) -> Result<Vec<SubjectReport>, ObtainError> {
    let subjects: Vec<_> = catalog.subjects().collect();
    let asked = subjects.into_iter().map(|entries| async move {
        let subject = entries[0].subject.clone();
        let failed = |source| ObtainError::Registry { schema: subject.to_string(), source };
        let theirs = fetch(client, &subject).await.map_err(failed)?;
        let differences = differences(&entries, theirs);
        Ok(SubjectReport { subject, differences })
    });
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

/// What a registry has under one name.
struct Subject {
    versions: Vec<SubjectVersion>,
    rule: Option<String>,
}

async fn fetch(client: &Client, subject: &str) -> Result<Option<Subject>, RegistryError> {
    let numbers = match client.versions(subject).await {
        Ok(numbers) => numbers,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut versions = Vec::with_capacity(numbers.len());
    for number in numbers {
        versions.push(client.version(subject, number).await?);
    }
    let rule = match client.compatibility(subject).await {
        Ok(rule) => rule,
        // The registry says by an error that the subject has no rule of its own.
        Err(RegistryError::Refused { status: 404, .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Some(Subject { versions, rule }))
}

/// The same, decided.
fn differences(ours: &[Entry], theirs: Option<Subject>) -> Vec<Difference> {
    let Some(theirs) = theirs else { return vec![Difference::NoSubject] };
    let mut found = Vec::new();
    let mut registered = vec![false; ours.len()];
    for SubjectVersion { version, schema } in theirs.versions {
        let schema = match avsc::parse(&schema) {
            Ok(schema) => schema,
            Err(refused) => {
                found.push(Difference::Unusable { version, reason: refused.reason });
                continue;
            }
        };
        if let Some(at) = ours.iter().position(|entry| *entry.content == schema.content) {
            registered[at] = true;
            continue;
        }
        let conflicts: Vec<Difference> = ours
            .iter()
            .flat_map(|entry| {
                compat::conflicts(&schema.shape, &entry.shape).into_iter().map(|conflict| {
                    let (schema, field) = (entry.key.clone(), conflict.field);
                    Difference::Incompatible { schema, version, field, reason: conflict.message }
                })
            })
            .collect();
        if conflicts.is_empty() {
            found.push(Difference::Theirs { version });
        }
        found.extend(conflicts);
    }
    let lacks = ours.iter().zip(registered).filter(|(_, registered)| !registered);
    found.extend(lacks.map(|(entry, _)| Difference::NotThere { schema: entry.key.clone() }));
    if theirs.rule.as_deref() != Some(COMPATIBILITY) {
        let found_rule = theirs.rule.unwrap_or_else(|| "the registry's own".to_owned());
        found.push(Difference::Rule { found: found_rule });
    }
    found
}
