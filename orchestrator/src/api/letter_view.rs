//! Dead letters as they are sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use saga_defs::Data;
use saga_defs::time::Timestamp;
use schemas::{Catalog, Unreadable, Written};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::hex;
use crate::store::entities::dead_letter::{Model, Shown, Summary};

/// A dead letter in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterItem)]
pub(crate) struct LetterItem {
    #[schema(format = Uuid)]
    id: String,
    /// `open`, `redriven` (sent again, the outcome is to be seen), `resolved` or `discarded`.
    status: String,
    /// Why, for programs.
    reason: String,
    /// Why, for people.
    message: String,
    /// Who gave up on it: a participant, or `orchestrator`.
    source: String,
    /// Where the record lay.
    topic: String,
    #[schema(required)]
    partition: Option<i32>,
    #[schema(required)]
    offset: Option<i64>,
    /// The Avro record name that its header gives.
    #[schema(required)]
    message_type: Option<String>,
    #[schema(required, format = Uuid)]
    saga_id: Option<String>,
    #[schema(required)]
    step: Option<String>,
    #[schema(required)]
    direction: Option<String>,
    attempts: i32,
    #[schema(format = DateTime)]
    first_failed_at: String,
    #[schema(format = DateTime)]
    last_failed_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// Its group: letters of the same reason, message type and step.
    #[schema(format = Uuid)]
    group: String,
}

impl LetterItem {
    pub(crate) fn of(row: Summary) -> Self {
        Self {
            id: row.id.to_string(),
            status: row.status,
            reason: row.reason,
            message: row.message,
            source: row.source,
            topic: row.topic,
            partition: row.partition,
            offset: row.record_offset,
            message_type: row.message_type,
            saga_id: text(row.saga_id),
            step: row.step,
            direction: row.direction,
            attempts: row.attempts,
            first_failed_at: moment(row.first_failed_at),
            last_failed_at: moment(row.last_failed_at),
            updated_at: moment(row.updated_at),
            group: row.group_id.to_string(),
        }
    }
}

/// Some dead letters, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterPage)]
pub(crate) struct LetterPage {
    pub(crate) items: Vec<LetterItem>,
    /// Ask again with it for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// A header of the record.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordHeader)]
pub(crate) struct HeaderView {
    name: String,
    /// Its bytes in base64.
    #[schema(required)]
    value: Option<String>,
    /// The same as text, where it is UTF-8.
    #[schema(required)]
    text: Option<String>,
}

/// What the record's value says, read with the schema that wrote it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DecodedMessage)]
pub(crate) struct DecodedView {
    /// The Avro record that wrote it.
    message_type: String,
    /// The version of that record; 0: one that only the schema registry has.
    version: u32,
    /// The newest version that there is: an edited value is checked against that one.
    newest_version: u32,
    #[schema(value_type = Object)]
    value: Data,
}

/// A dead letter with everything in it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetter)]
pub(crate) struct LetterView {
    #[serde(flatten)]
    item: LetterItem,
    /// The record's key in base64.
    #[schema(required)]
    key: Option<String>,
    /// The same as text, where it is UTF-8.
    #[schema(required)]
    key_text: Option<String>,
    /// The record's value in base64.
    #[schema(required)]
    value: Option<String>,
    /// The record's headers, in order.
    headers: Vec<HeaderView>,
    /// The record's timestamp.
    #[schema(required, format = DateTime)]
    timestamp: Option<String>,
    /// What the value says; null where it does not decode.
    #[schema(required)]
    decoded: Option<DecodedView>,
    /// Why the value does not decode; null where it does.
    #[schema(required)]
    decode_error: Option<String>,
    /// The byte, from 0, where what is wrong begins; null where it decodes, or has no value.
    #[schema(required)]
    decode_error_at: Option<usize>,
    /// The bytes about that place, as lines of offset, hexadecimal digits and text.
    #[schema(required)]
    hex: Option<Vec<String>>,
    /// What became of it, oldest first: each with `at`, `what` and `reason`, and where an edited value was sent with
    /// `changes`: each with `field`, `from` and `to`.
    #[schema(value_type = Vec<Object>)]
    lineage: Value,
}

impl LetterView {
    pub(crate) fn of(shown: Shown, catalog: &Catalog) -> Self {
        let Shown { row, group_id } = shown;
        let read = row.record_value.as_deref().map(|bytes| (bytes, catalog.decode_as_written(bytes)));
        let (decoded, trouble) = match read {
            None => (None, Some(("the record has no value".to_owned(), None, None))),
            Some((_, Ok(found))) => (Some(DecodedView::of(found)), None),
            Some((bytes, Err(Unreadable { error, at_byte }))) => {
                (None, Some((error.to_string(), Some(at_byte), Some(hex::view(bytes, at_byte)))))
            }
        };
        let (decode_error, decode_error_at, hex) = match trouble {
            Some((text, at, hex)) => (Some(text), at, hex),
            None => (None, None, None),
        };
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        Self {
            key: row.record_key.as_deref().map(encode),
            key_text: row.record_key.clone().and_then(|bytes| String::from_utf8(bytes).ok()),
            value: row.record_value.as_deref().map(encode),
            headers: headers(&row.record_headers),
            timestamp: row.record_timestamp.map(moment),
            decoded,
            decode_error,
            decode_error_at,
            hex,
            lineage: row.lineage.clone(),
            item: LetterItem::of(summary(row, group_id)),
        }
    }
}

impl DecodedView {
    fn of(found: Written) -> Self {
        let Written { message_type, version, newest, fields } = found;
        Self {
            message_type: message_type.to_string(),
            version: version.unwrap_or(0),
            newest_version: newest,
            value: fields,
        }
    }
}

fn summary(row: Model, group_id: Uuid) -> Summary {
    Summary {
        id: row.id,
        status: row.status,
        reason: row.reason,
        message: row.message,
        source: row.source,
        topic: row.topic,
        partition: row.partition,
        record_offset: row.record_offset,
        message_type: row.message_type,
        saga_id: row.saga_id,
        step: row.step,
        direction: row.direction,
        attempts: row.attempts,
        first_failed_at: row.first_failed_at,
        last_failed_at: row.last_failed_at,
        updated_at: row.updated_at,
        group_id,
    }
}

fn headers(column: &Value) -> Vec<HeaderView> {
    let view = |entry: &Value| {
        let name = entry.get(0)?.as_str()?.to_owned();
        let value = entry.get(1).and_then(Value::as_str).map(str::to_owned);
        let bytes = value.as_deref().and_then(|text| STANDARD.decode(text).ok());
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Some(HeaderView { name, value, text })
    };
    column.as_array().into_iter().flatten().filter_map(view).collect()
}

pub(crate) fn text(id: Option<Uuid>) -> Option<String> {
    id.map(|id| id.to_string())
}

pub(crate) fn moment(at: OffsetDateTime) -> String {
    Timestamp::from_utc(at).to_string()
}
