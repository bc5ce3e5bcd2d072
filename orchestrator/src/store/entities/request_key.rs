//! Idempotency keys that have acted.

use sea_orm::entity::prelude::*;

/// A row of `request_key`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "request_key")]
pub struct Model {
    /// SHA-256 of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_hash: Vec<u8>,
    /// SHA-256 of what was asked under it.
    pub request_hash: Vec<u8>,
    /// The saga it started or acted on.
    pub saga_id: Uuid,
    /// The answer that was given, where it cannot be worked out again.
    #[sea_orm(column_type = "Json", nullable)]
    pub answer: Option<Json>,
    /// When it acted.
    pub created_at: TimeDateTimeWithTimeZone,
}

/// No relation is followed by a join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
