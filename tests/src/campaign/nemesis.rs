//! When harm is done, and a memory of it.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use saga_defs::time::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::faults::{Fault, Harm};
use super::field::{Field, lock, now};
use crate::random::Random;

/// Between two strikes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));

/// A strike, from when harm was done to when it was taken back.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Injection {
    pub(crate) fault: &'static str,
    /// To whom, and for how long.
    pub(crate) what: String,
    #[serde(serialize_with = "shown")]
    pub(crate) at: Timestamp,
    #[serde(serialize_with = "shown")]
    pub(crate) healed: Timestamp,
    /// The orchestrators that ended or stood still, and when.
    #[serde(skip)]
    pub(crate) victims: Vec<(String, Timestamp)>,
}

fn shown<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

/// Strikes until the time is over. What was done so far is in `log`, also when a strike fails.
pub(crate) async fn rage(
    field: &Field,
    faults: &[Fault],
    mut random: Random,
    time: Duration,
    log: &Mutex<Vec<Injection>>,
) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        sleep(random.between(PAUSE.0, PAUSE.1)).await;
        let Some(fault) = random.pick(faults) else { return Ok(()) };
        let at = now();
        let left = until.saturating_duration_since(Instant::now());
        let Harm { what, victims } = fault
            .strike(field, &mut random, left)
            .await
            .with_context(|| format!("{} at {at}", fault.name()))?;
        eprintln!("campaign:   {at} {}: {what}", fault.name());
        lock(log).push(Injection { fault: fault.name(), what, at, healed: now(), victims });
    }
    Ok(())
}
