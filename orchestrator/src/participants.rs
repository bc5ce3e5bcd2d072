//! The participants as operators see them, and what keeps this process and the database in agreement about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use saga_defs::time::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::clock;
use crate::engine::handle::RequestKey;
use crate::engine::participants::board::{Board, Known, Line, Order, State};
use crate::engine::participants::health::{Cause, Limits};
use crate::store::audit::AuditRow;
use crate::store::commit::KeyWrite;
use crate::store::participants::StoredLine;
use crate::store::queries::Reads;
use crate::store::{Store, StoreError};

/// How often orders are read and holds that have changed are written down.
const EVERY: Duration = Duration::from_secs(1);
/// What a process holds is believed for so long after it said so.
const FRESH: Duration = Duration::from_secs(15);
/// A hold that has not changed is confirmed this often.
const CONFIRM: Duration = Duration::from_secs(5);
/// Whoever takes over goes on holding what was held so long ago at most: a process that lives confirms its holds more often,
/// and the shards of one that does not are another's by then.
const BELIEVED: Duration = Duration::from_secs(60);
/// Of what was held longer ago nobody knows how it is: it is asked. But it may have a crowd that waits for it, which a process
/// that starts sends on its way by and by.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A participant, over all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// How it is. Where processes differ, as the one has it that is furthest from answering; those that wait are those of all.
    pub line: Line,
    /// The last word of an operator on it.
    pub order: Option<Order>,
}

/// Where participants are looked at, paused and resumed. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    store: Store,
    /// What is asked of it on behalf of those who look: not over the engine's connections.
    reads: Reads,
    board: Arc<Board>,
    process: Arc<Process>,
}

/// Whose lines are ours. Nothing keeps two processes from having the same URL.
struct Process {
    url: Arc<str>,
    /// Drawn at the start: no other process has it.
    key: String,
    started: Timestamp,
}

impl Process {
    fn new(url: Arc<str>) -> Self {
        let key = format!("{url}#{}", Uuid::new_v4());
        Self { url, key, started: clock::now() }
    }

    /// Whether a line is of this process, or of one that was at its URL before.
    fn is_ours(&self, stored: &StoredLine) -> bool {
        let url = stored.process.split('#').next().unwrap_or_default();
        stored.process == self.key || (*url == *self.url && stored.seen_at < self.started)
    }
}

impl Desk {
    /// With what the database knows at the start of this process, which others reach at `url`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(store: Store, reads: Reads, url: Arc<str>, limits: Limits) -> Result<Self, StoreError> {
        let orders = store.participant_orders().await?;
        let now = clock::now();
        let holds = store.participant_holds(before(now, REMEMBERED)).await?;
        let known = holds.into_iter().filter_map(|stored| known(stored, now)).collect();
        let board = Arc::new(Board::new(limits, orders, known));
        Ok(Self { store, reads, board, process: Arc::new(Process::new(url)) })
    }

    /// What the engine reads and writes.
    pub const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Keeps the board and the database in agreement, until told to stop. What is held stays written down then, so that
    /// whoever comes next goes on holding it.
    pub async fn keep(self, stop: CancellationToken) {
        let mut written = Written { lines: Vec::new(), at: Instant::now() };
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

    async fn agree(&self, written: &mut Written) -> Result<(), StoreError> {
        self.board.order(self.store.participant_orders().await?);
        let now = clock::now();
        let mut elsewhere = self.store.participant_holds(before(now, BELIEVED)).await?;
        elsewhere.retain(|stored| !self.process.is_ours(stored));
        self.board.hear(elsewhere.into_iter().filter_map(|stored| known(stored, now)).collect());
        let held: Vec<Line> = self.board.lines().into_iter().filter(Line::is_held).collect();
        if written.must_follow(&held, written.at.elapsed()) {
            let times = [now, before(now, FRESH), before(now, REMEMBERED)];
            let still = |line: &Line| held.iter().any(|other| other.participant == line.participant);
            let released = written.lines.iter().filter(|line| !still(line));
            let released = released.map(|line| line.participant.to_string()).collect();
            self.store.write_holds(&self.process.key, &held, released, times).await?;
            *written = Written { lines: held, at: Instant::now() };
        }
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
        self.board.order(self.reads.participant_orders().await?);
        let now = clock::now();
        let mut lines = self.reads.participant_holds(before(now, FRESH)).await?;
        lines.retain(|stored| !self.process.is_ours(stored));
        let own = self.board.lines().into_iter();
        let lines = own.chain(lines.into_iter().map(|stored| stored.line));
        Ok(merged(names, lines, self.board.orders()))
    }

    /// A participant as this process treats it: other processes judge by their own sagas, and only operators' orders are
    /// everybody's.
    pub fn own(&self, name: &Arc<str>) -> Participant {
        let lines = self.board.lines().into_iter().filter(|line| line.participant == *name);
        let order = self.board.orders().into_iter().filter(|order| order.participant == *name);
        Participant::of(name.clone(), lines, order.last())
    }

    /// A participant as any process treats it: as operators ordered.
    pub fn ordered(&self, name: &Arc<str>) -> Participant {
        let order = self.board.orders().into_iter().find(|order| order.participant == *name);
        Participant::of(name.clone(), [], order)
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

/// What this process has written down, and when.
struct Written {
    lines: Vec<Line>,
    at: Instant,
}

impl Written {
    /// Whether it is to be written down anew, so long afterwards: it has changed, or is to be confirmed.
    fn must_follow(&self, held: &[Line], afterwards: Duration) -> bool {
        *held != *self.lines || (!held.is_empty() && afterwards >= CONFIRM)
    }
}

/// A hold as it was written down, if it is one.
fn known(stored: StoredLine, now: Timestamp) -> Option<Known> {
    let (cause, since) = (stored.line.cause?, stored.line.since?);
    let believed = stored.seen_at >= before(now, BELIEVED);
    let state = if believed { stored.line.state } else { State::Ramping };
    Some(Known { participant: stored.line.participant, state, cause, since })
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_millis(now.unix_millis().saturating_sub(span))
}

/// Participants with these names, those of the lines and those that are paused, by name.
fn merged(
    names: impl IntoIterator<Item = Arc<str>>,
    lines: impl IntoIterator<Item = Line>,
    orders: Vec<Order>,
) -> Vec<Participant> {
    let mut all: BTreeMap<Arc<str>, Vec<Line>> = names.into_iter().map(|name| (name, Vec::new())).collect();
    for line in lines {
        all.entry(line.participant.clone()).or_default().push(line);
    }
    for order in orders.iter().filter(|order| order.paused) {
        all.entry(order.participant.clone()).or_default();
    }
    let mut orders: BTreeMap<Arc<str>, Order> =
        orders.into_iter().map(|order| (order.participant.clone(), order)).collect();
    all.into_iter()
        .map(|(name, lines)| {
            let order = orders.remove(&name);
            Participant::of(name, lines, order)
        })
        .collect()
}

impl Participant {
    fn new(name: Arc<str>) -> Self {
        Self { line: Line::answering(name), order: None }
    }

    fn of(name: Arc<str>, lines: impl IntoIterator<Item = Line>, order: Option<Order>) -> Self {
        let mut participant = Self::new(name);
        for line in lines {
            participant.add(after(line, order.as_ref()));
        }
        if let Some(order) = order {
            participant.obey(order);
        }
        participant
    }

    /// Whether it is asked nothing at the moment, or not yet everything.
    pub const fn is_held(&self) -> bool {
        self.line.cause.is_some()
    }

    fn add(&mut self, line: Line) {
        let all = &mut self.line;
        if line.state > all.state {
            (all.state, all.cause) = (line.state, line.cause);
        }
        all.since = [all.since, line.since].into_iter().flatten().min();
        all.waiting += line.waiting;
        all.oldest = [all.oldest, line.oldest].into_iter().flatten().min();
        all.last_answer = all.last_answer.max(line.last_answer);
        all.next_probe = [all.next_probe, line.next_probe].into_iter().flatten().min();
    }

    /// A pause that an operator has ordered is so, though a process may not have read it yet.
    fn obey(&mut self, order: Order) {
        if order.paused {
            (self.line.state, self.line.cause) = (State::Paused, Some(Cause::Operator));
            (self.line.since, self.line.next_probe) = (Some(order.at), None);
        }
        self.order = Some(order);
    }
}

/// A line that its process wrote before it read that the pause is over.
fn after(line: Line, order: Option<&Order>) -> Line {
    let over = order.is_some_and(|order| !order.paused) && line.cause == Some(Cause::Operator);
    if !over || line.state != State::Paused {
        return line;
    }
    Line { state: State::Ramping, next_probe: None, ..line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(state: State, cause: Option<Cause>, second: i64, waiting: u64) -> Line {
        let at = Some(Timestamp::from_unix_millis(second * 1000)).filter(|_| state != State::Answering);
        Line {
            participant: "payment".into(),
            state,
            cause,
            since: at,
            waiting,
            oldest: None,
            last_answer: None,
            next_probe: at,
        }
    }

    #[test]
    fn a_hold_is_written_down_when_it_changes_and_confirmed_now_and_then() {
        let soon = Duration::from_secs(1);
        let mut written = Written { lines: Vec::new(), at: Instant::now() };
        assert!(!written.must_follow(&[], CONFIRM));
        let held = [line(State::Held, Some(Cause::Silence), 9, 30)];
        assert!(written.must_follow(&held, soon));
        written.lines = held.to_vec();
        assert!(!written.must_follow(&held, soon));
        assert!(written.must_follow(&held, CONFIRM));
        assert!(written.must_follow(&[line(State::Held, Some(Cause::Silence), 9, 31)], soon));
        assert!(written.must_follow(&[], soon));
    }

    #[test]
    fn processes_that_differ_are_shown_as_the_worst_of_them() {
        let mut payment = Participant::new("payment".into());
        payment.add(line(State::Answering, None, 0, 0));
        payment.add(line(State::Ramping, Some(Cause::Failures), 7, 5));
        payment.add(line(State::Held, Some(Cause::Silence), 9, 30));
        let payment = payment.line;
        let seen = (payment.state, payment.cause, payment.since, payment.waiting);
        assert_eq!(seen, (State::Held, Some(Cause::Silence), Some(Timestamp::from_unix_millis(7_000)), 35));
    }

    fn order(paused: bool) -> Order {
        let at = Timestamp::from_unix_millis(20_000);
        let (actor, reason) = ("anonymous".to_owned(), "because".to_owned());
        Order { participant: "payment".into(), paused, revision: 2, at, actor, reason }
    }

    #[test]
    fn a_pause_that_is_over_is_not_shown_as_one() {
        let paused = line(State::Paused, Some(Cause::Operator), 9, 30);
        let of = |lines: Vec<Line>, paused| {
            let payment = Participant::of("payment".into(), lines, Some(order(paused)));
            (payment.line.state, payment.line.cause, payment.line.next_probe)
        };
        let operator = Some(Cause::Operator);
        assert_eq!(of(vec![paused.clone()], true), (State::Paused, operator, None));
        assert_eq!(of(vec![paused.clone()], false), (State::Ramping, operator, None));
        let held = line(State::Held, Some(Cause::Silence), 9, 1);
        let seen = of(vec![paused, held.clone()], false);
        assert_eq!(seen, (State::Held, Some(Cause::Silence), held.next_probe));
        assert_eq!(of(vec![], false), (State::Answering, None, None));
    }
}
