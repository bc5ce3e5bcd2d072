//! Schemas as a short table.

use std::collections::BTreeMap;
use std::sync::Arc;

use saga_defs::check::{Field, Messages, Record, Type};

/// Records by name.
#[derive(Clone, Default)]
pub(crate) struct Table(BTreeMap<String, Record>);

impl Messages for Table {
    fn record(&self, full_name: &str) -> Option<Record> {
        self.0.get(full_name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl Table {
    /// The messages of the booking, as `schemas/avro` has them.
    pub(crate) fn booking() -> Self {
        let charge = "bookingId: uuid, userId: uuid, reference: string, amountMinor: long, currency: string, forcedPaymentOutcome: string? =";
        Self::default()
            .with("booking.StartBooking", "userId: uuid, resourceId: uuid, amountMinor: long =, currency: string =, forcedPaymentOutcome: string? =")
            .with("booking.ReserveBooking", "bookingId: uuid, userId: uuid, resourceId: uuid")
            .with("booking.BookingReserved", "bookingId: uuid, reservedAt: timestamp? =")
            .with("booking.CancelBooking", "bookingId: uuid, resourceId: uuid")
            .with("booking.ConfirmBooking", "bookingId: uuid")
            .with("booking.BookingConfirmed", "bookingId: uuid")
            .with("payment.ChargePayment", charge)
            .with("payment.PaymentCompleted", "paymentId: uuid, bookingId: uuid, reference: string")
            .with("payment.RefundPayment", "bookingId: uuid, reference: string")
    }

    /// Also this record, in place of another of its name: `name: type, …`, where `type?` may be null and `=` says that
    /// there is a default.
    pub(crate) fn with(mut self, full_name: &str, fields: &str) -> Self {
        let fields = fields.split(',').map(str::trim).filter(|field| !field.is_empty()).map(field).collect();
        self.0.insert(full_name.to_owned(), Record { full_name: full_name.into(), fields });
        self
    }
}

fn field(text: &str) -> Field {
    let (name, ty) = text.split_once(':').unwrap();
    let (ty, has_default) = ty.trim().strip_suffix('=').map_or((ty.trim(), false), |ty| (ty.trim(), true));
    Field { name: name.into(), ty: ty_of(ty), has_default }
}

fn ty_of(text: &str) -> Type {
    if let Some(inner) = text.strip_suffix('?') {
        return Type::Union(vec![Type::Null, ty_of(inner)]);
    }
    if let Some(items) = text.strip_suffix("[]") {
        return Type::Array(Arc::new(ty_of(items)));
    }
    match text {
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "double" => Type::Double,
        "string" => Type::String,
        "uuid" => Type::Uuid,
        "timestamp" => Type::Time { unit: "timestamp-millis", is_int: false },
        other => Type::Enum(other.split('/').map(Into::into).collect()),
    }
}
