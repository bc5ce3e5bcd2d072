//! Room for request bodies: long ones are few at a time, so that a crowd of them does not fill the memory.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::Reply;
use warp::reply::Response;

use super::problem::{Kind, Problem};
use super::server::HttpLimits;

/// Bodies up to this length need no room: as many as there are connections take little.
const SHORT: usize = 8 * 1024;
/// Room is counted in so many bytes.
const UNIT: usize = 1024;
/// When to come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The room there is.
#[derive(Clone)]
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
    longest: usize,
}

/// What a request takes of it, until it is answered.
pub(crate) struct Taken {
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        let units = limits.bodies_bytes.max(limits.body_bytes) / UNIT;
        Self { room: Arc::new(Semaphore::new(units)), longest: limits.body_bytes }
    }

    /// Room for the body of a request with these headers; `None`: there is none at the moment.
    pub(crate) fn take(&self, headers: &HeaderMap) -> Option<Taken> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = match announced {
            // What is longer is refused, and not kept.
            Some(length) if length > self.longest => 0,
            Some(length) => length,
            None if headers.contains_key(header::TRANSFER_ENCODING) => self.longest,
            None => 0,
        };
        if length <= SHORT {
            return Some(Taken { _room: None });
        }
        let units = u32::try_from(length.div_ceil(UNIT)).ok()?;
        let room = self.room.clone().try_acquire_many_owned(units).ok()?;
        Some(Taken { _room: Some(room) })
    }

    /// The answer to a request that there is no room for.
    pub(crate) fn no_room() -> Response {
        let text = "too many long requests at the moment";
        Problem::new(Kind::Busy, text).retry_after(RETRY_AFTER).close().into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn long_bodies_are_few_at_a_time_and_short_ones_are_not_counted() {
        let mib = 1024 * 1024;
        let limits = HttpLimits { body_bytes: mib, bodies_bytes: 2 * mib, ..HttpLimits::default() };
        let bodies = Bodies::new(&limits);
        let long = with(header::CONTENT_LENGTH, &mib.to_string());
        let (first, second) = (bodies.take(&long), bodies.take(&with(header::TRANSFER_ENCODING, "chunked")));
        assert!(first.is_some() && second.is_some());
        assert!(bodies.take(&long).is_none());
        for free in [&HeaderMap::new(), &with(header::CONTENT_LENGTH, "8192")] {
            assert!(bodies.take(free).is_some());
        }
        // It is refused for its length, whatever room there is.
        assert!(bodies.take(&with(header::CONTENT_LENGTH, "999999999")).is_some());
        drop(first);
        assert!(bodies.take(&long).is_some());
    }
}
