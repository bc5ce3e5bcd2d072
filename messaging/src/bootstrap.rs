//! Back to the addresses of the settings, when the brokers that a client has learned of give it nothing.
//!
//! A broker that stood still and goes on may answer for a moment that the cluster has no brokers. librdkafka 2.12 then lets
//! go of those it knows; it goes back to the configured addresses when the last connection breaks, but not if that one had
//! broken before. Such a client would wait for ever: a consumer without an assignment, a producer without an
//! acknowledgement.

use std::ffi::CString;
use std::time::{Duration, Instant};

use rdkafka::bindings as native;
use rdkafka::types::RDKafka;

/// A client that waits for something and gets nothing for this long goes back to the configured addresses, and again each
/// time it has waited that long. A rebalance or an election that takes longer costs one connection more.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// How long a client has been given nothing of what it waits for.
pub(crate) struct Silence {
    since: Instant,
    /// In this silence the addresses have been asked again.
    asked: bool,
    servers: Option<CString>,
}

impl Silence {
    /// Begins now. `servers` are those of the settings.
    pub(crate) fn new(servers: &str) -> Self {
        // An address with a zero byte in it never led to anything; there is none to go back to.
        Self { since: Instant::now(), asked: false, servers: CString::new(servers).ok() }
    }

    /// It has got something, or waits for nothing.
    pub(crate) fn broken(&mut self) {
        self.since = Instant::now();
        self.asked = false;
    }

    /// Still nothing: goes back to the configured addresses once in [`SILENCE`].
    ///
    /// # Safety
    /// `client` is alive.
    pub(crate) unsafe fn goes_on(&mut self, client: *mut RDKafka) {
        if self.since.elapsed() < SILENCE {
            return;
        }
        self.since = Instant::now();
        let Some(servers) = &self.servers else {
            return;
        };
        // SAFETY: the client is alive, says the caller, and the text ends with a zero. What is there already is not added
        // again, and what is superfluous goes with the next answer that names the brokers.
        let known = unsafe { native::rd_kafka_brokers_add(client, servers.as_ptr()) };
        // Once is news; a broker may be away for hours.
        if !std::mem::replace(&mut self.asked, true) {
            tracing::info!(known, "nothing heard for {SILENCE:?}: the configured addresses are asked again");
        }
    }
}
