//! What operators and single sagas do to the rest.

use std::time::Duration;

use anyhow::{Context, Result};
use saga_defs::ids::SagaId;
use tokio::time::{Instant, sleep};

use super::Harm;
use crate::campaign::field::Field;
use crate::random::Random;
use crate::wait::eventually;

/// Rounds of cancelling, the sagas of each, and the time between two.
const ROUNDS: usize = 20;
const CANCELLED: u64 = 3;
const BETWEEN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// People at the console, for how long, and what they look at.
const LOOKERS: usize = 30;
const LOOKED_AT: Duration = Duration::from_secs(10);
const PAGES: [&str; 4] =
    ["/api/sagas?limit=100", "/api/sagas?status=completed&limit=100", "/api/dead-letters", "/metrics"];
/// How long rows are refused.
const POISONED: Duration = Duration::from_secs(6);
/// How long it may take until all sagas that were parked have been sent on their way.
const REDRIVEN: Duration = Duration::from_secs(60);

/// Cancels sagas that are under way: each cancel races with a reply.
pub(super) async fn cancel(field: &Field, random: &mut Random) -> Result<Harm> {
    let query = "SELECT id::text AS text FROM saga WHERE status = 'running' ORDER BY id DESC LIMIT 20";
    let (mut asked, mut done) = (0, 0);
    for _ in 0..ROUNDS {
        let running = field.stack.sagas.texts(query, vec![]).await?;
        for _ in 0..CANCELLED {
            let Some(saga) = random.pick(&running) else { break };
            let apis = field.stack.apis();
            let api = random.pick(&apis).context("an orchestrator runs")?;
            asked += 1;
            // One that has ended meanwhile cannot be cancelled: that is an answer too.
            done +=
                u32::from(api.act(saga.parse()?, "cancel").await.is_ok_and(|answer| answer.status == 200));
        }
        sleep(random.between(BETWEEN.0, BETWEEN.1)).await;
    }
    Ok(Harm::of(format!("{done} of {asked} sagas")))
}

/// People who look at lists and histories, more of them than there are connections for that.
pub(super) async fn look(field: &Field, random: &mut Random) -> Result<Harm> {
    let until = Instant::now() + LOOKED_AT;
    let looks = (0..LOOKERS).map(|_| {
        let mut random = Random::seeded(random.next());
        async move {
            let mut answers = 0_u64;
            while Instant::now() < until {
                let Some(api) = random.pick(&field.stack.apis()).cloned() else { continue };
                let path = random.pick(&PAGES).copied().unwrap_or("/livez");
                answers += u64::from(api.get(path).await.is_ok());
            }
            answers
        }
    });
    let answers: u64 = futures::future::join_all(looks).await.into_iter().sum();
    Ok(Harm::of(format!("{LOOKERS} people got {answers} answers in {LOOKED_AT:?}")))
}

/// The rows of one saga in twenty violate a constraint, but for that which parks it.
const POISON: &str = "
CREATE SCHEMA IF NOT EXISTS poison;
CREATE OR REPLACE FUNCTION poison.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'stuck' AND get_byte(uuid_send(NEW.id), 15) < 13 THEN
        RAISE EXCEPTION 'injected' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER poison BEFORE UPDATE ON saga FOR EACH ROW EXECUTE FUNCTION poison.refuse();";

/// Refuses rows, then sends the sagas that were parked on their way again, as an operator would.
pub(super) async fn poison(field: &Field) -> Result<Harm> {
    field.stack.sagas.execute(POISON).await?;
    sleep(POISONED).await;
    field.stack.sagas.execute("DROP TRIGGER poison ON saga").await?;
    let mut parked = 0;
    eventually("no saga is parked any more", REDRIVEN, async || {
        let query = "SELECT id::text AS text FROM saga WHERE status = 'stuck'";
        let stuck = field.stack.sagas.texts(query, vec![]).await?;
        for saga in &stuck {
            let saga: SagaId = saga.parse()?;
            let api = field.stack.api()?;
            parked += u32::from(api.act(saga, "redrive").await.is_ok_and(|answer| answer.status == 200));
        }
        Ok(stuck.is_empty().then_some(()))
    })
    .await?;
    Ok(Harm::of(format!("{parked} sagas were parked and redriven")))
}
