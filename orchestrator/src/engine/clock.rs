//! The clock, read in one place.

use saga_defs::time::Timestamp;

/// Now.
pub fn now() -> Timestamp {
    Timestamp::from_utc(time::OffsetDateTime::now_utc())
}
