//! The booking API: what the booking page of a shop calls. A booking is a saga of the definition `booking`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use saga_defs::Data;
use saga_defs::definition::Definition;
use serde_json::Value;
use utoipa::ToSchema;

use super::app::App;
use super::body::Body;
use super::document::{BodyProblems, NamedProblems};
use super::fields::Fields;
use super::idempotency::request_key;
use super::mount::Asked;
use super::preferences::{forced_outcome, traceparent, wait};
use super::problem::{Answer, Kind, Problem, json};
use super::start::{Face, Start, input_errors, start, with_defaults};
use super::wire::BookingView;

/// The definition that bookings run by; a new booking takes its newest version.
const BOOKING: &str = "booking";
/// What a booking costs unless the client says so, in minor units.
const DEFAULT_AMOUNT_MINOR: i64 = 1_000;
/// The highest price, in minor units.
const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000;
const CURRENCY: &str = "EUR";
/// When a client may ask again that found no definition for bookings: people have to act first.
const UNPUBLISHED_RETRY: Duration = Duration::from_secs(30);

/// A booking that is asked for.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the request, which is read field by field")]
pub(crate) struct StartBooking {
    /// Who books.
    #[schema(format = Uuid)]
    user_id: String,
    /// What is booked.
    #[schema(format = Uuid)]
    resource_id: String,
    /// The price in minor units, e.g. cents; 1000 if it is left out.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64, default = 1000)]
    amount_minor: Option<i64>,
    /// Only `EUR` so far.
    #[schema(default = "EUR")]
    currency: Option<String>,
}

/// Starts a booking.
#[utoipa::path(
    post, path = "/api/bookings", tag = "Bookings", operation_id = "startBooking",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the first answer again."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer when the saga has ended, at most N (up to 30) seconds later."),
        ("x-forced-payment-outcome" = Option<String>, Header, description = "declined, unavailable, down or no_reply; only where the service allows it."),
    ),
    request_body = StartBooking,
    responses((status = 201, description = "It is durable.", body = BookingView), BodyProblems),
)]
pub(crate) async fn start_booking(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    asked.no_query()?;
    let forced = forced_outcome(&asked.headers, app.api.allow_forced_outcomes)?;
    let subject = forced.as_deref().unwrap_or_default();
    // One route under both paths: a retry may come by the other one.
    let key = request_key(&asked.headers, "POST /api/bookings", subject, &body.fields)?;
    let input = input(body.fields, forced)?;
    let definition = definition(&app).await?;
    let input = with_defaults(&app.api.definitions.catalog(), &definition, input);
    let wrong = input_errors(&app.api.definitions.catalog(), &definition, &input, "");
    if !wrong.is_empty() {
        return Err(Problem::validation(wrong));
    }
    let request = Start {
        face: Face::Booking,
        definition,
        input,
        business_key: None,
        traceparent: traceparent(&asked),
        key,
        wait: wait(&asked.headers),
    };
    start(&app, request).await
}

/// The newest version; another process may have published the first one a moment ago. It can be registered at any time,
/// so a client may come again.
async fn definition(app: &App) -> Result<Arc<Definition>, Problem> {
    if let Some(known) = app.api.definitions.newest(BOOKING) {
        return Ok(known);
    }
    app.api.registrar.refresh().await?;
    app.api.definitions.newest(BOOKING).ok_or_else(|| {
        let text = "no definition `booking` is published here: start the orchestrator with `booking` in \
                    SHIPPED_DEFINITIONS, or register one with POST /api/definitions";
        Problem::new(Kind::Unavailable, text).retry_after(UNPUBLISHED_RETRY)
    })
}

/// The same under the path that shops call.
#[utoipa::path(
    post, path = "/bookings", tag = "Bookings", operation_id = "startBookingAtShop",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "As at /api/bookings, with which keys are shared."),
        ("Prefer" = Option<String>, Header, description = "As at /api/bookings."),
        ("x-forced-payment-outcome" = Option<String>, Header, description = "As at /api/bookings."),
    ),
    request_body = StartBooking,
    responses((status = 201, description = "It is durable.", body = BookingView), BodyProblems),
)]
pub(crate) async fn start_booking_at_shop(app: Arc<App>, asked: Asked, body: Body) -> Answer {
    start_booking(app, asked, body).await
}

/// The saga's input, from the request's fields.
fn input(fields: Data, forced: Option<String>) -> Result<Data, Problem> {
    let mut fields = Fields::new(fields);
    let (user, resource) = (fields.uuid("userId"), fields.uuid("resourceId"));
    let amount = fields.optional_integer("amountMinor", 1, MAX_AMOUNT_MINOR).unwrap_or(DEFAULT_AMOUNT_MINOR);
    let currency = fields.optional_word("currency", &[CURRENCY]).unwrap_or_else(|| CURRENCY.to_owned());
    fields.done()?;
    let text = |id: Option<uuid::Uuid>| Value::from(id.unwrap_or_default().to_string());
    let mut input = Data::new();
    input.insert("userId".to_owned(), text(user));
    input.insert("resourceId".to_owned(), text(resource));
    input.insert("amountMinor".to_owned(), amount.into());
    input.insert("currency".to_owned(), currency.into());
    if let Some(outcome) = forced {
        input.insert("forcedPaymentOutcome".to_owned(), outcome.into());
    }
    Ok(input)
}

/// Shows a booking.
#[utoipa::path(
    get, path = "/api/bookings/{bookingId}", tag = "Bookings", operation_id = "getBooking",
    params(("bookingId" = String, Path, description = "The saga's id.", format = Uuid)),
    responses((status = 200, description = "The booking as it is now.", body = BookingView), NamedProblems),
)]
pub(crate) async fn get_booking(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let none = || Problem::new(Kind::NotFound, "there is no such booking");
    let id = asked.id().ok_or_else(none)?;
    let stored = app.api.reads.saga(id).await?;
    match stored.filter(|stored| &*stored.saga.definition.name == BOOKING) {
        Some(stored) => Ok(json(StatusCode::OK, &BookingView::of(&stored.saga))),
        None => Err(none()),
    }
}

/// The same under the path that shops call.
#[utoipa::path(
    get, path = "/bookings/{bookingId}", tag = "Bookings", operation_id = "getBookingAtShop",
    params(("bookingId" = String, Path, description = "The saga's id.", format = Uuid)),
    responses((status = 200, description = "The booking as it is now.", body = BookingView), NamedProblems),
)]
pub(crate) async fn get_booking_at_shop(app: Arc<App>, asked: Asked) -> Answer {
    get_booking(app, asked).await
}
