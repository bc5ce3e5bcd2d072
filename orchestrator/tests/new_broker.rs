//! A broker that is new and empty: whoever owns a shard asks again for all that its sagas wait for, until the broker has it.
#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use local_postgres::TestServer;
use messaging::embedded::Broker;
use messaging::topics::TopicSpec;
use messaging::{KafkaSettings, fetch};
use migrations::apply;
use migrations::orchestrator::Migrator;
use orchestrator::definitions::Definitions;
use orchestrator::engine::environment::System;
use orchestrator::engine::handle::StartSaga;
use orchestrator::engine::{DEAD_LETTERS, EVENTS, Engine, EngineParts, EngineSettings, INBOX};
use orchestrator::metrics::Metrics;
use orchestrator::registration::Registrar;
use orchestrator::registration::folders::Folders;
use orchestrator::store::Store;
use orchestrator::store::shards::{Claimant, Claimed};
use saga_defs::ids::{SagaId, Shard, ShardCount};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

const COMMANDS: &str = "booking.commands";
/// How long a start may wait for the shard to be claimed.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A database with one shard.
struct World {
    store: Store,
    definitions: Definitions,
}

impl World {
    async fn new() -> Self {
        let url = SecretString::from(TestServer::shared().fresh_database());
        let store = Store::connect(&url).await.unwrap();
        apply::apply::<Migrator>(store.connection()).await.unwrap();
        store.remember_shards(ShardCount::new(1).unwrap()).await.unwrap();
        store.make_journal_partitions().await.unwrap();
        let definitions = Definitions::open(&store).await.unwrap();
        // What ships is published without asking the broker for anything.
        let kafka = KafkaSettings::plain("127.0.0.1:9");
        let registrar = Registrar::new(store.clone(), definitions.clone(), kafka, 1, 1);
        registrar.publish_folders(&Folders::default()).await.unwrap();
        Self { store, definitions }
    }

    /// A process that owns the shard on this broker, starts a saga, and stops when everything is acknowledged.
    async fn start_a_saga(&self, broker: &Broker, name: &str) {
        let parts = EngineParts {
            store: Arc::new(self.store.clone()),
            definitions: self.definitions.clone(),
            metrics: Metrics::new().unwrap(),
            shard_count: ShardCount::new(1).unwrap(),
            environment: Arc::new(System),
            board: Arc::default(),
            settings: EngineSettings {
                advertise_url: "http://here".into(),
                incarnation: broker.incarnation().into(),
                command_partitions: 1,
                event_partitions: 1,
                answer_limit: ANSWER_LIMIT,
            },
        };
        let engine = Engine::start(parts, &broker.settings()).await.unwrap();
        let input =
            json!({"userId": Uuid::nil(), "resourceId": Uuid::nil(), "amountMinor": 5, "currency": "EUR"});
        let start = StartSaga {
            definition: self.definitions.newest("booking").unwrap(),
            input: input.as_object().unwrap().clone(),
            business_key: Some(name.into()),
            traceparent: None,
            key: None,
        };
        engine.handle.start(start).await.unwrap();
        engine.stop().await.unwrap();
    }

    /// A process that claims the shard and ends before it does anything.
    async fn claim_and_end(&self, broker: &Broker) -> Claimed {
        let gone = Claimant::new("http://gone", Uuid::nil());
        self.store.claim(&[Shard(0)], &gone, broker.incarnation(), None).await.unwrap().remove(0)
    }

    /// The commands that a broker has, in order: whose saga, what, which attempt.
    async fn commands(&self, broker: &Broker) -> String {
        let settings = broker.settings();
        let records = tokio::task::spawn_blocking(move || fetch::read_all(&settings, COMMANDS).unwrap());
        let mut lines = Vec::new();
        for record in records.await.unwrap() {
            let text = |name| record.headers.text(name).unwrap().to_owned();
            let id: SagaId = text("saga-id").parse().unwrap();
            let saga = self.store.sagas(&[id]).await.unwrap().remove(&id).unwrap();
            let name = saga.business_key.unwrap();
            lines.push(format!("{name}: {}, attempt {}", text("message-type"), text("attempt")));
        }
        lines.join("\n")
    }
}

fn broker() -> Broker {
    Broker::start(&[INBOX, EVENTS, DEAD_LETTERS, COMMANDS].map(|topic| TopicSpec::new(topic, 1, 1))).unwrap()
}

#[tokio::test]
async fn what_waits_is_asked_for_again_although_the_first_claim_came_to_nothing() {
    let world = World::new().await;
    let old = broker();
    world.start_a_saga(&old, "early").await;
    assert_snapshot!(world.commands(&old).await, @"early: booking.ReserveBooking, attempt 1");

    let new = broker();
    let claimed = world.claim_and_end(&new).await;
    assert_eq!(claimed.published_seq + 1, claimed.next_seq, "nothing is above the watermark");
    world.start_a_saga(&new, "late").await;
    assert_snapshot!(world.commands(&new).await, @r"
    early: booking.ReserveBooking, attempt 1
    late: booking.ReserveBooking, attempt 1
    ");

    let claimed = world.claim_and_end(&new).await;
    assert!(!claimed.republish, "the broker has it all: the next owner need not ask again");
}
