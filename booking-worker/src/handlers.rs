//! What this worker does with commands.

use std::collections::HashSet;

use async_trait::async_trait;
use participant::{Command, DomainEvent, Handler, HandlerError, Outcome};
use sea_orm::DatabaseTransaction;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::messages::{
    BookingCancelled, BookingConfirmed, BookingCreated, BookingReservationCancelled, BookingReserved,
    CancelBooking, ConfirmBooking, ReserveBooking,
};
use crate::store::{self, NewBooking};

/// The topic of [`BookingCreated`].
pub const CREATED: &str = "booking.created";
/// The topic of [`BookingConfirmed`].
pub const CONFIRMED: &str = "booking.confirmed";
/// The topic of [`BookingCancelled`].
pub const CANCELLED: &str = "booking.cancelled";

/// Why a booking was cancelled, as far as this worker knows: its saga went back.
const COMPENSATED: &str = "compensated";

/// Holds a unit of the resource, first come first served; none left: rejected, `sold_out`.
#[derive(Debug)]
pub(crate) struct Reserve;

#[async_trait]
impl Handler for Reserve {
    type Command = ReserveBooking;
    type Reply = BookingReserved;

    async fn handle(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<ReserveBooking>],
    ) -> Result<Vec<Outcome<BookingReserved>>, HandlerError> {
        let resources: Vec<Uuid> = commands.iter().map(|command| command.body.resource_id).collect();
        let mut free = store::lock_free_units(transaction, &resources).await?;
        let now = now();
        let mut held = Vec::with_capacity(commands.len());
        let outcomes = commands.iter().map(|command| {
            let &ReserveBooking { booking_id, user_id, resource_id } = &command.body;
            match free.get_mut(&resource_id) {
                Some(free) if *free > 0 => {
                    *free -= 1;
                    held.push(NewBooking { booking_id, user_id, resource_id });
                    let reserved_at = Some(unix_millis(now));
                    let created = BookingCreated { booking_id, user_id, resource_id };
                    Outcome::succeeded(BookingReserved { booking_id, reserved_at })
                        .with_event(DomainEvent::new(CREATED, booking_id.to_string(), &created))
                }
                _ => Outcome::rejected("sold_out", format!("resource {resource_id} has no unit left")),
            }
        });
        let outcomes = outcomes.collect();
        store::insert_bookings(transaction, &held, now).await?;
        Ok(outcomes)
    }
}

/// Gives the unit back, once.
#[derive(Debug)]
pub(crate) struct Cancel;

#[async_trait]
impl Handler for Cancel {
    type Command = CancelBooking;
    type Reply = BookingReservationCancelled;

    async fn handle(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<CancelBooking>],
    ) -> Result<Vec<Outcome<BookingReservationCancelled>>, HandlerError> {
        let bookings = commands.iter().map(|command| command.body.booking_id).collect();
        let cancelled = store::cancel_bookings(transaction, bookings, now()).await?;
        let outcomes = commands.iter().map(|command| {
            let booking_id = command.body.booking_id;
            let outcome = Outcome::succeeded(BookingReservationCancelled { booking_id });
            if !cancelled.contains(&booking_id) {
                return outcome;
            }
            let event = BookingCancelled { booking_id, reason: COMPENSATED.to_owned() };
            outcome.with_event(DomainEvent::new(CANCELLED, booking_id.to_string(), &event))
        });
        Ok(outcomes.collect())
    }

    fn nothing_to_undo(&self, command: &Command<CancelBooking>) -> Option<BookingReservationCancelled> {
        Some(BookingReservationCancelled { booking_id: command.body.booking_id })
    }
}

/// Makes a reserved booking a confirmed one; a booking that is not reserved: rejected, `not_reserved`.
#[derive(Debug)]
pub(crate) struct Confirm;

#[async_trait]
impl Handler for Confirm {
    type Command = ConfirmBooking;
    type Reply = BookingConfirmed;

    async fn handle(
        &self,
        transaction: &DatabaseTransaction,
        commands: &[&Command<ConfirmBooking>],
    ) -> Result<Vec<Outcome<BookingConfirmed>>, HandlerError> {
        let bookings = commands.iter().map(|command| command.body.booking_id).collect();
        let mut confirmed: HashSet<Uuid> = store::confirm_bookings(transaction, bookings, now()).await?;
        let outcomes = commands.iter().map(|command| {
            let booking_id = command.body.booking_id;
            // Taken out, so that of two commands for one booking only the first confirms it.
            if !confirmed.remove(&booking_id) {
                return Outcome::rejected("not_reserved", format!("booking {booking_id} is not reserved"));
            }
            let reply = BookingConfirmed { booking_id };
            let event = DomainEvent::new(CONFIRMED, booking_id.to_string(), &reply);
            Outcome::succeeded(reply).with_event(event)
        });
        Ok(outcomes.collect())
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn unix_millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
