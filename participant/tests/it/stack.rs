//! The bench of these tests: messages with a note, and a table in which each effect leaves a row.

use std::ops::Deref;
use std::sync::Arc;

use messaging::{Headers, Record};
use participant::Message;
use participant::testing::{Bench, TestCommand};
use saga_defs::ids::SagaId;
use schemas::Catalog;
use sea_orm_migration::prelude::*;
use serde_json::json;

use crate::worker::{COMMANDS, DONE, Put, Ring, Take, Unring};

/// A bench with the database of the test worker.
pub(crate) struct Stack(Bench);

impl Deref for Stack {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        &self.0
    }
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let bench = Bench::start("shop", &[DONE], Arc::new(catalog())).await;
        migrations::apply::apply::<TestMigrator>(&bench.database).await.unwrap();
        Self(bench)
    }

    /// The same broker with another stack's database.
    pub(crate) fn on_database_of(self, other: &Self) -> Self {
        Self(self.0.on_database_of(&other.0))
    }

    /// How often the effect of a command happened, and how often it was undone.
    pub(crate) async fn effects(&self, saga: SagaId) -> (i64, i64) {
        let count = async |kind: &str| {
            self.count(&format!("SELECT count(*) FROM effects WHERE saga_id = '{saga}' AND kind = '{kind}'"))
                .await
        };
        (count("put").await, count("take").await)
    }
}

pub(crate) fn put(saga: SagaId, note: &str) -> TestCommand {
    TestCommand::forward(saga, "put", Put::NAME, json!({ "note": note }))
}

pub(crate) fn take(saga: SagaId) -> TestCommand {
    TestCommand::compensation(saga, "put", Take::NAME, json!({ "note": "" }))
}

pub(crate) fn ring(saga: SagaId, note: &str) -> TestCommand {
    TestCommand::forward(saga, "ring", Ring::NAME, json!({ "note": note }))
}

pub(crate) fn unring(saga: SagaId) -> TestCommand {
    TestCommand::compensation(saga, "ring", Unring::NAME, json!({ "note": "" }))
}

pub(crate) fn command_record(saga: SagaId, value: Vec<u8>, headers: Headers) -> Record {
    Record::new(COMMANDS, saga.to_string(), value, headers)
}

fn catalog() -> Catalog {
    let names = [Put::NAME, Take::NAME, Ring::NAME, Unring::NAME, "shop.Done", "shop.Unheard"];
    let sources = names.map(|full| {
        let (namespace, name) = full.split_once('.').unwrap();
        let schema = json!({
            "type": "record", "name": name, "namespace": namespace, "doc": "For tests.",
            "fields": [{ "name": "note", "type": "string", "doc": "What to do." }],
        });
        (format!("{full}.v1.avsc"), schema.to_string())
    });
    Catalog::shipped().with_sources(sources).unwrap()
}

/// Effects have no key of their own: if one happened twice, it would be there twice.
struct Effects;

impl MigrationName for Effects {
    fn name(&self) -> &str {
        "t0001_effects"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Effects {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "CREATE TABLE effects (saga_id uuid NOT NULL, kind text NOT NULL, \
                   note text NOT NULL CHECK (note <> 'constraint'))";
        manager.get_connection().execute_unprepared(sql).await.map(drop)
    }
}

struct TestMigrator;

#[async_trait::async_trait]
impl MigratorTrait for TestMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(migrations::participant::Inbox), Box::new(Effects)]
    }
}
