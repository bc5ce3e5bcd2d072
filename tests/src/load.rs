//! Clients that book all the time, and never give up on a booking that they have asked for.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::{FuturesUnordered, StreamExt};
use saga_defs::ids::SagaId;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::{BookingRequest, id};
use crate::stack::Stack;
use crate::wait::eventually;

/// How long a client goes on asking for one booking.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a client waits for an answer before it asks somebody else.
const ANSWER: Duration = Duration::from_secs(8);
/// How long a client waits for the end of its booking before it asks for the next.
const WAIT_S: u32 = 1;

/// How an accepted booking has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every step succeeded.
    Completed,
    /// Everything is undone.
    Compensated,
}

/// A booking that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its saga.
    pub saga: SagaId,
    /// How it has to end.
    pub end: End,
}

/// Clients, each with one booking at a time.
#[derive(Debug)]
pub struct Load {
    clients: usize,
    stop: CancellationToken,
    resource: Uuid,
    accepted: Mutex<Vec<Accepted>>,
}

impl Load {
    /// So many clients.
    pub fn of(clients: usize) -> Self {
        Self { clients, stop: CancellationToken::new(), resource: Uuid::new_v4(), accepted: Mutex::default() }
    }

    /// No further bookings; those asked for are brought to an answer.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Those that were accepted so far.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many more were accepted than at this moment.
    ///
    /// # Errors
    /// They are not, within `limit`.
    pub async fn accepts(&self, more: usize, limit: Duration) -> Result<()> {
        let before = self.accepted().len();
        let what = format!("{more} more bookings are accepted, beyond {before}");
        eventually(&what, limit, async || Ok((self.accepted().len() >= before + more).then_some(()))).await
    }

    /// Runs the clients until they are stopped. Of ten bookings one is declined, and for one the gateway is unavailable
    /// for a while.
    ///
    /// # Errors
    /// An answer that no client expects.
    pub async fn run(&self, stack: &Stack) -> Result<()> {
        let mut clients: FuturesUnordered<_> =
            (0..self.clients).map(|first| self.client(stack, first)).collect();
        while let Some(done) = clients.next().await {
            done?;
        }
        Ok(())
    }

    async fn client(&self, stack: &Stack, first: usize) -> Result<()> {
        let mut number = first;
        while !self.stop.is_cancelled() {
            let (forced, end) = match number % 10 {
                3 => (Some("declined"), End::Compensated),
                7 => (Some("unavailable"), End::Completed),
                _ => (None, End::Completed),
            };
            number += self.clients;
            let booking = BookingRequest {
                forced,
                wait_s: Some(WAIT_S),
                ..BookingRequest::of(self.resource).keyed(Uuid::new_v4().to_string())
            };
            let saga = insist(stack, &booking, number).await?;
            self.accepted.lock().unwrap_or_else(PoisonError::into_inner).push(Accepted { saga, end });
        }
        Ok(())
    }
}

/// Asks for one booking under one key until it is accepted, going round among the orchestrators that run.
///
/// # Errors
/// It is not accepted within [`PATIENCE`], or an answer is one that no client expects.
pub async fn insist(stack: &Stack, booking: &BookingRequest, mut turn: usize) -> Result<SagaId> {
    let mut last = String::from("nobody to ask");
    let accepted = eventually("a booking is accepted", PATIENCE, async || {
        let apis = stack.apis();
        turn += 1;
        let Some(api) = apis.get(turn % apis.len().max(1)) else { return Ok(None) };
        let answer = match timeout(ANSWER, api.book(booking)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                last = format!("{error:#}");
                return Ok(None);
            }
            Err(_) => {
                last = format!("none from {} within {ANSWER:?}", api.base());
                return Ok(None);
            }
        };
        match answer.status {
            201 => Ok(Some(id(&answer.json()?, "bookingId")?)),
            503 if !answer.header("retry-after").is_empty() => {
                last = answer.text;
                Ok(None)
            }
            status => bail!("a client got {status}: {}", answer.text),
        }
    });
    let accepted = accepted.await;
    accepted.with_context(|| format!("the last answer was {last}"))
}
