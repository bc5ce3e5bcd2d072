//! Dead letters: records that nobody could handle, kept with their cause.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::act::Act;
use crate::call::Call;
use crate::error::Error;
use crate::http::Client;
use crate::ids::{DeadLetterId, GroupId, SagaId};
use crate::page::{Page, Pages, Paging};
use crate::words::words;

/// Entries of the pages that [`DeadLetters::pages`] asks for.
const PAGE: u32 = 200;

words! {
    /// What has become of a dead letter.
    pub enum DeadLetterStatus {
        /// It waits for an operator.
        Open = "open",
        /// It was sent again; the outcome is to be seen.
        Redriven = "redriven",
        /// Its saga moved on.
        Resolved = "resolved",
        /// It was put aside.
        Discarded = "discarded",
    }
}

/// A dead letter in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterItem {
    /// Its id.
    pub id: DeadLetterId,
    /// What has become of it.
    pub status: DeadLetterStatus,
    /// Why, for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Who gave up on it: a participant, or `orchestrator`.
    pub source: String,
    /// Where the record lay.
    pub topic: String,
    /// In which partition.
    pub partition: Option<i32>,
    /// At which offset.
    pub offset: Option<i64>,
    /// The Avro record name that its header gives.
    pub message_type: Option<String>,
    /// The saga it belongs to.
    pub saga_id: Option<SagaId>,
    /// The step it belongs to.
    pub step: Option<String>,
    /// `forward` or `compensation`.
    pub direction: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first.
    #[serde(with = "time::serde::rfc3339")]
    pub first_failed_at: OffsetDateTime,
    /// When it failed last.
    #[serde(with = "time::serde::rfc3339")]
    pub last_failed_at: OffsetDateTime,
    /// When something last became of it.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Its group: letters of the same cause, message type and step.
    pub group: GroupId,
}

/// How many letters are in each status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterCounts {
    /// Waiting for an operator.
    pub open: u64,
    /// Sent again, without an outcome yet.
    pub redriven: u64,
    /// Their sagas moved on.
    pub resolved: u64,
    /// Put aside.
    pub discarded: u64,
}

/// Dead letters of the same cause, message type and step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterGroup {
    /// The group, as [`DeadLetterFilter::group`] takes it.
    pub group: GroupId,
    /// Why, for programs.
    pub reason: String,
    /// The Avro record.
    pub message_type: Option<String>,
    /// The step.
    pub step: Option<String>,
    /// How many letters there are.
    pub count: u64,
    /// How many of them are in each status.
    pub by_status: DeadLetterCounts,
    /// The first failure of any of them.
    #[serde(with = "time::serde::rfc3339")]
    pub first_seen_at: OffsetDateTime,
    /// The last failure of any of them.
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen_at: OffsetDateTime,
}

/// A header of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHeader {
    /// Its name.
    pub name: String,
    /// Its bytes in base64.
    pub value: Option<String>,
    /// The same as text, where it is UTF-8.
    pub text: Option<String>,
}

/// What the record's value says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecodedMessage {
    /// The Avro record that wrote it.
    pub message_type: String,
    /// The version of that record; 0: one that only the schema registry has.
    pub version: u32,
    /// The newest version that there is: an edited value is checked against that one.
    pub newest_version: u32,
    /// Its fields.
    pub value: Map<String, Value>,
}

/// A field of an edited value that is other than it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where, e.g. `lines.0.price`.
    pub field: String,
    /// What the letter has; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What was sent; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// Something that became of a dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineageEntry {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What: `failed`, or the status it came to.
    pub what: String,
    /// Why.
    pub reason: String,
    /// What was edited, where an edited value was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
}

/// A dead letter with everything in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// What a list shows of it.
    #[serde(flatten)]
    pub item: DeadLetterItem,
    /// The record's key in base64.
    pub key: Option<String>,
    /// The same as text, where it is UTF-8.
    pub key_text: Option<String>,
    /// The record's value in base64.
    pub value: Option<String>,
    /// The record's headers, in order.
    pub headers: Vec<RecordHeader>,
    /// The record's timestamp.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub timestamp: Option<OffsetDateTime>,
    /// What the value says; none where it does not decode.
    pub decoded: Option<DecodedMessage>,
    /// Why the value does not decode; none where it does.
    pub decode_error: Option<String>,
    /// The byte, from 0, where what is wrong begins; none where it decodes, or has no value.
    pub decode_error_at: Option<u64>,
    /// The bytes about that place, as lines of offset, hexadecimal digits and text.
    pub hex: Option<Vec<String>>,
    /// What became of it, oldest first.
    pub lineage: Vec<LineageEntry>,
}

/// Which dead letters; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// In this status.
    pub status: Option<DeadLetterStatus>,
    /// Of this cause.
    pub reason: Option<String>,
    /// Of this saga.
    pub saga_id: Option<SagaId>,
    /// Of this group.
    pub group: Option<GroupId>,
}

/// What can be done with dead letters: [`Client::dead_letters`].
#[derive(Clone, Debug)]
pub struct DeadLetters(pub(crate) Client);

impl DeadLetters {
    /// A page of dead letters, newest first.
    ///
    /// # Errors
    /// The filter is refused, or there is no answer.
    pub async fn list(
        &self,
        filter: &DeadLetterFilter,
        paging: &Paging,
    ) -> Result<Page<DeadLetterItem>, Error> {
        let call = Call::get("/api/dead-letters")
            .query("status", filter.status.as_ref())
            .query("reason", filter.reason.as_ref())
            .query("sagaId", filter.saga_id)
            .query("group", filter.group)
            .query("limit", paging.limit)
            .query("cursor", paging.cursor.as_ref());
        self.0.json(call).await
    }

    /// All dead letters, newest first, page by page.
    pub fn pages(&self, filter: &DeadLetterFilter) -> Pages<DeadLetterItem> {
        let (letters, filter) = (self.clone(), filter.clone());
        Pages::new(PAGE, move |paging| {
            let (letters, filter) = (letters.clone(), filter.clone());
            Box::pin(async move { letters.list(&filter, &paging).await })
        })
    }

    /// A page of groups: letters of the same cause, message type and step; those that failed last first. Of the filter
    /// only status and reason count.
    ///
    /// # Errors
    /// The filter is refused, or there is no answer.
    pub async fn groups(
        &self,
        filter: &DeadLetterFilter,
        paging: &Paging,
    ) -> Result<Page<DeadLetterGroup>, Error> {
        let call = Call::get("/api/dead-letters/groups")
            .query("status", filter.status.as_ref())
            .query("reason", filter.reason.as_ref())
            .query("limit", paging.limit)
            .query("cursor", paging.cursor.as_ref());
        self.0.json(call).await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn get(&self, letter: DeadLetterId) -> Result<DeadLetter, Error> {
        self.0.json(Call::get("/api/dead-letters/{id}").at(letter)).await
    }

    /// Sends exactly one copy, original or with [`Act::value`].
    ///
    /// # Errors
    /// It is not open, the value does not fit its schema, or whether it was sent is not known.
    pub async fn redrive(&self, letter: DeadLetterId, act: &Act) -> Result<DeadLetter, Error> {
        self.act("/api/dead-letters/{id}/redrive", letter, act).await
    }

    /// Puts it aside.
    ///
    /// # Errors
    /// It is not open, or whether it was done is not known.
    pub async fn discard(&self, letter: DeadLetterId, act: &Act) -> Result<DeadLetter, Error> {
        self.act("/api/dead-letters/{id}/discard", letter, act).await
    }

    async fn act(&self, route: &'static str, letter: DeadLetterId, act: &Act) -> Result<DeadLetter, Error> {
        self.0.json(Call::post(route, act.key.as_deref()).at(letter).json(act)?).await
    }
}
