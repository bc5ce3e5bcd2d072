//! One run, from a fresh stack to the verdict.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::base::Base;
use super::faults::Fault;
use super::field::{Field, lock, now};
use super::figures::{self, Outcome};
use super::nemesis::{self, Calm, Injection, REST};
use super::options::Options;
use crate::oracle::evidence::{Tolerance, Used};
use crate::oracle::judge::{Violation, judged};
use crate::oracle::{all_ended, ask, ended};
use crate::random::Random;
use crate::scenario::verified;
use crate::wait::eventually;

/// Starts that are accepted before the first strike.
const WARM: usize = 20;
/// How long the stack may take to them.
const WARM_LIMIT: Duration = Duration::from_secs(60);
/// Harm for longer than this has a rest in it that is judged.
const JUDGED_FROM: Duration = Duration::from_secs(180);
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
    let (evidence, found) = ask(&field.stack, clients.log(), plan.tolerance(), |evidence| {
        evidence.planted.clone_from(&planted);
        evidence.calm.clone_from(&calm);
        evidence.used.clone_from(&used);
    })
    .await
    .context("the oracle")?;
    violations.extend(found);
    if evidence.updates.is_empty() {
        violations.push(unseen(9, "nobody has seen who commits"));
    }
    // Before, between, and after.
    if plan.time >= JUDGED_FROM && calm.iter().filter(|calm| judged(calm) > Duration::ZERO).count() < 3 {
        violations.push(unseen(11, "between strikes it was never calm for long enough to be judged"));
    }
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

/// What could not be judged has not been passed.
fn unseen(invariant: u8, detail: &str) -> Violation {
    Violation { invariant, name: "not judged", detail: detail.to_owned() }
}

/// Calm, harm, healing, calm, and until all of that has ended bookings that go well; gives the times in which something had to end in every five seconds.
async fn story(
    field: &Field,
    plan: &Plan<'_>,
    injections: &Mutex<Vec<Injection>>,
) -> (Result<()>, Vec<Calm>) {
    let warm = eventually("clients are served", WARM_LIMIT, async || {
        Ok((field.clients.accepted() >= WARM).then_some(()))
    });
    if let Err(error) = warm.await {
        return (Err(error), Vec::new());
    }
    let begun = now();
    sleep(REST).await;
    let quiet = now();
    let random = Random::seeded(plan.seed ^ 0x6e65_6d65_7369_7300);
    let raged = nemesis::rage(field, &plan.faults, random, plan.time, injections).await;
    let healed = field.heal().await;
    let settled = now().after(plan.settles());
    sleep(plan.settles() + REST).await;
    let mut calm = vec![(begun, quiet)];
    calm.extend(nemesis::between(&lock(injections)));
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
