//! A batch in the making: applies events to sagas and collects what follows.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use saga_defs::definition::Definition;
use saga_defs::ids::{Attempt, CommandId, DeadLetterId, Revision, SagaId, Shard};
use saga_defs::machine::{self, Moment, Moved, Transition, Why};
use saga_defs::saga::{Effect, Event, Saga, State, Status, Try};
use saga_defs::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::handle::{ActError, RequestKey};
use super::super::publisher::{Origin, Outgoing, SentAttempt};
use super::super::shards::{shown_wake, wake_of};
use super::super::traces;
use super::{Batch, Context, Fact, Held, MovedSaga};
use crate::dead_letters::edit::Edit;
use crate::store::audit::AuditRow;
use crate::store::body::{body_of, current_step, json};
use crate::store::commit::{JournalRow, KeyWrite, SagaWrite, ShardAdvance};
use crate::store::letters::{LetterChange, LetterRow};

/// What a journal row that concerns no saga says and asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ShardEffect {
    /// Export a kept letter.
    ExportLetter {
        /// Which.
        letter: DeadLetterId,
    },
    /// Publish one copy of a letter.
    SendLetter {
        /// Which.
        letter: DeadLetterId,
    },
}

pub(super) struct Draft<'a> {
    pub(super) context: Context<'a>,
    pub(super) batch: Batch,
    next_seq: HashMap<Shard, i64>,
    offsets: HashMap<Shard, i64>,
    order: Vec<SagaId>,
    /// What operators gave letters in place of their own values.
    pub(super) edited: HashMap<DeadLetterId, Edit>,
    /// The saga whose command goes to its participant although that is held.
    pub(super) let_go: Option<SagaId>,
    /// The keys that starts of this batch use.
    keys: HashSet<[u8; 32]>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(context: Context<'a>) -> Self {
        Self {
            context,
            batch: Batch { participants: context.participants.clone(), ..Batch::default() },
            let_go: None,
            next_seq: HashMap::new(),
            offsets: HashMap::new(),
            order: Vec::new(),
            edited: HashMap::new(),
            keys: HashSet::new(),
        }
    }

    /// The saga as it is after what the batch has done to it so far.
    pub(super) fn held(&self, id: SagaId) -> Option<&Held> {
        self.batch.moved.get(&id).map(|moved| &moved.held).or_else(|| self.context.sagas.get(&id))
    }

    /// The saga's shard, if it is ours.
    pub(super) fn owned_shard(&self, id: SagaId) -> Option<Shard> {
        let shard = id.shard(self.context.shard_count);
        self.context.shards.get(shard).map(|_| shard)
    }

    /// The inbox has been read up to here.
    pub(super) fn advance(&mut self, shard: Shard, next_offset: i64) {
        let offset = self.offsets.entry(shard).or_insert(next_offset);
        *offset = next_offset.max(*offset);
    }

    /// Something of this shard is written, though its journal does not grow.
    pub(super) fn touch(&mut self, shard: Shard) {
        if let Some(owned) = self.context.shards.get(shard) {
            self.offsets.entry(shard).or_insert(owned.inbox_offset);
        }
    }

    pub(super) fn begin(&mut self, definition: Arc<Definition>, event: &Event, moved: Moved, shard: Shard) {
        self.batch.facts.push(Fact::Started(moved.saga.definition.name.clone()));
        self.moved(None, event, moved, definition, shard);
    }

    /// Applies an event to a saga of ours.
    pub(super) fn apply(&mut self, id: SagaId, event: &Event) -> Result<(), Why> {
        let Some(shard) = self.owned_shard(id) else { return Err(Why::Stale) };
        let Some(held) = self.held(id).cloned() else { return Err(Why::Stale) };
        let moment = Moment::of(&held.saga, self.context.now);
        match machine::transition(&held.definition, &held.saga, event, moment) {
            Transition::Ignored(why) => Err(why),
            Transition::Moved(moved) => {
                self.moved(Some(&held.saga), event, moved, held.definition.clone(), shard);
                Ok(())
            }
        }
    }

    fn moved(
        &mut self,
        before: Option<&Saga>,
        event: &Event,
        moved: Moved,
        definition: Arc<Definition>,
        shard: Shard,
    ) {
        let Moved { saga, effects } = moved;
        let id = saga.id;
        if let Some(before) = before {
            self.observe(&definition, before, event);
        }
        let sent = effects.iter().find_map(|effect| match effect {
            Effect::Send(at) => Some(*at),
            _ => None,
        });
        let withheld = sent.filter(|at| self.withholds(&definition, id, *at));
        let asked = sent.filter(|_| withheld.is_none());
        let built = asked.map(|at| (at, self.context.records.command_value(&definition, &saga, at)));
        let (body, failed) = match built {
            Some((_, Ok(value))) => (value, None),
            Some((at, Err(cause))) => (Vec::new(), Some((at, cause))),
            None if withheld.is_some() => (Vec::new(), None),
            None => (self.edited_value(&effects), None),
        };
        let seq = self.journal(shard, &saga, event, &effects, body.clone());
        let wake = wake_of(&definition, &saga, self.context.now, sent.map(|_| seq));
        let held = Held { saga: Arc::new(saga), definition };
        match self.batch.moved.entry(id) {
            Entry::Occupied(mut moved) => {
                let moved = moved.get_mut();
                (moved.held, moved.wake, moved.parked) = (held.clone(), wake, None);
            }
            Entry::Vacant(fresh) => {
                let (held, new) = (held.clone(), before.is_none());
                fresh.insert(MovedSaga { shard, held, wake, parked: None, new });
                self.order.push(id);
            }
        }
        self.count(before, event, &held, asked);
        if self.context.traced {
            let now = self.context.now;
            traces::of_transition(&held.definition, before, &held.saga, asked, now, &mut self.batch.spans);
        }
        for effect in &effects {
            let command = (failed.is_none() && withheld.is_none()).then_some(body.as_slice());
            self.carry_out(effect, &held, before, event, (shard, seq), command);
        }
        if let Some((attempt, cause)) = failed {
            // Nothing was sent: the saga is told at once, in the same batch.
            let told = self.apply(id, &Event::Unsendable { attempt, cause });
            debug_assert!(told.is_ok(), "an attempt just asked for is current");
        }
        if let Some(attempt) = withheld {
            // It is not out, and the saga knows: all in one commit, so that nobody publishes it later.
            let told = self.apply(id, &Event::Withheld(attempt));
            debug_assert!(told.is_ok(), "an attempt just asked for is current");
        }
    }

    /// The value that goes out in place of a letter's own: kept in the journal, so that a take-over sends the same.
    fn edited_value(&self, effects: &[Effect]) -> Vec<u8> {
        let letter = effects.iter().find_map(|effect| match effect {
            Effect::SendLetter { letter } => Some(letter),
            _ => None,
        });
        letter.and_then(|letter| self.edited.get(letter)).map(|edit| edit.value.clone()).unwrap_or_default()
    }

    fn journal(
        &mut self,
        shard: Shard,
        saga: &Saga,
        event: &Event,
        effects: &[Effect],
        body: Vec<u8>,
    ) -> i64 {
        let row = JournalRow {
            shard,
            seq: 0,
            saga: saga.id.as_uuid(),
            revision: saga.revision,
            at: self.context.now,
            status: saga.status().as_str(),
            event: json(event),
            effects: json(&effects),
            body,
        };
        self.append(row)
    }

    /// A journal row that concerns no saga.
    pub(super) fn journal_shard(&mut self, shard: Shard, effect: ShardEffect, body: Vec<u8>) -> i64 {
        let row = JournalRow {
            shard,
            seq: 0,
            saga: Uuid::nil(),
            revision: Revision(0),
            at: self.context.now,
            status: "none",
            event: json(&effect),
            effects: json(&[effect]),
            body,
        };
        self.append(row)
    }

    fn append(&mut self, mut row: JournalRow) -> i64 {
        let first = self.context.shards.get(row.shard).map_or(1, |owned| owned.next_seq);
        let next = self.next_seq.entry(row.shard).or_insert(first);
        row.seq = *next;
        *next += 1;
        let seq = row.seq;
        self.batch.writes.journal.push(row);
        seq
    }

    fn carry_out(
        &mut self,
        effect: &Effect,
        held: &Held,
        before: Option<&Saga>,
        event: &Event,
        origin: (Shard, i64),
        command: Option<&[u8]>,
    ) {
        let (saga, now, records) = (&held.saga, self.context.now, self.context.records);
        match effect {
            Effect::Send(at) => {
                let value = command.map(<[u8]>::to_vec);
                let record = value
                    .and_then(|value| records.command(&held.definition, saga, origin.0, *at, now, value));
                let timeout = held.definition.step(at.step).map(|step| step.timeout).unwrap_or_default();
                let attempt =
                    Some(SentAttempt { saga: saga.id, row: origin, at: *at, timeout, doubt: false });
                self.batch.outgoing.extend(record.map(|record| Outgoing {
                    record,
                    origin: Some(Origin::Row(origin.0, origin.1)),
                    attempt,
                }));
            }
            Effect::AnnounceStart => self.publish(records.announce_start(saga, origin.0), origin),
            Effect::AnnounceEnd { status } => {
                self.publish(records.announce_end(saga, origin.0, *status, now), origin);
            }
            Effect::DeadLetter { attempt, cause } => {
                // The letter shows what was tried, so it is built from the saga before (with its correction).
                let was = before.unwrap_or(saga);
                let built = records.command_letter(&held.definition, was, origin.0, *attempt, cause, now);
                if let Some(letter) = built {
                    self.keep(letter, origin, true);
                }
            }
            Effect::RedriveLetter { letter } => {
                self.redrive_letter(*letter, event, matches!(event, Event::LetterRedriven { .. }));
            }
            Effect::SendLetter { letter } => {
                self.redrive_letter(*letter, event, true);
                self.send_letter(*letter, Some(origin.0), origin);
            }
            Effect::ResolveLetters { letters } => {
                let changes = letters.iter().map(|&id| LetterChange::Resolve { id, at: now });
                self.batch.writes.letters.extend(changes);
            }
            Effect::ReopenLetters { letters } => {
                let reason = "the saga is stuck again";
                let change = |&id| LetterChange::Reopen { id, at: now, reason: reason.to_owned() };
                self.batch.writes.letters.extend(letters.iter().map(change));
            }
        }
    }

    fn publish(&mut self, record: Option<messaging::Record>, origin: (Shard, i64)) {
        let origin = Some(Origin::Row(origin.0, origin.1));
        self.batch.outgoing.extend(record.map(|record| Outgoing { record, origin, attempt: None }));
    }

    /// Keeps a letter and exports it.
    pub(super) fn keep(&mut self, letter: LetterRow, origin: (Shard, i64), reopen: bool) {
        self.batch.facts.push(Fact::Letter(letter.reason.clone()));
        self.publish(Some(self.context.records.export(&letter)), origin);
        let change = if reopen { LetterChange::KeepOrReopen(letter) } else { LetterChange::Keep(letter) };
        self.batch.writes.letters.push(change);
    }

    pub(super) fn redrive_letter(&mut self, id: DeadLetterId, event: &Event, must: bool) {
        let reason = match event {
            Event::LetterRedriven { reason, .. } | Event::Redrive { reason, .. } => reason.to_string(),
            _ => String::new(),
        };
        let at = self.context.now;
        let changes = self.edited.get(&id).map(|edit| edit.changes.clone());
        self.batch.writes.letters.push(LetterChange::Redrive { id, at, reason, changes, must });
    }

    /// Publishes one copy of a letter.
    pub(super) fn send_letter(&mut self, id: DeadLetterId, saga_shard: Option<Shard>, origin: (Shard, i64)) {
        if let Some(stored) = self.context.letters.get(&id) {
            let value = self.edited.get(&id).map(|edit| edit.value.clone());
            self.publish(Some(self.context.records.redriven(&stored.row, value, saga_shard)), origin);
        }
    }

    /// An operator did this, to a saga of ours or to one that nobody moves any more.
    pub(super) fn audit(&mut self, row: AuditRow, key: Option<RequestKey>) {
        let own = row.saga.and_then(|saga| self.owned_shard(saga));
        let shard = own.or_else(|| self.context.shards.ids().first().copied());
        // Of one that nobody moves any more the row may be gone, or go long before the key does.
        let moved = row.saga.filter(|id| self.batch.moved.contains_key(id));
        self.key(key, moved.map_or(Uuid::nil(), SagaId::as_uuid));
        self.batch.writes.audit.push(row.of_shard(shard));
    }

    /// Where a saga is, as the audit has it.
    pub(super) fn audited(&self, id: SagaId) -> Option<serde_json::Value> {
        let Held { saga, definition } = self.held(id)?;
        let at = saga.current();
        Some(serde_json::json!({
            "revision": saga.revision.0,
            "status": saga.status().as_str(),
            "step": current_step(definition, saga),
            "direction": at.map(|at| at.direction.as_str()),
            "attempt": at.map(|at| at.attempt.0),
        }))
    }

    /// Whether a start may use this key: nobody did before, nor does another start of this batch.
    pub(super) fn take_key(&mut self, key: RequestKey) -> bool {
        !self.context.taken_keys.contains(key.key_hash.as_slice()) && self.keys.insert(key.key_hash)
    }

    pub(super) fn key(&mut self, key: Option<RequestKey>, saga: Uuid) {
        let at = self.context.now;
        self.batch.writes.keys.extend(key.map(|key| KeyWrite {
            key_hash: key.key_hash,
            request_hash: key.request_hash,
            saga,
            at,
        }));
    }

    fn count(&mut self, before: Option<&Saga>, event: &Event, held: &Held, sent: Option<Try>) {
        let name = |at: Try| held.definition.step(at.step).map(|step| step.name.clone());
        let saga = &held.saga;
        let definition = saga.definition.name.clone();
        if let (Event::Replied { outcome, .. }, Some(before)) = (event, before)
            && let Some(at) = before.current()
        {
            let kind = match outcome {
                saga_defs::saga::Outcome::Succeeded { .. } => "succeeded",
                saga_defs::saga::Outcome::Rejected { .. } => "rejected",
                saga_defs::saga::Outcome::Failed { .. } => "failed",
            };
            let took = self.context.now.since(before.updated_at);
            let fact = name(at).map(|step| Fact::StepEnded(definition.clone(), step, kind, took));
            self.batch.facts.extend(fact);
        }
        if let Some(at) = sent.filter(|at| at.attempt > Attempt::FIRST || at.redrive > 0) {
            let fact = name(at).map(|step| Fact::Retried(definition.clone(), step, at.direction));
            self.batch.facts.extend(fact);
        }
        match &saga.state {
            State::Stuck { at, .. } => {
                let fact = name(*at).map(|step| Fact::Stuck(definition, step));
                self.batch.facts.extend(fact);
            }
            State::Completed | State::Compensated => {
                let took = self.context.now.since(saga.started_at);
                self.batch.facts.push(Fact::Ended(definition, saga.status(), took));
            }
            State::Awaiting(_) | State::Backoff { .. } => {}
        }
    }

    /// The refusal of a verb in this state.
    pub(super) fn not_allowed(&self, id: SagaId, why: Why) -> ActError {
        let status = self.held(id).map_or(Status::Running, |held| held.saga.status());
        ActError::NotAllowed { why, status }
    }

    pub(super) fn finish(mut self) -> Batch {
        for id in std::mem::take(&mut self.order) {
            let Some(moved) = self.batch.moved.get(&id) else { continue };
            let write = saga_write(moved, self.context.now);
            if moved.new {
                self.batch.writes.inserts.push(write);
            } else {
                self.batch.writes.updates.push(write);
            }
        }
        let mut touched: Vec<Shard> = self.next_seq.keys().chain(self.offsets.keys()).copied().collect();
        touched.sort_unstable();
        touched.dedup();
        for shard in touched {
            let Some(owned) = self.context.shards.get(shard) else { continue };
            let mine = |moved: &&MovedSaga| moved.shard == shard;
            let opened = self.batch.moved.values().filter(mine).filter(|moved| moved.wake.is_some());
            let opened = opened.map(|moved| moved.held.saga.id).min();
            let closed = |id| self.batch.moved.get(&id).is_some_and(|moved| moved.wake.is_none());
            self.batch.writes.shards.push(ShardAdvance {
                shard,
                epoch: owned.epoch,
                first_seq: owned.next_seq,
                next_seq: self.next_seq.get(&shard).copied().unwrap_or(owned.next_seq),
                published_seq: owned.published_seq(),
                inbox_offset: self.offsets.get(&shard).copied().unwrap_or(owned.inbox_offset),
                open_from: owned.open_from(closed, opened),
                republish: owned.republish(),
            });
        }
        self.batch
    }
}

fn saga_write(moved: &MovedSaga, now: Timestamp) -> SagaWrite {
    let (saga, definition) = (&moved.held.saga, &moved.held.definition);
    SagaWrite {
        id: saga.id,
        shard: moved.shard,
        definition: saga.definition.name.clone(),
        version: i32::try_from(saga.definition.version).unwrap_or(i32::MAX),
        business_key: saga.business_key.clone(),
        revision: saga.revision,
        status: saga.status(),
        step: current_step(definition, saga).cloned(),
        wake_at: shown_wake(definition, saga, now),
        started_at: saga.started_at,
        updated_at: saga.updated_at,
        finished_at: saga.finished_at,
        body: body_of(saga),
    }
}

/// The command id of the attempt a saga is at.
pub(super) fn current_command(held: &Held) -> Option<CommandId> {
    let at = held.saga.current()?;
    let step = held.definition.step(at.step)?;
    Some(CommandId::derive(held.saga.id, &step.name, at.direction))
}
