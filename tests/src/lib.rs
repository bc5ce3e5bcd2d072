//! End-to-end scenarios on real Postgres and a real Kafka protocol.
