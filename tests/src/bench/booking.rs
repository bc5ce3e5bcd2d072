//! The bookings that are asked for: a mix of outcomes, and what goes over the wire.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use uuid::Uuid;

use crate::random::Random;

/// Seconds that a client waits for the end of its booking: as long as the orchestrator lets it.
const WAIT_S: u32 = 30;

/// What a booking is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It completes.
    Normal,
    /// The payment is declined: what was reserved is given back.
    Declined,
    /// The gateway fails twice, then works: the saga backs off twice.
    Unavailable,
    /// As `Normal`, of the one resource that half of the clients want.
    Wanted,
}

impl Kind {
    const fn forced(self) -> Option<&'static str> {
        match self {
            Self::Normal | Self::Wanted => None,
            Self::Declined => Some("declined"),
            Self::Unavailable => Some("unavailable"),
        }
    }

    /// The status that its saga has to come to.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Normal | Self::Unavailable | Self::Wanted => "completed",
            Self::Declined => "compensated",
        }
    }
}

/// Which kinds, and how many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mix {
    /// Of ten bookings eight are normal, one is declined, and for one the gateway is unavailable twice
    Mixed,
    /// All are normal
    Normal,
    /// Every second is of one resource; the others are normal
    Hot,
}

impl Mix {
    /// By number and not by chance, so that every run of some length has the same shares.
    pub(crate) const fn kind(self, number: u64) -> Kind {
        match (self, number % 10) {
            (Self::Mixed, 4) => Kind::Declined,
            (Self::Mixed, 9) => Kind::Unavailable,
            (Self::Hot, odd) if odd % 2 == 1 => Kind::Wanted,
            _ => Kind::Normal,
        }
    }
}

/// A booking to be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Booking {
    pub(crate) kind: Kind,
    /// Whether the client waits for the end, or only until the start is accepted.
    pub(crate) waits: bool,
    user: Uuid,
    resource: Uuid,
    amount_minor: u64,
    key: Option<Uuid>,
    /// Not a booking at all, but a saga of the definition `waiting`.
    waiting: bool,
}

/// Makes bookings, none twice.
pub(crate) struct Bookings {
    random: Random,
    resources: Vec<Uuid>,
    mix: Mix,
    keys: bool,
    number: u64,
    waiting: bool,
}

impl Bookings {
    /// Of so many resources; with idempotency keys if `keys`.
    pub(crate) fn new(seed: u64, resources: u32, mix: Mix, keys: bool) -> Self {
        let mut random = Random::seeded(seed);
        let resources = (0..resources.max(1)).map(|_| random.uuid()).collect();
        Self { random, resources, mix, keys, number: 0, waiting: false }
    }

    /// The same as sagas of the definition `waiting`, which have the same input, and for whose ends nobody waits.
    pub(crate) fn waiting(mut self) -> Self {
        self.waiting = true;
        self
    }

    pub(crate) fn next(&mut self, waits: bool) -> Booking {
        let kind = self.mix.kind(self.number);
        self.number += 1;
        let at = match kind {
            Kind::Wanted => 0,
            _ => self.random.below(self.resources.len() as u64),
        };
        Booking {
            kind,
            waits: waits && !self.waiting,
            waiting: self.waiting,
            user: self.random.uuid(),
            resource: self.resources[usize::try_from(at).unwrap_or(0)],
            amount_minor: 1_000 + self.random.below(9_000),
            key: self.keys.then(|| self.random.uuid()),
        }
    }
}

impl Booking {
    /// The request, into a buffer whose content is replaced.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        let mut head = String::with_capacity(512);
        let Self { user, resource, amount_minor, waiting, .. } = self;
        let (path, body) = if *waiting {
            let input =
                format!(r#""userId":"{user}","resourceId":"{resource}","amountMinor":{amount_minor}"#);
            ("/api/sagas", format!(r#"{{"definition":"waiting","input":{{{input},"currency":"EUR"}}}}"#))
        } else {
            let body =
                format!(r#"{{"userId":"{user}","resourceId":"{resource}","amountMinor":{amount_minor}}}"#);
            ("/api/bookings", body)
        };
        // Writing to a text does not fail.
        let _ = write!(head, "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n");
        let _ = write!(head, "content-length: {}\r\n", body.len());
        if self.waits {
            let _ = write!(head, "prefer: wait={WAIT_S}\r\n");
        }
        if let Some(forced) = self.kind.forced() {
            let _ = write!(head, "x-forced-payment-outcome: {forced}\r\n");
        }
        if let Some(key) = self.key {
            let _ = write!(head, "idempotency-key: {key}\r\n");
        }
        head.push_str("\r\n");
        buffer.clear();
        buffer.extend_from_slice(head.as_bytes());
        buffer.extend_from_slice(body.as_bytes());
    }
}

/// What an answer says of a booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) saga: Uuid,
    /// Whether it has come to its end.
    pub(crate) ended: bool,
}

/// Reads what is needed of an answer, which is looked at as text: reading all of its JSON would cost more.
pub(crate) fn said(body: &[u8]) -> Result<Said> {
    let text = std::str::from_utf8(body).context("an answer in another encoding")?;
    let member = |name: &str| {
        let (_, rest) = text.split_once(name)?;
        rest.strip_prefix("\":\"")?.split('"').next()
    };
    let saga = member("bookingId").or_else(|| member("\"sagaId")).and_then(|id| Uuid::parse_str(id).ok());
    let saga = saga.with_context(|| format!("no booking in {text}"))?;
    let ended = match member("\"status") {
        Some("PAID" | "CANCELLED") => true,
        Some("CREATED" | "running") => false,
        _ => bail!("no status in {text}"),
    };
    Ok(Said { saga, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ten_bookings_eight_are_normal() {
        let count = |kind| (0..1_000).filter(|number| Mix::Mixed.kind(*number) == kind).count();
        assert_eq!([Kind::Normal, Kind::Declined, Kind::Unavailable].map(count), [800, 100, 100]);
        assert!((0..100).all(|number| Mix::Normal.kind(number) == Kind::Normal));
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let mut bookings = Bookings::new(1, 3, Mix::Mixed, true);
        for waits in [true, false, true, false, true] {
            let booking = bookings.next(waits);
            let mut buffer = b"what was there before".to_vec();
            booking.write(&mut buffer);
            let text = String::from_utf8(buffer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("POST /api/bookings HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
            assert_eq!(head.contains("prefer: wait=30"), waits);
            assert_eq!(head.contains("x-forced-payment-outcome: declined"), booking.kind == Kind::Declined);
            assert!(head.contains("idempotency-key: "));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["resourceId"], booking.resource.to_string());
        }
    }

    #[test]
    fn an_answer_is_understood() {
        let id = Uuid::from_u128(7);
        let answer = |status: &str| {
            format!(r#"{{"bookingId":"{id}","userId":"x","resourceId":"y","status":"{status}"}}"#)
        };
        assert_eq!(said(answer("PAID").as_bytes()).unwrap(), Said { saga: id, ended: true });
        assert_eq!(said(answer("CANCELLED").as_bytes()).unwrap(), Said { saga: id, ended: true });
        assert_eq!(said(answer("CREATED").as_bytes()).unwrap(), Said { saga: id, ended: false });
        assert!(said(answer("other").as_bytes()).is_err());
        assert!(said(br#"{"title":"no"}"#).is_err());
    }
}
