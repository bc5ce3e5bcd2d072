//! One reader of the journal per process, which fans out: whoever listens costs the database nothing more, and a client
//! that is slow loses its own stream and holds up nobody. Nothing is read while nobody listens.
//!
//! It reads what is committed, from Postgres, so it also tells what other processes do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use saga_defs::ids::SagaId;
use saga_defs::time::Timestamp;
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::engine::clock;
use crate::store::StoreError;
use crate::store::queries::Reads;
use crate::store::tail::TailRow;

/// Clients that listen at once, of all streams; one more is answered with `503`.
pub(crate) const EVENT_READERS: usize = 256;
/// How often the journal is looked at while somebody listens.
const PAUSE: Duration = Duration::from_millis(200);
/// How soon the next page is read where there is more: nobody's burst takes the database from the engine.
const NEXT_PAGE: Duration = Duration::from_millis(20);
/// How long to wait after the database did not answer.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);
/// Transitions of one look.
pub(crate) const PAGE: usize = 2_000;
/// Transitions that wait for a client; one that is further behind is cut off, and may come back with its position.
const BACKLOG: usize = 8_192;
/// The same, of one saga.
const SAGA_BACKLOG: usize = 256;
/// Clients that catch up at once; others wait for their turn.
const CATCHING_UP: usize = 2;

/// A transition, shared by all who listen.
pub(crate) type Told = Arc<Telling>;

/// A transition, and how it is told: written once, by the first who needs it.
pub(crate) struct Telling {
    pub(crate) row: TailRow,
    pub(crate) text: OnceCell<Bytes>,
}

impl Telling {
    /// A transition that nobody has told yet.
    pub(crate) fn new(row: TailRow) -> Self {
        Self { row, text: OnceCell::new() }
    }
}

/// How far each shard's journal has been told, by the shard's number.
pub(crate) type Place = Vec<i64>;

/// Who listens to all sagas.
struct Everything {
    /// `None`: nobody listens, so nothing is read.
    place: Option<Place>,
    sender: broadcast::Sender<Told>,
}

/// Who listens to one saga.
struct Watched {
    revision: i32,
    sender: broadcast::Sender<Told>,
}

/// The reader, and who listens.
pub(crate) struct Feed {
    reads: Reads,
    everything: Mutex<Everything>,
    watched: Mutex<HashMap<SagaId, Watched>>,
    somebody: Notify,
    slots: Arc<Semaphore>,
    catching_up: Semaphore,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// For so many clients.
    pub(crate) fn new(reads: Reads, readers: usize) -> Self {
        Self {
            reads,
            everything: Mutex::new(Everything { place: None, sender: broadcast::Sender::new(BACKLOG) }),
            watched: Mutex::default(),
            somebody: Notify::new(),
            slots: Arc::new(Semaphore::new(readers)),
            catching_up: Semaphore::new(CATCHING_UP),
        }
    }

    /// Room for one more client; `None`: there is none.
    pub(crate) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Listens to all sagas: what is told comes after the place given.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn everything(&self) -> Result<(broadcast::Receiver<Told>, Place), StoreError> {
        let ends = self.reads.ends().await?;
        let mut everything = locked(&self.everything);
        // In one step: nothing is told between the place and the first that is received.
        let place = everything.place.get_or_insert(ends).clone();
        let receiver = everything.sender.subscribe();
        drop(everything);
        self.somebody.notify_one();
        Ok((receiver, place))
    }

    /// Listens to one saga that is at `revision` by now: what is told comes after the revision that is given back.
    pub(crate) fn saga(&self, saga: SagaId, revision: i32) -> (broadcast::Receiver<Told>, i32) {
        let mut watched = locked(&self.watched);
        let fresh = || Watched { revision, sender: broadcast::Sender::new(SAGA_BACKLOG) };
        let watched = watched.entry(saga).or_insert_with(fresh);
        let listens = (watched.sender.subscribe(), watched.revision);
        self.somebody.notify_one();
        listens
    }

    /// A page of what comes after a place, up to another. Few at a time, whoever asks.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn page(&self, after: &[i64], until: &[i64]) -> Result<Vec<TailRow>, StoreError> {
        let _turn = self.catching_up.acquire().await;
        self.reads.after(after, until, None, PAGE).await
    }

    /// Reads and tells until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut looked = clock::now();
        let mut away = false;
        loop {
            let began = clock::now();
            let pause = match self.look(looked).await {
                Ok(heard) => {
                    (looked, away) = (began, false);
                    match heard {
                        Heard::Nobody => None,
                        Heard::All => Some(PAUSE),
                        Heard::More => Some(NEXT_PAGE),
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%error, "event streams stand still: the journal cannot be read");
                    }
                    Some(TROUBLE_PAUSE)
                }
            };
            let wait = async {
                match pause {
                    None => self.somebody.notified().await,
                    Some(pause) => tokio::time::sleep(pause).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => {}
            }
        }
    }

    async fn look(&self, looked: Timestamp) -> Result<Heard, StoreError> {
        let (all, some) = tokio::join!(self.look_at_all(looked), self.look_at_watched());
        Ok(all?.max(some?))
    }

    async fn look_at_all(&self, looked: Timestamp) -> Result<Heard, StoreError> {
        let place = {
            let mut everything = locked(&self.everything);
            if everything.sender.receiver_count() == 0 {
                everything.place = None;
            }
            everything.place.clone()
        };
        let Some(place) = place else { return Ok(Heard::Nobody) };
        let ends = self.reads.ends().await?;
        let mut rows = self.reads.after(&place, &ends, Some(looked), PAGE).await?;
        if !follows(&place, &rows) || (rows.is_empty() && place != ends) {
            // Some process' clock is far off, or we have not looked for long.
            rows = self.reads.after(&place, &ends, None, PAGE).await?;
        }
        let mut everything = locked(&self.everything);
        let Everything { place, sender } = &mut *everything;
        let Some(place) = place else { return Ok(Heard::Nobody) };
        for row in rows {
            advance(place, &row);
            // Nobody listening any more is noticed at the next look.
            let _ = sender.send(Arc::new(Telling::new(row)));
        }
        Ok(if *place == ends { Heard::All } else { Heard::More })
    }

    async fn look_at_watched(&self) -> Result<Heard, StoreError> {
        let known: Vec<(SagaId, i32)> = {
            let mut watched = locked(&self.watched);
            watched.retain(|_, watched| watched.sender.receiver_count() > 0);
            watched.iter().map(|(saga, watched)| (*saga, watched.revision)).collect()
        };
        if known.is_empty() {
            return Ok(Heard::Nobody);
        }
        let rows = self.reads.moved(&known).await?;
        let mut watched = locked(&self.watched);
        for row in rows {
            let Some(entry) = row.saga.and_then(|saga| watched.get_mut(&saga)) else { continue };
            // Another entry may have taken this one's place meanwhile.
            if row.revision > entry.revision {
                entry.revision = row.revision;
                let _ = entry.sender.send(Arc::new(Telling::new(row)));
            }
        }
        Ok(Heard::All)
    }
}

/// What a look came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nobody,
    All,
    More,
}

/// Notes that a row has been told.
pub(crate) fn advance(place: &mut Place, row: &TailRow) {
    if let Some(seq) = usize::try_from(row.shard).ok().and_then(|shard| place.get_mut(shard)) {
        *seq = row.seq.max(*seq);
    }
}

/// Whether a row comes after a place.
pub(crate) fn is_after(place: &Place, row: &TailRow) -> bool {
    usize::try_from(row.shard).ok().and_then(|shard| place.get(shard)).is_some_and(|seq| row.seq > *seq)
}

/// Whether the rows follow the place and each other without a gap.
pub(crate) fn follows(place: &Place, rows: &[TailRow]) -> bool {
    let mut at = place.clone();
    rows.iter().all(|row| {
        let shard = usize::try_from(row.shard).unwrap_or(usize::MAX);
        let next = at.get(shard).is_some_and(|seq| row.seq == seq + 1);
        advance(&mut at, row);
        next
    })
}
