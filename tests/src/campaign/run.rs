//! One run, from a fresh stack to the verdict.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use saga_defs::time::Timestamp;
use tokio::time::sleep;

use super::base::Base;
use super::faults::Fault;
use super::field::{Field, lock, now};
use super::figures::{self, Outcome};
use super::nemesis::{self, Injection};
use super::options::Options;
use crate::oracle::evidence::{Tolerance, Used};
use crate::oracle::judge::Violation;
use crate::oracle::{all_ended, ask, ended};
use crate::random::Random;
use crate::scenario::verified;
use crate::wait::eventually;

/// Starts that are accepted before the first strike.
const WARM: usize = 20;
/// How long the stack may take to them.
const WARM_LIMIT: Duration = Duration::from_secs(60);
/// How long clients book before the first strike, and after everything has settled.
const CALM: Duration = Duration::from_secs(11);
/// How long sagas may take to their ends when nothing disturbs them any more: more than all attempts of a step.
const END_LIMIT: Duration = Duration::from_secs(180);
/// Between two looks at what processes hold.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a run is to do.
pub(crate) struct Plan<'a> {
    /// Tells runs of a campaign apart.
    pub(crate) number: usize,
    pub(crate) name: &'a str,
    /// One is drawn for each strike.
    pub(crate) faults: Vec<Fault>,
    pub(crate) seed: u64,
    /// For how long harm is done.
    pub(crate) time: Duration,
}

impl Plan<'_> {
    fn settles(&self) -> Duration {
        self.faults.iter().map(|fault| fault.settles()).max().unwrap_or_default()
    }

    fn tolerance(&self) -> Tolerance {
        let failures = self.faults.iter().any(|fault| fault.tolerance() == Tolerance::Failures);
        if failures { Tolerance::Failures } else { Tolerance::Timeouts }
    }
}

/// Runs a plan. What does not hold is part of the outcome; an error is one of the campaign itself.
pub(crate) async fn run(base: &Arc<Base>, options: &Options, plan: &Plan<'_>) -> Result<Outcome> {
    let field = Field::start(base, options, plan).await.context("the stack")?;
    let clients = &field.clients;
    let injections = Mutex::default();
    let used = Mutex::default();
    let (raged, calm) = {
        let story = async {
            let told = story(&field, plan, &injections).await;
            clients.stop();
            told
        };
        tokio::select! {
            (told, ()) = async { tokio::join!(story, clients.run(&field.stack)) } => told,
            () = look_on(&field, &used) => unreachable!("it looks on until it is no longer asked"),
        }
    };
    let injections: Vec<Injection> = std::mem::take(&mut *lock(&injections));
    let mut violations = Vec::new();
    if let Err(error) = raged.context("harm could not be done or taken back") {
        violations.push(error_as_violation(&error));
    }
    if let Err(error) = all_ended(&field.stack, END_LIMIT).await {
        violations.push(error_as_violation(&error));
    }
    let (planted, used) = (lock(&field.planted).clone(), lock(&used).clone());
    let (evidence, judged) = ask(&field.stack, clients.log(), plan.tolerance(), |evidence| {
        evidence.planted.clone_from(&planted);
        evidence.calm.clone_from(&calm);
        evidence.used.clone_from(&used);
    })
    .await
    .context("the oracle")?;
    violations.extend(judged);
    if let Err(error) = verified(&field.stack).await {
        violations.push(error_as_violation(&error));
    }
    if !violations.is_empty() {
        eprintln!("{}", field.stack.last_words());
    }
    let outcome = figures::outcome(plan, injections, &evidence, violations);
    tokio::task::spawn_blocking(move || drop(field)).await?;
    Ok(outcome)
}

fn error_as_violation(error: &anyhow::Error) -> Violation {
    Violation { invariant: 1, name: "it does not end well", detail: format!("{error:#}") }
}

type Calm = Vec<(Timestamp, Timestamp)>;

/// Calm, harm, healing, calm, and until all of that has ended bookings that go well; gives the times in which something had to end in every five seconds.
async fn story(field: &Field, plan: &Plan<'_>, injections: &Mutex<Vec<Injection>>) -> (Result<()>, Calm) {
    let warm = eventually("clients are served", WARM_LIMIT, async || {
        Ok((field.clients.accepted() >= WARM).then_some(()))
    });
    if let Err(error) = warm.await {
        return (Err(error), Vec::new());
    }
    let begun = now();
    sleep(CALM).await;
    let quiet = now();
    let random = Random::seeded(plan.seed ^ 0x6e65_6d65_7369_7300);
    let raged = nemesis::rage(field, &plan.faults, random, plan.time, injections).await;
    let healed = field.heal().await;
    let settled = now().after(plan.settles());
    sleep(plan.settles() + CALM).await;
    let mut calm = vec![(begun, quiet)];
    let all = lock(injections).clone();
    let between = all.windows(2).map(|pair| (pair[0].healed.after(plan.settles()), pair[1].at));
    calm.extend(between.filter(|(from, to)| from < to));
    calm.push((settled, now()));
    field.clients.become_gentle();
    let ended = ended(&field.stack, Some(now()), END_LIMIT).await;
    (raged.and(healed).and(ended), calm)
}

/// Takes down what each process holds at its worst.
async fn look_on(field: &Field, used: &Mutex<Vec<Used>>) {
    loop {
        for (process, resident_mib, files) in field.used() {
            let mut used = lock(used);
            match used.iter_mut().find(|known| known.process == process) {
                Some(known) => {
                    known.resident_mib = known.resident_mib.max(resident_mib);
                    known.files = known.files.max(files);
                }
                None => used.push(Used { process, resident_mib, files }),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
