//! Processes that die at every point of [`participant::crash`] that they pass while sagas take their course: one point,
//! one passing, one death at a time. A course that a death has disturbed must end as it would have.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use messaging::{Headers, Record};
use participant::crash::{DIED, Point};
use uuid::Uuid;

use crate::api::BookingRequest;
use crate::kafka::{self, COMMAND_PARTITIONS};
use crate::load::{Accepted, End, insist};
use crate::oracle::evidence::{Place, Planted};
use crate::process::{Program, Service};
use crate::stack::{Orchestrator, Stack};
use crate::wait::{SOON, eventually};

/// How long a course may take to its end, with a death and a new start in it.
const COURSE: Duration = Duration::from_secs(90);
/// A dead member is out of its group after this long, and the embedded broker's rebalance takes as long less a second:
/// that is what most of a case is. And several such stacks at once leave a machine no rest if they ask for records as
/// often as they do by default.
const CLIENTS: &str = "session.timeout.ms=1300\nheartbeat.interval.ms=200\nfetch.wait.max.ms=20\n";

/// What happens while processes die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// A booking in which every step succeeds: 4 transitions, 3 commands.
    Completed,
    /// A booking whose last step is refused, so that the money is given back and then the reservation is cancelled:
    /// 6 transitions, 5 commands.
    Undone,
    /// A booking whose payment fails twice before it succeeds.
    Unavailable,
    /// A record in the orchestrator's inbox that nobody can read.
    PoisonReply,
    /// A command for the booking worker that nobody can read.
    PoisonCommand,
}

/// A process that dies at each passing of a point during a course.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Which process.
    pub program: Program,
    /// Where.
    pub point: Point,
    /// When it is started again it dies at these points, one after the other, before it may live.
    pub again: &'static [Point],
    /// During which course.
    pub course: Course,
    /// The point is passed at least so often: at each step that the course has.
    pub times: u32,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} of {:?}", self.program.name(), self.point.name(), self.course)?;
        self.again.iter().try_for_each(|point| write!(f, ", then at {}", point.name()))
    }
}

/// Everything that dies, most deaths first.
pub fn cases() -> VecDeque<Case> {
    use Course::{Completed, PoisonCommand, PoisonReply, Unavailable, Undone};
    use Point::{
        BatchCarriedOut, BatchCommitted, BatchDecided, BatchPublished, CallsAnswered, CallsClaimed,
        CallsSettled, EffectsCommitted, EffectsMade, FailuresRecorded, LettersKept, RecordAcknowledged,
        RecordRepublished, RepliesPublished, ShardsClaimed, ShardsRecovered, WatermarkMoved, WatermarkSaved,
    };
    use Program::{BookingWorker, Orchestrator, PaymentWorker};
    let mut cases = Vec::new();
    let mut add = |program, points: &[Point], courses: &[(Course, u32)]| {
        for &point in points {
            let case = |&(course, times)| Case { program, point, again: &[], course, times };
            cases.extend(courses.iter().map(case));
        }
    };
    add(Orchestrator, &[BatchDecided, BatchCommitted, BatchCarriedOut], &[(Completed, 4), (Undone, 6)]);
    add(Orchestrator, &[BatchDecided, BatchCommitted, BatchCarriedOut], &[(PoisonReply, 1)]);
    // Also the announcements of a start and of an end.
    add(Orchestrator, &[RecordAcknowledged], &[(Completed, 5), (Undone, 7), (PoisonReply, 1)]);
    add(Orchestrator, &[WatermarkMoved, WatermarkSaved], &[(Completed, 1), (Undone, 1)]);
    add(Orchestrator, &[LettersKept], &[(PoisonCommand, 1)]);
    let answered = [EffectsMade, EffectsCommitted, RepliesPublished, BatchPublished];
    add(BookingWorker, &answered, &[(Completed, 2), (Undone, 3)]);
    add(BookingWorker, &[RepliesPublished, BatchPublished], &[(PoisonCommand, 1)]);
    add(PaymentWorker, &answered, &[(Completed, 1), (Undone, 2)]);
    add(PaymentWorker, &[CallsClaimed, CallsAnswered, CallsSettled], &[(Completed, 1), (Undone, 2)]);
    add(PaymentWorker, &[FailuresRecorded], &[(Unavailable, 2)]);
    // Whoever takes over dies of it as well, and whoever takes over from that one.
    let again = &[ShardsClaimed, ShardsRecovered, RecordRepublished];
    for (course, times) in [(Completed, 4), (Undone, 6)] {
        cases.push(Case { program: Orchestrator, point: BatchCommitted, again, course, times });
    }
    cases.sort_by_key(|case| std::cmp::Reverse(case.times as usize * (1 + case.again.len())));
    cases.into()
}

/// A stack in which processes die, and what came of it.
pub struct Deaths<'s> {
    stack: &'s Stack,
    /// Of this resource no booking is ever confirmed.
    refused: Uuid,
    accepted: Mutex<Vec<Accepted>>,
    planted: Mutex<Vec<Planted>>,
    struck: Mutex<BTreeSet<Point>>,
}

impl<'s> Deaths<'s> {
    /// Starts the services of a stack without any; the bookings of one resource are not to be confirmed.
    ///
    /// # Errors
    /// The database refuses, or a service does not start.
    pub async fn on(stack: &'s Stack) -> Result<Self> {
        let refused = Uuid::new_v4();
        let refuse = format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER refuse BEFORE UPDATE ON bookings FOR EACH ROW \
             WHEN (NEW.status = 'confirmed' AND NEW.resource_id = '{refused}') EXECUTE FUNCTION refuse()"
        );
        stack.bookings.execute(&refuse).await?;
        fs::write(stack.kafka_properties(), CLIENTS).context("the properties")?;
        stack.start_services_again().await?;
        Ok(Self {
            stack,
            refused,
            accepted: Mutex::default(),
            planted: Mutex::default(),
            struck: Mutex::default(),
        })
    }

    /// The bookings that were accepted.
    pub fn accepted(&self) -> Vec<Accepted> {
        lock(&self.accepted).clone()
    }

    /// The records that nobody can read.
    pub fn planted(&self) -> Vec<Planted> {
        lock(&self.planted).clone()
    }

    /// Where processes have died.
    pub fn struck(&self) -> BTreeSet<Point> {
        lock(&self.struck).clone()
    }

    /// Takes the course again and again, with a death at the first passing of the point, at the second, and so on, until
    /// there is none to die at; says how many there were.
    ///
    /// # Errors
    /// The point is passed too seldom, a process ends otherwise, or a course does not end as it should.
    pub async fn of(&self, case: Case) -> Result<u32> {
        let mut deaths = 0;
        while self.once(case, deaths + 1).await.with_context(|| format!("{case}, passing {}", deaths + 1))? {
            deaths += 1;
        }
        Ok(deaths)
    }

    /// Whether there was such a passing.
    async fn once(&self, case: Case, passing: u32) -> Result<bool> {
        let (stack, program) = (self.stack, case.program);
        let process = Running::of(stack, program)?;
        arm(stack, program, Some((case.point, passing)))?;
        let mut course = pin!(self.take(case.course));
        let died = tokio::select! {
            biased;
            died = self.dies(process.service(), case.point, COURSE) => died.map(|()| true)?,
            taken = &mut course => taken.map(|()| false)?,
        };
        if !died {
            // What is passed after all that was expected may be passed at this very moment.
            if passing > case.times && !arm(stack, program, None)? {
                return Ok(false);
            }
            // What it passes last it may pass after the course has ended.
            self.dies(process.service(), case.point, SOON).await?;
        }
        let revived = async {
            for &point in case.again {
                arm(stack, program, Some((point, 1)))?;
                self.dies(&stack.run(program, &["serve"])?, point, SOON).await?;
            }
            arm(stack, program, None)?;
            match program {
                Program::Orchestrator => stack.start_orchestrator().await.map(drop),
                worker => stack.start_worker(worker).map(drop),
            }
        };
        if died {
            tokio::try_join!(revived, course).map(drop)?
        } else {
            revived.await?
        }
        Ok(true)
    }

    /// Waits until a process has died at that point.
    async fn dies(&self, process: &Service, point: Point, limit: Duration) -> Result<()> {
        let status = process.ended(limit).await?;
        let said = format!("dies at {},", point.name());
        let as_told = status.signal() == Some(libc::SIGABRT) && process.output()?.contains(&said);
        ensure!(as_told, "it ended with {status}\n{}", process.last_words());
        lock(&self.struck).insert(point);
        Ok(())
    }

    /// Takes a course to its end, and until everything that it led to is published.
    async fn take(&self, course: Course) -> Result<()> {
        match course {
            Course::Completed => self.book(BookingRequest::default(), End::Completed).await?,
            Course::Undone => self.book(BookingRequest::of(self.refused), End::Compensated).await?,
            Course::Unavailable => self.book(BookingRequest::forced("unavailable"), End::Completed).await?,
            Course::PoisonReply => self.plant("saga.inbox", kafka::SHARDS).await?,
            Course::PoisonCommand => self.plant("booking.commands", COMMAND_PARTITIONS).await?,
        }
        let behind = "SELECT count(*) AS n FROM shard WHERE published_seq < next_seq - 1";
        eventually("all is published", COURSE, async || {
            Ok((self.stack.sagas.number(behind, vec![]).await? == 0).then_some(()))
        })
        .await
    }

    async fn book(&self, booking: BookingRequest, end: End) -> Result<()> {
        let saga = insist(self.stack, &booking.keyed(Uuid::new_v4().to_string()), 0).await?;
        lock(&self.accepted).push(Accepted { saga, end });
        let status = match end {
            End::Completed => "completed",
            End::Compensated => "compensated",
        };
        let ended = "SELECT count(*) AS n FROM saga WHERE id = $1 AND status = $2";
        eventually(&format!("{saga} is {status}"), COURSE, async || {
            let values = vec![saga.as_uuid().into(), status.into()];
            Ok((self.stack.sagas.number(ended, values).await? == 1).then_some(()))
        })
        .await
    }

    /// Publishes a record that nobody can read and waits until it is kept.
    async fn plant(&self, topic: &str, partitions: u16) -> Result<()> {
        let partition = i32::try_from(lock(&self.planted).len())? % i32::from(partitions);
        let record = Record {
            partition: Some(partition),
            ..Record::new(topic, Uuid::new_v4().to_string(), b"nobody can read this".to_vec(), Headers::new())
        };
        let placed = kafka::publish(&self.stack.kafka_settings(), vec![record]).await?;
        let offset = placed.first().context("it was placed")?.offset;
        let place = Place { topic: topic.to_owned(), partition, offset };
        let kept = "SELECT count(*) AS n FROM dead_letter WHERE topic = $1 AND partition = $2 AND record_offset = $3";
        let what = format!("{place} is kept");
        let is_kept = eventually(&what, COURSE, async || {
            let values = vec![topic.into(), partition.into(), offset.into()];
            Ok((self.stack.sagas.number(kept, values).await? == 1).then_some(()))
        });
        lock(&self.planted).push(Planted { place: place.clone(), letter: &["undecodable"] });
        is_kept.await
    }
}

/// A process of a stack.
enum Running {
    Orchestrator(Arc<Orchestrator>),
    Worker(Arc<Service>),
}

impl Running {
    /// The one that was started last.
    fn of(stack: &Stack, program: Program) -> Result<Self> {
        Ok(match program {
            Program::Orchestrator => Self::Orchestrator(stack.orchestrator()?),
            worker => Self::Worker(stack.worker(worker)?),
        })
    }

    fn service(&self) -> &Service {
        match self {
            Self::Orchestrator(orchestrator) => &orchestrator.service,
            Self::Worker(service) => service,
        }
    }
}

/// All processes of a program die at that passing, counted from now; or live. Whether one has died of what was there
/// before.
fn arm(stack: &Stack, program: Program, at: Option<(Point, u32)>) -> Result<bool> {
    let path = stack.crash_file(program);
    let change = || {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        file.lock()?;
        let mut before = String::new();
        file.read_to_string(&mut before)?;
        file.rewind()?;
        file.set_len(0)?;
        if let Some((point, passing)) = at {
            write!(file, "{}:{passing}", point.name())?;
        }
        std::io::Result::Ok(before == DIED)
    };
    change().with_context(|| format!("change {}", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
