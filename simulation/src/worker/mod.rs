//! Workers: they answer commands as the crate `participant` does, by its pure rule `saga_defs::participant`, over an inbox
//! in memory. [`books`] is what they write down, [`manner`] what they are made to do.

pub mod books;
pub mod manner;
mod replies;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use messaging::headers::CommandHeaders;
use messaging::{ConsumerEvent, Received};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use self::books::{Admitted, Answer, Books};
use self::manner::Manners;
use self::replies::Acknowledged;
use crate::group::{Assigned, Group, Membership};
use crate::orchestrator::PARTITIONS;
use crate::process::Process;
use crate::world::{World, lock};

/// The longest that a transaction takes.
const TRANSACTION_MS: u64 = 8;
/// How long nothing is heard of a transaction before the worker asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest until a worker that died is there again.
const RESTART_MS: u64 = 4_000;
/// The longest that a call to the outside takes.
const CALL_MS: u64 = 60;
/// Batches between the member of the group and the worker.
const QUEUED_BATCHES: usize = 4;

/// A participant: its books, and the group of its workers.
pub struct Participant {
    world: Arc<World>,
    name: Arc<str>,
    group: Arc<Group>,
    books: Mutex<Books>,
    manners: Manners,
}

impl Participant {
    /// With empty books.
    pub fn new(world: &Arc<World>, name: Arc<str>, manners: Manners) -> Arc<Self> {
        let group = Group::new(&format!("{name}.commands"), PARTITIONS);
        Arc::new(Self { world: world.clone(), name, group, books: Mutex::default(), manners })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is written down.
    pub fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        lock(&self.books)
    }

    /// Whether every command is done.
    pub fn is_idle(&self) -> bool {
        let (broker, topic) = (&self.world.broker, format!("{}.commands", self.name));
        let done = |at| self.group.committed(broker.incarnation(), at) >= broker.end(&topic, at);
        (0..i32::from(PARTITIONS)).all(done)
    }

    /// Hands its partitions out anew.
    pub fn rebalance(&self) {
        self.group.rebalance();
    }
}

/// A place where a worker runs, one process after the other.
pub struct Place {
    participant: Arc<Participant>,
    number: usize,
    running: Mutex<Option<Process>>,
}

impl Place {
    /// An empty place.
    pub fn new(participant: &Arc<Participant>, number: usize) -> Arc<Self> {
        Arc::new(Self { participant: participant.clone(), number, running: Mutex::default() })
    }

    /// The process that runs here at the moment.
    pub fn running(&self) -> Option<Process> {
        lock(&self.running).clone()
    }

    /// Starts a process whenever there is none.
    pub async fn keep_running(self: Arc<Self>) {
        let world = &self.participant.world;
        for run in 1.. {
            let name = format!("{}{}.{run}", self.participant.name, self.number);
            let process = Process::new(world, name.into());
            let (out, events) = mpsc::channel(QUEUED_BATCHES);
            let told = FromCommitted(self.participant.clone());
            let group = self.participant.group.clone();
            process.spawn(Membership { world: world.clone(), group, told, out }.run());
            let worker = Worker {
                participant: self.participant.clone(),
                replies: Acknowledged::start(world, &process),
                process: process.clone(),
                incarnation: world.broker.incarnation(),
            };
            let served = process.spawn(worker.serve(events));
            *lock(&self.running) = Some(process.clone());
            world.note(format_args!("{process:?} starts"));
            if let Err(error) = served.await
                && error.is_panic()
            {
                world.complain(format!("{process:?} panicked: {error}"));
            }
            process.kill();
            *lock(&self.running) = None;
            sleep(world.dice.millis(0, RESTART_MS)).await;
        }
    }
}

/// Gives all partitions from where the group left them.
struct FromCommitted(Arc<Participant>);

#[async_trait]
impl Assigned for FromCommitted {
    async fn assigned(&mut self, _generation: u64, partitions: &[i32]) -> Option<Vec<Option<i64>>> {
        let (group, world) = (&self.0.group, &self.0.world);
        Some(partitions.iter().map(|&at| Some(group.committed(world.broker.incarnation(), at))).collect())
    }

    async fn revoked(&mut self, _partitions: &[i32]) {}

    fn lost(&mut self, _partitions: &[i32]) {}
}

/// One process of a participant.
struct Worker {
    participant: Arc<Participant>,
    replies: Acknowledged,
    process: Process,
    incarnation: Arc<str>,
}

impl Worker {
    async fn serve(self, mut events: mpsc::Receiver<ConsumerEvent>) {
        while let Some(event) = events.recv().await {
            if let ConsumerEvent::Records(polled) = event {
                self.answer(&polled.records).await;
            }
        }
    }

    /// One transaction for all; calls outside, and a second transaction for those; replies; offsets.
    async fn answer(&self, records: &[Received]) {
        let world = &self.participant.world;
        let read = |record: &Received| CommandHeaders::read(&record.headers).ok();
        let commands: Arc<Vec<CommandHeaders>> = Arc::new(records.iter().filter_map(read).collect());
        let work = {
            let commands = commands.clone();
            move |books: &mut Books, manners: &Manners, world: &World| {
                commands.iter().map(|command| books.admit(command, manners, world)).collect::<Vec<_>>()
            }
        };
        let admitted = self.transaction("answers", work).await;
        let mut answers: Vec<Answer> = Vec::new();
        for (command, admitted) in commands.iter().zip(admitted) {
            match admitted {
                Admitted::Answered(answer) => answers.push(answer),
                Admitted::Silent => {}
                Admitted::Claimed(first) => {
                    sleep(world.dice.millis(0, CALL_MS)).await;
                    answers.extend(self.call(command, first).await);
                }
            }
        }
        self.replies.publish(answers.iter().map(Answer::record).collect()).await;
        self.complete(records);
    }

    /// A call to the outside, made under a claim, and what it comes to.
    async fn call(&self, command: &CommandHeaders, first: bool) -> Option<Answer> {
        let participant = &self.participant;
        let made = lock(&participant.books).call(command, &participant.manners, &participant.world);
        let command = command.clone();
        let settle = move |books: &mut Books, manners: &Manners, world: &World| {
            books.settle(&command, made, first, manners, world)
        };
        self.transaction("settles", settle).await
    }

    fn complete(&self, records: &[Received]) {
        for record in records {
            self.participant.group.commit(self.incarnation.clone(), record.partition, record.offset + 1);
        }
    }

    /// Makes a transaction until it is answered. One whose answer is lost may have happened: then it finds what it left.
    async fn transaction<T, F>(&self, what: &'static str, work: F) -> T
    where
        T: Send + 'static,
        F: Fn(&mut Books, &Manners, &World) -> T + Clone + Send + Sync + 'static,
    {
        let world = &self.participant.world;
        loop {
            let (answer, answered) = oneshot::channel();
            let (there, back) = (world.dice.millis(0, TRANSACTION_MS), world.dice.millis(0, TRANSACTION_MS));
            let (participant, work) = (self.participant.clone(), work.clone());
            let name = self.process.name().clone();
            tokio::spawn(async move {
                sleep(there).await;
                let done = work(&mut participant.books(), &participant.manners, &participant.world);
                participant.world.note(format_args!("{name} {what}"));
                sleep(back).await;
                // Whoever asked may be gone.
                let _ = answer.send(done);
            });
            if world.dice.once_in(world.odds().answer_lost) {
                sleep(world.dice.millis(0, TRANSACTION_MS * 4)).await;
                continue;
            }
            if let Ok(Ok(done)) = timeout(PATIENCE, answered).await {
                return done;
            }
        }
    }
}
