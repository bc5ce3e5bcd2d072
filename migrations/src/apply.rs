//! Running a service's migrations, also when several processes do it at once.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, TransactionTrait};
use sea_orm_migration::MigratorTrait;

/// The advisory lock that serialises migrations of one database: any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x5a6a_0001;

/// Applies every migration that is missing, all in one transaction. Of several processes that call this at once, one
/// works and the others wait for it and then find nothing to do.
pub async fn apply<M: MigratorTrait>(database: &DatabaseConnection) -> Result<(), DbErr> {
    let transaction = database.begin().await?;
    transaction.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
    M::up(&transaction, None).await?;
    transaction.commit().await
}

/// The names of the migrations that are missing; changes nothing.
pub async fn pending<M: MigratorTrait>(database: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let missing = M::get_pending_migrations_read_only(database).await?;
    Ok(missing.iter().map(|migration| migration.name().to_owned()).collect())
}
