//! A consumer group: hands partitions to its members, takes them away from those it has not heard of for too long, and
//! does not wait for anybody for ever. Whoever was frozen believes in what it had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use messaging::{ConsumerEvent, Polled, Received};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use crate::world::{World, lock};

/// A member that was not heard of for so long is out.
const SESSION: Duration = Duration::from_secs(4);
/// How long a rebalance waits for members that hold on to what they had.
const REBALANCE: Duration = Duration::from_secs(3);
/// How often a member asks the group.
const HEARTBEAT: Duration = Duration::from_millis(700);
/// At most so many records in one batch.
const MOST_RECORDS: usize = 12;

/// A consumer group of one topic.
pub struct Group {
    topic: Arc<str>,
    partitions: u16,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    round: u64,
    since: Option<Instant>,
    /// Whether the partitions of this round are handed out.
    settled: bool,
    members: BTreeMap<u64, Member>,
    next_member: u64,
    /// Offsets that members committed, by broker and partition.
    committed: BTreeMap<(Arc<str>, i32), i64>,
}

struct Member {
    heard: Instant,
    /// The round for which it has let everything go.
    released: u64,
    /// The round whose partitions it has.
    has: u64,
    partitions: Vec<i32>,
}

/// What a member is to do.
enum Word {
    Keep,
    LetGo(u64),
    Take(Vec<i32>),
    Out,
}

impl Group {
    /// Without members.
    pub fn new(topic: &str, partitions: u16) -> Arc<Self> {
        Arc::new(Self { topic: topic.into(), partitions, state: Mutex::default(), changed: Notify::new() })
    }

    fn join(&self) -> u64 {
        let mut state = lock(&self.state);
        let id = state.next_member;
        state.next_member += 1;
        state.begin_round();
        let round = state.round;
        let member = Member { heard: Instant::now(), released: round, has: 0, partitions: Vec::new() };
        state.members.insert(id, member);
        drop(state);
        self.changed.notify_waiters();
        id
    }

    /// Goes without being missed.
    pub fn leave(&self, member: u64) {
        let mut state = lock(&self.state);
        if state.members.remove(&member).is_some() {
            state.begin_round();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Hands everything out anew, for no reason.
    pub fn rebalance(&self) {
        lock(&self.state).begin_round();
        self.changed.notify_waiters();
    }

    /// Keeps how far a partition is done.
    pub fn commit(&self, incarnation: Arc<str>, partition: i32, next: i64) {
        lock(&self.state).committed.insert((incarnation, partition), next);
    }

    /// How far a partition is done.
    pub fn committed(&self, incarnation: Arc<str>, partition: i32) -> i64 {
        lock(&self.state).committed.get(&(incarnation, partition)).copied().unwrap_or(0)
    }

    fn ask(&self, member: u64, world: &World) -> Word {
        let mut state = lock(&self.state);
        let now = Instant::now();
        match state.members.get_mut(&member) {
            Some(member) => member.heard = now,
            None => return Word::Out,
        }
        let before = state.members.len();
        state.members.retain(|_, member| member.heard + SESSION > now);
        if state.members.len() < before {
            world.note(format_args!("{} loses members", self.topic));
            state.begin_round();
        }
        let round = state.round;
        if !state.settled {
            let over = state.since.is_none_or(|since| since + REBALANCE <= now);
            if over {
                state.members.retain(|_, member| member.released == round);
            }
            if state.members.values().all(|member| member.released == round) && !state.members.is_empty() {
                state.hand_out(self.partitions, world.dice.below(usize::from(self.partitions)));
            }
        }
        let settled = state.settled;
        let Some(member) = state.members.get_mut(&member) else { return Word::Out };
        if member.released < round {
            return Word::LetGo(round);
        }
        if settled && member.has < round {
            member.has = round;
            return Word::Take(member.partitions.clone());
        }
        Word::Keep
    }

    fn released(&self, member: u64, round: u64) {
        if let Some(member) = lock(&self.state).members.get_mut(&member) {
            member.released = round;
        }
        self.changed.notify_waiters();
    }
}

impl State {
    fn begin_round(&mut self) {
        self.round += 1;
        self.settled = false;
        self.since = Some(Instant::now());
    }

    fn hand_out(&mut self, partitions: u16, first: usize) {
        self.settled = true;
        let count = self.members.len();
        for (place, member) in self.members.values_mut().enumerate() {
            let mine = |partition: &u16| (usize::from(*partition) + first) % count == place;
            member.partitions = (0..partitions).filter(mine).map(i32::from).collect();
        }
    }
}

/// Is told which partitions come and go, and may take its time.
#[async_trait]
pub trait Assigned: Send {
    /// These are all; says where to start, in the same order (`None`: not at all). `None` at all if nobody is there.
    async fn assigned(&mut self, generation: u64, partitions: &[i32]) -> Option<Vec<Option<i64>>>;
    /// They are gone.
    async fn revoked(&mut self, partitions: &[i32]);
    /// The group was not heard of for longer than a session.
    fn lost(&mut self, partitions: &[i32]);
}

/// A member of a group, as its thread runs.
pub struct Membership<A> {
    /// The world.
    pub world: Arc<World>,
    /// The group.
    pub group: Arc<Group>,
    /// Who is told of partitions.
    pub told: A,
    /// Where records go.
    pub out: mpsc::Sender<ConsumerEvent>,
}

/// What a member reads.
#[derive(Default)]
struct Reading {
    generation: u64,
    next: BTreeMap<i32, i64>,
    owned: Vec<i32>,
    /// Since when the broker has been seen to be away.
    unheard_since: Option<Instant>,
    /// Whether that was for longer than a session, so that the group has to be joined anew.
    is_lost: bool,
}

impl<A: Assigned> Membership<A> {
    /// Reads until nobody listens.
    pub async fn run(mut self) {
        let mut member = self.group.join();
        let mut reading = Reading::default();
        while !self.out.is_closed() {
            match self.ask(member, &mut reading) {
                Word::Keep => {}
                Word::LetGo(round) => {
                    self.let_go(&mut reading).await;
                    self.group.released(member, round);
                    continue;
                }
                Word::Out => {
                    // A client may know that it was put out before the group's coordinator tells it, or not.
                    if self.world.dice.once_in(2) {
                        self.lose(&mut reading);
                    }
                    self.let_go(&mut reading).await;
                    member = self.group.join();
                    continue;
                }
                Word::Take(partitions) => {
                    reading.generation += 1;
                    let Some(starts) = self.told.assigned(reading.generation, &partitions).await else {
                        break;
                    };
                    let starts = partitions.iter().copied().zip(starts);
                    reading.next = starts.filter_map(|(place, start)| Some((place, start?))).collect();
                    reading.owned = partitions;
                }
            }
            if !self.read(&mut reading) {
                tokio::select! {
                    biased;
                    () = self.group.changed.notified() => {}
                    () = self.world.broker.grown() => {}
                    () = sleep(HEARTBEAT) => {}
                }
            }
        }
        self.group.leave(member);
    }

    /// What the group says, if it is heard of. If it is not for longer than a session, what it gave is lost.
    fn ask(&mut self, member: u64, reading: &mut Reading) -> Word {
        if !self.world.broker.is_away() {
            reading.unheard_since = None;
            if std::mem::take(&mut reading.is_lost) {
                self.group.leave(member);
                return Word::Out;
            }
            return self.group.ask(member, &self.world);
        }
        let since = *reading.unheard_since.get_or_insert_with(Instant::now);
        if since + SESSION < Instant::now() {
            reading.is_lost = true;
            self.lose(reading);
        }
        Word::Keep
    }

    fn lose(&mut self, reading: &mut Reading) {
        reading.next.clear();
        let owned = std::mem::take(&mut reading.owned);
        if !owned.is_empty() {
            self.world.note(format_args!("{} is lost: {owned:?}", self.group.topic));
            self.told.lost(&owned);
        }
    }

    async fn let_go(&mut self, reading: &mut Reading) {
        reading.next.clear();
        let owned = std::mem::take(&mut reading.owned);
        if !owned.is_empty() {
            self.told.revoked(&owned).await;
        }
    }

    /// Hands a batch out; whether there was one.
    fn read(&self, reading: &mut Reading) -> bool {
        if self.world.broker.is_away() {
            return false;
        }
        let Ok(room) = self.out.try_reserve() else { return false };
        let most = 1 + self.world.dice.below(MOST_RECORDS);
        let mut records: Vec<Received> = Vec::new();
        let mut vanished = None;
        for (&partition, next) in &mut reading.next {
            match self.world.broker.read(&self.group.topic, partition, *next, most) {
                Some(found) => {
                    *next += found.len() as i64;
                    records.extend(found);
                }
                None => vanished = Some(partition),
            }
        }
        if let Some(partition) = vanished {
            reading.next.remove(&partition);
            let (topic, text) = (self.group.topic.clone(), "offset out of range".to_owned());
            let generation = reading.generation;
            room.send(ConsumerEvent::OffsetVanished { generation, topic, partition, text });
            return true;
        }
        if records.is_empty() {
            return false;
        }
        let at = Instant::now().into_std();
        room.send(ConsumerEvent::Records(Polled { generation: reading.generation, at, records }));
        true
    }
}
