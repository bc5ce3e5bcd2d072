//! A stand-in for the engine: the pure core, and one statement after the other.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use orchestrator::api::Engine;
use orchestrator::definitions::Definitions;
use orchestrator::engine::handle::{
    Act, ActError, ActOnLetter, EngineHealth, LetterVerb, Looked, RequestKey, StartError, StartSaga, Verb,
    Waited,
};
use orchestrator::store::body::{SagaRow, body_of, current_step, saga_from_row};
use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::ids::{CommandId, DeadLetterId, SagaId};
use saga_defs::machine::{self, Moment, Moved, Transition};
use saga_defs::saga::{Effect, Event, Outcome, Saga};
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value};
use uuid::Uuid;

/// How long a saga takes in the stand-in's world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ends {
    /// At once, when somebody waits for it.
    AtOnce,
    /// Never.
    Never,
    /// Somebody else moves it: its row tells.
    Elsewhere,
}

pub(crate) struct FakeEngine {
    pub(crate) db: DatabaseConnection,
    pub(crate) definitions: Definitions,
    pub(crate) ends: Mutex<Ends>,
    pub(crate) health: Mutex<EngineHealth>,
    /// What the next starts and verbs fail with.
    pub(crate) start_errors: Mutex<VecDeque<StartError>>,
    pub(crate) act_errors: Mutex<VecDeque<ActError>>,
    /// What it has in memory of any saga.
    pub(crate) looked: Mutex<Result<Looked, ActError>>,
    pub(crate) letter_acts: Mutex<Vec<ActOnLetter>>,
    /// What it was asked to do, and by whom.
    pub(crate) actors: Mutex<Vec<String>>,
    seq: Mutex<i64>,
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap())
}

impl FakeEngine {
    pub(crate) fn new(db: DatabaseConnection, definitions: Definitions) -> Self {
        let health = EngineHealth { shards_owned: 8, shard_count: 8, ..EngineHealth::default() };
        Self {
            db,
            definitions,
            ends: Mutex::new(Ends::AtOnce),
            health: Mutex::new(health),
            start_errors: Mutex::default(),
            act_errors: Mutex::default(),
            looked: Mutex::new(Ok(Looked { wake: None, offset: None })),
            letter_acts: Mutex::default(),
            actors: Mutex::default(),
            seq: Mutex::new(0),
        }
    }

    pub(crate) async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64, sea_orm::DbErr> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        Ok(self.db.execute_raw(statement).await?.rows_affected())
    }

    /// Rows for so many shards; the stand-in moves everything in the first.
    pub(crate) async fn has_shards(&self, count: i32) {
        let sql = "INSERT INTO shard (id) SELECT generate_series(0, $1 - 1)";
        self.execute(sql, vec![count.into()]).await.unwrap();
    }

    fn definition(&self, saga: &Saga) -> std::sync::Arc<Definition> {
        self.definitions.get(&saga.definition.name, saga.definition.version).unwrap()
    }

    pub(crate) async fn load(&self, id: SagaId) -> Option<Saga> {
        let sql = "SELECT *, body::text AS body_text FROM saga WHERE id = $1";
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, vec![id.as_uuid().into()]);
        let row = self.db.query_one_raw(statement).await.unwrap()?;
        let row = SagaRow {
            id: id.as_uuid(),
            definition: row.try_get("", "definition").unwrap(),
            version: row.try_get("", "version").unwrap(),
            business_key: row.try_get("", "business_key").unwrap(),
            revision: row.try_get("", "revision").unwrap(),
            started_at: row.try_get("", "started_at").unwrap(),
            updated_at: row.try_get("", "updated_at").unwrap(),
            finished_at: row.try_get("", "finished_at").unwrap(),
            body: row.try_get("", "body_text").unwrap(),
        };
        Some(saga_from_row(row).unwrap())
    }

    /// One event, if the saga takes it.
    pub(crate) async fn happen(&self, saga: &Saga, event: Event) -> Result<Saga, machine::Why> {
        let definition = self.definition(saga);
        match machine::transition(&definition, saga, &event, Moment::of(saga, now())) {
            Transition::Moved(moved) => {
                self.save(&definition, &moved, &event).await;
                Ok(moved.saga)
            }
            Transition::Ignored(why) => Err(why),
        }
    }

    /// The current command's reply.
    pub(crate) async fn reply(&self, saga: &Saga, outcome: Outcome) -> Saga {
        let at = saga.current().unwrap();
        let step = self.definition(saga).step(at.step).unwrap().name.clone();
        let command_id = CommandId::derive(saga.id, &step, at.direction);
        self.happen(saga, Event::Replied { command_id, echo: None, outcome }).await.unwrap()
    }

    /// Every step succeeds.
    pub(crate) async fn complete(&self, saga: &Saga) -> Saga {
        let mut saga = saga.clone();
        while saga.current().is_some() {
            saga = self.reply(&saga, Outcome::Succeeded { fields: Data::new() }).await;
        }
        saga
    }

    async fn save(&self, definition: &Definition, moved: &Moved, event: &Event) {
        let saga = &moved.saga;
        let sql = "UPDATE saga SET revision = $2, status = $3, step = $4, updated_at = $5, finished_at = $6,
                       body = $7::text::json WHERE id = $1";
        let values = vec![
            saga.id.as_uuid().into(),
            (saga.revision.0 as i32).into(),
            saga.status().as_str().into(),
            current_step(definition, saga).map(ToString::to_string).into(),
            saga.updated_at.to_utc().into(),
            saga.finished_at.map(Timestamp::to_utc).into(),
            body_of(saga).into(),
        ];
        self.execute(sql, values).await.unwrap();
        self.journal(moved, event).await;
        for effect in &moved.effects {
            let (status, letters) = match effect {
                Effect::RedriveLetter { letter } | Effect::SendLetter { letter } => {
                    ("redriven", vec![*letter])
                }
                Effect::ResolveLetters { letters } => ("resolved", letters.clone()),
                Effect::ReopenLetters { letters } => ("open", letters.clone()),
                _ => continue,
            };
            for letter in letters {
                self.letter_is(letter, status).await;
            }
        }
    }

    async fn letter_is(&self, letter: DeadLetterId, status: &str) {
        let sql = "UPDATE dead_letter SET status = $2, updated_at = now() WHERE id = $1";
        self.execute(sql, vec![letter.as_uuid().into(), status.into()]).await.unwrap();
    }

    /// The open saga that a letter is about.
    async fn saga_of(&self, letter: DeadLetterId) -> Option<Saga> {
        let sql = "SELECT saga_id FROM dead_letter WHERE id = $1";
        let statement =
            Statement::from_sql_and_values(DbBackend::Postgres, sql, vec![letter.as_uuid().into()]);
        let row = self.db.query_one_raw(statement).await.unwrap()?;
        let saga: Option<Uuid> = row.try_get("", "saga_id").unwrap();
        self.load(SagaId::from_uuid(saga?)).await.filter(|saga| saga.current().is_some())
    }

    async fn journal(&self, moved: &Moved, event: &Event) {
        let seq = {
            let mut seq = self.seq.lock().unwrap();
            *seq += 1;
            *seq
        };
        let sql = "INSERT INTO journal (shard, seq, saga_id, revision, at, status, event, effects)
                   VALUES (0, $1, $2, $3, $4, $5, $6::text::json, $7::text::json)";
        let values = vec![
            seq.into(),
            moved.saga.id.as_uuid().into(),
            (moved.saga.revision.0 as i32).into(),
            moved.saga.updated_at.to_utc().into(),
            moved.saga.status().as_str().into(),
            serde_json::to_string(event).unwrap().into(),
            serde_json::to_string(&moved.effects).unwrap().into(),
        ];
        self.execute(sql, values).await.unwrap();
        self.execute("UPDATE shard SET next_seq = $1 + 1 WHERE id = 0", vec![seq.into()]).await.unwrap();
    }

    /// `false`: the key is taken.
    async fn take_key(&self, key: Option<RequestKey>, saga: Uuid) -> bool {
        let Some(key) = key else { return true };
        let sql = "INSERT INTO request_key (key_hash, request_hash, saga_id, created_at)
                   VALUES ($1, $2, $3, now()) ON CONFLICT DO NOTHING";
        let values = vec![key.key_hash.to_vec().into(), key.request_hash.to_vec().into(), saga.into()];
        self.execute(sql, values).await.unwrap() == 1
    }

    /// Makes a saga as the engine would.
    pub(crate) async fn begin(&self, start: StartSaga) -> Result<Saga, StartError> {
        let at = now();
        let id = SagaId::new(at, Uuid::new_v4().as_bytes()[..10].try_into().unwrap());
        if !self.take_key(start.key, id.as_uuid()).await {
            return Err(StartError::KeyTaken);
        }
        let event = Event::Started {
            input: start.input.clone(),
            business_key: start.business_key.clone(),
            traceparent: start.traceparent.clone(),
        };
        let moved =
            machine::start(&start.definition, id, &start.input, start.business_key, start.traceparent, at);
        let saga = &moved.saga;
        let sql = "INSERT INTO saga (id, shard, definition, version, business_key, revision, status, step,
                       wake_at, started_at, updated_at, body)
                   VALUES ($1, 0, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10::text::json)";
        let values = vec![
            id.as_uuid().into(),
            saga.definition.name.to_string().into(),
            (saga.definition.version as i32).into(),
            saga.business_key.as_deref().map(str::to_owned).into(),
            (saga.revision.0 as i32).into(),
            saga.status().as_str().into(),
            current_step(&start.definition, saga).map(ToString::to_string).into(),
            at.after(Duration::from_secs(900)).to_utc().into(),
            at.to_utc().into(),
            body_of(saga).into(),
        ];
        self.execute(sql, values).await.unwrap();
        self.journal(&moved, &event).await;
        Ok(moved.saga)
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn start(&self, start: StartSaga) -> Result<Saga, StartError> {
        let scripted = self.start_errors.lock().unwrap().pop_front();
        match scripted {
            Some(error) => Err(error),
            None => self.begin(start).await,
        }
    }

    async fn wait_for_end(&self, saga: SagaId, limit: Duration) -> Waited {
        let ends = *self.ends.lock().unwrap();
        match ends {
            Ends::AtOnce => match self.load(saga).await {
                Some(saga) => Waited::Ended(Box::new(self.complete(&saga).await)),
                None => Waited::Unknown,
            },
            Ends::Never => {
                tokio::time::sleep(limit).await;
                Waited::NotYet
            }
            Ends::Elsewhere => Waited::Unknown,
        }
    }

    async fn look(&self, _: SagaId, _: Duration) -> Result<Looked, ActError> {
        self.looked.lock().unwrap().clone()
    }

    async fn act(&self, act: Act) -> Result<Saga, ActError> {
        self.actors.lock().unwrap().push(format!("{} {}", act.verb.as_str(), act.actor));
        let scripted = self.act_errors.lock().unwrap().pop_front();
        if let Some(error) = scripted {
            return Err(error);
        }
        assert!(act.verb.as_str() != "panic" && &*act.reason != "please panic", "asked to panic");
        let saga = self.load(act.saga).await.ok_or(ActError::NotFound)?;
        if act.expected.is_some_and(|expected| !expected.0.contains(&saga.revision.0)) {
            return Err(ActError::MovedOn { revision: saga.revision });
        }
        let reason = act.reason;
        let event = match act.verb {
            Verb::Cancel => Event::Cancel { reason },
            Verb::Redrive { input } => Event::Redrive { reason, input },
            Verb::Skip => Event::Skip { reason },
            Verb::RetryNow => Event::RetryNow { reason },
        };
        let definition = self.definition(&saga);
        let moved = machine::transition(&definition, &saga, &event, Moment::of(&saga, now()));
        let Transition::Moved(moved) = moved else {
            let Transition::Ignored(why) = moved else { unreachable!() };
            return Err(ActError::NotAllowed { why, status: saga.status() });
        };
        if !self.take_key(act.key, saga.id.as_uuid()).await {
            return Err(ActError::KeyTaken);
        }
        self.save(&definition, &moved, &event).await;
        Ok(moved.saga)
    }

    async fn act_on_letter(&self, act: ActOnLetter) -> Result<(), ActError> {
        let status = if act.verb == LetterVerb::Discard { "discarded" } else { "redriven" };
        let sql = "UPDATE dead_letter SET status = $2, updated_at = now() WHERE id = $1 AND status = 'open'";
        let rows = self.execute(sql, vec![act.letter.as_uuid().into(), status.into()]).await.unwrap();
        let verb = if act.verb == LetterVerb::Discard { "discard" } else { "redrive" };
        self.actors.lock().unwrap().push(format!("{verb} {}", act.actor));
        if rows == 0 {
            return Err(ActError::LetterNotOpen { status: status.to_owned() });
        }
        if !self.take_key(act.key, Uuid::nil()).await {
            let undo = "UPDATE dead_letter SET status = 'open' WHERE id = $1";
            self.execute(undo, vec![act.letter.as_uuid().into()]).await.unwrap();
            return Err(ActError::KeyTaken);
        }
        if act.verb != LetterVerb::Discard
            && let Some(saga) = self.saga_of(act.letter).await
        {
            let event = Event::LetterRedriven { letter: act.letter, reason: act.reason.clone() };
            self.happen(&saga, event).await.unwrap();
        }
        self.letter_acts.lock().unwrap().push(act);
        Ok(())
    }

    fn health(&self) -> EngineHealth {
        self.health.lock().unwrap().clone()
    }
}
