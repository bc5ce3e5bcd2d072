//! Drives actions: asks [`super::run`] what to do, does it through [`super::hands`], and keeps what came of it. One task an
//! action; a process drives some at a time, and the others take what is left.

pub mod dry;
mod round;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use saga_defs::time::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::hands::Hands;
use super::run::{Plan, Progress, Run};
use crate::definitions::Definitions;
use crate::engine::clock;
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::store::bulk::{Action, Bulk};

/// Actions that one process drives at a time; those that only wait have their turn now and then.
const AT_A_TIME: usize = 16;
/// How often it is looked for actions that nobody drives.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks at outcomes.
const OUTCOMES: Duration = Duration::from_millis(200);
/// An action of which nothing has come for this long is put aside, so that those that wait hold up no others.
const PATIENCE: Duration = Duration::from_secs(2);
/// When something did not go, it is tried again after this long.
const AGAIN: Duration = Duration::from_millis(500);
/// A driver that has nothing to write says at least so often that it is there.
const RENEW: Duration = Duration::from_secs(2);

/// Drives actions in the background.
#[derive(Clone)]
pub struct Driver {
    store: Bulk,
    hands: Arc<dyn Hands>,
    definitions: Definitions,
    wake: Arc<Notify>,
    metrics: Arc<Metrics>,
}

/// One action, as its driver knows it.
struct Task {
    driver: Driver,
    action: Action,
    token: Uuid,
    stop: CancellationToken,
}

/// How driving an action went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// More at once.
    On,
    /// More after this long.
    After(Duration),
    /// It only waits: others may have their turn.
    Aside,
    /// It is finished, or somebody else drives it, or it is to be given back.
    Over,
}

impl Driver {
    /// Drives what stands in this store.
    pub fn new(
        store: Bulk,
        hands: Arc<dyn Hands>,
        definitions: Definitions,
        wake: Arc<Notify>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, hands, definitions, wake, metrics }
    }

    /// Until told to stop; what is under way is given back.
    pub async fn run(self, stop: CancellationToken) {
        let mut driving: JoinSet<()> = JoinSet::new();
        loop {
            // A new one each time: a task of ours that lost its lease must not go on under the next one.
            let token = Uuid::now_v7();
            while driving.try_join_next().is_some() {}
            let room = AT_A_TIME.saturating_sub(driving.len());
            if room > 0 {
                match self.store.claim(token, room as u64).await {
                    Ok(actions) => {
                        for action in actions {
                            let (driver, stop) = (self.clone(), stop.clone());
                            driving.spawn(Task { driver, action, token, stop }.run());
                        }
                    }
                    Err(error) => tracing::debug!(%error, "it is not known which actions are to be driven"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        while driving.join_next().await.is_some() {}
    }
}

impl Task {
    async fn run(mut self) {
        let id = self.action.id;
        tracing::debug!(action = %id, verb = self.action.verb, selected = self.action.selected, "driving an action");
        self.driver.metrics.bulk_driven(&self.action.verb, 1);
        let driven = if self.action.dry_run { self.examine().await } else { self.drive().await };
        self.driver.metrics.bulk_driven(&self.action.verb, -1);
        let (store, token) = (&self.driver.store, self.token);
        let left = match driven {
            Ok(Went::Aside) => store.put_aside(id, token).await,
            Ok(_) => store.release(id, token).await,
            // Whether the last write happened is not known: the lease ends by itself, and whoever has it then reads what
            // there is.
            Err(error) => {
                tracing::warn!(action = %id, %error, "an action is left alone until its lease ends");
                return;
            }
        };
        if let Err(error) = left {
            tracing::debug!(action = %id, %error, "the lease of an action ends by itself");
        }
    }

    /// Does what is to be done, round by round. How it was left: [`Went::Aside`] or [`Went::Over`].
    async fn drive(&mut self) -> Result<Went, StoreError> {
        let progress = serde_json::from_value::<Progress>(self.action.progress.clone()).unwrap_or_default();
        let mut run = Run::new(self.plan(), progress, clock::now());
        let mut quiet = Quiet { since: Timestamp::from_utc(self.action.updated_at), renewed: clock::now() };
        loop {
            match self.round(&mut run, &mut quiet).await? {
                Went::On => {}
                left @ (Went::Aside | Went::Over) => return Ok(left),
                Went::After(pause) => tokio::select! {
                    () = self.stop.cancelled() => return Ok(Went::Over),
                    () = tokio::time::sleep(pause) => {}
                },
            }
            if self.stop.is_cancelled() {
                return Ok(Went::Over);
            }
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            selected: u32::try_from(self.action.selected).unwrap_or_default(),
            ramp: serde_json::from_value(self.action.ramp.clone()).unwrap_or_default(),
            rate: u32::try_from(self.action.rate).unwrap_or(1).max(1),
        }
    }
}

/// Since when nothing has come of an action, and its lease has not been renewed.
struct Quiet {
    since: Timestamp,
    renewed: Timestamp,
}

impl Quiet {
    const fn over(&mut self, now: Timestamp) {
        *self = Self { since: now, renewed: now };
    }
}

/// By id.
type ById<T> = HashMap<Uuid, T>;
