//! What operators did.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::call::Call;
use crate::error::Error;
use crate::http::Client;
use crate::ids::{DeadLetterId, SagaId};
use crate::page::{Page, Pages, Paging};
use crate::sagas::moment;

/// Entries of the pages that [`Audit::pages`] asks for.
const PAGE: u32 = 200;

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Its id.
    pub id: Uuid,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who.
    pub actor: String,
    /// What: `cancel`, `redrive`, `skip`, `retry-now`, `redrive-dead-letter`, `discard`, `register` and the like.
    pub action: String,
    /// On which saga.
    pub saga_id: Option<SagaId>,
    /// On which dead letter.
    pub dead_letter_id: Option<DeadLetterId>,
    /// Why, in the words of who did it.
    pub reason: String,
    /// What was acted on as it was before, in short; none where there was nothing, or where that was not kept.
    pub before: Option<Value>,
    /// The same, afterwards.
    pub after: Option<Value>,
    /// Which chain the entry is in: a shard, or -1.
    pub chain: i32,
    /// Its place in the chain, without a gap from 1 on.
    pub seq: i64,
    /// SHA-256 in hexadecimal, of the entry and of the hash of the one before it in its chain.
    pub hash: String,
}

/// Which entries of the audit; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this one.
    pub actor: Option<String>,
    /// Of this kind, e.g. `cancel`.
    pub action: Option<String>,
    /// On this saga.
    pub saga_id: Option<SagaId>,
    /// On this dead letter.
    pub dead_letter_id: Option<DeadLetterId>,
    /// Later than this.
    pub after: Option<OffsetDateTime>,
    /// Earlier than this.
    pub before: Option<OffsetDateTime>,
}

/// What can be asked of the audit: [`Client::audit`].
#[derive(Clone, Debug)]
pub struct Audit(pub(crate) Client);

impl Audit {
    /// A page of what was done, newest first.
    ///
    /// # Errors
    /// The filter is refused, or there is no answer.
    pub async fn list(&self, filter: &AuditFilter, paging: &Paging) -> Result<Page<AuditEntry>, Error> {
        let call = Call::get("/api/audit")
            .query("actor", filter.actor.as_ref())
            .query("action", filter.action.as_ref())
            .query("sagaId", filter.saga_id)
            .query("deadLetterId", filter.dead_letter_id)
            .query("after", moment(filter.after)?)
            .query("before", moment(filter.before)?)
            .query("limit", paging.limit)
            .query("cursor", paging.cursor.as_ref());
        self.0.json(call).await
    }

    /// Everything that was done, newest first, page by page.
    pub fn pages(&self, filter: &AuditFilter) -> Pages<AuditEntry> {
        let (audit, filter) = (self.clone(), filter.clone());
        Pages::new(PAGE, move |paging| {
            let (audit, filter) = (audit.clone(), filter.clone());
            Box::pin(async move { audit.list(&filter, &paging).await })
        })
    }
}
