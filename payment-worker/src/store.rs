//! The SQL of this worker: each function is one statement for a whole batch.

use participant::Command;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::messages::ChargePayment;

/// What a payment has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) payment_id: Uuid,
    pub(crate) status: Status,
    /// Empty unless failed.
    pub(crate) failure_code: &'static str,
}

/// The settled states of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Completed,
    Failed,
    Refunded,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Refunded => "refunded",
        }
    }
}

/// A payment has the id of the command that charges it.
pub(crate) fn payment_id(charge: saga_defs::ids::CommandId) -> Uuid {
    charge.as_uuid()
}

/// Writes down that these charges are about to be asked for.
pub(crate) async fn insert_pending(
    transaction: &DatabaseTransaction,
    charges: &[&Command<ChargePayment>],
) -> Result<(), DbErr> {
    // A command that failed before, or was refused and sent anew by an operator, begins again.
    const INSERT: &str = "INSERT INTO payments \
             (payment_id, saga_id, booking_id, user_id, amount_minor, currency, reference, created_at, updated_at, status) \
         SELECT unnest($1::uuid[]), unnest($2::uuid[]), unnest($3::uuid[]), unnest($4::uuid[]), unnest($5::bigint[]), \
             unnest($6::text[]), unnest($7::text[]), $8, $8, 'pending' \
         ON CONFLICT (payment_id) DO UPDATE SET status = 'pending', failure_code = '', \
             amount_minor = excluded.amount_minor, currency = excluded.currency, \
             reference = excluded.reference, updated_at = excluded.updated_at \
         WHERE payments.status IN ('pending', 'failed')";
    let values: [Value; 8] = [
        uuids(charges, |charge| payment_id(charge.id)),
        uuids(charges, |charge| charge.saga_id.as_uuid()),
        uuids(charges, |charge| charge.body.booking_id),
        uuids(charges, |charge| charge.body.user_id),
        charges.iter().map(|charge| charge.body.amount_minor).collect::<Vec<i64>>().into(),
        texts(charges, |charge| &charge.body.currency),
        texts(charges, |charge| &charge.body.reference),
        OffsetDateTime::now_utc().into(),
    ];
    transaction.execute_raw(sql(INSERT, values)).await.map(drop)
}

/// Writes down what payments have become. Those that nobody has heard of are left out.
pub(crate) async fn settle(transaction: &DatabaseTransaction, settled: &[Settled]) -> Result<(), DbErr> {
    const SETTLE: &str = "UPDATE payments SET status = done.status, failure_code = done.code, updated_at = $4 \
         FROM (SELECT unnest($1::uuid[]) AS payment_id, unnest($2::text[]) AS status, unnest($3::text[]) AS code) AS done \
         WHERE payments.payment_id = done.payment_id";
    if settled.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = settled.iter().map(|settled| settled.payment_id).collect();
    let statuses: Vec<String> = settled.iter().map(|settled| settled.status.as_str().to_owned()).collect();
    let codes: Vec<String> = settled.iter().map(|settled| settled.failure_code.to_owned()).collect();
    let values = [ids.into(), statuses.into(), codes.into(), OffsetDateTime::now_utc().into()];
    transaction.execute_raw(sql(SETTLE, values)).await.map(drop)
}

fn uuids(charges: &[&Command<ChargePayment>], of: impl Fn(&Command<ChargePayment>) -> Uuid) -> Value {
    charges.iter().map(|charge| of(charge)).collect::<Vec<Uuid>>().into()
}

fn texts(charges: &[&Command<ChargePayment>], of: impl Fn(&Command<ChargePayment>) -> &String) -> Value {
    charges.iter().map(|charge| of(charge).clone()).collect::<Vec<String>>().into()
}

fn sql<const N: usize>(text: &'static str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}
