//! What everything in a schedule shares: chance, time, the trace, the database, the broker, and when they are away.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use messaging::Record;
use messaging::headers::name;
use saga_defs::ids::ShardCount;
use saga_defs::time::Timestamp;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::dice::Dice;
use crate::store::rows::Rows;
use crate::trace::Trace;
use crate::wrong::Wrong;

/// When every schedule begins.
const BEGINNING: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

/// How hostile a schedule is: each is true once in so many times, never for 0.
#[derive(Debug, Clone, Copy)]
pub struct Odds {
    /// An answer of the database is lost; what was asked happens all the same, or not.
    pub answer_lost: u64,
    /// The database cannot carry a statement out.
    pub try_again: u64,
    /// A task of a process is held up before it goes on.
    pub held_up: u64,
    /// A process dies before one of its tasks goes on.
    pub dies: u64,
    /// A record's report is lost, although the broker has it.
    pub report_lost: u64,
    /// A record is lost on its way to the broker.
    pub record_lost: u64,
    /// A record is written twice, the second time later.
    pub record_twice: u64,
    /// A producer fails for good.
    pub fatal: u64,
    /// A producer has no room.
    pub full: u64,
    /// A broker refuses a command.
    pub refused: u64,
}

impl Odds {
    /// Nothing goes wrong.
    pub const KIND: Self = Self {
        answer_lost: 0,
        try_again: 0,
        held_up: 0,
        dies: 0,
        report_lost: 0,
        record_lost: 0,
        record_twice: 0,
        fatal: 0,
        full: 0,
        refused: 0,
    };

    /// Each fault often, seldom or never, as chance has it: what always comes together hides what comes of one alone.
    pub fn drawn(dice: &Dice) -> Self {
        let some = |often: u64| match dice.below(4) {
            0 => 0,
            1 => often * 10,
            2 => often * 3,
            _ => often,
        };
        Self {
            answer_lost: some(12),
            try_again: some(20),
            held_up: some(25),
            dies: some(600),
            report_lost: some(15),
            record_lost: some(15),
            record_twice: some(12),
            fatal: some(80),
            full: some(20),
            refused: some(150),
        }
    }
}

/// The shared part of a schedule.
pub struct World {
    /// Chance.
    pub dice: Dice,
    /// What happened.
    pub trace: Trace,
    /// The orchestrator's database.
    rows: Mutex<Rows>,
    /// The broker.
    pub broker: Broker,
    /// How many shards there are.
    pub shard_count: ShardCount,
    /// What is wrong with this world.
    pub wrong: Option<Wrong>,
    odds: Odds,
    calm: AtomicBool,
    began: Instant,
    database_back: Mutex<Instant>,
    /// The sendings that the broker has refused.
    refused: Mutex<BTreeSet<String>>,
    /// What is a violation by itself, such as a panic.
    pub found: Mutex<Vec<String>>,
    /// How many records producers were given, each as often as it was.
    pub sendings: AtomicU64,
}

impl World {
    /// A world at its beginning.
    pub fn new(seed: u64, lines: usize, wrong: Option<Wrong>) -> Arc<Self> {
        let dice = Dice::seeded(seed);
        let odds = Odds::drawn(&dice);
        let shards = u16::try_from(2 + dice.below(3)).unwrap_or(2);
        let count = ShardCount::new(shards).unwrap_or(ONE);
        Arc::new(Self::build(dice, odds, lines, wrong, count))
    }

    /// A world in which nothing goes wrong.
    pub fn kind(shards: ShardCount) -> Arc<Self> {
        Self::kind_of(0, shards)
    }

    /// A world in which nothing goes wrong by itself, and the rest follows from a seed.
    pub fn kind_of(seed: u64, shards: ShardCount) -> Arc<Self> {
        let world = Self::build(Dice::seeded(seed), Odds::KIND, 0, None, shards);
        world.be_calm();
        Arc::new(world)
    }

    fn build(dice: Dice, odds: Odds, lines: usize, wrong: Option<Wrong>, shard_count: ShardCount) -> Self {
        let began = Instant::now();
        let broker = Broker::new(&dice, began);
        Self {
            dice,
            trace: Trace::keeping(lines),
            rows: Mutex::new(Rows::new(shard_count, wrong)),
            broker,
            shard_count,
            wrong,
            odds,
            calm: AtomicBool::new(false),
            began,
            database_back: Mutex::new(began),
            refused: Mutex::default(),
            found: Mutex::default(),
            sendings: AtomicU64::new(0),
        }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        BEGINNING.after(self.began.elapsed())
    }

    /// What goes wrong at the moment.
    pub fn odds(&self) -> &Odds {
        const KIND: &Odds = &Odds::KIND;
        if self.is_calm() { KIND } else { &self.odds }
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// From now on nothing goes wrong.
    pub fn be_calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
        *lock(&self.database_back) = self.began;
        self.broker.come_back(self.began);
        self.note(format_args!("calm"));
    }

    /// Whether this world is wrong in that way.
    pub fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    /// The tables.
    pub fn rows(&self) -> MutexGuard<'_, Rows> {
        lock(&self.rows)
    }

    /// The database answers nobody for so long.
    pub fn take_database_away(&self, length: Duration) {
        *lock(&self.database_back) = Instant::now() + length;
    }

    /// Whether the database answers nobody.
    pub fn database_is_away(&self) -> bool {
        *lock(&self.database_back) > Instant::now()
    }

    /// Whether the broker refuses a command this time. It may take the same one another time: a topic was made meanwhile, or
    /// a limit raised.
    pub fn refuses(&self, command: &Record) -> bool {
        let refuses = self.dice.once_in(self.odds().refused);
        if refuses {
            self.refused(command);
        }
        refuses
    }

    /// The broker has refused a command.
    pub fn refused(&self, command: &Record) {
        let text = |header| command.headers.text(header).unwrap_or_default();
        let (id, attempt) = (text(name::COMMAND_ID), text(name::ATTEMPT));
        lock(&self.refused).insert(format!("{id} attempt {attempt} of {}", text(name::SAGA_ID)));
    }

    /// Whether a sending was refused, as the oracle names it at the end of a detail. The journal does not say so where the
    /// saga had gone on, or where an earlier copy may have been written.
    pub fn has_refused(&self, sending: &str) -> bool {
        lock(&self.refused).iter().any(|refused| sending.ends_with(refused))
    }

    /// Something happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now(), what);
    }

    /// Something is wrong, whatever the evidence says.
    pub fn complain(&self, what: String) {
        self.note(format_args!("{what}"));
        lock(&self.found).push(what);
    }
}

const ONE: ShardCount = ShardCount::new(1).expect("one is not zero");

/// What a mutex guards: no task panics while it holds one, and if it did, the schedule is over.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
