//! The payment gateway: where the money moves. Somebody else's system, whichever implementation stands here.

mod http;
mod simulated;

use async_trait::async_trait;
use participant::CallError;
use saga_defs::ids::{Attempt, CommandId};

pub use http::{GatewayClientError, HttpGateway, HttpLimits, MAX_ANSWER_BYTES};
pub use simulated::SimulatedGateway;

/// The code of a refusal when the gateway cannot be used.
pub(crate) const GATEWAY_UNAVAILABLE: &str = "gateway_unavailable";

/// A charge to be made, once per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The idempotency key: the same charge however often it is asked for.
    pub key: CommandId,
    /// In the currency's minor unit.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// What it is for.
    pub reference: String,
    /// Which try of the command asks.
    pub attempt: Attempt,
    /// What a simulated gateway is to pretend.
    pub forced: Option<ForcedOutcome>,
}

/// What a simulated gateway pretends, in demonstrations and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForcedOutcome {
    /// The charge is declined.
    Declined,
    /// Unavailable at the first two attempts; then it works.
    Unavailable,
    /// Never available.
    Down,
    /// The charge is made; the worker's reply is lost.
    NoReply,
}

impl ForcedOutcome {
    /// As in the command: `declined`, `unavailable`, `down` or `no_reply`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "declined" => Some(Self::Declined),
            "unavailable" => Some(Self::Unavailable),
            "down" => Some(Self::Down),
            "no_reply" => Some(Self::NoReply),
            _ => None,
        }
    }
}

/// The gateway's answer to a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// The money is taken, now or at an earlier call with this key.
    Done,
    /// The money was not taken, and will not be.
    Declined {
        /// Why, for people.
        why: String,
    },
}

/// A refund of a whole charge, once per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// The idempotency key.
    pub key: CommandId,
    /// The key of the charge to give back.
    pub charge: CommandId,
}

/// The gateway's answer to a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refunded {
    /// The money is given back, now or at an earlier call with this key.
    Done,
    /// The gateway knows no such charge; it will refuse one with that key from now on.
    NothingToRefund,
}

/// A payment gateway. Each method answers all that it is given, in order.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// Makes charges.
    async fn charge_all(&self, charges: &[Charge]) -> Vec<Result<Charged, CallError>>;

    /// Makes refunds.
    async fn refund_all(&self, refunds: &[Refund]) -> Vec<Result<Refunded, CallError>>;
}
