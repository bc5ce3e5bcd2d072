//! Published definitions.

use sea_orm::entity::prelude::*;

/// A row of `definition`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "definition")]
pub struct Model {
    /// Its name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Its version.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    /// Its text.
    pub source: String,
    /// When it was published.
    pub registered_at: TimeDateTimeWithTimeZone,
}

/// No relation is followed by a join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
