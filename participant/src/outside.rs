//! Commands whose effect lies outside: called between two transactions, then settled, or recorded as failed when it is
//! certain that nothing happened.
//!
//! `failed` promises that nothing happened: the orchestrator does not undo a step that only ever failed. So a forward
//! command is answered `failed` only if its call was certainly not made and no earlier call can have been either, and
//! the failure is recorded, so that no copy of the attempt runs later. In every other case there is no answer: the step times out, counts as in doubt, and is
//! undone too. A compensation may always be answered `failed`: it is only ever tried again.

use std::collections::BTreeMap;
use std::time::Instant;

use async_trait::async_trait;
use futures::future::join_all;
use saga_defs::ids::Direction;
use saga_defs::participant::Admission;
use sea_orm::{DatabaseTransaction, TransactionTrait};
use tokio_util::sync::CancellationToken;

use crate::calls::CallError;
use crate::crash::{self, Point};
use crate::erased::{AnyAnswer, AnyCommand, AnyHandler, External};
use crate::executor::Executor;
use crate::intake::Incoming;
use crate::isolate::{AllOrNone, Failure, isolate};
use crate::outcome::Refusal;
use crate::records::{Answer, Claim, Expected, Records, of_database, of_handler, rolled_back};
use crate::retry::Stopped;
use crate::traces;

type Place = usize;

/// A command that the outside answered.
struct Called<'a> {
    command: &'a Incoming,
    claim: Claim,
    answer: AnyAnswer,
}

/// A command of which it is certain that nothing happened.
pub(crate) struct Unmade<'a> {
    pub(crate) command: &'a Incoming,
    pub(crate) refusal: Refusal,
    /// The claim under which its call was not made, if it came so far.
    pub(crate) claim: Option<Claim>,
}

impl Executor {
    /// Calls the outside for the claimed commands of `round`, and settles them.
    pub(crate) async fn run_outside(
        &self,
        round: &[Incoming],
        claims: Vec<(Place, Claim)>,
        stop: &CancellationToken,
    ) -> Result<Vec<(Place, Option<Answer>)>, Stopped> {
        let mut answers = Vec::with_capacity(claims.len());
        let (mut called_at, mut called) = (Vec::new(), Vec::new());
        let (mut unmade_at, mut unmade) = (Vec::new(), Vec::new());
        crash::pass(Point::CallsClaimed);
        let answered = self.call_all(round, claims).await;
        crash::pass(Point::CallsAnswered);
        for (at, claim, answer) in answered {
            let command = &round[at];
            match answer {
                Ok(answer) => {
                    called_at.push(at);
                    called.push(Called { command, claim, answer });
                }
                Err(CallError::NotMade(refusal)) if claim.first => {
                    unmade_at.push(at);
                    unmade.push(Unmade { command, refusal, claim: Some(claim) });
                }
                Err(CallError::NotMade(refusal) | CallError::Unknown(refusal)) => {
                    answers.push((at, self.without_promise(command, &refusal)));
                }
            }
        }
        let settled = isolate(&Settling(self), &called, stop).await?;
        for (at, settled) in called_at.into_iter().zip(settled) {
            let answer = settled.map_or_else(|why| self.without_promise(&round[at], &why), Some);
            answers.push((at, answer));
        }
        answers.extend(unmade_at.into_iter().zip(self.fail(&unmade, stop).await?));
        Ok(answers)
    }

    /// Records failures, so that no copy of the same attempt runs later, and gives their answers; `None` where a failure
    /// cannot be promised.
    pub(crate) async fn fail(
        &self,
        unmade: &[Unmade<'_>],
        stop: &CancellationToken,
    ) -> Result<Vec<Option<Answer>>, Stopped> {
        let recorded = isolate(&Failing(self), unmade, stop).await?;
        let answers = recorded.into_iter().zip(unmade).map(|(recorded, unmade)| match recorded {
            Ok(Some(answer)) => Some(answer),
            Ok(None) => self.without_promise(unmade.command, &unmade.refusal),
            Err(why) => self.without_promise(unmade.command, &why),
        });
        Ok(answers.collect())
    }

    async fn call_all(
        &self,
        round: &[Incoming],
        claims: Vec<(Place, Claim)>,
    ) -> Vec<(Place, Claim, Result<AnyAnswer, CallError>)> {
        let mut by_handler: BTreeMap<usize, Vec<(Place, Claim)>> = BTreeMap::new();
        for (at, claim) in claims {
            by_handler.entry(round[at].handler).or_default().push((at, claim));
        }
        let calls = by_handler.into_iter().map(|(handler, claims)| async move {
            let commands: Vec<&AnyCommand> = claims.iter().map(|(at, _)| &round[*at].command).collect();
            let began = Instant::now();
            let answers = match &self.handlers[handler] {
                AnyHandler::External(handler) => self.call(handler.as_ref(), &commands).await,
                AnyHandler::Local(_) => Vec::new(),
            };
            if let Some((at, _)) = claims.first() {
                self.vitals.called(&round[*at].headers.message_type, began, &answers);
            }
            claims
                .into_iter()
                .zip(answers)
                .map(|((at, claim), answer)| (at, claim, answer))
                .collect::<Vec<_>>()
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    /// Calls for all commands at once; if the handler breaks over them, once more for each alone, which the idempotency
    /// key makes safe.
    async fn call(
        &self,
        handler: &dyn External,
        commands: &[&AnyCommand],
    ) -> Vec<Result<AnyAnswer, CallError>> {
        match self.call_in_time(handler, commands).await {
            Ok(answers) => answers,
            Err(refusal) if commands.len() == 1 => vec![Err(CallError::Unknown(refusal))],
            Err(_) => {
                let each = commands.iter().map(|command| async {
                    let answer = self.call_in_time(handler, std::slice::from_ref(command)).await;
                    answer.map_err(CallError::Unknown).and_then(only)
                });
                join_all(each).await
            }
        }
    }

    async fn call_in_time(
        &self,
        handler: &dyn External,
        commands: &[&AnyCommand],
    ) -> Result<Vec<Result<AnyAnswer, CallError>>, Refusal> {
        let Ok(answers) = tokio::time::timeout(self.call_timeout, handler.call(commands)).await else {
            let late = Refusal::new("call_timed_out", format!("no answer within {:?}", self.call_timeout));
            return Ok(commands.iter().map(|_| Err(CallError::Unknown(late.clone()))).collect());
        };
        answers
    }

    /// The answer when it cannot be promised that nothing happened.
    fn without_promise(&self, command: &Incoming, refusal: &Refusal) -> Option<Answer> {
        if is_forward(command) {
            let headers = &command.headers;
            tracing::warn!(
                saga = %headers.saga_id,
                trace = traces::id_of(&command.received),
                step = %headers.step,
                command = %headers.command_id,
                code = %refusal.code,
                "no answer is sent, it may have happened: {}",
                refusal.message
            );
            return None;
        }
        Some(Answer::failed(&self.catalog, refusal))
    }
}

fn is_forward(command: &Incoming) -> bool {
    command.headers.direction == Direction::Forward
}

fn only<T>(mut answers: Vec<Result<T, CallError>>) -> Result<T, CallError> {
    let none = || Err(CallError::Unknown(Refusal::new("handler_failed", "the handler gave no answer")));
    answers.pop().unwrap_or_else(none)
}

/// The second transaction of a round: what the outside answered.
struct Settling<'e>(&'e Executor);

#[async_trait]
impl<'a> AllOrNone<Called<'a>, Answer> for Settling<'_> {
    /// Expects the rows as they were claimed, which writing them shows. If one is not (another process settled the command
    /// meanwhile), or if anything else does not work out, the attempt is made once more with all rows read.
    async fn attempt(&self, called: &[Called<'a>]) -> Result<Vec<Answer>, Failure> {
        match self.transaction(called, |called| Expected::Claimed(called.claim)).await {
            Ok(answers) => Ok(answers),
            Err(failure) => {
                tracing::debug!(commands = called.len(), ?failure, "once more, with all rows read");
                self.transaction(called, |_| Expected::Unknown).await
            }
        }
    }
}

impl Settling<'_> {
    async fn transaction(
        &self,
        called: &[Called<'_>],
        expected: fn(&Called<'_>) -> Expected,
    ) -> Result<Vec<Answer>, Failure> {
        let transaction = self.0.database.begin().await.map_err(of_database)?;
        match self.work(&transaction, called, expected).await {
            Ok(answers) => {
                transaction.commit().await.map_err(of_database)?;
                crash::pass(Point::CallsSettled);
                Ok(answers)
            }
            Err(failure) => Err(rolled_back(transaction, failure).await),
        }
    }

    /// Asks the rule once more: another process may have settled the same command meanwhile.
    async fn work(
        &self,
        transaction: &DatabaseTransaction,
        called: &[Called<'_>],
        expected: fn(&Called<'_>) -> Expected,
    ) -> Result<Vec<Answer>, Failure> {
        let Executor { catalog, handlers, .. } = self.0;
        let commands = called.iter().map(|called| (called.command, expected(called)));
        let mut records = Records::read(catalog, transaction, commands).await?;
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(called.len());
        let mut to_settle: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, Called { command, .. }) in called.iter().enumerate() {
            let admission = records.admission(command);
            if admission == Admission::Execute {
                to_settle.entry(command.handler).or_default().push(at);
                answers.push(None);
            } else {
                let handler = &handlers[command.handler];
                answers.push(Some(records.answer_without_running(command, admission, handler)?));
            }
        }
        for (handler, places) in to_settle {
            let AnyHandler::External(handler) = &handlers[handler] else { continue };
            let answered: Vec<_> =
                places.iter().map(|at| (&called[*at].command.command, &called[*at].answer)).collect();
            let effects = handler.settle(catalog, transaction, &answered).await.map_err(of_handler)?;
            for (at, effect) in places.into_iter().zip(effects) {
                answers[at] = Some(records.conclude(called[at].command, effect));
            }
        }
        records.write().await?;
        Ok(answers.into_iter().flatten().collect())
    }
}

/// The transaction that records failures.
struct Failing<'e>(&'e Executor);

#[async_trait]
impl<'a> AllOrNone<Unmade<'a>, Option<Answer>> for Failing<'_> {
    async fn attempt(&self, unmade: &[Unmade<'a>]) -> Result<Vec<Option<Answer>>, Failure> {
        let transaction = self.0.database.begin().await.map_err(of_database)?;
        match self.work(&transaction, unmade).await {
            Ok(answers) => {
                transaction.commit().await.map_err(of_database)?;
                crash::pass(Point::FailuresRecorded);
                Ok(answers)
            }
            Err(failure) => Err(rolled_back(transaction, failure).await),
        }
    }
}

impl Failing<'_> {
    /// Asks the rule once more: another process may have answered the same command meanwhile.
    async fn work(
        &self,
        transaction: &DatabaseTransaction,
        unmade: &[Unmade<'_>],
    ) -> Result<Vec<Option<Answer>>, Failure> {
        let Executor { catalog, handlers, .. } = self.0;
        let commands = unmade.iter().map(|unmade| (unmade.command, Expected::Unknown));
        let mut records = Records::read(catalog, transaction, commands).await?;
        let mut answers = Vec::with_capacity(unmade.len());
        for Unmade { command, refusal, claim } in unmade {
            let admission = records.admission(command);
            answers.push(if admission == Admission::Execute {
                records.fail(command, refusal, *claim)
            } else {
                let handler = &handlers[command.handler];
                Some(records.answer_without_running(command, admission, handler)?)
            });
        }
        records.write().await?;
        Ok(answers)
    }
}
