//! From commands to answers: the rule, the handlers and the inbox, in one transaction per round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use saga_defs::participant::Admission;
use schemas::Catalog;
use sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionTrait};
use tokio_util::sync::CancellationToken;

use crate::crash::{self, Point};
use crate::erased::{AnyCommand, AnyHandler};
use crate::intake::Incoming;
use crate::isolate::{AllOrNone, Failure, isolate};
use crate::outside::Unmade;
use crate::records::{Answer, Claim, Expected, Records, of_database, of_handler, rolled_back};
use crate::retry::Stopped;
use crate::vitals::Vitals;

/// Runs commands against the worker's database.
pub(crate) struct Executor {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) database: DatabaseConnection,
    pub(crate) handlers: Vec<AnyHandler>,
    pub(crate) vitals: Arc<Vitals>,
    /// How long all calls to the outside of one round may take.
    pub(crate) call_timeout: Duration,
    /// Whether commands that look new were new of late. Only decides what is tried first.
    pub(crate) all_new: AtomicBool,
}

/// What the first transaction made of a command.
enum Admitted {
    Answered(Answer),
    /// Something outside is to be called.
    Claimed(Claim),
}

impl Executor {
    /// Answers each command of a round, in order; `None` where silence is the only truthful answer. A round holds at
    /// most one command per saga: what a command leaves behind must be seen by the next one of its saga.
    pub(crate) async fn run(
        &self,
        round: &[Incoming],
        stop: &CancellationToken,
    ) -> Result<Vec<Option<Answer>>, Stopped> {
        let admitted = isolate(&Admitting(self), round, stop).await?;
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(round.len());
        let mut claims = Vec::new();
        let (mut failed_at, mut failed) = (Vec::new(), Vec::new());
        for (at, admitted) in admitted.into_iter().enumerate() {
            answers.push(match admitted {
                Ok(Admitted::Answered(answer)) => Some(answer),
                Ok(Admitted::Claimed(claim)) => {
                    claims.push((at, claim));
                    None
                }
                Err(refusal) => {
                    failed.push(Unmade { command: &round[at], refusal, claim: None });
                    failed_at.push(at);
                    None
                }
            });
        }
        for (at, answer) in failed_at.into_iter().zip(self.fail(&failed, stop).await?) {
            answers[at] = answer;
        }
        if !claims.is_empty() {
            for (at, answer) in self.run_outside(round, claims, stop).await? {
                answers[at] = answer;
            }
        }
        Ok(answers)
    }
}

/// The first transaction of a round, and for commands without calls outside the only one.
struct Admitting<'e>(&'e Executor);

#[async_trait]
impl AllOrNone<Incoming, Admitted> for Admitting<'_> {
    /// While new commands come, their rows are not looked for first: writing them shows whether there are any. If so, or
    /// if anything else does not work out, the attempt is made once more with all rows read.
    async fn attempt(&self, commands: &[Incoming]) -> Result<Vec<Admitted>, Failure> {
        let all_new = &self.0.all_new;
        if all_new.load(Ordering::Relaxed) {
            match self.transaction(commands, Incoming::expected).await {
                Ok((admitted, _)) => return Ok(admitted),
                Err(failure) => {
                    tracing::debug!(commands = commands.len(), ?failure, "once more, with all rows read");
                    all_new.store(false, Ordering::Relaxed);
                }
            }
        }
        let (admitted, were_new) = self.transaction(commands, |_| Expected::Unknown).await?;
        all_new.store(were_new, Ordering::Relaxed);
        Ok(admitted)
    }
}

impl Admitting<'_> {
    async fn transaction(
        &self,
        commands: &[Incoming],
        expected: fn(&Incoming) -> Expected,
    ) -> Result<(Vec<Admitted>, bool), Failure> {
        let transaction = self.0.database.begin().await.map_err(of_database)?;
        match self.work(&transaction, commands, expected).await {
            Ok(done) => {
                crash::pass(Point::EffectsMade);
                transaction.commit().await.map_err(of_database)?;
                crash::pass(Point::EffectsCommitted);
                Ok(done)
            }
            Err(failure) => Err(rolled_back(transaction, failure).await),
        }
    }

    /// Also says whether all commands that look new were new.
    async fn work(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[Incoming],
        expected: fn(&Incoming) -> Expected,
    ) -> Result<(Vec<Admitted>, bool), Failure> {
        let handlers = &self.0.handlers;
        let commands_expected = commands.iter().map(|command| (command, expected(command)));
        let mut records = Records::read(&self.0.catalog, transaction, commands_expected).await?;
        let mut admitted: Vec<Option<Admitted>> = Vec::with_capacity(commands.len());
        let mut to_run: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut all_new = true;
        for (at, command) in commands.iter().enumerate() {
            all_new &= command.expected() == Expected::Unknown || records.is_new(command);
            let admission = records.admission(command);
            if admission == Admission::Execute {
                to_run.entry(command.handler).or_default().push(at);
                admitted.push(None);
            } else {
                let answer =
                    records.answer_without_running(command, admission, &handlers[command.handler])?;
                admitted.push(Some(Admitted::Answered(answer)));
            }
        }
        for (handler, places) in to_run {
            let chosen: Vec<&Incoming> = places.iter().map(|at| &commands[*at]).collect();
            let done = self.run_handler(&handlers[handler], transaction, &chosen, &mut records).await?;
            for (at, done) in places.into_iter().zip(done) {
                admitted[at] = Some(done);
            }
        }
        records.write().await?;
        Ok((admitted.into_iter().flatten().collect(), all_new))
    }

    async fn run_handler(
        &self,
        handler: &AnyHandler,
        transaction: &DatabaseTransaction,
        chosen: &[&Incoming],
        records: &mut Records<'_>,
    ) -> Result<Vec<Admitted>, Failure> {
        let commands: Vec<&AnyCommand> = chosen.iter().map(|command| &command.command).collect();
        match handler {
            AnyHandler::Local(handler) => {
                let handled = handler.handle(&self.0.catalog, transaction, &commands).await;
                let effects = handled.map_err(of_handler)?;
                let answers = chosen.iter().zip(effects);
                Ok(answers.map(|(at, effect)| Admitted::Answered(records.conclude(at, effect))).collect())
            }
            AnyHandler::External(handler) => {
                handler.claim(transaction, &commands).await.map_err(of_handler)?;
                Ok(chosen.iter().map(|command| Admitted::Claimed(records.claim(command))).collect())
            }
        }
    }
}
