//! What this worker does with commands.

use std::sync::Arc;

use async_trait::async_trait;
use participant::{Answered, CallError, Command, DomainEvent, ExternalHandler, HandlerError, Outcome};
use sea_orm::DatabaseTransaction;

use crate::gateway::{Charge, Charged, ForcedOutcome, Gateway, Refund, Refunded};
use crate::messages::{ChargePayment, PaymentCompleted, PaymentFailed, PaymentRefunded, RefundPayment};
use crate::store::{self, Settled, Status, payment_id};

/// The topic of [`PaymentCompleted`].
pub const COMPLETED: &str = "payment.completed";
/// The topic of [`PaymentFailed`].
pub const FAILED: &str = "payment.failed";
/// The topic of [`PaymentRefunded`].
pub const REFUNDED: &str = "payment.refunded";

/// The failure code of a payment that was undone before it was made.
const NEVER_CHARGED: &str = "never_charged";

/// Takes the money.
pub(crate) struct Charging {
    pub(crate) gateway: Arc<dyn Gateway>,
    /// Whether commands may say what the gateway is to pretend.
    pub(crate) allow_forced: bool,
}

/// What became of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChargeAnswer {
    Done,
    Refused { code: &'static str, why: String },
}

impl Charging {
    /// The charge to ask the gateway for, or the refusal that needs no gateway.
    fn charge(&self, command: &Command<ChargePayment>) -> Result<Charge, ChargeAnswer> {
        let body = &command.body;
        let refused = |code, why: String| Err(ChargeAnswer::Refused { code, why });
        if body.amount_minor < 0 {
            return refused(
                "invalid_amount",
                format!("an amount of {} cannot be charged", body.amount_minor),
            );
        }
        let forced = match body.forced_payment_outcome.as_deref() {
            None => None,
            Some(text) if !self.allow_forced => {
                return refused(
                    "forced_outcome_not_allowed",
                    format!("{text:?} is asked for, and not allowed here"),
                );
            }
            Some(text) => match ForcedOutcome::parse(text) {
                Some(forced) => Some(forced),
                None => return refused("forced_outcome_unknown", format!("{text:?} is no forced outcome")),
            },
        };
        Ok(Charge {
            key: command.id,
            amount_minor: body.amount_minor,
            currency: body.currency.clone(),
            reference: body.reference.clone(),
            attempt: command.attempt,
            forced,
        })
    }
}

#[async_trait]
impl ExternalHandler for Charging {
    type Command = ChargePayment;
    type Reply = PaymentCompleted;
    type Answer = ChargeAnswer;

    async fn claim(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<ChargePayment>],
    ) -> Result<(), HandlerError> {
        Ok(store::insert_pending(transaction, commands).await?)
    }

    async fn call(&self, commands: &[&Command<ChargePayment>]) -> Vec<Result<ChargeAnswer, CallError>> {
        let planned: Vec<_> = commands.iter().map(|command| self.charge(command)).collect();
        let charges: Vec<Charge> = planned.iter().filter_map(|plan| plan.clone().ok()).collect();
        let mut answers = self.gateway.charge_all(&charges).await.into_iter();
        let answered = planned.into_iter().map_while(|plan| match plan {
            Err(refused) => Some(Ok(refused)),
            Ok(_) => answers.next().map(|answer| answer.map(ChargeAnswer::from)),
        });
        answered.collect()
    }

    async fn settle(
        &self,
        transaction: &DatabaseTransaction,
        answered: &[Answered<'_, ChargePayment, ChargeAnswer>],
    ) -> Result<Vec<Outcome<PaymentCompleted>>, HandlerError> {
        let settled: Vec<Settled> = answered.iter().map(settled_charge).collect();
        store::settle(transaction, &settled).await?;
        Ok(answered.iter().map(charge_outcome).collect())
    }
}

impl From<Charged> for ChargeAnswer {
    fn from(charged: Charged) -> Self {
        match charged {
            Charged::Done => Self::Done,
            Charged::Declined { why } => Self::Refused { code: "payment_declined", why },
        }
    }
}

fn settled_charge(answered: &Answered<'_, ChargePayment, ChargeAnswer>) -> Settled {
    let payment_id = payment_id(answered.command.id);
    match answered.answer {
        ChargeAnswer::Done => Settled { payment_id, status: Status::Completed, failure_code: "" },
        ChargeAnswer::Refused { code, .. } => {
            Settled { payment_id, status: Status::Failed, failure_code: code }
        }
    }
}

fn charge_outcome(answered: &Answered<'_, ChargePayment, ChargeAnswer>) -> Outcome<PaymentCompleted> {
    let Answered { command, answer } = answered;
    let ChargePayment { booking_id, reference, forced_payment_outcome, .. } = &command.body;
    let (booking_id, payment_id) = (*booking_id, payment_id(command.id));
    match answer {
        ChargeAnswer::Done => {
            let reply = PaymentCompleted { payment_id, booking_id, reference: reference.clone() };
            let event = DomainEvent::new(COMPLETED, booking_id.to_string(), &reply);
            let outcome = Outcome::succeeded(reply).with_event(event);
            let forced = forced_payment_outcome.as_deref().and_then(ForcedOutcome::parse);
            if forced == Some(ForcedOutcome::NoReply) { outcome.losing_reply() } else { outcome }
        }
        ChargeAnswer::Refused { code, why } => {
            let event = PaymentFailed { payment_id, booking_id, reason: (*code).to_owned() };
            Outcome::rejected(*code, why).with_event(DomainEvent::new(FAILED, booking_id.to_string(), &event))
        }
    }
}

/// Gives the money back.
pub(crate) struct Refunding {
    pub(crate) gateway: Arc<dyn Gateway>,
}

#[async_trait]
impl ExternalHandler for Refunding {
    type Command = RefundPayment;
    type Reply = PaymentRefunded;
    type Answer = Refunded;

    async fn claim(
        &self,
        _: &DatabaseTransaction,
        _: &[&Command<RefundPayment>],
    ) -> Result<(), HandlerError> {
        // The payment stays what it is until it is known what the gateway did.
        Ok(())
    }

    async fn call(&self, commands: &[&Command<RefundPayment>]) -> Vec<Result<Refunded, CallError>> {
        let refunds: Vec<Refund> =
            commands.iter().map(|command| Refund { key: command.id, charge: command.forward_id() }).collect();
        self.gateway.refund_all(&refunds).await
    }

    async fn settle(
        &self,
        transaction: &DatabaseTransaction,
        answered: &[Answered<'_, RefundPayment, Refunded>],
    ) -> Result<Vec<Outcome<PaymentRefunded>>, HandlerError> {
        let settled: Vec<Settled> = answered
            .iter()
            .map(|Answered { command, answer }| {
                let payment_id = payment_id(command.forward_id());
                match answer {
                    Refunded::Done => Settled { payment_id, status: Status::Refunded, failure_code: "" },
                    Refunded::NothingToRefund => {
                        Settled { payment_id, status: Status::Failed, failure_code: NEVER_CHARGED }
                    }
                }
            })
            .collect();
        store::settle(transaction, &settled).await?;
        Ok(answered.iter().map(refund_outcome).collect())
    }

    fn nothing_to_undo(&self, command: &Command<RefundPayment>) -> Option<PaymentRefunded> {
        Some(PaymentRefunded { booking_id: command.body.booking_id, payment_id: None })
    }
}

fn refund_outcome(answered: &Answered<'_, RefundPayment, Refunded>) -> Outcome<PaymentRefunded> {
    let booking_id = answered.command.body.booking_id;
    match answered.answer {
        Refunded::NothingToRefund => Outcome::succeeded(PaymentRefunded { booking_id, payment_id: None }),
        Refunded::Done => {
            let payment_id = Some(payment_id(answered.command.forward_id()));
            let reply = PaymentRefunded { booking_id, payment_id };
            let event = DomainEvent::new(REFUNDED, booking_id.to_string(), &reply);
            Outcome::succeeded(reply).with_event(event)
        }
    }
}
