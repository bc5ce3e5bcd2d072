//! One schedule, from its seed to the judgement.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::orchestrator::definitions::Definitions;
use ::orchestrator::engine::{DEAD_LETTERS, EVENTS, INBOX};
use ::orchestrator::metrics::Metrics;
use saga_defs::definition::Definition;
use tests::oracle::evidence::Evidence;
use tests::oracle::judge::{self, Violation};
use tokio::time::{Instant, sleep};

use crate::clients::Public;
use crate::group::Group;
use crate::nemesis::Nemesis;
use crate::orchestrator::{PARTITIONS, Release, Slot};
use crate::worker::manner::{Manners, replies};
use crate::worker::{Participant, Place};
use crate::world::{World, lock};
use crate::wrong::Wrong;
use crate::{evidence, ledger, recipes};

/// How long a schedule is disturbed.
const DISTURBED_MS: (u64, u64) = (8_000, 40_000);
/// How long it may take from calm until nothing waits.
const SETTLE_LIMIT: Duration = Duration::from_secs(2 * 3_600);
/// How often it is looked whether anything waits.
const LOOK: Duration = Duration::from_secs(1);

/// What a schedule is run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Everything follows from it.
    pub seed: u64,
    /// What is wrong with the world; `None`: nothing.
    pub wrong: Option<Wrong>,
    /// How many of its last lines are kept.
    pub lines: usize,
}

impl Setting {
    /// An ordinary schedule.
    pub const fn seed(seed: u64) -> Self {
        Self { seed, wrong: None, lines: 0 }
    }
}

/// What came of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What does not hold.
    pub violations: Vec<String>,
    /// What would not hold either, if the broker had not refused a command.
    pub excused: usize,
    /// Of everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// The last of it.
    pub lines: Vec<String>,
    /// Sagas that were started.
    pub sagas: usize,
    /// Transitions in all journals.
    pub transitions: usize,
    /// Claims of shards, and other changes of owner.
    pub epochs: i64,
    /// Virtual time.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} sagas, {} transitions, {} epochs, {} s",
            self.seed,
            self.sagas,
            self.transitions,
            self.epochs,
            self.took.as_secs()
        )?;
        for line in &self.lines {
            writeln!(f, "  {line}")?;
        }
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        Ok(())
    }
}

/// Runs a schedule. The runtime has to be of the kind `current_thread`, with time that is paused.
pub async fn run(setting: Setting) -> Report {
    let began = Instant::now();
    let world = World::new(setting.seed, setting.lines, setting.wrong);
    let stage = Stage::build(&world, setting.seed, recipes::all().to_vec());
    stage.raise();
    stage.let_clients_in();
    let disturbed = world.dice.millis(DISTURBED_MS.0, DISTURBED_MS.1);
    stage.nemesis.strike(disturbed).await;
    world.be_calm();
    stage.settle().await;
    stage.report(setting.seed, began)
}

/// What the oracle finds, but for what the schedule or its broker is to blame for.
pub fn judge(world: &World, evidence: &Evidence) -> Vec<String> {
    judge_all(world, evidence).0
}

/// As [`judge`], and what the broker is to blame for.
fn judge_all(world: &World, evidence: &Evidence) -> (Vec<String>, usize) {
    // That nothing completed is an accident of a short schedule.
    let found = judge::judge(evidence).into_iter().filter(|violation| violation.name != "no progress");
    let counts = |violation: &Violation| match violation.name {
        // A broker that refuses a command may never have it, or have it late: a copy that an owner before sent may still be
        // on its way when the saga goes on. Nobody can know whether it comes, so nothing waits for it.
        "command never published" | "commands out of order" => !world.has_refused(&violation.detail),
        _ => true,
    };
    let (found, excused): (Vec<Violation>, Vec<Violation>) = found.partition(counts);
    (found.iter().map(ToString::to_string).collect(), excused.len())
}

/// Everybody in a schedule.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    pub(crate) nemesis: Nemesis,
    pub(crate) public: Arc<Public>,
}

fn release() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| Release {
        definitions: Definitions::of(recipes::all().iter().map(|recipe| (**recipe).clone())),
        metrics: Metrics::new().expect("the registry of metrics is new"),
    })
}

impl Stage {
    /// Everybody, not yet there; clients will ask for sagas of this repertoire.
    pub(crate) fn build(world: &Arc<World>, seed: u64, repertoire: Vec<Arc<Definition>>) -> Self {
        let shards = world.shard_count.get();
        world.broker.create(INBOX, shards);
        world.broker.create(EVENTS, PARTITIONS);
        world.broker.create(DEAD_LETTERS, 1);
        let steps = recipes::all().iter().flat_map(|recipe| &recipe.steps);
        let names: BTreeSet<Arc<str>> = steps.map(|step| step.participant.clone()).collect();
        static REPLIES: OnceLock<Manners> = OnceLock::new();
        let manners = REPLIES.get_or_init(|| Manners::new(0, replies(recipes::all()))).with_seed(seed);
        let mut participants = Vec::new();
        for name in names {
            world.broker.create(&format!("{name}.commands"), PARTITIONS);
            participants.push(Participant::new(world, name, manners.clone()));
        }
        let mut places = Vec::new();
        for participant in &participants {
            let count = 1 + usize::from(world.dice.once_in(3));
            places.extend((0..count).map(|number| Place::new(participant, number)));
        }
        let group = Group::new(INBOX, shards);
        let count = 1 + world.dice.below(3);
        let slots: Vec<Arc<Slot>> =
            (0..count).map(|number| Slot::new(world, &group, release(), number)).collect();
        let public = Public::new(world, &slots, repertoire);
        let nemesis = Nemesis { world: world.clone(), group, slots, places, participants };
        Self { world: world.clone(), nemesis, public }
    }

    /// Lets all processes start.
    pub(crate) fn raise(&self) {
        for slot in &self.nemesis.slots {
            tokio::spawn(slot.clone().keep_running());
        }
        for place in &self.nemesis.places {
            tokio::spawn(place.clone().keep_running());
        }
    }

    /// Some clients, and perhaps an operator.
    fn let_clients_in(&self) {
        for _ in 0..1 + self.world.dice.below(3) {
            self.public.add_client(1 + self.world.dice.below(5));
        }
        if self.world.dice.once_in(2) {
            tokio::spawn(self.public.clone().meddle());
        }
    }

    /// Waits until nothing waits.
    pub(crate) async fn settle(&self) {
        let end = Instant::now() + SETTLE_LIMIT;
        let mut quiet = 0;
        while Instant::now() < end && quiet < 3 {
            sleep(LOOK).await;
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            if quiet == 0 && self.world.dice.once_in(20) {
                self.public.help().await;
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let idle = self.nemesis.participants.iter().all(|participant| participant.is_idle());
        if !self.public.all_told() || !idle {
            return false;
        }
        let rows = self.world.rows();
        let published =
            rows.shards.values().all(|row| row.published_seq == row.next_seq - 1 && !row.republish);
        let broker = &self.world.broker;
        let read =
            rows.shards.iter().all(|(shard, row)| row.inbox_offset >= broker.end(INBOX, i32::from(shard.0)));
        published && read && rows.sagas.values().all(|saga| saga.finished_at.is_some())
    }

    pub(crate) fn report(self, seed: u64, began: Instant) -> Report {
        let participants = &self.nemesis.participants;
        let evidence = evidence::gather(&self.world, participants, self.public.starts());
        let (mut violations, excused) = judge_all(&self.world, &evidence);
        let rows = self.world.rows();
        violations.extend(ledger::judge(&rows, participants));
        violations.extend(lock(&self.world.found).iter().cloned());
        violations.sort_unstable();
        Report {
            seed,
            violations,
            excused,
            hash: self.world.trace.hash(),
            events: self.world.trace.count(),
            lines: self.world.trace.lines(),
            sagas: rows.sagas.len(),
            transitions: rows.journal.values().map(Vec::len).sum(),
            epochs: rows.shards.values().map(|row| row.epoch).sum(),
            took: began.elapsed(),
        }
    }
}
