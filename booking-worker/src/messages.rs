//! The messages that this worker understands and sends, as in `schemas/avro/booking.*`.

use participant::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! message {
    ($name:literal, $(#[$doc:meta])* $type:ident { $($(#[$field_doc:meta])* $field:ident: $of:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $type {
            $($(#[$field_doc])* pub $field: $of,)*
        }

        impl Message for $type {
            const NAME: &'static str = $name;
        }
    };
}

message! {
    "booking.ReserveBooking",
    /// Command: hold one unit of a resource.
    ReserveBooking {
        /// The booking to make.
        booking_id: Uuid,
        /// Who books.
        user_id: Uuid,
        /// What is booked.
        resource_id: Uuid,
    }
}

message! {
    "booking.BookingReserved",
    /// Reply: one unit is held.
    BookingReserved {
        /// The booking.
        booking_id: Uuid,
        /// When it was held, in milliseconds since 1970.
        reserved_at: Option<i64>,
    }
}

message! {
    "booking.CancelBooking",
    /// Command, undoes `ReserveBooking`: give the unit back.
    CancelBooking {
        /// The booking.
        booking_id: Uuid,
        /// What was booked.
        resource_id: Uuid,
    }
}

message! {
    "booking.BookingReservationCancelled",
    /// Reply to `CancelBooking`.
    BookingReservationCancelled {
        /// The booking.
        booking_id: Uuid,
    }
}

message! {
    "booking.ConfirmBooking",
    /// Command: the booking is paid and stands.
    ConfirmBooking {
        /// The booking.
        booking_id: Uuid,
    }
}

message! {
    "booking.BookingConfirmed",
    /// Reply to `ConfirmBooking`, and domain event.
    BookingConfirmed {
        /// The booking.
        booking_id: Uuid,
    }
}

message! {
    "booking.BookingCreated",
    /// Domain event: a unit is held.
    BookingCreated {
        /// The booking.
        booking_id: Uuid,
        /// Who books.
        user_id: Uuid,
        /// What is booked.
        resource_id: Uuid,
    }
}

message! {
    "booking.BookingCancelled",
    /// Domain event: the booking does not stand.
    BookingCancelled {
        /// The booking.
        booking_id: Uuid,
        /// Why.
        reason: String,
    }
}
