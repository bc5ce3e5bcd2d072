//! The booking worker's database: resources with a capacity, bookings, and the participant's tables.

use sea_orm_migration::prelude::*;

use crate::participant::Inbox;

/// Migrates the booking worker's database; its history is in `booking_migrations`.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Inbox), Box::new(Bookings), Box::new(RoomToConfirm)]
    }

    fn migration_table_name() -> DynIden {
        "booking_migrations".into_iden()
    }
}

struct Bookings;

impl MigrationName for Bookings {
    fn name(&self) -> &str {
        "b0001_bookings"
    }
}

// A resource row is updated once per batch of commands: the free space keeps its versions on one page. Bookings have no
// foreign key: its check would lock the hot resource row once per booking, and the same transaction reads that row.
const UP: &str = "
CREATE TABLE resources (
    resource_id uuid PRIMARY KEY,
    capacity    bigint NOT NULL DEFAULT 100000 CHECK (capacity >= 0),
    taken       bigint NOT NULL DEFAULT 0,
    CONSTRAINT resources_taken_within_capacity CHECK (taken >= 0 AND taken <= capacity)
) WITH (fillfactor = 50);

CREATE TABLE bookings (
    booking_id   uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    resource_id  uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    confirmed_at timestamptz,
    cancelled_at timestamptz,
    status       text NOT NULL CHECK (status IN ('reserved', 'confirmed', 'cancelled')),
    CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL)),
    CHECK (status <> 'confirmed' OR confirmed_at IS NOT NULL)
) WITH (fillfactor = 80)";

const DOWN: &str = "DROP TABLE bookings; DROP TABLE resources";

#[async_trait::async_trait]
impl MigrationTrait for Bookings {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

struct RoomToConfirm;

impl MigrationName for RoomToConfirm {
    fn name(&self) -> &str {
        "b0002_room_to_confirm"
    }
}

// Every booking is updated once, a page of them within milliseconds: with room for both versions of all of them the
// update stays on its page and touches no index (HOT). With the fifth that was left before, six of ten did not.
const ROOM_TO_CONFIRM: &str = "ALTER TABLE bookings SET (fillfactor = 45)";

#[async_trait::async_trait]
impl MigrationTrait for RoomToConfirm {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(ROOM_TO_CONFIRM).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let back = "ALTER TABLE bookings SET (fillfactor = 80)";
        manager.get_connection().execute_unprepared(back).await.map(drop)
    }
}
