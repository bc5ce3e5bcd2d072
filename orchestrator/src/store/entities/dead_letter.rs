//! Messages that nobody could handle.

use sea_orm::FromQueryResult;
use sea_orm::entity::prelude::*;

/// A row of `dead_letter`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letter")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// `open`, `redriven`, `resolved` or `discarded`.
    pub status: String,
    /// Why, as a stable code.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Who gave up on it.
    pub source: String,
    /// The record's topic.
    pub topic: String,
    /// The record's partition.
    pub partition: Option<i32>,
    /// The record's offset.
    pub record_offset: Option<i64>,
    /// The record's key.
    pub record_key: Option<Vec<u8>>,
    /// The record's value.
    pub record_value: Option<Vec<u8>>,
    /// The record's headers: an array of `[name, base64 or null]`.
    #[sea_orm(column_type = "Json")]
    pub record_headers: Json,
    /// The record's timestamp.
    pub record_timestamp: Option<TimeDateTimeWithTimeZone>,
    /// The Avro record name that its header gives.
    pub message_type: Option<String>,
    /// Its saga, if known.
    pub saga_id: Option<Uuid>,
    /// Its step, if known.
    pub step: Option<String>,
    /// Doing or undoing, if known.
    pub direction: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// The first failure.
    pub first_failed_at: TimeDateTimeWithTimeZone,
    /// The last failure.
    pub last_failed_at: TimeDateTimeWithTimeZone,
    /// The last change of this row.
    pub updated_at: TimeDateTimeWithTimeZone,
    /// What became of it: an array of `{at, what, reason}`.
    #[sea_orm(column_type = "Json")]
    pub lineage: Json,
}

/// No relation is followed by a join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A row of `dead_letter` without the record's bytes, of which a list may hold hundreds.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
#[expect(missing_docs, reason = "the same as in the model")]
pub struct Summary {
    pub id: Uuid,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub source: String,
    pub topic: String,
    pub partition: Option<i32>,
    pub record_offset: Option<i64>,
    pub message_type: Option<String>,
    pub saga_id: Option<Uuid>,
    pub step: Option<String>,
    pub direction: Option<String>,
    pub attempts: i32,
    pub first_failed_at: TimeDateTimeWithTimeZone,
    pub last_failed_at: TimeDateTimeWithTimeZone,
    pub updated_at: TimeDateTimeWithTimeZone,
    pub group_id: Uuid,
}

/// A row of `dead_letter` and its group.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Shown {
    /// The row.
    #[sea_orm(nested)]
    pub row: Model,
    /// Its group: a function of reason, message type and step.
    pub group_id: Uuid,
}
