//! Bookings: sagas of the definition `booking`, as a shop sees them.

use std::time::Duration;

use reqwest::header::HeaderName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::call::Call;
use crate::error::Error;
use crate::http::Client;
use crate::ids::SagaId;
use crate::words::words;

words! {
    /// Where a booking is.
    pub enum BookingStatus {
        /// Accepted, not decided yet.
        Created = "CREATED",
        /// Paid and confirmed.
        Paid = "PAID",
        /// Not to be: everything is undone.
        Cancelled = "CANCELLED",
    }
}

words! {
    /// What a demo or a test forces on a payment, where the service allows it.
    pub enum ForcedOutcome {
        /// The gateway refuses.
        Declined = "declined",
        /// The gateway fails twice, then works.
        Unavailable = "unavailable",
        /// The gateway fails every time.
        Down = "down",
        /// The charge happens, and every reply is lost.
        NoReply = "no_reply",
    }
}

/// One booking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Booking {
    /// The saga's id.
    pub booking_id: SagaId,
    /// Who books.
    pub user_id: Uuid,
    /// What is booked.
    pub resource_id: Uuid,
    /// Where it is.
    pub status: BookingStatus,
    /// Why it was cancelled, e.g. `payment_declined`, `sold_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A booking that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartBooking {
    user_id: Uuid,
    resource_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    #[serde(skip)]
    key: Option<String>,
    #[serde(skip)]
    wait: Option<Duration>,
    #[serde(skip)]
    forced: Option<ForcedOutcome>,
}

impl StartBooking {
    /// Of this resource for this user.
    pub const fn of(resource: Uuid, user: Uuid) -> Self {
        Self {
            user_id: user,
            resource_id: resource,
            amount_minor: None,
            currency: None,
            key: None,
            wait: None,
            forced: None,
        }
    }

    /// The price in minor units, e.g. cents.
    #[must_use]
    pub const fn amount_minor(mut self, amount: i64) -> Self {
        self.amount_minor = Some(amount);
        self
    }

    /// The price's currency (ISO 4217).
    #[must_use]
    pub fn currency(mut self, currency: impl Into<String>) -> Self {
        self.currency = Some(currency.into());
        self
    }

    /// The same key with the same request makes one booking. Without one the client draws its own.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The service answers when the booking is decided, at most so much later; whole seconds, up to 30.
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Forces what becomes of the payment.
    #[must_use]
    pub fn forced(mut self, outcome: ForcedOutcome) -> Self {
        self.forced = Some(outcome);
        self
    }
}

/// What can be done with bookings: [`Client::bookings`].
#[derive(Clone, Debug)]
pub struct Bookings(pub(crate) Client);

impl Bookings {
    /// Makes a booking. It is durable when this returns.
    ///
    /// # Errors
    /// It is refused, or whether it was made is not known.
    pub async fn start(&self, booking: &StartBooking) -> Result<Booking, Error> {
        let mut call = Call::post("/api/bookings", booking.key.as_deref()).prefer_wait(booking.wait);
        if let Some(outcome) = &booking.forced {
            call = call.header(HeaderName::from_static("x-forced-payment-outcome"), outcome.as_str());
        }
        self.0.json(call.json(booking)?).await
    }

    /// One booking.
    ///
    /// # Errors
    /// It is not there, or there is no answer.
    pub async fn get(&self, booking: SagaId) -> Result<Booking, Error> {
        self.0.json(Call::get("/api/bookings/{bookingId}").at(booking)).await
    }
}
