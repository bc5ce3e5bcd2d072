//! Participants that are held: what the inputs tell of them, and what is withheld from them.

use saga_defs::definition::{Definition, Step};
use saga_defs::ids::{CommandId, Direction, SagaId, Shard};
use saga_defs::saga::{Event, Outcome, Saga, State, Try};
use saga_defs::time::Timestamp;

use super::super::participants::health::{Health, Seen};
use super::super::participants::parked::{Rank, Waiting};
use super::super::shards::{parked_wake, wake_of};
use super::Held;
use super::draft::Draft;

impl Draft<'_> {
    /// Does something for a saga whose command goes out although its participant is held.
    pub(super) fn letting_go<T>(&mut self, saga: SagaId, act: impl FnOnce(&mut Self) -> T) -> T {
        self.let_go = Some(saga);
        let done = act(self);
        self.let_go = None;
        done
    }

    /// Whether this attempt's command is not handed out.
    pub(super) fn withholds(&self, definition: &Definition, saga: SagaId, at: Try) -> bool {
        self.let_go != Some(saga)
            && definition.step(at.step).is_some_and(|step| self.batch.participants.holds(&step.participant))
    }

    /// What an event that a saga takes tells of its participant.
    pub(super) fn observe(&mut self, definition: &Definition, before: &Saga, event: &Event) {
        let seen = match event {
            Event::Replied { outcome: Outcome::Succeeded { .. } | Outcome::Rejected { .. }, .. } => {
                Seen::Answered
            }
            Event::Replied { outcome: Outcome::Failed { .. }, .. } => Seen::Failed(before.id),
            Event::TimedOut(_) => Seen::Silent(before.id),
            Event::Started { .. }
            | Event::RetryDue(_)
            | Event::DeadlinePassed
            | Event::DeadlineStopped
            | Event::DeadlineResumed
            | Event::Unsendable { .. }
            | Event::Withheld(_)
            | Event::Quarantined { .. }
            | Event::LetterRedriven { .. }
            | Event::Cancel { .. }
            | Event::Redrive { .. }
            | Event::Skip { .. }
            | Event::RetryNow { .. } => return,
        };
        if let Some(step) = before.current().and_then(|at| definition.step(at.step)) {
            self.batch.participants.observe(&step.participant, self.context.now, seen);
        }
    }

    /// What a reply that its saga ignores tells of whom it came from: it is there, though nobody waits for this any more.
    pub(super) fn observe_late(&mut self, saga: SagaId, command: CommandId, event: &Event) {
        let Event::Replied { outcome: Outcome::Succeeded { .. } | Outcome::Rejected { .. }, .. } = event
        else {
            return;
        };
        let of_command = |saga: SagaId, step: &Step| {
            [Direction::Forward, Direction::Compensation]
                .into_iter()
                .any(|direction| CommandId::derive(saga, &step.name, direction) == command)
        };
        let Some(held) = self.held(saga) else { return };
        // Ids are dear, and mostly nobody is held.
        let participants = &self.batch.participants;
        let asks_held = |step: &&Step| participants.holds(&step.participant) && of_command(saga, step);
        let Some(step) = held.definition.steps.iter().find(asks_held) else { return };
        let participant = step.participant.clone();
        self.batch.participants.observe(&participant, self.context.now, Seen::Late);
    }

    /// A saga whose time has come waits on if its participant is held: its attempt is neither made nor said to have timed out.
    pub(super) fn park(&mut self, shard: Shard, id: SagaId) -> bool {
        let Some(held) = self.held(id) else { return false };
        let Some(waiting) = Waiting::of(held) else { return false };
        if !self.batch.participants.holds(&waiting.participant) {
            return false;
        }
        let step = held.definition.step(waiting.kind.step);
        let before = self.context.shards.wake(shard, id);
        let limit = step.map(|step| step.timeout).unwrap_or_default();
        let asked_after = |moment: Timestamp| {
            before
                .and_then(|wake| wake.timeout_at)
                .is_some_and(|timeout_at| timeout_at >= moment.after(limit))
        };
        // Whom a participant that comes back does not answer has not lost an attempt, but tells of it.
        let health = self.batch.participants.get(&waiting.participant);
        let ramping = health.and_then(Health::ramping_since);
        if waiting.rank == Rank::Outstanding && ramping.is_some_and(asked_after) {
            self.batch.participants.observe(&waiting.participant, self.context.now, Seen::Silent(id));
        }
        self.stop_deadline(id);
        let wake =
            self.held(id).map(|held| parked_wake(&held.definition, &held.saga, self.context.now, before));
        match self.batch.moved.get_mut(&id) {
            Some(moved) => (moved.wake, moved.parked) = (wake, Some(waiting)),
            None => {
                self.batch.rearmed.push((shard, id, wake));
                self.batch.parked.push(waiting);
            }
        }
        true
    }

    /// Where its definition says so, and if it does not stand still already.
    fn stop_deadline(&mut self, id: SagaId) {
        let stops = |held: &Held| {
            held.definition.deadline_stands_while_held && held.saga.deadline(&held.definition).is_some()
        };
        if self.held(id).is_some_and(stops) {
            let told = self.apply(id, &Event::DeadlineStopped);
            debug_assert!(told.is_ok(), "it waits, and its deadline runs");
        }
    }

    /// A saga that waited for this participant goes on: it makes its attempt, or its attempt's time begins anew. One that has moved
    /// on meanwhile, to a participant that may be held too, is left alone.
    pub(super) fn released(&mut self, shard: Shard, id: SagaId, participant: &str) {
        let Some(held) = self.held(id) else { return self.cannot_be_read(shard, id) };
        let step = held.saga.current().and_then(|at| held.definition.step(at.step));
        if step.is_none_or(|step| *step.participant != *participant) {
            return;
        }
        let now = self.context.now;
        let next = match &held.saga.state {
            State::Backoff { next, until } if *until <= now => Some(*next),
            _ => None,
        };
        let made =
            |draft: &mut Self| next.is_some_and(|next| draft.apply(id, &Event::RetryDue(next)).is_ok());
        if self.letting_go(id, made) {
            return;
        }
        // Its answer is waited for again, from now: as a move has it, or without one.
        if self.apply(id, &Event::DeadlineResumed).is_ok() {
            return;
        }
        let wake = self.held(id).and_then(|held| {
            let before = self.context.shards.wake(shard, id).and_then(|wake| wake.awaits_seq);
            wake_of(&held.definition, &held.saga, now, before)
        });
        self.batch.rearmed.push((shard, id, wake));
    }
}
