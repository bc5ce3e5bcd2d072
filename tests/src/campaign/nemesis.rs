//! When harm is done, and a memory of it; and which times are calm therefore.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use saga_defs::time::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::{Fault, Harm};
use super::field::{Field, lock, now};
use crate::random::Random;

/// Between two strikes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));
/// After so much time without one there is a rest: progress is judged where nothing has disturbed for a while.
const REST_EVERY: Duration = Duration::from_secs(60);
/// How long a rest lasts, beyond the time in which everything settles: two windows of five seconds, and room.
pub(crate) const REST: Duration = Duration::from_secs(11);

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
    /// How long after it was taken back sagas may still not move.
    #[serde(skip)]
    pub(crate) settles: Duration,
}

/// A time in which nothing disturbed.
pub(crate) type Calm = (Timestamp, Timestamp);

/// The calm times between strikes: from when everything before has settled until the next strike.
pub(crate) fn between(strikes: &[Injection]) -> Vec<Calm> {
    let mut settled: Option<Timestamp> = None;
    let mut calm = Vec::new();
    for strike in strikes {
        calm.extend(settled.filter(|from| *from < strike.at).map(|from| (from, strike.at)));
        settled = settled.max(Some(strike.healed.after(strike.settles)));
    }
    calm
}

/// All faults in an order that is drawn, again and again: each comes before any comes twice.
struct Deck<'a> {
    all: &'a [Fault],
    left: Vec<Fault>,
}

impl Deck<'_> {
    fn draw(&mut self, random: &mut Random) -> Option<Fault> {
        if self.left.is_empty() {
            self.left = self.all.to_vec();
        }
        let most = self.left.len() as u64;
        (most > 0).then(|| self.left.swap_remove(usize::try_from(random.below(most)).unwrap_or(0)))
    }
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
    let mut rest_at = Instant::now() + REST_EVERY;
    let mut deck = Deck { all: faults, left: Vec::new() };
    let mut settled = Instant::now();
    while Instant::now() < until {
        sleep(random.between(PAUSE.0, PAUSE.1)).await;
        if Instant::now() >= rest_at && settled + REST < until {
            sleep_until(settled + REST).await;
            rest_at = Instant::now() + REST_EVERY;
        }
        let Some(fault) = deck.draw(&mut random) else { return Ok(()) };
        let at = now();
        let left = until.saturating_duration_since(Instant::now());
        let Harm { what, victims } = fault
            .strike(field, &mut random, left)
            .await
            .with_context(|| format!("{} at {at}", fault.name()))?;
        eprintln!("campaign:   {at} {}: {what}", fault.name());
        lock(log).push(Injection {
            fault: fault.name(),
            what,
            at,
            healed: now(),
            victims,
            settles: fault.settles(),
        });
        settled = settled.max(Instant::now() + fault.settles());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_calm_when_all_that_was_before_has_settled() {
        let at = |s: i64| Timestamp::from_unix_millis(s * 1_000);
        let strike = |from, to, settles| Injection {
            fault: "",
            what: String::new(),
            at: at(from),
            healed: at(to),
            victims: Vec::new(),
            settles: Duration::from_secs(settles),
        };
        // The second one settles before the first, and it is the first that is waited for.
        let strikes = [strike(0, 10, 45), strike(12, 15, 5), strike(60, 61, 5), strike(64, 65, 5)];
        assert_eq!(between(&strikes), [(at(55), at(60))]);
        assert!(between(&[]).is_empty());
    }

    #[test]
    fn each_fault_comes_before_any_comes_twice() {
        let mut deck = Deck { all: &Fault::ALL, left: Vec::new() };
        let mut random = Random::seeded(3);
        for _ in 0..3 {
            let drawn: Vec<Fault> = Fault::ALL.iter().filter_map(|_| deck.draw(&mut random)).collect();
            assert!(Fault::ALL.iter().all(|fault| drawn.contains(fault)), "{drawn:?}");
        }
        assert_eq!(Deck { all: &[], left: Vec::new() }.draw(&mut random), None);
    }
}
