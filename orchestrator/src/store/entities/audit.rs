//! What operators did.

use sea_orm::entity::prelude::*;

/// A row of `audit`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    /// A UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// When.
    pub at: TimeDateTimeWithTimeZone,
    /// Who.
    pub actor: String,
    /// What, e.g. `cancel`.
    pub verb: String,
    /// To which saga.
    pub saga_id: Option<Uuid>,
    /// To which letter.
    pub dead_letter_id: Option<Uuid>,
    /// Why.
    pub reason: String,
    /// Which chain it is in: a shard, or -1.
    pub chain: i32,
    /// Its place in the chain.
    pub chain_seq: i64,
    /// SHA-256 of itself and of the hash before.
    pub hash: Vec<u8>,
    /// What was acted on, before, as JSON.
    #[sea_orm(column_type = "Text", nullable)]
    pub state_before: Option<String>,
    /// The same, afterwards.
    #[sea_orm(column_type = "Text", nullable)]
    pub state_after: Option<String>,
}

/// No relation is followed by a join.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
