//! The log of transitions.

use sea_orm::entity::prelude::*;

/// A row of `journal`; its command's bytes are not read here.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "journal")]
pub struct Model {
    /// Which shard.
    #[sea_orm(primary_key, auto_increment = false)]
    pub shard: i32,
    /// Gapless within the shard.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    /// Whose transition.
    pub saga_id: Uuid,
    /// The saga's revision afterwards.
    pub revision: i32,
    /// When.
    #[sea_orm(primary_key, auto_increment = false)]
    pub at: TimeDateTimeWithTimeZone,
    /// The saga's status afterwards.
    pub status: String,
    /// What happened, as JSON.
    #[sea_orm(column_type = "Text")]
    pub event: String,
    /// What was to be done about it, as JSON.
    #[sea_orm(column_type = "Text")]
    pub effects: String,
}

/// No relation is followed by a join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
