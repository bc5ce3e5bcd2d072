//! What the oracle looks at, as plain data: whoever has it can judge it, wherever it came from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use messaging::{Headers, Received};
use orchestrator::store::snapshot::{AuditLine, JournalLine, LetterLine, SagaLine, Small};
use saga_defs::ids::{CommandId, SagaId};
use saga_defs::time::Timestamp;
use uuid::Uuid;

use crate::load::End;

/// What a disturbance may change about how a booking ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// Nothing: every step had the time to be answered.
    None,
    /// A participant may have been away for longer than the recipe waits for it: then the booking was in doubt, and is
    /// compensated instead of completed.
    Timeouts,
    /// The same, and a participant may have failed so often that its attempts were used up.
    Failures,
}

/// A start, as its client remembers it.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Who booked, if each start is somebody else's.
    pub user: Option<Uuid>,
    /// How it has to end, if it was accepted.
    pub end: Option<End>,
    /// The saga of every answer that said "accepted"; the requests all had one key.
    pub accepted: Vec<SagaId>,
    /// How often it was asked for.
    pub requests: u32,
    /// Answers that no client expects.
    pub odd: Vec<String>,
}

/// A row of the journal with the command that it asks to send.
#[derive(Debug, Clone)]
pub struct Line {
    /// The row.
    pub row: JournalLine,
    /// The command's bytes.
    pub body: Option<Vec<u8>>,
}

/// One update of a shard's row, in the order in which they were committed: a claim, a commit, a watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// When.
    pub at: Timestamp,
    /// Which shard.
    pub shard: i32,
    /// Its epoch afterwards.
    pub epoch: i64,
    /// The process whose connection it was.
    pub process: String,
    /// `next_seq` before and afterwards.
    pub seq: (i64, i64),
    /// `published_seq` afterwards.
    pub published: i64,
}

/// What a saga left with the participants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The status of its booking.
    pub booking: Option<String>,
    /// The statuses of its payments.
    pub payments: Vec<String>,
    /// In the gateway's books.
    pub charges: i64,
    /// In the gateway's books.
    pub refunds: i64,
    /// When the money was given back.
    pub refunded_at: Option<Timestamp>,
    /// When the booking was cancelled.
    pub cancelled_at: Option<Timestamp>,
}

/// What is given away of a resource, and how many bookings of it stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Which.
    pub resource: Uuid,
    /// By its row.
    pub taken: i64,
    /// By the bookings.
    pub bookings: i64,
}

/// A dump of a topic.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// By partition and offset, those of an earlier broker first.
    pub records: Vec<Received>,
    /// Whether it begins with the first record that ever was there.
    pub whole: bool,
}

/// A dead letter as the orchestrator keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: Uuid,
    /// Why.
    pub reason: String,
    /// Where the record was; `None`: nowhere in particular.
    pub place: Option<Place>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Headers,
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Place {
    /// Of a record that was read.
    pub fn of(record: &Received) -> Self {
        Self { topic: record.topic.to_string(), partition: record.partition, offset: record.offset }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.topic, self.partition, self.offset)
    }
}

/// A record that a stranger put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planted {
    /// Where.
    pub place: Place,
    /// Reasons of the dead letter that it has to become, any of them; without one it must not become any.
    pub letter: &'static [&'static str],
}

/// What a process used at its worst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Which process.
    pub process: String,
    /// Memory that is its own, in MiB.
    pub resident_mib: u64,
    /// Open files and connections.
    pub files: u64,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The clients' log.
    pub starts: Vec<Start>,
    /// What may have changed how bookings end.
    pub tolerance: Tolerance,
    /// The shards and the published definitions.
    pub small: Small,
    /// Of all sagas, each saga's in order.
    pub journal: Vec<Line>,
    /// The saga rows.
    pub sagas: Vec<SagaLine>,
    /// The dead letters of sagas.
    pub letters: Vec<LetterLine>,
    /// The audit of sagas.
    pub audit: Vec<AuditLine>,
    /// The saga of every idempotency key.
    pub keys: Vec<SagaId>,
    /// Up to where each shard has read its partition.
    pub read: BTreeMap<i32, i64>,
    /// Every update of a shard's row, if somebody has watched.
    pub updates: Vec<Update>,
    /// What sagas left with the participants.
    pub traces: HashMap<SagaId, Trace>,
    /// Resources.
    pub units: Vec<Units>,
    /// The commands in the inbox of each participant.
    pub recorded: BTreeMap<&'static str, HashSet<CommandId>>,
    /// Dumps by topic; a topic that is not here is not looked at.
    pub topics: BTreeMap<String, Topic>,
    /// All dead letters.
    pub kept: Vec<Letter>,
    /// Records of strangers.
    pub planted: Vec<Planted>,
    /// When nothing disturbed and clients booked.
    pub calm: Vec<(Timestamp, Timestamp)>,
    /// Of each process that was looked at.
    pub used: Vec<Used>,
}
