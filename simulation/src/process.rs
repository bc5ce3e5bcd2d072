//! A process: tasks that stand still together, and die together, before whatever they would have done next.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::world::{World, lock};

/// The longest that a task is held up without its process being frozen.
const HELD_UP_MS: u64 = 40;

/// A running process. Cheap to clone.
#[derive(Clone)]
pub struct Process(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    name: Arc<str>,
    dead: CancellationToken,
    thaws: Mutex<Instant>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Process {
    /// A process without tasks.
    pub fn new(world: &Arc<World>, name: Arc<str>) -> Self {
        Self(Arc::new(Inner {
            world: world.clone(),
            name,
            dead: CancellationToken::new(),
            thaws: Mutex::new(Instant::now()),
            tasks: Mutex::default(),
        }))
    }

    /// Its name, another one for each run.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Runs a task; `None` if the process died first.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let task = Mortal { process: self.clone(), inner: Box::pin(task), held: None };
        let running = tokio::spawn(task);
        lock(&self.0.tasks).push(running.abort_handle());
        running
    }

    /// Nothing of it goes on for so long.
    pub fn freeze(&self, length: Duration) {
        *lock(&self.0.thaws) = Instant::now() + length;
    }

    /// Ends it where it stands.
    pub fn kill(&self) {
        self.0.dead.cancel();
        for task in lock(&self.0.tasks).drain(..) {
            task.abort();
        }
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.0.dead.is_cancelled()
    }

    /// Returns when it has died.
    pub async fn died(&self) {
        self.0.dead.cancelled().await;
    }
}

/// A task of a process.
struct Mortal<F> {
    process: Process,
    inner: Pin<Box<F>>,
    held: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Mortal<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if this.process.is_dead() {
                return Poll::Ready(None);
            }
            if let Some(held) = &mut this.held {
                if held.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                this.held = None;
            }
            let inner = &this.process.0;
            let thaws = *lock(&inner.thaws);
            if thaws > Instant::now() {
                this.held = Some(Box::pin(sleep_until(thaws)));
                continue;
            }
            let odds = inner.world.odds();
            if inner.world.dice.once_in(odds.dies) {
                inner.world.note(format_args!("{} dies", inner.name));
                this.process.kill();
                return Poll::Ready(None);
            }
            if inner.world.dice.once_in(odds.held_up) {
                let length = inner.world.dice.millis(1, HELD_UP_MS);
                this.held = Some(Box::pin(sleep_until(Instant::now() + length)));
                continue;
            }
            return this.inner.as_mut().poll(context).map(Some);
        }
    }
}
