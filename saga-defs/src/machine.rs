//! The only place that knows how sagas move.
//!
//! [`start`] makes a saga, [`transition`] moves it, [`replay`] does both from a journal. All are pure: the time and the
//! jitter are arguments, and what is to be done about a move is returned as [`Effect`]s.
//!
//! The rules, each held by the transcripts in `tests/`:
//! - `failed` says that nothing happened: back off, try again; after the last attempt it counts as a rejection, unless
//!   an earlier attempt timed out, then as in doubt.
//! - A rejection compensates the steps *before* it, last first. A compensatable step in doubt is compensated *too*.
//! - A pivot or retriable step in doubt is never compensated: it is tried until it succeeds or the saga is stuck.
//! - After the pivot, or once a retriable step has begun, only forward.
//! - A command that is withheld is not out: its attempt is the next one, and nothing of it can have happened.
//! - The time that a saga waits for a participant that is held does not count towards its deadline, if its definition says so.
//! - A compensation that keeps failing ends in `stuck`, never in `compensated`.

mod deadline;
mod moved;

use std::sync::Arc;

use crate::Data;
use crate::definition::{Definition, Step, StepKind};
use crate::ids::{Attempt, CommandId, DeadLetterId, Direction, Revision, SagaId, StepIndex};
use crate::retry::Jitter;
use crate::saga::{
    Echo, Effect, Event, Outcome, Reason, Refusal, Saga, State, StepRecord, StepStatus, Try, Uncounted,
};
use crate::time::Timestamp;

pub use moved::{Moment, Moved, Transition, Why};

/// Makes a saga and asks for its first command. The input, the saga's own id under `sagaId` and under
/// [`Definition::id_field`] are its first data.
pub fn start(
    definition: &Definition,
    id: SagaId,
    input: &Data,
    business_key: Option<Arc<str>>,
    traceparent: Option<Arc<str>>,
    at: Timestamp,
) -> Moved {
    let mut data = input.clone();
    data.insert("sagaId".to_owned(), id.to_string().into());
    data.entry(definition.id_field()).or_insert_with(|| id.to_string().into());
    let first = Try::first(StepIndex(0), Direction::Forward);
    let mut mover = Mover {
        definition,
        saga: Saga {
            id,
            definition: definition.id.clone(),
            business_key,
            revision: Revision(1),
            state: State::Awaiting(first),
            steps: vec![StepRecord::default(); definition.steps.len()],
            data: Arc::new(data),
            reason: None,
            correction: None,
            redriven: Vec::new(),
            uncounted: Uncounted::default(),
            traceparent,
            started_at: at,
            updated_at: at,
            finished_at: None,
        },
        moment: Moment { at, jitter: Jitter::NONE },
        effects: vec![Effect::AnnounceStart],
    };
    mover.send(first);
    Moved { saga: mover.saga, effects: mover.effects }
}

/// Moves a saga by one event, or says why the event does nothing. Never panics, whatever the state and the event.
pub fn transition(definition: &Definition, saga: &Saga, event: &Event, moment: Moment) -> Transition {
    let mut mover = Mover { definition, saga: saga.clone(), moment, effects: Vec::new() };
    let done = match event {
        Event::Started { .. } => Err(Why::Begun),
        Event::Replied { command_id, echo, outcome } => mover.replied(*command_id, *echo, outcome),
        Event::TimedOut(attempt) => mover.timed_out(*attempt),
        Event::RetryDue(attempt) => mover.retry_due(*attempt),
        Event::DeadlinePassed => mover.deadline_passed(),
        Event::DeadlineStopped => mover.deadline_stopped(),
        Event::DeadlineResumed => mover.deadline_resumed(),
        Event::Unsendable { attempt, cause } => mover.unsendable(*attempt, cause),
        Event::Withheld(attempt) => mover.withheld(*attempt),
        Event::Quarantined { cause } => mover.quarantined(cause),
        Event::LetterRedriven { letter, .. } => mover.letter_redriven(*letter),
        Event::Cancel { reason } => mover.cancel("cancelled", reason),
        Event::Redrive { input, .. } => mover.redrive(input.as_ref()),
        Event::Skip { .. } => mover.skip(),
        Event::RetryNow { .. } => mover.retry_now(),
    };
    match done {
        Ok(()) => Transition::Moved(mover.finish(event)),
        Err(why) => Transition::Ignored(why),
    }
}

/// Gives the saga that a journal tells of: its first event must be `Started`. `None` for an empty journal, one that
/// begins otherwise, or one with an event that does nothing.
pub fn replay<'a>(
    definition: &Definition,
    id: SagaId,
    journal: impl IntoIterator<Item = (Timestamp, &'a Event)>,
) -> Option<Saga> {
    let mut journal = journal.into_iter();
    let (at, Event::Started { input, business_key, traceparent }) = journal.next()? else { return None };
    let mut saga = start(definition, id, input, business_key.clone(), traceparent.clone(), at).saga;
    for (at, event) in journal {
        match transition(definition, &saga, event, Moment::of(&saga, at)) {
            Transition::Moved(moved) => saga = moved.saga,
            Transition::Ignored(_) => return None,
        }
    }
    Some(saga)
}

struct Mover<'a> {
    definition: &'a Definition,
    saga: Saga,
    moment: Moment,
    effects: Vec<Effect>,
}

type Done = Result<(), Why>;

impl Mover<'_> {
    fn finish(mut self, event: &Event) -> Moved {
        // Whatever else moves a saga ends its wait for a participant that is held.
        if !matches!(event, Event::Withheld(_) | Event::DeadlineStopped | Event::LetterRedriven { .. }) {
            self.let_deadline_run();
        }
        self.saga.revision = self.saga.revision.next();
        self.saga.updated_at = self.moment.at;
        Moved { saga: self.saga, effects: self.effects }
    }

    // ---- events -----------------------------------------------------------------------------------------------

    /// A success counts whichever sending it answers. A refusal or failure counts for its own sending only: a participant
    /// that refused an earlier `redrive` may be carrying out this one.
    fn replied(&mut self, command: CommandId, echo: Option<Echo>, outcome: &Outcome) -> Done {
        let Some(current) = self.saga.current() else { return Err(self.not_current(command)) };
        if self.command_id(current) != Some(command) {
            return Err(self.not_current(command));
        }
        let of_this_redrive = echo.is_none_or(|echo| echo.redrive == current.redrive);
        let of_this_attempt = of_this_redrive && echo.is_none_or(|echo| echo.attempt == current.attempt);
        match (&self.saga.state, outcome) {
            (State::Completed | State::Compensated, _) => Err(Why::Ended),
            (
                State::Awaiting(_) | State::Backoff { .. } | State::Stuck { .. },
                Outcome::Succeeded { fields },
            ) => {
                self.succeeded(current, fields);
                Ok(())
            }
            (_, Outcome::Rejected { .. }) if !of_this_redrive => Err(Why::Late),
            (_, Outcome::Failed { .. }) if !of_this_attempt => Err(Why::Late),
            (State::Awaiting(_) | State::Backoff { .. }, Outcome::Rejected { refusal }) => {
                self.rejected(current, refusal);
                Ok(())
            }
            // A pivot that was stuck in doubt is in doubt no more; for the others the operator has still to act.
            (State::Stuck { .. }, Outcome::Rejected { refusal }) if self.may_be_refused(current) => {
                self.rejected(current, refusal);
                Ok(())
            }
            (State::Awaiting(_), Outcome::Failed { refusal }) => {
                self.failed(current, refusal);
                Ok(())
            }
            (State::Backoff { .. } | State::Stuck { .. }, Outcome::Failed { .. })
            | (State::Stuck { .. }, Outcome::Rejected { .. }) => Err(Why::Late),
        }
    }

    fn timed_out(&mut self, attempt: Try) -> Done {
        if self.saga.state != State::Awaiting(attempt) {
            return Err(self.stale());
        }
        let error = Refusal::new("timed_out", format!("no reply to attempt {} in time", attempt.attempt));
        let doubtful = Try { doubt: true, ..attempt };
        self.note(attempt.step, Some(error.clone()));
        self.again_or(doubtful, &error, Self::in_doubt);
        Ok(())
    }

    fn retry_due(&mut self, attempt: Try) -> Done {
        match self.saga.state {
            State::Backoff { next, .. } if next == attempt => {
                self.send(next);
                Ok(())
            }
            State::Awaiting(_)
            | State::Backoff { .. }
            | State::Stuck { .. }
            | State::Completed
            | State::Compensated => Err(self.stale()),
        }
    }

    fn retry_now(&mut self) -> Done {
        match self.saga.state {
            State::Backoff { next, .. } => {
                self.send(next);
                Ok(())
            }
            State::Awaiting(_) | State::Stuck { .. } => Err(Why::NotInBackoff),
            State::Completed | State::Compensated => Err(Why::Ended),
        }
    }

    fn unsendable(&mut self, attempt: Try, cause: &Refusal) -> Done {
        if self.saga.state != State::Awaiting(attempt) {
            return Err(self.stale());
        }
        // The attempt itself was never sent; earlier ones may have been.
        if attempt.doubt {
            self.in_doubt(attempt, cause);
        } else if self.may_be_refused(attempt) {
            self.rejected(attempt, cause);
        } else {
            self.stuck(attempt, cause);
        }
        Ok(())
    }

    /// Nothing of the attempt is out, so it is still the next one.
    fn withheld(&mut self, attempt: Try) -> Done {
        if self.saga.state != State::Awaiting(attempt) {
            return Err(self.stale());
        }
        self.saga.state = State::Backoff { next: attempt, until: self.moment.at };
        self.stop_deadline();
        Ok(())
    }

    fn quarantined(&mut self, cause: &Refusal) -> Done {
        let at = self.saga.current().ok_or(Why::Ended)?;
        // Whether a command of this attempt is out is not known here.
        self.stuck(Try { doubt: true, ..at }, cause);
        Ok(())
    }

    fn letter_redriven(&mut self, letter: DeadLetterId) -> Done {
        if self.saga.current().is_none() {
            return Err(Why::Ended);
        }
        self.remember_letter(letter);
        self.effects.push(Effect::SendLetter { letter });
        Ok(())
    }

    fn cancel(&mut self, code: &str, message: &str) -> Done {
        let (at, may_have_happened) = match &self.saga.state {
            State::Completed | State::Compensated => return Err(Why::Ended),
            State::Awaiting(at) => (*at, true),
            State::Backoff { next, .. } => (*next, next.doubt),
            State::Stuck { at, .. } => (*at, at.doubt),
        };
        match (at.direction, self.kind(at.step)) {
            (Direction::Compensation, _) => return Err(Why::Compensating),
            (Direction::Forward, Some(StepKind::Retriable) | None) => return Err(Why::PointOfNoReturn),
            (Direction::Forward, Some(StepKind::Pivot)) if may_have_happened => {
                return Err(Why::PointOfNoReturn);
            }
            (Direction::Forward, Some(StepKind::Compensatable { .. } | StepKind::Pivot)) => {}
        }
        self.moved_on();
        let refusal = Refusal::new(code, message);
        let status = if may_have_happened { StepStatus::InDoubt } else { StepStatus::Rejected };
        self.close(at.step, status, Some(refusal.clone()));
        self.compensate(Reason { refusal, step: None });
        Ok(())
    }

    fn redrive(&mut self, input: Option<&Data>) -> Done {
        let State::Stuck { at, .. } = &self.saga.state else { return Err(self.not_stuck()) };
        let again = Try { attempt: Attempt::FIRST, redrive: at.redrive.saturating_add(1), ..*at };
        if let Some(values) = input {
            self.saga.correction = Some(Arc::new(values.clone()));
        }
        if let Some(command) = self.command_id(again) {
            let letter = DeadLetterId::of_command(command);
            self.remember_letter(letter);
            self.effects.push(Effect::RedriveLetter { letter });
        }
        self.send(again);
        Ok(())
    }

    fn skip(&mut self) -> Done {
        let State::Stuck { at, .. } = &self.saga.state else { return Err(self.not_stuck()) };
        let at = *at;
        self.succeeded(at, &Data::new());
        Ok(())
    }

    // ---- outcomes ---------------------------------------------------------------------------------------------

    fn succeeded(&mut self, at: Try, fields: &Data) {
        self.moved_on();
        match at.direction {
            Direction::Forward => {
                self.close(at.step, StepStatus::Succeeded, None);
                if !fields.is_empty() {
                    let data = Arc::make_mut(&mut self.saga.data);
                    data.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                let next = StepIndex(at.step.0.saturating_add(1));
                if self.definition.step(next).is_some() {
                    self.send(Try::first(next, Direction::Forward));
                } else {
                    self.end(State::Completed);
                }
            }
            Direction::Compensation => {
                self.close(at.step, StepStatus::Compensated, None);
                self.compensate_next();
            }
        }
    }

    fn rejected(&mut self, at: Try, refusal: &Refusal) {
        if !self.may_be_refused(at) {
            return self.stuck(at, refusal);
        }
        self.moved_on();
        self.close(at.step, StepStatus::Rejected, Some(refusal.clone()));
        self.compensate(Reason { refusal: refusal.clone(), step: Some(at.step) });
    }

    fn failed(&mut self, at: Try, refusal: &Refusal) {
        self.note(at.step, Some(refusal.clone()));
        self.again_or(at, refusal, |mover, last, cause| {
            if last.doubt { mover.in_doubt(last, cause) } else { mover.rejected(last, cause) }
        });
    }

    /// The step may have happened and nobody will tell.
    fn in_doubt(&mut self, at: Try, cause: &Refusal) {
        match (at.direction, self.kind(at.step)) {
            (Direction::Forward, Some(StepKind::Compensatable { .. })) => {
                self.moved_on();
                self.close(at.step, StepStatus::InDoubt, Some(cause.clone()));
                self.compensate(Reason { refusal: cause.clone(), step: Some(at.step) });
            }
            (Direction::Forward, Some(StepKind::Pivot | StepKind::Retriable) | None)
            | (Direction::Compensation, _) => self.stuck(at, cause),
        }
    }

    /// Backs off before the next attempt, or does `otherwise` if this was the last.
    fn again_or(&mut self, at: Try, cause: &Refusal, otherwise: impl FnOnce(&mut Self, Try, &Refusal)) {
        let policy = self.definition.step(at.step).map(|step| match at.direction {
            Direction::Forward => &step.retry,
            Direction::Compensation => &step.compensation_retry,
        });
        match policy {
            Some(policy) if !policy.is_last(at.attempt) => {
                let wait = policy.delay_after(at.attempt, self.moment.jitter);
                let next = Try { attempt: at.attempt.next(), ..at };
                self.saga.state = State::Backoff { next, until: self.moment.at.after(wait) };
            }
            Some(_) | None => otherwise(self, at, cause),
        }
    }

    // ---- moves ------------------------------------------------------------------------------------------------

    fn send(&mut self, at: Try) {
        let now = self.moment.at;
        let status = match at.direction {
            Direction::Forward => StepStatus::Running,
            Direction::Compensation => StepStatus::Compensating,
        };
        if let Some(record) = self.saga.steps.get_mut(at.step.at()) {
            record.status = status;
            record.attempt = at.attempt.0;
            record.started_at.get_or_insert(now);
            record.finished_at = None;
        }
        self.saga.state = State::Awaiting(at);
        self.effects.push(Effect::Send(at));
    }

    fn stuck(&mut self, at: Try, cause: &Refusal) {
        if let Some(record) = self.saga.steps.get_mut(at.step.at()) {
            record.status = StepStatus::Stuck;
            record.error = Some(cause.clone());
        }
        let letters = std::mem::take(&mut self.saga.redriven);
        if !letters.is_empty() {
            self.effects.push(Effect::ReopenLetters { letters });
        }
        self.saga.state = State::Stuck { at, cause: cause.clone() };
        self.effects.push(Effect::DeadLetter { attempt: at, cause: cause.clone() });
    }

    fn compensate(&mut self, reason: Reason) {
        self.saga.reason.get_or_insert(reason);
        self.compensate_next();
    }

    /// Undoes the last step that is done or may be; ends the saga when there is none.
    fn compensate_next(&mut self) {
        let undone =
            |record: &StepRecord| matches!(record.status, StepStatus::Succeeded | StepStatus::InDoubt);
        match self.saga.steps.iter().rposition(undone) {
            Some(last) => self.send(Try::first(StepIndex(last as u16), Direction::Compensation)),
            None => self.end(State::Compensated),
        }
    }

    fn end(&mut self, state: State) {
        self.saga.state = state;
        self.saga.finished_at = Some(self.moment.at);
        self.effects.push(Effect::AnnounceEnd { status: self.saga.status() });
    }

    /// The current command is done with: so are its correction and its letters, that of being stuck included.
    fn moved_on(&mut self) {
        self.saga.correction = None;
        if let State::Stuck { at, .. } = &self.saga.state
            && let Some(command) = self.command_id(*at)
        {
            self.remember_letter(DeadLetterId::of_command(command));
        }
        if !self.saga.redriven.is_empty() {
            let letters = std::mem::take(&mut self.saga.redriven);
            self.effects.push(Effect::ResolveLetters { letters });
        }
    }

    fn remember_letter(&mut self, letter: DeadLetterId) {
        if !self.saga.redriven.contains(&letter) {
            self.saga.redriven.push(letter);
        }
    }

    fn close(&mut self, step: StepIndex, status: StepStatus, error: Option<Refusal>) {
        if let Some(record) = self.saga.steps.get_mut(step.at()) {
            record.status = status;
            record.finished_at = Some(self.moment.at);
            record.error = error;
        }
    }

    fn note(&mut self, step: StepIndex, error: Option<Refusal>) {
        if let Some(record) = self.saga.steps.get_mut(step.at()) {
            record.error = error;
        }
    }

    // ---- questions --------------------------------------------------------------------------------------------

    fn kind(&self, step: StepIndex) -> Option<&StepKind> {
        self.definition.step(step).map(|step| &step.kind)
    }

    /// Whether a refusal of this command is an answer (and not something only an operator can mend).
    fn may_be_refused(&self, at: Try) -> bool {
        let kind = self.kind(at.step);
        at.direction == Direction::Forward
            && matches!(kind, Some(StepKind::Compensatable { .. } | StepKind::Pivot))
    }

    fn command_id(&self, at: Try) -> Option<CommandId> {
        self.definition.step(at.step).map(|step| CommandId::derive(self.saga.id, &step.name, at.direction))
    }

    fn not_current(&self, command: CommandId) -> Why {
        let sends =
            |step: &Step, direction| CommandId::derive(self.saga.id, &step.name, direction) == command;
        let known = self.definition.steps.iter().any(|step| match step.kind {
            StepKind::Compensatable { .. } => {
                sends(step, Direction::Forward) || sends(step, Direction::Compensation)
            }
            StepKind::Pivot | StepKind::Retriable => sends(step, Direction::Forward),
        });
        if known { Why::Late } else { Why::Foreign }
    }

    fn stale(&self) -> Why {
        if self.saga.current().is_none() { Why::Ended } else { Why::Stale }
    }

    fn not_stuck(&self) -> Why {
        if self.saga.current().is_none() { Why::Ended } else { Why::NotStuck }
    }
}
