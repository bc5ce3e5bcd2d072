//! The payment worker's database: payments, the simulated gateway's books, and the participant's tables.

use sea_orm_migration::prelude::*;

use crate::participant::Inbox;

/// Migrates the payment worker's database; its history is in `payment_migrations`.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Inbox), Box::new(Payments), Box::new(RoomToSettle)]
    }

    fn migration_table_name() -> DynIden {
        "payment_migrations".into_iden()
    }
}

struct Payments;

impl MigrationName for Payments {
    fn name(&self) -> &str {
        "y0001_payments"
    }
}

// Every payment is written twice within milliseconds, and so is the inbox row of every command here (small when it is
// claimed, with its reply when it is settled): the free space keeps the second version on the page of the first (HOT).
// `payment_id` is the id of the command that charges, so a payment has one id however often it is tried.
// `simulated_gateway` stands for somebody else's books: one row per idempotency key is one charge or refund made,
// `calls` says how often it was asked for. A `void` row is a charge that must never be made: its refund came first.
const UP: &str = "
CREATE TABLE payments (
    payment_id   uuid PRIMARY KEY,
    saga_id      uuid NOT NULL,
    booking_id   uuid NOT NULL,
    user_id      uuid NOT NULL,
    amount_minor bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    status       text NOT NULL CHECK (status IN ('pending', 'completed', 'failed', 'refunded')),
    currency     text NOT NULL,
    reference    text NOT NULL,
    failure_code text NOT NULL DEFAULT '',
    CHECK ((status = 'failed') = (failure_code <> ''))
) WITH (fillfactor = 50);

ALTER TABLE inbox SET (fillfactor = 35);

CREATE TABLE simulated_gateway (
    idempotency_key uuid PRIMARY KEY,
    charge_key      uuid,
    amount_minor    bigint NOT NULL DEFAULT 0,
    calls           bigint NOT NULL DEFAULT 1 CHECK (calls > 0),
    made_at         timestamptz NOT NULL DEFAULT now(),
    kind            text NOT NULL CHECK (kind IN ('charge', 'refund', 'void')),
    currency        text NOT NULL DEFAULT '',
    CHECK ((kind = 'refund') = (charge_key IS NOT NULL))
);

CREATE UNIQUE INDEX simulated_gateway_one_refund_per_charge ON simulated_gateway (charge_key) WHERE kind = 'refund'";

const DOWN: &str = "DROP TABLE simulated_gateway; DROP TABLE payments";

#[async_trait::async_trait]
impl MigrationTrait for Payments {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

struct RoomToSettle;

impl MigrationName for RoomToSettle {
    fn name(&self) -> &str {
        "y0002_room_to_settle"
    }
}

// A claimed inbox row has some 130 bytes, a settled one 460 and more: a page has room for both versions of all its rows,
// so that settling touches no index (HOT), if claims fill no more than a fifth of it.
const ROOM_TO_SETTLE: &str = "ALTER TABLE inbox SET (fillfactor = 20)";

#[async_trait::async_trait]
impl MigrationTrait for RoomToSettle {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(ROOM_TO_SETTLE).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let back = "ALTER TABLE inbox SET (fillfactor = 35)";
        manager.get_connection().execute_unprepared(back).await.map(drop)
    }
}
