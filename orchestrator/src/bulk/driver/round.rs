//! One round: outcomes that came, then what is to be sent now, then all of it kept in one commit.

use std::sync::Arc;

use futures::future::join_all;
use saga_defs::Data;
use saga_defs::ids::{DeadLetterId, SagaId};

use super::{AGAIN, ById, OUTCOMES, PATIENCE, Quiet, RENEW, Task, Went};
use crate::bulk::hands::{ActOnSaga, Done, SendLetter};
use crate::bulk::judge::{self, Fate, LetterSent};
use crate::bulk::run::{MAX_WAITING, Next, Outcome, Run};
use crate::dead_letters::edit::{self, Edit, NoEdit};
use crate::engine::clock;
use crate::engine::handle::{Expected, Verb};
use crate::store::StoreError;
use crate::store::bulk_drive::{Chosen, ItemChange, LetterHere, Round};

/// Letters that are sent at the same time: they share the lane's commits.
const AT_A_TIME: u32 = 64;
/// The same of letters whose values are edited: each may be of a mebibyte, and so may what is made of it.
const EDITED_AT_A_TIME: u32 = 16;

/// What became of one that was to be sent.
enum Tried {
    /// It is done.
    Sent,
    /// It was not sent, and will not be.
    Passed(Fate),
    /// Not now.
    NotNow(String),
}

impl Task {
    /// # Errors
    /// When the database does not answer: then what is kept is to be read again.
    pub(super) async fn round(&mut self, run: &mut Run, quiet: &mut Quiet) -> Result<Went, StoreError> {
        let mut items = self.outcomes(run).await?;
        let now = clock::now();
        let mut next = if self.is_running() { run.next(now) } else { Next::Outcomes };
        if matches!(next, Next::Send { .. }) {
            // Whoever cancels sees nothing sent that was not under way.
            let status = self.driver.store.renew(self.action.id, self.token).await?;
            let Some(status) = status else { return Ok(Went::Over) };
            self.action.status = status;
            if !self.is_running() {
                next = Next::Outcomes;
            }
        }
        let (mut over, mut went) = (None, None);
        match next {
            Next::Send { at_most } => {
                let together = if self.action.patch.is_some() { EDITED_AT_A_TIME } else { AT_A_TIME };
                went = Some(self.send(run, at_most.min(together), &mut items).await?);
            }
            Next::Pause { until } => went = Some(Went::After(until.since(now))),
            Next::Outcomes => {}
            Next::Stop { failed, of } => {
                over = Some(("stopped", Some(format!("{failed} of the last {of} failed again"))));
            }
            Next::Done => over = Some(("completed", None)),
        }
        let finished = run.progress().waiting() == 0 && (over.is_some() || !self.is_running());
        if items.is_empty() && over.is_none() && !finished {
            return self.stay(quiet, went).await;
        }
        quiet.over(now);
        let progress = serde_json::to_value(run.progress()).unwrap_or_default();
        let round = Round { items: &items, progress, over, finished, at: clock::now() };
        let Some(status) = self.driver.store.record(self.action.id, self.token, &round).await? else {
            return Ok(Went::Over);
        };
        self.measure(&round, &status);
        if finished {
            let id = self.action.id;
            tracing::info!(action = %id, status, progress = %round.progress, "an action is finished");
            return Ok(Went::Over);
        }
        self.action.status = status;
        Ok(went.unwrap_or(Went::After(OUTCOMES)))
    }

    /// What is kept is counted, by whoever kept it.
    fn measure(&self, round: &Round<'_>, status: &str) {
        let (metrics, action) = (&self.driver.metrics, &self.action.verb);
        for outcome in ["sent", "succeeded", "failed_again", "passed_over"] {
            let count = round.items.iter().filter(|item| item.state == outcome).count();
            if count > 0 {
                metrics.bulk_items(action, outcome, count as u64);
            }
        }
        // Somebody else's cancel is seen at the end only.
        if round.over.is_some() || (round.finished && status == "cancelled") {
            metrics.bulk_ended(action, status);
        }
    }

    /// Nothing is to be kept; the lease is, unless this has been so for a while: then another action may have its turn.
    async fn stay(&mut self, quiet: &mut Quiet, went: Option<Went>) -> Result<Went, StoreError> {
        let now = clock::now();
        if now.since(quiet.since) >= PATIENCE {
            return Ok(Went::Aside);
        }
        if now.since(quiet.renewed) >= RENEW || (self.is_running() && went.is_none()) {
            quiet.renewed = now;
            let Some(status) = self.driver.store.renew(self.action.id, self.token).await? else {
                return Ok(Went::Over);
            };
            self.action.status = status;
        }
        Ok(went.unwrap_or(Went::After(OUTCOMES)))
    }

    /// Those that were sent and have an outcome by now.
    async fn outcomes(&self, run: &mut Run) -> Result<Vec<ItemChange>, StoreError> {
        let mut items = Vec::new();
        if run.progress().waiting() == 0 {
            return Ok(items);
        }
        // More are never outstanding, see the run.
        let waiting =
            self.driver.store.waiting(self.action.id, 0, MAX_WAITING.saturating_add(AT_A_TIME)).await?;
        let ids: Vec<_> = waiting.iter().map(|chosen| chosen.subject).collect();
        let found: Vec<(Option<Outcome>, Option<LetterSent>)> = if self.is_of_letters() {
            let sent = self.driver.store.letters_sent(&ids).await?;
            let sent = ids.iter().map(|id| sent.get(id).copied());
            sent.map(|sent| (judge::letter_outcome(sent), sent)).collect()
        } else {
            let places = self.driver.store.saga_places(&ids).await?;
            let outcome = |chosen: &Chosen| {
                let revision = chosen.revision.unwrap_or_default();
                judge::saga_outcome(places.get(&chosen.subject), revision, chosen.step.as_deref())
            };
            waiting.iter().map(|chosen| (outcome(chosen), None)).collect()
        };
        for (chosen, (outcome, sent)) in waiting.iter().zip(found) {
            let Some(outcome) = outcome else { continue };
            run.outcome(outcome);
            let state = match outcome {
                Outcome::Succeeded => "succeeded",
                Outcome::FailedAgain => "failed_again",
            };
            let (code, note) = sent.and_then(LetterSent::remark).unzip();
            items.push(ItemChange { place: chosen.place, state, code, note });
        }
        Ok(items)
    }

    /// Sends the next ones, at most so many, all at once.
    async fn send(
        &self,
        run: &mut Run,
        at_most: u32,
        items: &mut Vec<ItemChange>,
    ) -> Result<Went, StoreError> {
        let done_up_to = run.progress().done_up_to;
        let chosen = self.driver.store.next(self.action.id, done_up_to, at_most).await?;
        let tried = if self.is_of_letters() {
            self.send_letters(&chosen).await?
        } else {
            join_all(chosen.iter().map(|chosen| self.act(chosen))).await
        };
        let now = clock::now();
        let (mut sent, mut first_left) = (0, None);
        for (chosen, tried) in chosen.iter().zip(tried) {
            match tried {
                Tried::Sent => {
                    sent += 1;
                    // A verb other than redrive has no outcome but that it is done.
                    let followed = self.action.verb == "redrive";
                    let state = if followed { "sent" } else { "succeeded" };
                    items.push(ItemChange { place: chosen.place, state, code: None, note: None });
                }
                Tried::Passed(fate) => {
                    run.passed_over(fate.code());
                    let (code, note) = (Some(fate.code()), fate.note());
                    items.push(ItemChange { place: chosen.place, state: "passed_over", code, note });
                }
                Tried::NotNow(note) => {
                    tracing::debug!(action = %self.action.id, subject = %chosen.subject, note, "not now");
                    first_left.get_or_insert(chosen.place);
                }
            }
        }
        run.sent(sent, now);
        if self.action.verb != "redrive" {
            (0..sent).for_each(|_| run.outcome(Outcome::Succeeded));
        }
        let last = first_left.map(|left| left - 1).or_else(|| chosen.last().map(|chosen| chosen.place));
        run.up_to(last.and_then(|last| u32::try_from(last).ok()).unwrap_or(done_up_to));
        // Something was expected, and nothing is there: the selection is not what it was.
        let nothing = chosen.is_empty();
        Ok(if first_left.is_some() || nothing { Went::After(AGAIN) } else { Went::On })
    }

    async fn send_letters(&self, chosen: &[Chosen]) -> Result<Vec<Tried>, StoreError> {
        let (letters, sagas) = self.letters_and_sagas(chosen, self.action.patch.is_some()).await?;
        let send = async |chosen: &Chosen| {
            let letter = letters.get(&chosen.subject);
            let saga = letter.and_then(|letter| letter.saga).and_then(|saga| sagas.get(&saga));
            let fate = judge::letter(letter.map(|letter| &letter.now), saga.map(|(now, _)| now));
            // Who was killed after sending it finds it redriven: the engine knows by the key that it was for this.
            if !matches!(fate, Fate::Send | Fate::NotOpen(_) | Fate::SagaEnded(_) | Fate::SagaMovedOn(_)) {
                return Tried::Passed(fate);
            }
            if fate != Fate::Send {
                let letter = DeadLetterId::from_uuid(chosen.subject);
                return match self.driver.hands.was_sent(self.action.id, letter).await {
                    Done::Yes => Tried::Sent,
                    Done::No(_) => Tried::Passed(fate),
                    Done::NotNow(note) => Tried::NotNow(note),
                };
            }
            let edit = match self.edit(letter) {
                Ok(edit) => edit,
                Err(no) => return Tried::Passed(Fate::Unfit(told(&no))),
            };
            let send = SendLetter {
                action: self.action.id,
                letter: DeadLetterId::from_uuid(chosen.subject),
                edit,
                actor: self.action.actor.as_str().into(),
                reason: self.action.reason.as_str().into(),
            };
            tried(self.driver.hands.send(send).await)
        };
        Ok(join_all(chosen.iter().map(send)).await)
    }

    /// The letters as they are now, with their values or without, and the sagas they are about.
    pub(super) async fn letters_and_sagas(
        &self,
        chosen: &[Chosen],
        values: bool,
    ) -> Result<(ById<LetterHere>, ById<(judge::SagaNow, saga_defs::saga::Saga)>), StoreError> {
        let ids: Vec<_> = chosen.iter().map(|chosen| chosen.subject).collect();
        let letters = self.driver.store.letters_now(&ids, values).await?;
        let mut sagas: Vec<_> = letters.values().filter_map(|letter| letter.saga).collect();
        sagas.sort_unstable();
        sagas.dedup();
        let sagas = self.driver.store.sagas_now(&sagas).await?;
        Ok((letters, sagas))
    }

    /// What is sent in place of the letter's value; `None`: its own.
    pub(super) fn edit(&self, letter: Option<&LetterHere>) -> Result<Option<Edit>, NoEdit> {
        let patch: Option<&Data> = self.action.patch.as_ref().and_then(serde_json::Value::as_object);
        let Some(patch) = patch else { return Ok(None) };
        let value = letter.and_then(|letter| letter.value.as_deref());
        edit::patched(&self.driver.definitions.catalog(), value, patch).map(Some)
    }

    async fn act(&self, chosen: &Chosen) -> Tried {
        let Some(verb) = self.verb() else {
            return Tried::Passed(Fate::Refused(format!("there is no verb {}", self.action.verb)));
        };
        let saga = SagaId::from_uuid(chosen.subject);
        let [actor, reason] = [&self.action.actor, &self.action.reason].map(|text| Arc::from(text.as_str()));
        let expected = expected(&verb, chosen);
        let act = ActOnSaga { action: self.action.id, saga, verb, expected, actor, reason };
        tried(self.driver.hands.act(act).await)
    }

    /// What is done to sagas.
    pub(super) fn verb(&self) -> Option<Verb> {
        match self.action.verb.as_str() {
            "cancel" => Some(Verb::Cancel),
            "redrive" => Some(Verb::Redrive { input: None }),
            "skip" => Some(Verb::Skip),
            "retry-now" => Some(Verb::RetryNow),
            _ => None,
        }
    }

    fn is_running(&self) -> bool {
        self.action.status == "running"
    }

    pub(super) fn is_of_letters(&self) -> bool {
        self.action.subject == "letter"
    }
}

/// What is stuck for another reason by now was not meant. A cancellation is, and a retry does no harm, wherever the saga is.
pub(super) fn expected(verb: &Verb, chosen: &Chosen) -> Option<Expected> {
    let revision = chosen.revision.and_then(|revision| u32::try_from(revision).ok());
    matches!(verb, Verb::Skip | Verb::Redrive { .. }).then_some(Expected(vec![revision?]))
}

fn tried(done: Done) -> Tried {
    match done {
        Done::Yes => Tried::Sent,
        Done::No(why) => Tried::Passed(Fate::Refused(why)),
        Done::NotNow(why) => Tried::NotNow(why),
    }
}

/// Why a value was not edited, in a sentence.
pub(super) fn told(no: &NoEdit) -> String {
    match no {
        NoEdit::UnknownType => "which message it is is not known".to_owned(),
        NoEdit::Unreadable(why) => why.clone(),
        NoEdit::Refused(wrong) => {
            wrong.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
    }
}
