//! What is looked at before a service says that it is alive, or ready: the same words for every service.

use std::time::Duration;

use schemas::registry::Registry;
use serde::Serialize;

/// A consumer that has not polled for this long hangs: only a new process helps.
pub const DEAD_AFTER: Duration = Duration::from_secs(60);
/// A database has this long to answer when readiness is asked.
pub const PING_LIMIT: Duration = Duration::from_secs(1);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, e.g. `database`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether the service is not ready while it is not ok; else it is `degraded`.
    #[serde(skip)]
    pub needed: bool,
    /// What was found.
    pub detail: String,
}

impl Check {
    /// Something without which the service is not ready.
    pub fn needed(name: &'static str, ok: bool, detail: impl Into<String>) -> Self {
        Self { name, ok, needed: true, detail: detail.into() }
    }

    /// Something that the service goes on without.
    pub fn helpful(name: &'static str, ok: bool, detail: impl Into<String>) -> Self {
        Self { name, ok, needed: false, detail: detail.into() }
    }

    /// Whether the database answers; `trouble` is what it says instead.
    pub fn database(trouble: Option<String>) -> Self {
        Self::needed("database", trouble.is_none(), trouble.unwrap_or_else(|| "answers".to_owned()))
    }

    /// Whether the consumer polls, by the time since it did.
    pub fn consumer(age: Duration) -> Self {
        Self::needed("consumer", age < DEAD_AFTER, format!("polled {:.1} s ago", age.as_secs_f64()))
    }

    /// Whether the schema registry answers and all schemas have its ids. Those that have go on without it.
    pub fn registry(registry: &Registry) -> Self {
        let (ok, detail) = registry.told();
        Self::helpful("registry", ok, detail)
    }

    /// Whether the service is about to end.
    pub fn stopping(stopping: bool) -> Self {
        Self::needed("stopping", !stopping, if stopping { "the service is stopping" } else { "no" })
    }
}

/// What follows from some checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is: `ready`, say, or `degraded` where something is missing that the service goes on without.
    Is(&'static str),
    /// It is not, because of these.
    Not(Vec<Check>),
}

/// What follows: `status` is the word for a service that has everything.
pub fn judge(status: &'static str, checks: &[Check]) -> Verdict {
    let wrong: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    if wrong.iter().any(|check| check.needed) {
        return Verdict::Not(wrong.into_iter().cloned().collect());
    }
    Verdict::Is(if wrong.is_empty() { status } else { "degraded" })
}

/// What a database's answer to a ping, awaited for [`PING_LIMIT`] at most, says against it; `None`: nothing.
pub async fn trouble<E: std::fmt::Display>(ping: impl Future<Output = Result<(), E>>) -> Option<String> {
    match tokio::time::timeout(PING_LIMIT, ping).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("did not answer within {} s", PING_LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(checks: &[Check]) -> String {
        match judge("ready", checks) {
            Verdict::Is(status) => status.to_owned(),
            Verdict::Not(wrong) => {
                format!("not, by {}", wrong.iter().map(|check| check.name).collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    fn what_is_needed_decides_and_what_helps_degrades() {
        let helpful = |ok| Check::helpful("broker", ok, "");
        let needed = |ok| Check::database(if ok { None } else { Some("away".to_owned()) });
        assert_eq!(judged(&[]), "ready");
        assert_eq!(judged(&[needed(true), helpful(true)]), "ready");
        assert_eq!(judged(&[needed(true), helpful(false)]), "degraded");
        assert_eq!(judged(&[needed(false), helpful(false)]), "not, by database, broker");
        assert_eq!(judged(&[Check::consumer(DEAD_AFTER)]), "not, by consumer");
        assert_eq!(judged(&[Check::stopping(true)]), "not, by stopping");
    }
}
