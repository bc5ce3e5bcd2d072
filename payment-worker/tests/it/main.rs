//! The payment worker on a real Postgres and a real Kafka protocol, and its gateways.
#![expect(clippy::unwrap_used, reason = "what a test did not expect fails it")]

mod bench;
mod forced;
mod http_gateway;
mod payments;
mod stub;
