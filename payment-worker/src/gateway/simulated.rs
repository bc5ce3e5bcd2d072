//! A gateway inside this process, with durable books: the table `simulated_gateway`. It stands for somebody else's
//! system, so its statements are transactions of their own and never part of the worker's.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use participant::{CallError, Refusal};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, Value};
use uuid::Uuid;

use super::{Charge, Charged, ForcedOutcome, GATEWAY_UNAVAILABLE, Gateway, Refund, Refunded};

/// How often a charge with [`ForcedOutcome::Unavailable`] does not work.
const UNAVAILABLE_ATTEMPTS: u32 = 2;

/// See the module.
#[derive(Debug, Clone)]
pub struct SimulatedGateway {
    books: DatabaseConnection,
    latency: Duration,
}

impl SimulatedGateway {
    /// A gateway whose books are in this database (the worker's own), and which takes `latency` for every answer.
    pub fn new(books: DatabaseConnection, latency: Duration) -> Self {
        Self { books, latency }
    }

    /// What the books say to each key: `charge`, or `void` if it was refunded before it was made.
    async fn book_charges(&self, charges: &[&Charge]) -> Result<HashMap<Uuid, String>, DbErr> {
        const CHARGE: &str = "INSERT INTO simulated_gateway AS books (idempotency_key, kind, amount_minor, currency) \
             SELECT unnest($1::uuid[]), 'charge', unnest($2::bigint[]), unnest($3::text[]) \
             ON CONFLICT (idempotency_key) DO UPDATE SET calls = books.calls + 1 \
             RETURNING idempotency_key, kind";
        let keys: Vec<Uuid> = charges.iter().map(|charge| charge.key.as_uuid()).collect();
        let amounts: Vec<i64> = charges.iter().map(|charge| charge.amount_minor).collect();
        let currencies: Vec<String> = charges.iter().map(|charge| charge.currency.clone()).collect();
        self.kinds(CHARGE, [keys.into(), amounts.into(), currencies.into()]).await
    }

    /// Which of the charges can be refunded; the others are voided: they will never be made.
    async fn find_or_void(&self, refunds: &[Refund]) -> Result<HashMap<Uuid, String>, DbErr> {
        const FIND_OR_VOID: &str = "INSERT INTO simulated_gateway AS books (idempotency_key, kind) \
             SELECT key, 'void' FROM unnest($1::uuid[]) AS asked(key) \
             ON CONFLICT (idempotency_key) DO UPDATE SET calls = books.calls \
             RETURNING idempotency_key, kind";
        let charges: Vec<Uuid> = refunds.iter().map(|refund| refund.charge.as_uuid()).collect();
        self.kinds(FIND_OR_VOID, [charges.into()]).await
    }

    async fn book_refunds(&self, refunds: &[&Refund]) -> Result<(), DbErr> {
        const REFUND: &str = "INSERT INTO simulated_gateway AS books (idempotency_key, kind, charge_key, amount_minor, currency) \
             SELECT asked.key, 'refund', charge.idempotency_key, charge.amount_minor, charge.currency \
             FROM unnest($1::uuid[], $2::uuid[]) AS asked(key, charge_key) \
             JOIN simulated_gateway AS charge ON charge.idempotency_key = asked.charge_key \
             ON CONFLICT (idempotency_key) DO UPDATE SET calls = books.calls + 1 \
             RETURNING idempotency_key, kind";
        let keys: Vec<Uuid> = refunds.iter().map(|refund| refund.key.as_uuid()).collect();
        let charges: Vec<Uuid> = refunds.iter().map(|refund| refund.charge.as_uuid()).collect();
        self.kinds(REFUND, [keys.into(), charges.into()]).await.map(drop)
    }

    async fn kinds<const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> Result<HashMap<Uuid, String>, DbErr> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let rows = self.books.query_all_raw(statement).await?;
        rows.iter().map(|row| Ok((row.try_get("", "idempotency_key")?, row.try_get("", "kind")?))).collect()
    }

    async fn refunded(&self, refunds: &[Refund]) -> Result<Vec<Refunded>, DbErr> {
        let kinds = self.find_or_void(refunds).await?;
        let is_charge =
            |refund: &&Refund| kinds.get(&refund.charge.as_uuid()).is_some_and(|kind| kind == "charge");
        let charged: Vec<&Refund> = refunds.iter().filter(is_charge).collect();
        if !charged.is_empty() {
            self.book_refunds(&charged).await?;
        }
        let answer = |refund| if is_charge(&refund) { Refunded::Done } else { Refunded::NothingToRefund };
        Ok(refunds.iter().map(answer).collect())
    }
}

#[async_trait]
impl Gateway for SimulatedGateway {
    async fn charge_all(&self, charges: &[Charge]) -> Vec<Result<Charged, CallError>> {
        tokio::time::sleep(self.latency).await;
        let reach: Vec<&Charge> = charges.iter().filter(|charge| forced(charge).is_none()).collect();
        let booked = if reach.is_empty() { Ok(HashMap::new()) } else { self.book_charges(&reach).await };
        let answers = charges.iter().map(|charge| match (forced(charge), &booked) {
            (Some(answer), _) => answer,
            (None, Ok(kinds)) if kinds.get(&charge.key.as_uuid()).is_some_and(|kind| kind == "charge") => {
                Ok(Charged::Done)
            }
            (None, Ok(_)) => {
                Ok(Charged::Declined { why: "the charge was voided before it was made".to_owned() })
            }
            (None, Err(error)) => Err(lost(error)),
        });
        answers.collect()
    }

    async fn refund_all(&self, refunds: &[Refund]) -> Vec<Result<Refunded, CallError>> {
        tokio::time::sleep(self.latency).await;
        match self.refunded(refunds).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => refunds.iter().map(|_| Err(lost(&error))).collect(),
        }
    }
}

/// The answer that is forced before the books are touched.
fn forced(charge: &Charge) -> Option<Result<Charged, CallError>> {
    let unavailable = || {
        let text = "the gateway is unavailable, as was asked for";
        Some(Err(CallError::NotMade(Refusal::new(GATEWAY_UNAVAILABLE, text))))
    };
    match charge.forced {
        Some(ForcedOutcome::Declined) => {
            Some(Ok(Charged::Declined { why: "declined, as was asked for".to_owned() }))
        }
        Some(ForcedOutcome::Down) => unavailable(),
        Some(ForcedOutcome::Unavailable) if charge.attempt.0 <= UNAVAILABLE_ATTEMPTS => unavailable(),
        Some(ForcedOutcome::Unavailable | ForcedOutcome::NoReply) | None => None,
    }
}

fn lost(error: &DbErr) -> CallError {
    CallError::Unknown(Refusal::new(
        GATEWAY_UNAVAILABLE,
        format!("the gateway's books cannot be written: {error}"),
    ))
}
