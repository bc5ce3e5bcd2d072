//! Where a saga's command lies, and whether its participant has passed it: from the owner's memory, the journal and the
//! broker. What cannot be found out in a short time is said to be unknown, and why.

use std::error::Error as _;
use std::time::Duration;

use messaging::look::Look;
use messaging::{KafkaError, KafkaSettings, Received};
use saga_defs::ids::ShardCount;
use saga_defs::saga::Saga;
use saga_defs::time::Timestamp;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use utoipa::ToSchema;

use super::app::App;
use crate::engine::handle::Looked;
use crate::store::why::Decided;
use crate::why::{Command, Passed, Published, Reading, passed};

/// Looks at the broker at once; whoever asks beyond is told that the broker was not asked.
pub(crate) const BROKER_LOOKS: usize = 4;
/// How long the broker has for everything that one answer needs.
const BROKER_LIMIT: Duration = Duration::from_secs(2);
/// Records of a partition that are looked through for a command whose place nobody has in memory.
const LOOKED_THROUGH: i64 = 5_000;

/// Where a saga's command lies.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CommandPlace)]
pub(crate) struct PlaceView {
    topic: String,
    partition: i32,
    /// Null where that is not known; `because` says why.
    #[schema(required)]
    offset: Option<i64>,
    /// Whether the broker has it; null: nobody can say.
    #[schema(required)]
    published: Option<bool>,
    /// Why something here is not known.
    #[schema(required)]
    because: Option<String>,
}

/// How far the participant is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ParticipantGroup)]
pub(crate) struct GroupView {
    /// The consumer group.
    group: String,
    /// Whether it has passed the command, so that the reply is on its way, or lost; null: that cannot be said.
    #[schema(required)]
    passed: Option<bool>,
    /// The next offset that it reads.
    #[schema(required)]
    committed_offset: Option<i64>,
    /// The offset of the next record to come.
    #[schema(required)]
    end_offset: Option<i64>,
    /// How many records come before the command.
    #[schema(required)]
    ahead: Option<i64>,
    /// Why something here is not known.
    #[schema(required)]
    because: Option<String>,
}

/// A command that is out: where, and how far the participant is.
pub(crate) struct Out {
    pub(crate) partition: i32,
    pub(crate) published: Published,
    reading: Result<Reading, String>,
    pub(crate) passed: Passed,
}

impl Out {
    /// As it is sent.
    pub(crate) fn views(self, command: &Command<'_>) -> (PlaceView, GroupView) {
        let (offset, published, because) = match self.published {
            Published::At(offset) => (Some(offset), Some(true), None),
            Published::Somewhere(why) => (None, Some(true), Some(why)),
            Published::NotYet => {
                (None, Some(false), Some("the broker has not acknowledged it yet".to_owned()))
            }
            Published::Unknown(why) => (None, None, Some(why)),
        };
        let (passed, ahead, unknown) = match self.passed {
            Passed::Yes => (Some(true), None, None),
            Passed::No { ahead } => (Some(false), Some(ahead), None),
            Passed::Unknown(why) => (None, None, Some(why)),
        };
        let reading = self.reading.ok();
        let group = GroupView {
            group: command.group(),
            passed,
            committed_offset: reading.and_then(|reading| reading.committed),
            end_offset: reading.map(|reading| reading.high),
            ahead,
            because: unknown,
        };
        (PlaceView { topic: command.topic(), partition: self.partition, offset, published, because }, group)
    }
}

/// Finds out where a command lies and how far its participant is. What cannot be found out is said to be so.
pub(crate) async fn whereabouts(
    app: &App,
    saga: &Saga,
    command: &Command<'_>,
    decided: Option<Decided>,
    looked: Result<Looked, &'static str>,
) -> Out {
    let count = ShardCount::new(app.api.engine.health().shard_count);
    let of_id = count.map_or(0, |count| i32::from(saga.id.shard(count).0));
    let shard = decided.map_or(of_id, |decided| decided.shard);
    let partition = shard % i32::from(app.api.command_partitions.max(1));
    let noted = decided.is_some_and(|decided| decided.noted);
    let known = match looked {
        Ok(Looked { offset: Some(offset), .. }) => Published::At(offset),
        Ok(Looked { wake: Some(wake), .. }) if wake.awaits_seq.is_some() && !noted => Published::NotYet,
        Ok(_) => Published::Somewhere("a process that owned the saga before has published it".to_owned()),
        Err(why) if noted => Published::Somewhere(why.to_owned()),
        Err(why) => Published::Unknown(why.to_owned()),
    };
    let search = decided.filter(|_| matches!(known, Published::Somewhere(_) | Published::Unknown(_)));
    let asked = Question {
        settings: app.api.kafka.clone(),
        group: command.group(),
        topic: command.topic(),
        partition,
        search: search.map(|decided| (decided.at, command.id.to_string(), command.at.attempt.0.to_string())),
    };
    let (found, reading) = match app.broker_looks.clone().try_acquire_owned() {
        Ok(turn) => asked.ask(turn).await,
        Err(_) => {
            (Ok(None), Err("as many people ask the broker as it is asked for at once; ask again".to_owned()))
        }
    };
    let published = match (known, found) {
        (Published::At(offset), _) => Published::At(offset),
        (_, Ok(Some(offset))) => Published::At(offset),
        (Published::NotYet, _) => Published::NotYet,
        (Published::Somewhere(why), Ok(None)) => Published::Somewhere(format!(
            "{why}, and it is not among the {LOOKED_THROUGH} records looked through"
        )),
        (Published::Unknown(why), Ok(None)) => Published::Unknown(why),
        (Published::Somewhere(why), Err(broker)) => Published::Somewhere(format!("{why}, and {broker}")),
        (Published::Unknown(why), Err(broker)) => Published::Unknown(format!("{why}, and {broker}")),
    };
    tracing::debug!(saga = %saga.id, ?published, ?reading, "looked for a command");
    let passed = passed(&published, &reading, &command.group());
    Out { partition, published, reading, passed }
}

/// What the broker is asked about one command.
struct Question {
    settings: KafkaSettings,
    group: String,
    topic: String,
    partition: i32,
    /// When it was decided, its id and its attempt, if nobody has in memory where it lies.
    search: Option<(Timestamp, String, String)>,
}

type BrokerSaid = (Result<Option<i64>, String>, Result<Reading, String>);

impl Question {
    async fn ask(self, turn: OwnedSemaphorePermit) -> BrokerSaid {
        let (answer, answered) = oneshot::channel();
        // Closing the client takes a while, and nobody waits for that; but its turn lasts as long, for so does its thread.
        tokio::task::spawn_blocking(move || {
            let look = Look::at(&self.settings, &self.group, &self.topic, self.partition, BROKER_LIMIT);
            match &look {
                Ok(look) => drop(answer.send(self.of(look))),
                Err(error) => drop(answer.send((Err(said(error)), Err(said(error))))),
            }
            drop(look);
            drop(turn);
        });
        let silent = || "the broker does not answer in time".to_owned();
        match tokio::time::timeout(BROKER_LIMIT * 2, answered).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) | Err(_) => (Err(silent()), Err(silent())),
        }
    }

    fn of(&self, look: &Look) -> BrokerSaid {
        let reading = look.standing().map_err(|error| said(&error));
        let reading = reading.map(|at| Reading { low: at.low, high: at.high, committed: at.committed });
        let found = match (&self.search, &reading) {
            (Some((since, id, attempt)), Ok(_)) => {
                let wanted = |record: &Received| {
                    record.headers.text("command-id") == Some(id)
                        && record.headers.text("attempt") == Some(attempt)
                };
                look.find(since.unix_millis(), LOOKED_THROUGH, wanted).map_err(|error| said(&error))
            }
            (Some(_), Err(why)) => Err(why.clone()),
            (None, _) => Ok(None),
        };
        (found, reading)
    }
}

/// In one line: what was asked of whom, and what came of it.
fn said(error: &KafkaError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
