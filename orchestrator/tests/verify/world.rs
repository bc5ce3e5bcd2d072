//! An engine without its shell: real batches, committed by the real store, with participants that answer as told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use local_postgres::TestServer;
use messaging::headers::{OutcomeKind, ReplyHeaders};
use messaging::{Headers, KafkaSettings, Received};
use migrations::apply;
use migrations::orchestrator::Migrator;
use orchestrator::definitions::Definitions;
use orchestrator::engine::batch::{Batch, Context, Held, Input};
use orchestrator::engine::handle::{Act, ActOnLetter, LetterVerb, RequestKey, StartSaga, Verb};
use orchestrator::engine::participants::Participants;
use orchestrator::engine::records::RecordMaker;
use orchestrator::engine::shards::{Owned, Shards};
use orchestrator::engine::{EngineSettings, INBOX};
use orchestrator::registration::Registrar;
use orchestrator::registration::folders::Folders;
use orchestrator::store::Store;
use orchestrator::store::commit::Committed;
use orchestrator::store::shards::Claimant;
use orchestrator::verify::report::Report;
use saga_defs::ids::{CommandId, DeadLetterId, Direction, SagaId, Shard, ShardCount};
use saga_defs::saga::{Echo, Refusal};
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

pub(crate) const START: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);
const SHARDS: u16 = 4;

/// What a participant says.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    Done,
    Rejected,
    Failed,
}

/// A service's database, and its memory.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) url: SecretString,
    shards: Shards,
    sagas: HashMap<SagaId, Held>,
    definitions: Definitions,
    maker: RecordMaker,
    count: ShardCount,
    /// Each commit is a millisecond later.
    pub(crate) now: Timestamp,
    offsets: HashMap<Shard, i64>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let url = SecretString::from(TestServer::shared().fresh_database());
        let store = Store::connect(&url).await.unwrap();
        apply::apply::<Migrator>(store.connection()).await.unwrap();
        let count = ShardCount::new(SHARDS).unwrap();
        store.remember_shards(count).await.unwrap();
        let all: Vec<Shard> = (0..SHARDS).map(Shard).collect();
        let mut shards = Shards::default();
        let here = Claimant::new("here", Uuid::nil());
        for claimed in store.claim(&all, &here, "broker", None).await.unwrap() {
            shards.insert(claimed.shard, Owned::new(&claimed, 1));
        }
        let definitions = Definitions::open(&store).await.unwrap();
        // What ships is published without asking the broker for anything.
        let kafka = KafkaSettings::plain("127.0.0.1:9");
        let registrar = Registrar::new(store.clone(), definitions.clone(), kafka, 1, 1);
        registrar.publish_folders(&Folders::default()).await.unwrap();
        let settings = EngineSettings {
            advertise_url: "http://here".into(),
            incarnation: "broker".into(),
            command_partitions: 1,
            event_partitions: 1,
            answer_limit: Duration::from_secs(1),
        };
        let maker = RecordMaker::new(definitions.catalog(), &settings);
        let (sagas, offsets) = (HashMap::new(), HashMap::new());
        Self { store, url, shards, sagas, definitions, maker, count, now: START, offsets }
    }

    /// Decides and commits.
    pub(crate) async fn commit(&mut self, inputs: &[Input]) {
        let asked: Vec<DeadLetterId> = inputs
            .iter()
            .filter_map(|input| if let Input::Letter(act) = input { Some(act.letter) } else { None })
            .collect();
        let letters = self.store.letters(&asked).await.unwrap();
        let letters = letters.into_iter().map(|letter| (letter.row.id, letter)).collect();
        let context = Context {
            shards: &self.shards,
            shard_count: self.count,
            sagas: &self.sagas,
            letters: &letters,
            taken_keys: &HashSet::new(),
            definitions: &self.definitions,
            records: &self.maker,
            participants: &Participants::default(),
            incarnation: "broker",
            now: self.now,
            traced: false,
        };
        let batch = Batch::decide(context, inputs.iter().enumerate());
        assert_eq!(self.store.commit(&batch.writes).await.unwrap(), Committed::Yes);
        for advance in &batch.writes.shards {
            let owned = self.shards.get_mut(advance.shard).unwrap();
            (owned.next_seq, owned.inbox_offset) = (advance.next_seq, advance.inbox_offset);
        }
        for (id, moved) in batch.moved {
            self.shards.set_wake(moved.shard, id, moved.wake);
            // An ended saga moves no more.
            if moved.held.saga.current().is_some() {
                self.sagas.insert(id, moved.held);
            } else {
                self.sagas.remove(&id);
            }
        }
        self.now = self.now.after(Duration::from_millis(1));
    }

    /// A saga that is about to start. Its id follows from `n`.
    pub(crate) fn starting(&self, n: u64) -> (SagaId, Input) {
        let mut random = [0x5a; 10];
        random[2..].copy_from_slice(&n.to_be_bytes());
        let id = SagaId::new(self.now, random);
        let input =
            json!({"userId": Uuid::nil(), "resourceId": Uuid::nil(), "amountMinor": 5, "currency": "EUR"});
        let hash = |what: &[u8]| {
            let mut hash = [0; 32];
            hash[..what.len()].copy_from_slice(what);
            hash
        };
        let start = StartSaga {
            definition: self.definitions.newest("booking").unwrap(),
            input: input.as_object().unwrap().clone(),
            business_key: Some(format!("order-{n}").into()),
            traceparent: None,
            key: Some(RequestKey { key_hash: hash(&n.to_be_bytes()), request_hash: [0; 32] }),
        };
        (id, Input::Start(id, Box::new(start)))
    }

    pub(crate) async fn start(&mut self, n: u64) -> SagaId {
        let (id, input) = self.starting(n);
        self.commit(&[input]).await;
        id
    }

    fn record(&mut self, shard: Shard, headers: Headers, value: Option<Vec<u8>>) -> Input {
        let offset = self.offsets.entry(shard).or_default();
        let record = Received {
            topic: INBOX.into(),
            partition: i32::from(shard.0),
            offset: *offset,
            timestamp_ms: Some(self.now.unix_millis()),
            key: None,
            value,
            headers,
        };
        *offset += 1;
        Input::Record(shard, record)
    }

    /// The answer to the command that a saga waits for; `None` if it waits for none.
    pub(crate) fn answer(&mut self, saga: SagaId, says: Says) -> Option<Input> {
        let held = self.sagas.get(&saga)?;
        let at = held.saga.current()?;
        let step = held.definition.step(at.step)?;
        let refusal = || json!({"code": "sold_out", "message": "there is none left"});
        let (outcome, message_type, fields) = match (says, at.direction) {
            (Says::Rejected, _) => (OutcomeKind::Rejected, "saga.Refusal".to_owned(), refusal()),
            (Says::Failed, _) => (OutcomeKind::Failed, "saga.Refusal".to_owned(), refusal()),
            (Says::Done, direction) => {
                let message_type = match (direction, &*step.name) {
                    (Direction::Forward, _) => step.reply.to_string(),
                    (_, "charge-payment") => "payment.PaymentRefunded".to_owned(),
                    (_, _) => "booking.BookingReservationCancelled".to_owned(),
                };
                let id = saga.to_string();
                let fields = json!({
                    "bookingId": id, "reservedAt": self.now.unix_millis(), "paymentId": id,
                    "reference": id, "reason": "sold_out",
                });
                (OutcomeKind::Succeeded, message_type, fields)
            }
        };
        let headers = ReplyHeaders {
            saga_id: saga,
            command_id: CommandId::derive(saga, &step.name, at.direction),
            outcome,
            echo: Some(Echo { attempt: at.attempt, redrive: at.redrive }),
            message_type: message_type.as_str().into(),
            traceparent: None,
        };
        let value = self.maker.catalog().encode(&message_type, fields.as_object().unwrap()).unwrap();
        let shard = saga.shard(self.count);
        Some(self.record(shard, headers.write(), Some(value)))
    }

    pub(crate) async fn reply(&mut self, saga: SagaId, says: Says) {
        let input = self.answer(saga, says).unwrap();
        self.commit(&[input]).await;
    }

    /// The broker does not take the current command.
    pub(crate) async fn refuse(&mut self, saga: SagaId) {
        let at = self.sagas[&saga].saga.current().unwrap();
        self.commit(&[Input::Refused(saga, at, Refusal::new("too_large", "the broker says so"))]).await;
    }

    pub(crate) async fn act(&mut self, saga: SagaId, verb: Verb) {
        let (reason, actor): (Arc<str>, Arc<str>) = ("as asked".into(), "ann".into());
        self.commit(&[Input::Act(Box::new(Act { saga, verb, reason, actor, expected: None, key: None }))])
            .await;
    }

    pub(crate) async fn letter_of(&self, saga: SagaId) -> DeadLetterId {
        let sql = format!("SELECT id FROM dead_letter WHERE saga_id = '{saga}'");
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let row = self.db().query_one_raw(statement).await.unwrap().unwrap();
        DeadLetterId::from_uuid(row.try_get_by_index(0).unwrap())
    }

    pub(crate) async fn redrive_letter(&mut self, letter: DeadLetterId) {
        let (reason, actor): (Arc<str>, Arc<str>) = ("as asked".into(), "ann".into());
        let verb = LetterVerb::Redrive { edit: None };
        self.commit(&[Input::Letter(Box::new(ActOnLetter { letter, verb, reason, actor, key: None }))]).await;
    }

    /// A record that nobody can read: a journal row that concerns no saga.
    pub(crate) async fn garbage(&mut self) {
        let input = self.record(Shard(1), Headers::new(), Some(b"garbage".to_vec()));
        self.commit(&[input]).await;
    }

    pub(crate) fn db(&self) -> &DatabaseConnection {
        self.store.connection()
    }

    pub(crate) async fn sql(&self, sql: &str) -> u64 {
        let mut rows = 0;
        for one in sql.split(';').filter(|one| !one.trim().is_empty()) {
            rows += self.db().execute_unprepared(one).await.unwrap().rows_affected();
        }
        rows
    }

    pub(crate) async fn verify(&self) -> Report {
        orchestrator::verify::verify(&self.url, 1_000, &mut |_, _| {}).await.unwrap()
    }

    /// Every difference, a line each.
    pub(crate) async fn differences(&self) -> String {
        let lines: Vec<String> = self.verify().await.kept.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}
