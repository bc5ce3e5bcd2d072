//! One saga's current state.

use sea_orm::entity::prelude::*;

/// A row of `saga`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "saga")]
pub struct Model {
    /// The saga's id: a UUIDv7, so that its order is the order of starts.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Which shard it belongs to.
    pub shard: i32,
    /// Its definition's name.
    pub definition: String,
    /// Its definition's version.
    pub version: i32,
    /// The client's own name for it.
    pub business_key: Option<String>,
    /// How many transitions it has made.
    pub revision: i32,
    /// Its status, as the API shows it.
    pub status: String,
    /// The name of the step it is at.
    pub step: Option<String>,
    /// When it wakes by itself.
    pub wake_at: Option<TimeDateTimeWithTimeZone>,
    /// When it was started.
    pub started_at: TimeDateTimeWithTimeZone,
    /// Its last transition.
    pub updated_at: TimeDateTimeWithTimeZone,
    /// When it ended.
    pub finished_at: Option<TimeDateTimeWithTimeZone>,
    /// The rest of it, as JSON.
    #[sea_orm(column_type = "Text")]
    pub body: String,
}

/// No relation is followed by a join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
