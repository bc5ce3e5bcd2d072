//! The participants as operators see them, and what keeps this process and the database in agreement about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use saga_defs::ids::SagaId;
use saga_defs::time::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::clock;
use crate::engine::handle::RequestKey;
use crate::engine::participants::board::{Board, Known, Line, Order};
use crate::engine::participants::health::{Cause, Limits};
use crate::store::audit::AuditRow;
use crate::store::commit::KeyWrite;
use crate::store::participants::StoredLine;
use crate::store::{Store, StoreError};

/// How often orders are read and holds are written down.
const EVERY: Duration = Duration::from_secs(1);
/// What a process holds is believed for so long after it said so.
const FRESH: Duration = Duration::from_secs(15);
/// A process that starts goes on holding what was held so long ago at most.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A participant, over all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Which.
    pub name: Arc<str>,
    /// `answering`, `held`, `paused` or `ramping`; where processes differ, the one furthest from answering.
    pub state: String,
    /// Why it is held.
    pub cause: Option<Cause>,
    /// Since when it is held or paused.
    pub since: Option<Timestamp>,
    /// How many sagas wait for it.
    pub waiting: u64,
    /// The oldest of them.
    pub oldest: Option<SagaId>,
    /// Its last good answer that anybody knows of.
    pub last_answer: Option<Timestamp>,
    /// When one command is let through to it next.
    pub next_probe: Option<Timestamp>,
    /// The last word of an operator on it.
    pub order: Option<Order>,
}

/// Where participants are looked at, paused and resumed. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    store: Store,
    board: Arc<Board>,
    process: Arc<str>,
}

impl Desk {
    /// With what the database knows at the start of this process.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(store: Store, process: Arc<str>, limits: Limits) -> Result<Self, StoreError> {
        let orders = store.participant_orders().await?;
        let holds = store.participant_holds(before(clock::now(), REMEMBERED)).await?;
        let known = |stored: StoredLine| {
            let (cause, since) = (stored.line.cause?, stored.line.since?);
            Some(Known { participant: stored.line.participant, cause, since })
        };
        let known = holds.into_iter().filter_map(known).collect();
        Ok(Self { store, board: Arc::new(Board::new(limits, orders, known)), process })
    }

    /// What the engine reads and writes.
    pub const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Keeps the board and the database in agreement, until told to stop. What is held stays written down then, so that
    /// whoever comes next goes on holding it.
    pub async fn keep(self, stop: CancellationToken) {
        let mut written = Vec::new();
        loop {
            if let Err(error) = self.agree(&mut written).await {
                tracing::debug!(%error, "what is held was not written down; trying again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn agree(&self, written: &mut Vec<Line>) -> Result<(), StoreError> {
        self.board.order(self.store.participant_orders().await?);
        let held: Vec<Line> = self.board.lines().into_iter().filter(Line::is_held).collect();
        if !held.is_empty() || !written.is_empty() {
            let now = clock::now();
            let times = [now, before(now, FRESH), before(now, REMEMBERED)];
            let still = |line: &Line| held.iter().any(|other| other.participant == line.participant);
            let released = written.iter().filter(|line| !still(line));
            let released = released.map(|line| line.participant.to_string()).collect();
            self.store.write_holds(&self.process, &held, released, times).await?;
        }
        *written = held;
        Ok(())
    }

    /// These participants, and every other that somebody holds.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn all(
        &self,
        names: impl IntoIterator<Item = Arc<str>>,
    ) -> Result<Vec<Participant>, StoreError> {
        self.board.order(self.store.participant_orders().await?);
        let now = clock::now();
        let mut lines = self.store.participant_holds(before(now, FRESH)).await?;
        lines.retain(|stored| *stored.process != *self.process);
        let own = self.board.lines().into_iter();
        let lines = own.chain(lines.into_iter().map(|stored| stored.line));
        let mut all: BTreeMap<Arc<str>, Participant> =
            names.into_iter().map(|name| (name.clone(), Participant::new(name))).collect();
        for line in lines {
            let name = line.participant.clone();
            all.entry(name.clone()).or_insert_with(|| Participant::new(name)).add(line);
        }
        for order in self.board.orders() {
            if let Some(participant) = all.get_mut(&order.participant) {
                participant.obey(order);
            }
        }
        Ok(all.into_values().collect())
    }

    /// How this process sees a participant.
    pub fn own(&self, name: &str) -> Option<Line> {
        self.board.lines().into_iter().find(|line| *line.participant == *name)
    }

    /// Pauses or resumes a participant, here at once and everywhere within a second or two.
    ///
    /// # Errors
    /// As [`Store::order_participant`].
    pub async fn order(
        &self,
        participant: Arc<str>,
        paused: bool,
        actor: &str,
        reason: &str,
        key: Option<RequestKey>,
    ) -> Result<(), StoreError> {
        let at = clock::now();
        let verb = if paused { "pause-participant" } else { "resume-participant" };
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        let audit = AuditRow::new(at, &actor, verb, &reason);
        let wanted = Order { participant, paused, revision: 0, at, actor, reason };
        let key = key.map(|key| KeyWrite {
            key_hash: key.key_hash,
            request_hash: key.request_hash,
            saga: Uuid::nil(),
            at,
        });
        let order = self.store.order_participant(&wanted, audit, key.as_ref()).await?;
        self.board.order(vec![order]);
        Ok(())
    }
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_millis(now.unix_millis().saturating_sub(span))
}

/// The states, the furthest from answering last.
const STATES: [&str; 4] = ["answering", "ramping", "held", "paused"];

fn severity(state: &str) -> usize {
    STATES.iter().position(|known| *known == state).unwrap_or_default()
}

impl Participant {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: STATES[0].to_owned(),
            cause: None,
            since: None,
            waiting: 0,
            oldest: None,
            last_answer: None,
            next_probe: None,
            order: None,
        }
    }

    fn add(&mut self, line: Line) {
        if severity(&line.state) > severity(&self.state) {
            (self.state, self.cause) = (line.state, line.cause);
        }
        self.since = [self.since, line.since].into_iter().flatten().min();
        self.waiting += line.waiting;
        self.oldest = [self.oldest, line.oldest].into_iter().flatten().min();
        self.last_answer = self.last_answer.max(line.last_answer);
        self.next_probe = [self.next_probe, line.next_probe].into_iter().flatten().min();
    }

    /// What an operator has ordered is so, though a process may not have read it yet.
    fn obey(&mut self, order: Order) {
        if order.paused {
            (self.state, self.cause) = ("paused".to_owned(), Some(Cause::Operator));
            (self.since, self.next_probe) = (Some(order.at), None);
        }
        self.order = Some(order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(state: &str, cause: Option<Cause>, second: i64, waiting: u64) -> Line {
        let at = Some(Timestamp::from_unix_millis(second * 1000)).filter(|_| state != "answering");
        Line {
            participant: "payment".into(),
            state: state.to_owned(),
            cause,
            since: at,
            waiting,
            oldest: None,
            last_answer: None,
            next_probe: at,
        }
    }

    #[test]
    fn processes_that_differ_are_shown_as_the_worst_of_them() {
        let mut payment = Participant::new("payment".into());
        payment.add(line("answering", None, 0, 0));
        payment.add(line("ramping", Some(Cause::Failures), 7, 5));
        payment.add(line("held", Some(Cause::Silence), 9, 30));
        let seen = (&*payment.state, payment.cause, payment.since, payment.waiting);
        assert_eq!(seen, ("held", Some(Cause::Silence), Some(Timestamp::from_unix_millis(7_000)), 35));
    }
}
