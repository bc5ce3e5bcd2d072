//! The messages that this worker understands and sends, as in `schemas/avro/payment.*`.

use participant::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Command: take the money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargePayment {
    /// The booking that is paid.
    pub booking_id: Uuid,
    /// Who pays.
    pub user_id: Uuid,
    /// What the charge is for, as the gateway shows it.
    pub reference: String,
    /// In the currency's minor unit; never negative.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// For demonstrations and tests, see [`ForcedOutcome`](crate::gateway::ForcedOutcome).
    pub forced_payment_outcome: Option<String>,
}

impl Message for ChargePayment {
    const NAME: &'static str = "payment.ChargePayment";
}

/// Reply to `ChargePayment`, and domain event: the money is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentCompleted {
    /// The payment.
    pub payment_id: Uuid,
    /// The booking that is paid.
    pub booking_id: Uuid,
    /// What the charge is for.
    pub reference: String,
}

impl Message for PaymentCompleted {
    const NAME: &'static str = "payment.PaymentCompleted";
}

/// Command, undoes `ChargePayment`: give the money back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefundPayment {
    /// The booking that was paid.
    pub booking_id: Uuid,
    /// What the charge was for.
    pub reference: String,
}

impl Message for RefundPayment {
    const NAME: &'static str = "payment.RefundPayment";
}

/// Reply to `RefundPayment`, and domain event if there was a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRefunded {
    /// The booking.
    pub booking_id: Uuid,
    /// The payment that was refunded; `None` if there was none.
    pub payment_id: Option<Uuid>,
}

impl Message for PaymentRefunded {
    const NAME: &'static str = "payment.PaymentRefunded";
}

/// Domain event: the money was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    /// The payment.
    pub payment_id: Uuid,
    /// The booking.
    pub booking_id: Uuid,
    /// Why, as a code.
    pub reason: String,
}

impl Message for PaymentFailed {
    const NAME: &'static str = "payment.PaymentFailed";
}
