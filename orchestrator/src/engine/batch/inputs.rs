//! What each kind of input comes to.

use std::time::Duration;

use messaging::{Received, Record};
use saga_defs::ids::{CommandId, DeadLetterId, Direction, SagaId, Shard};
use saga_defs::machine::{self, Why};
use saga_defs::saga::{Event, Outcome, State};

use super::super::handle::{Act, ActError, ActOnLetter, LetterVerb, RETRY_AFTER, StartSaga, Verb};
use super::super::publisher::Outgoing;
use super::super::replies::{self, Reply as Read};
use super::super::shards::wake_of;
use super::super::traces;
use super::draft::{Draft, ShardEffect, current_command};
use super::{Fact, Held, Input, Reply};
use crate::store::audit::AuditRow;
use crate::store::letters::{LetterChange, LetterRow};

/// A waiting saga that cannot be read is looked at again after this long.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

impl Draft<'_> {
    pub(super) fn take(&mut self, position: usize, input: &Input) {
        match input {
            Input::Record(shard, record) => self.record(*shard, record),
            Input::Start(id, start) => self.start(position, *id, start),
            Input::Act(act) => {
                let result = self.act(act);
                self.batch.replies.push((position, Reply::Acted(result)));
            }
            Input::Letter(act) => {
                let result = self.letter(act);
                self.batch.replies.push((position, Reply::Letter(result)));
            }
            Input::Due(shard, id) => self.due(*shard, *id),
            Input::Released(shard, id, participant) => self.released(*shard, *id, participant),
            Input::Refused(id, attempt, cause) => {
                self.own(*id, &Event::Unsendable { attempt: *attempt, cause: cause.clone() });
            }
            Input::CopyRefused(shard, id, text) => {
                self.reopen(*shard, *id, text.clone());
            }
            Input::Quarantine(id, cause) => self.own(*id, &Event::Quarantined { cause: cause.clone() }),
        }
    }

    /// An event that nobody waits for an answer to.
    fn own(&mut self, id: SagaId, event: &Event) {
        if let Err(why) = self.apply(id, event) {
            self.batch.facts.push(Fact::Ignored(name(why)));
        }
    }

    fn start(&mut self, position: usize, id: SagaId, start: &StartSaga) {
        let Some(shard) = self.owned_shard(id) else {
            let busy = super::StartError::Busy { retry_after: RETRY_AFTER };
            self.batch.replies.push((position, Reply::Started(Err(busy))));
            return;
        };
        if let Some(key) = start.key
            && !self.take_key(key)
        {
            self.batch.replies.push((position, Reply::Started(Err(super::StartError::KeyTaken))));
            return;
        }
        let event = Event::Started {
            input: start.input.clone(),
            business_key: start.business_key.clone(),
            traceparent: start.traceparent.clone(),
        };
        let moved = machine::start(
            &start.definition,
            id,
            &start.input,
            start.business_key.clone(),
            start.traceparent.clone(),
            self.context.now,
        );
        self.begin(start.definition.clone(), &event, moved, shard);
        self.key(start.key, id.as_uuid());
        let saga = self.held(id).map(|held| (*held.saga).clone());
        self.batch.replies.extend(saga.map(|saga| (position, Reply::Started(Ok(saga)))));
    }

    // ---- records of the inbox -----------------------------------------------------------------------------------

    fn record(&mut self, shard: Shard, record: &Received) {
        let Some(owned) = self.context.shards.get(shard) else { return };
        if record.offset < owned.inbox_offset {
            self.batch.facts.push(Fact::Ignored("read_before"));
            return;
        }
        self.advance(shard, record.offset + 1);
        let catalog = self.context.records.catalog();
        match replies::read(record, self.context.shard_count, catalog) {
            Read::Elsewhere(to) => self.pass_on(record, to),
            Read::Unreadable { message, saga } => self.refuse(shard, record, "undecodable", message, saga),
            Read::Read { saga, command, message_type, echo, outcome } => {
                let event = Event::Replied { command_id: command, echo, outcome };
                self.reply(shard, record, saga, command, &message_type, &event);
            }
        }
    }

    fn reply(
        &mut self,
        shard: Shard,
        record: &Received,
        saga: SagaId,
        command: CommandId,
        message_type: &str,
        event: &Event,
    ) {
        let Some(held) = self.held(saga) else {
            let message = format!("there is no saga {saga}");
            return self.refuse(shard, record, "unknown_saga", message, None);
        };
        if let Some(message) = mismatch(held, command, message_type, event) {
            return self.refuse(shard, record, "mismatch", message, Some(saga));
        }
        let copy = replies::copy_of(record);
        // What becomes of a letter that the saga knows of is the saga's to say.
        let unknown = copy.filter(|id| !held.saga.redriven.contains(id));
        let applied = self.apply(saga, event);
        if self.context.traced {
            let ignored = applied.as_ref().err().copied().map(name);
            self.batch.spans.with_commit.extend(traces::of_reply(record, ignored, self.context.now));
        }
        match applied {
            Ok(()) => self.resolve(unknown),
            Err(Why::Foreign) => {
                let message = format!("saga {saga} never sends the command {command}");
                self.refuse(shard, record, "mismatch", message, Some(saga));
            }
            Err(why) => {
                self.batch.facts.push(Fact::Ignored(name(why)));
                // A letter that an operator sent again tells nothing of the participant.
                if copy.is_none() {
                    self.observe_late(saga, command, event);
                }
                // The saga had moved on before the copy of the letter came.
                self.resolve(copy);
            }
        }
    }

    fn resolve(&mut self, letter: Option<DeadLetterId>) {
        let at = self.context.now;
        self.batch.writes.letters.extend(letter.map(|id| LetterChange::Resolve { id, at }));
    }

    /// A record that nobody can use becomes a dead letter; a redriven copy reopens the letter it came from.
    fn refuse(
        &mut self,
        shard: Shard,
        record: &Received,
        reason: &str,
        message: String,
        saga: Option<SagaId>,
    ) {
        if let Some(id) = replies::copy_of(record) {
            return self.reopen(shard, id, message);
        }
        let letter =
            replies::letter(record, self.context.incarnation, reason, message, saga, self.context.now);
        let seq = self.journal_shard(shard, ShardEffect::ExportLetter { letter: letter.id }, Vec::new());
        self.keep(letter, (shard, seq), false);
    }

    fn reopen(&mut self, shard: Shard, id: DeadLetterId, reason: String) {
        self.touch(shard);
        let at = self.context.now;
        self.batch.writes.letters.push(LetterChange::Reopen { id, at, reason });
    }

    /// A reply on the wrong partition goes to the right one. If this copy is lost, the command's timeout asks again.
    fn pass_on(&mut self, record: &Received, to: Shard) {
        self.batch.facts.push(Fact::Ignored("passed_on"));
        let copy = Record {
            topic: record.topic.clone(),
            partition: Some(i32::from(to.0)),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            timestamp_ms: record.timestamp_ms,
        };
        self.batch.outgoing.push(Outgoing { record: copy, origin: None, attempt: None });
    }

    // ---- timers -------------------------------------------------------------------------------------------------

    /// Its row or its definition cannot be read, as the log says: it stays among those that wait, for the next take-over must
    /// find it too.
    pub(super) fn cannot_be_read(&mut self, shard: Shard, id: SagaId) {
        let at = self.context.now.after(UNREADABLE_PAUSE);
        let later = super::Wake { at, timeout_at: None, awaits_seq: None };
        self.batch.rearmed.push((shard, id, Some(later)));
    }

    fn due(&mut self, shard: Shard, id: SagaId) {
        let now = self.context.now;
        let Some(held) = self.held(id) else {
            return self.cannot_be_read(shard, id);
        };
        let deadline = held.saga.deadline(&held.definition);
        if deadline.is_some_and(|deadline| deadline <= now) && self.apply(id, &Event::DeadlinePassed).is_ok()
        {
            return;
        }
        let wake = self.context.shards.wake(shard, id);
        let event = self.held(id).and_then(|held| match &held.saga.state {
            State::Backoff { next, until } if *until <= now => Some(Event::RetryDue(*next)),
            State::Awaiting(at)
                if wake.and_then(|wake| wake.timeout_at).is_some_and(|limit| limit <= now) =>
            {
                Some(Event::TimedOut(*at))
            }
            _ => None,
        });
        if event.is_some() && self.park(shard, id) {
            return;
        }
        let done = event.is_some_and(|event| self.apply(id, &event).is_ok());
        if !done {
            let rearmed = self.rearmed(shard, id);
            self.batch.rearmed.push((shard, id, rearmed));
        }
    }

    /// When a saga wakes that was woken too early, or for a deadline that it may no longer heed.
    fn rearmed(&self, shard: Shard, id: SagaId) -> Option<super::Wake> {
        let now = self.context.now;
        let held = self.held(id)?;
        let before = self.context.shards.wake(shard, id)?;
        let fresh = wake_of(&held.definition, &held.saga, now, before.awaits_seq)?;
        match (&held.saga.state, before.timeout_at) {
            (State::Awaiting(_), Some(limit)) if limit > now => {
                let at = fresh.at.min(limit);
                Some(super::Wake { at, timeout_at: Some(limit), awaits_seq: None })
            }
            _ => Some(fresh),
        }
    }

    // ---- operators ----------------------------------------------------------------------------------------------

    fn act(&mut self, act: &Act) -> Result<saga_defs::saga::Saga, ActError> {
        if self.owned_shard(act.saga).is_none() {
            return Err(ActError::NotHere { owner: None });
        }
        let Some(held) = self.held(act.saga) else { return Err(ActError::NotFound) };
        let revision = held.saga.revision;
        if act.expected.as_ref().is_some_and(|expected| !expected.0.contains(&revision.0)) {
            return Err(ActError::MovedOn { revision });
        }
        let reason = act.reason.clone();
        let event = match &act.verb {
            Verb::Cancel => Event::Cancel { reason },
            Verb::Redrive { input } => Event::Redrive { reason, input: input.clone() },
            Verb::Skip => Event::Skip { reason },
            Verb::RetryNow => Event::RetryNow { reason },
        };
        let before = self.audited(act.saga);
        // An operator who says so asks a participant that is held, too.
        let done = match &act.verb {
            Verb::RetryNow => self.letting_go(act.saga, |draft| draft.apply(act.saga, &event)),
            Verb::Cancel | Verb::Redrive { .. } | Verb::Skip => self.apply(act.saga, &event),
        };
        done.map_err(|why| self.not_allowed(act.saga, why))?;
        let mut after = self.audited(act.saga);
        if let (Some(after), Verb::Redrive { input: Some(input) }) = (&mut after, &act.verb) {
            after["input"] = input.clone().into();
        }
        let row = AuditRow::new(self.context.now, &act.actor, act.verb.as_str(), &act.reason);
        self.audit(row.of_saga(Some(act.saga)).changing(before, after), act.key);
        self.held(act.saga).map(|held| (*held.saga).clone()).ok_or(ActError::NotFound)
    }

    fn letter(&mut self, act: &ActOnLetter) -> Result<(), ActError> {
        let LetterVerb::Redrive { edit } = &act.verb else { return Err(ActError::NotFound) };
        let stored = self.context.letters.get(&act.letter).ok_or(ActError::NotFound)?;
        if stored.status != "open" {
            return Err(ActError::LetterNotOpen { status: stored.status.clone() });
        }
        if let Some(edit) = edit {
            self.edited.insert(act.letter, edit.clone());
        }
        let row = &stored.row;
        let open_saga = row.saga.filter(|&id| self.waits(id));
        match open_saga {
            Some(saga) => self.redrive_of_saga(act, row, saga)?,
            None => self.redrive_of_nobody(act, row)?,
        }
        let before = serde_json::json!({ "status": stored.status });
        let mut after = serde_json::json!({ "status": "redriven", "edited": edit.is_some() });
        if let Some(edit) = edit {
            after["changes"] = serde_json::json!(edit.changes);
        }
        let line = AuditRow::new(self.context.now, &act.actor, "redrive-dead-letter", &act.reason);
        self.audit(line.of_saga(row.saga).of_letter(Some(act.letter)).changing(before, after), act.key);
        Ok(())
    }

    /// Whether a saga may still be moved; one of another process may, for all that is known here.
    fn waits(&self, id: SagaId) -> bool {
        self.owned_shard(id).is_none() || self.held(id).is_some_and(|held| held.saga.current().is_some())
    }

    fn redrive_of_saga(&mut self, act: &ActOnLetter, row: &LetterRow, saga: SagaId) -> Result<(), ActError> {
        if self.owned_shard(saga).is_none() {
            return Err(ActError::NotHere { owner: None });
        }
        let stuck = self.held(saga).filter(|held| matches!(held.saga.state, State::Stuck { .. }));
        let of_this = stuck.and_then(current_command).map(DeadLetterId::of_command) == Some(row.id);
        let reason = act.reason.clone();
        let event = if of_this {
            Event::Redrive { reason, input: self.edited.get(&row.id).map(|edit| edit.fields.clone()) }
        } else {
            Event::LetterRedriven { letter: row.id, reason }
        };
        self.apply(saga, &event).map_err(|why| self.not_allowed(saga, why))
    }

    /// The letter belongs to no saga that waits: any shard of ours can send it.
    fn redrive_of_nobody(&mut self, act: &ActOnLetter, row: &LetterRow) -> Result<(), ActError> {
        let Some(&shard) = self.context.shards.ids().first() else {
            return Err(ActError::Busy { retry_after: RETRY_AFTER });
        };
        let body = self.edited.get(&row.id).map(|edit| edit.value.clone()).unwrap_or_default();
        let event = Event::LetterRedriven { letter: row.id, reason: act.reason.clone() };
        let seq = self.journal_shard(shard, ShardEffect::SendLetter { letter: row.id }, body);
        self.redrive_letter(row.id, &event, true);
        let saga_shard = row.saga.map(|saga| saga.shard(self.context.shard_count));
        self.send_letter(row.id, saga_shard, (shard, seq));
        Ok(())
    }
}

/// Why a reply cannot be what it says: a success of a forward command carries that step's reply.
fn mismatch(held: &Held, command: CommandId, message_type: &str, event: &Event) -> Option<String> {
    let Event::Replied { outcome: Outcome::Succeeded { .. }, .. } = event else { return None };
    let step = held
        .definition
        .steps
        .iter()
        .find(|step| CommandId::derive(held.saga.id, &step.name, Direction::Forward) == command)?;
    (*step.reply != *message_type)
        .then(|| format!("step {} is answered by a {}, not by a {message_type}", step.name, step.reply))
}

/// As in the metrics.
fn name(why: Why) -> &'static str {
    match why {
        Why::Ended => "ended",
        Why::Late => "late",
        Why::Foreign => "foreign",
        Why::Stale => "stale",
        Why::NotStuck => "not_stuck",
        Why::NotInBackoff => "not_in_backoff",
        Why::Compensating => "compensating",
        Why::PointOfNoReturn => "point_of_no_return",
        Why::Begun => "begun",
    }
}
